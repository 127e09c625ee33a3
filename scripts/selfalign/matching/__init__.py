"""What seeds and selection both need: matching against benchmarks, near-duplicates, and funnels that add up."""

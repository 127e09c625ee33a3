"""Benchmarks: their tasks as rows, how models are asked, programs for the sandbox, and scores with intervals."""

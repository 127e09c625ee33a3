"""The three generation stages: seeds to concepts, concepts to instructions, instructions to responses with tests."""

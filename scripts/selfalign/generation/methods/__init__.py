"""The ways to get instructions, one module each. What follows (responses, verdicts, pairs) is the same for all."""

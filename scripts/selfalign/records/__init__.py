"""Typed rows, the files that hold them, and the few helpers every stage shares. Imports nothing of ours."""

"""What the Snakefile needs when it is read: the checked config, code versions, the run lock."""

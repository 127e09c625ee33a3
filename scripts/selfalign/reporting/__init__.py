"""The report of a run: read every artifact that the config names, check that counts add up, write page and tables."""

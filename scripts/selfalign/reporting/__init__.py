"""The report of a run: reads every artifact that the config names, checks that counts add up, writes page and tables."""

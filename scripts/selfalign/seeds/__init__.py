"""From source code to seeds: read a corpus, extract functions, filter them. Every function that goes has a reason."""

"""Self-alignment of code models: the library behind the workflow. It never imports Snakemake."""

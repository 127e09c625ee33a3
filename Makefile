# The developer's verbs. Each sets up what it needs.
SNAKEMAKE = .venv/bin/python -m snakemake
.PHONY: run test lint setup

run: setup  ## Set up and run the default config; print the result table
	@$(SNAKEMAKE) --cores all

test: setup  ## Set up and pass the tests
	@.venv/bin/python -m pytest

lint: setup  ## Check format and style of code and workflow
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	$(SNAKEMAKE) --lint

setup:  ## Install bubblewrap and the Python environment
	@envs/install.sh

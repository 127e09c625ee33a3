# Verification: every response runs with its own tests in bubblewrap; and what these tests are worth, if asked for.
# REQUIRES  results/generations/{generation}/responses/{shard}.jsonl  tests/{shard}.jsonl where there are some
# MAKES     results/sandbox.json  results/generations/{generation}/verdicts/{shard}.jsonl  quality/{shard}.jsonl
#           and, of a benchmark's tasks, truth/{shard}.jsonl


rule check_sandbox:
    """Try the sandbox for real; where it does not work, say why and what to do."""
    output:
        "results/sandbox.json",
    log:
        "results/logs/check_sandbox.log",
    priority: 100
    retries: 0  # the machine stays as it is
    conda:
        "../envs/core.yaml"
    # Without params, a version of its code among them: for a job that reruns, Snakemake does not look whether what reads
    # its files has changed, though ancient() input lets that stay. Every batch of programs tries the sandbox again anyway.
    shell:
        "python $SCRIPTS/check_sandbox.py --languages $PROGRAM_LANGUAGES --output {output:q} 2>&1 | tee {log:q}"


rule verify_responses:
    """Run each response of a shard with its own tests and give a verdict."""
    input:
        responses="results/generations/{generation}/responses/{shard}.jsonl",
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/generations/{generation}/verdicts/{shard}.jsonl",
        stats="results/generations/{generation}/verdicts/{shard}.json",
    log:
        "results/logs/verify_responses/{generation}/{shard}.log",
    benchmark:
        "results/logs/verify_responses/{generation}/{shard}.benchmark.tsv"
    wildcard_constraints:
        shard=r"\d{5}(\.\d+)?",
    conda:
        "../envs/core.yaml"
    threads: 1
    params:
        code=code("verify_responses"),
        sandbox=SANDBOX,
        language=lambda wildcards: language_of(generation_of(wildcards).get("corpus")),
    shell:
        "python $SCRIPTS/verify_responses.py --responses {input.responses:q} --sandbox {params.sandbox:q} {params.language:q} "
        "--workers {threads} --label verdicts/{wildcards.generation}/{wildcards.shard} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule verify_truth:
    """Run the responses to a benchmark's tasks with its own checks."""
    input:
        benchmark=lambda wildcards: f"results/benchmarks/{OF_BENCHMARKS[wildcards.generation]}.jsonl",
        references=lambda wildcards: f"results/benchmarks/{OF_BENCHMARKS[wildcards.generation]}.references.jsonl",
        responses=lambda wildcards: of_shard("responses", wildcards),
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/generations/{generation}/truth/{shard}.jsonl",
        stats="results/generations/{generation}/truth/{shard}.json",
    log:
        "results/logs/verify_truth/{generation}/{shard}.log",
    benchmark:
        "results/logs/verify_truth/{generation}/{shard}.benchmark.tsv"
    wildcard_constraints:
        generation=names(OF_BENCHMARKS),
    conda:
        "../envs/core.yaml"
    threads: 1
    params:
        code=code("verify_truth"),
        sandbox=lambda wildcards: benchmark_sandbox(OF_BENCHMARKS[wildcards.generation]),
    shell:
        "python $SCRIPTS/verify_truth.py --benchmark {input.benchmark:q} --references {input.references:q} "
        "--responses {input.responses:q} --sandbox {params.sandbox:q} --workers {threads} "
        "--label truth/{wildcards.generation}/{wildcards.shard} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule measure_tests:
    """Measure how far tests speak for the responses of a shard: agreement, mutants, coverage."""
    input:
        responses=lambda wildcards: of_shard("responses", wildcards),
        verdicts=lambda wildcards: of_shard("verdicts", wildcards),
        tests=lambda wildcards: of_shard("tests", wildcards),
        truth=lambda wildcards: of_shard("truth", wildcards),
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/generations/{generation}/quality/{shard}.jsonl",
        stats="results/generations/{generation}/quality/{shard}.json",
    log:
        "results/logs/measure_tests/{generation}/{shard}.log",
    benchmark:
        "results/logs/measure_tests/{generation}/{shard}.benchmark.tsv"
    conda:
        "../envs/core.yaml"
    threads: 1
    params:
        code=code("measure_tests"),
        measures=lambda wildcards: as_json(measures_of(wildcards)),
        others=lambda wildcards, input: [
            part for name in ("tests", "truth") for path in getattr(input, name) for part in (f"--{name}", path)
        ],
        sandbox=SANDBOX,
        seed=lambda wildcards: seed_of(generation_of(wildcards)),
    shell:
        "python $SCRIPTS/measure_tests.py --responses {input.responses:q} --verdicts {input.verdicts:q} "
        "{params.others:q} --measures {params.measures:q} --run-seed {params.seed} --sandbox {params.sandbox:q} "
        "--workers {threads} --label quality/{wildcards.generation}/{wildcards.shard} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"

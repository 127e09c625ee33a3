# Evaluation: models answer benchmark tasks; the answers run in the same sandbox as the responses.
# REQUIRES  the benchmarks' own files (benchmarks.*.path; fetched without), results/models/{model}/model.json
# MAKES     results/benchmarks/{benchmark}.jsonl  {benchmark}.source.json  {benchmark}.references.jsonl
#           results/scores/{model}/{benchmark}/completions.jsonl  verdicts.jsonl  measurements.jsonl (of some
#           kinds)  scores.json


rule prepare_benchmark:
    """Read a benchmark's own file into the rows that all benchmarks share."""
    input:
        benchmark_path,
    output:
        rows="results/benchmarks/{benchmark}.jsonl",
        source="results/benchmarks/{benchmark}.source.json",
    log:
        "results/logs/prepare_benchmark/{benchmark}.log",
    conda:
        "../envs/core.yaml"
    params:
        code=code("prepare_benchmark"),
        kind=lambda wildcards: config["benchmarks"][wildcards.benchmark]["kind"],
        path=lambda wildcards, input: f"--path {str(input[0])!r}" if input else "",
        options=lambda wildcards: as_json(config["benchmarks"][wildcards.benchmark]["options"]),
    shell:
        "python $SCRIPTS/prepare_benchmark.py --kind {params.kind} {params.path} --options {params.options:q} "
        "--output {output.rows:q} --source {output.source:q} 2>&1 | tee {log:q}"


rule run_references:
    """Run the reference solutions: the outputs to compare with, time limits, and which of them pass here."""
    input:
        benchmark="results/benchmarks/{benchmark}.jsonl",
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/benchmarks/{benchmark}.references.jsonl",
        stats="results/benchmarks/{benchmark}.references.json",
    log:
        "results/logs/run_references/{benchmark}.log",
    benchmark:
        "results/logs/run_references/{benchmark}.benchmark.tsv"
    conda:
        benchmark_conda
    threads: 1
    params:
        code=code("run_references"),
        python=PYTHON_VERSION,
        sandbox=lambda wildcards: benchmark_sandbox(wildcards.benchmark),
        env=benchmark_environment,
    shell:
        "PATH=${params.env}$PATH python $SCRIPTS/run_references.py --benchmark {input.benchmark:q} "
        "--sandbox {params.sandbox:q} --workers {threads} --label references/{wildcards.benchmark} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule complete_benchmark:
    """Ask a model to solve the tasks of a benchmark."""
    input:
        model="results/models/{model}/model.json",
        benchmark="results/benchmarks/{benchmark}.jsonl",
        prompts=benchmark_prompts,
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/scores/{model}/{benchmark}/completions.jsonl",
        stats="results/scores/{model}/{benchmark}/completions.json",
    log:
        "results/logs/complete_benchmark/{model}/{benchmark}.log",
    benchmark:
        "results/logs/complete_benchmark/{model}/{benchmark}.benchmark.tsv"
    conda:
        engine_conda
    resources:
        gpu=engine_gpus,
    params:
        code=code("complete_benchmark"),
        settings=lambda wildcards: as_json(completion_settings(wildcards)),
        engine=engine_identity,
        engine_variable=engine_variable,
        seed=lambda wildcards: seed_of(config["models"][wildcards.model]),
        env=engine_environment,
    shell:
        "PATH=${params.env}$PATH python $SCRIPTS/complete_benchmark.py --model {input.model:q} "
        '--engine "${params.engine_variable}" --benchmark {input.benchmark:q} --settings {params.settings:q} '
        "--run-seed {params.seed} --label completions/{wildcards.model}/{wildcards.benchmark} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule verify_completions:
    """Run each completion with the benchmark's tests and give a verdict."""
    input:
        benchmark="results/benchmarks/{benchmark}.jsonl",
        references="results/benchmarks/{benchmark}.references.jsonl",
        completions="results/scores/{model}/{benchmark}/completions.jsonl",
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/scores/{model}/{benchmark}/verdicts.jsonl",
        stats="results/scores/{model}/{benchmark}/verdicts.json",
    log:
        "results/logs/verify_completions/{model}/{benchmark}.log",
    benchmark:
        "results/logs/verify_completions/{model}/{benchmark}.benchmark.tsv"
    conda:
        benchmark_conda
    threads: 1
    params:
        code=code("verify_completions"),
        sandbox=lambda wildcards: benchmark_sandbox(wildcards.benchmark),
        env=benchmark_environment,
    shell:
        "PATH=${params.env}$PATH python $SCRIPTS/verify_completions.py --benchmark {input.benchmark:q} "
        "--references {input.references:q} --completions {input.completions:q} --sandbox {params.sandbox:q} --workers {threads} "
        "--label verdicts/{wildcards.model}/{wildcards.benchmark} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule measure_completions:
    """Measure the answers that passed, for benchmarks that score more than whether they pass."""
    input:
        benchmark="results/benchmarks/{benchmark}.jsonl",
        completions="results/scores/{model}/{benchmark}/completions.jsonl",
        verdicts="results/scores/{model}/{benchmark}/verdicts.jsonl",
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/scores/{model}/{benchmark}/measurements.jsonl",
        stats="results/scores/{model}/{benchmark}/measurements.json",
    log:
        "results/logs/measure_completions/{model}/{benchmark}.log",
    benchmark:
        "results/logs/measure_completions/{model}/{benchmark}.benchmark.tsv"
    conda:
        "../envs/core.yaml"
    threads: 1
    params:
        code=code("measure_completions"),
        sandbox=lambda wildcards: benchmark_sandbox(wildcards.benchmark),
    shell:
        "python $SCRIPTS/measure_completions.py --benchmark {input.benchmark:q} --completions {input.completions:q} "
        "--verdicts {input.verdicts:q} --sandbox {params.sandbox:q} --workers {threads} "
        "--label measurements/{wildcards.model}/{wildcards.benchmark} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule score_benchmark:
    """Compute pass@1 with its interval from the verdicts."""
    input:
        benchmark="results/benchmarks/{benchmark}.jsonl",
        references="results/benchmarks/{benchmark}.references.jsonl",
        completions="results/scores/{model}/{benchmark}/completions.jsonl",
        source="results/benchmarks/{benchmark}.source.json",
        verdicts="results/scores/{model}/{benchmark}/verdicts.jsonl",
        measurements=benchmark_measurements,
    output:
        "results/scores/{model}/{benchmark}/scores.json",
    log:
        "results/logs/score_benchmark/{model}/{benchmark}.log",
    conda:
        "../envs/core.yaml"
    params:
        code=code("score_benchmark"),
        measurements=lambda wildcards, input: (
            f"--measurements {str(input.measurements)!r}" if input.measurements else ""
        ),
    shell:
        "python $SCRIPTS/score_benchmark.py --benchmark {input.benchmark:q} --source {input.source:q} "
        "--references {input.references:q} --completions {input.completions:q} --verdicts {input.verdicts:q} "
        "{params.measurements} --output {output:q} 2>&1 | tee {log:q}"

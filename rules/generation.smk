# Generation: the model names the concepts of each seed, writes an instruction from them, and answers it with tests.
# Other methods ask for no concepts, change instructions, or take those of another generation (generations.*.method).
# REQUIRES  results/corpora/{corpus}/seeds.parquet  results/models/{generator}/model.json  a prompt file
# MAKES     results/generations/{generation}/concepts/{shard}.jsonl  instructions/{shard}.jsonl  responses/{shard}.jsonl
#           tests/{shard}.jsonl, if asked for, and, with adaptive sampling, responses/{shard}.{round}.jsonl, which need
#           the verdicts of the rounds before


rule generate_concepts:
    """Ask the model for the programming concepts of each seed of a shard."""
    input:
        seeds=lambda wildcards: f"results/corpora/{generation_of(wildcards)['corpus']}/seeds.parquet",
        model=lambda wildcards: model_file(generation_of(wildcards)["generator"]),
        prompts=lambda wildcards: resource(generation_of(wildcards)["prompts"]),
        sandbox=ancient("results/sandbox.json"),  # known to work before hours of generation are spent
    output:
        rows="results/generations/{generation}/concepts/{shard}.jsonl",
        stats="results/generations/{generation}/concepts/{shard}.json",
    log:
        "results/logs/generate_concepts/{generation}/{shard}.log",
    benchmark:
        "results/logs/generate_concepts/{generation}/{shard}.benchmark.tsv"
    wildcard_constraints:
        generation=names(of_methods("self-oss-instruct")),
    conda:
        engine_conda
    resources:
        gpu=engine_gpus,
    params:
        code=code("generate_concepts"),
        options=lambda wildcards: generation_options(wildcards, "concepts"),
        engine=engine_identity,
        engine_variable=engine_variable,
        shards=lambda wildcards: generation_of(wildcards)["shards"],
        draw=drawn_seeds,
        env=engine_environment,
    shell:
        "PATH=${params.env}$PATH python $SCRIPTS/generate_concepts.py --seeds {input.seeds:q} "
        "--shard {wildcards.shard} --shards {params.shards} {params.draw:q} --model {input.model:q} --prompts {input.prompts:q} "
        '--engine "${params.engine_variable}" {params.options:q} --label concepts/{wildcards.generation}/{wildcards.shard} '
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule list_seeds:
    """List the seeds of a shard, for a method that asks for no concepts."""
    input:
        seeds=lambda wildcards: f"results/corpora/{generation_of(wildcards)['corpus']}/seeds.parquet",
    output:
        rows="results/generations/{generation}/concepts/{shard}.jsonl",
        stats="results/generations/{generation}/concepts/{shard}.json",
    log:
        "results/logs/list_seeds/{generation}/{shard}.log",
    wildcard_constraints:
        generation=names(of_methods("seed-instruct", "oss-instruct")),
    conda:
        "../envs/core.yaml"
    params:
        code=code("list_seeds"),
        shards=lambda wildcards: generation_of(wildcards)["shards"],
        draw=drawn_seeds,
        samples=lambda wildcards: generation_of(wildcards)["samples"]["concepts"],
        seed=lambda wildcards: seed_of(generation_of(wildcards)),
    shell:
        "python $SCRIPTS/list_seeds.py --seeds {input.seeds:q} --shard {wildcards.shard} --shards {params.shards} "
        "{params.draw:q} --samples {params.samples} --run-seed {params.seed} --output {output.rows:q} "
        "--stats {output.stats:q} 2>&1 | tee {log:q}"


ruleorder: generate_instructions > take_rows  # evol-instruct takes the concepts only


rule take_rows:
    """Take over concepts, or concepts and instructions, of another generation."""
    input:
        lambda wildcards: f"results/generations/{generation_of(wildcards)['instructions']}/{{kind}}/{{shard}}.jsonl",
    output:
        rows="results/generations/{generation}/{kind}/{shard}.jsonl",
        stats="results/generations/{generation}/{kind}/{shard}.json",
    log:
        "results/logs/take_rows/{generation}/{kind}/{shard}.log",
    wildcard_constraints:
        generation=names(of_methods("evol-instruct", "answers")),
        kind="concepts|instructions",
    conda:
        "../envs/core.yaml"
    params:
        code=code("take_rows"),
    shell:
        "python $SCRIPTS/take_rows.py --rows {input:q} --stage {wildcards.kind} --output {output.rows:q} "
        "--stats {output.stats:q} 2>&1 | tee {log:q}"


rule generate_instructions:
    """Ask the model for a task: with given concepts, category and difficulty, or as another method has it."""
    input:
        unpack(method_input),
        concepts="results/generations/{generation}/concepts/{shard}.jsonl",
        model=lambda wildcards: model_file(generation_of(wildcards)["generator"]),
        prompts=lambda wildcards: resource(generation_of(wildcards)["prompts"]),
    output:
        rows="results/generations/{generation}/instructions/{shard}.jsonl",
        stats="results/generations/{generation}/instructions/{shard}.json",
    log:
        "results/logs/generate_instructions/{generation}/{shard}.log",
    benchmark:
        "results/logs/generate_instructions/{generation}/{shard}.benchmark.tsv"
    wildcard_constraints:
        generation=names(of_methods("self-oss-instruct", "seed-instruct", "oss-instruct", "evol-instruct")),
    conda:
        engine_conda
    resources:
        gpu=engine_gpus,
    params:
        code=code("generate_instructions"),
        options=lambda wildcards: generation_options(wildcards, "instruction"),
        engine=engine_identity,
        engine_variable=engine_variable,
        method=method_option,
        files=method_files,
        categories=lambda wildcards: as_json(generation_of(wildcards)["categories"]),
        env=engine_environment,
    shell:
        "PATH=${params.env}$PATH python $SCRIPTS/generate_instructions.py --concepts {input.concepts:q} {params.method:q} {params.files:q} "
        "--category-weights {params.categories:q} --model {input.model:q} --prompts {input.prompts:q} "
        '--engine "${params.engine_variable}" {params.options:q} --label instructions/{wildcards.generation}/{wildcards.shard} '
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule take_instructions:
    """Take the tasks of a benchmark as instructions, to see what the tests of their responses are worth."""
    input:
        benchmark=lambda wildcards: f"results/benchmarks/{OF_BENCHMARKS[wildcards.generation]}.jsonl",
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/generations/{generation}/instructions/{shard}.jsonl",
        stats="results/generations/{generation}/instructions/{shard}.json",
    log:
        "results/logs/take_instructions/{generation}/{shard}.log",
    wildcard_constraints:
        generation=names(OF_BENCHMARKS),
    conda:
        "../envs/core.yaml"
    params:
        code=code("take_instructions"),
        shards=lambda wildcards: generation_of(wildcards)["shards"],
        draw=drawn_seeds,
        seed=lambda wildcards: seed_of(generation_of(wildcards)),
    shell:
        "python $SCRIPTS/take_instructions.py --benchmark {input.benchmark:q} --shard {wildcards.shard} "
        "--shards {params.shards} {params.draw:q} --run-seed {params.seed} "
        "--label instructions/{wildcards.generation}/{wildcards.shard} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule generate_responses:
    """Ask the model for several responses with tests to each instruction; in a further round, where too few passed."""
    input:
        instructions=lambda wildcards: f"results/generations/{wildcards.generation}/instructions/{round_of(wildcards)[0]}.jsonl",
        earlier_responses=lambda wildcards: earlier_rounds("responses", wildcards),
        earlier_verdicts=lambda wildcards: earlier_rounds("verdicts", wildcards),
        model=lambda wildcards: model_file(generation_of(wildcards)["generator"]),
        prompts=lambda wildcards: resource(generation_of(wildcards)["prompts"]),
    output:
        rows="results/generations/{generation}/responses/{shard}.jsonl",
        stats="results/generations/{generation}/responses/{shard}.json",
    log:
        "results/logs/generate_responses/{generation}/{shard}.log",
    benchmark:
        "results/logs/generate_responses/{generation}/{shard}.benchmark.tsv"
    wildcard_constraints:
        shard=r"\d{5}(\.\d+)?",
    conda:
        engine_conda
    resources:
        gpu=engine_gpus,
    params:
        code=code("generate_responses"),
        options=lambda wildcards: generation_options(wildcards, "response"),
        engine=engine_identity,
        engine_variable=engine_variable,
        tags=lambda wildcards: generation_of(wildcards)["tags"],
        earlier=earlier_options,
        until=until_passed,
        env=engine_environment,
    shell:
        "PATH=${params.env}$PATH python $SCRIPTS/generate_responses.py --instructions {input.instructions:q} "
        "--model {input.model:q} --prompts {input.prompts:q} --tags {params.tags} {params.earlier:q} {params.until:q} "
        '--engine "${params.engine_variable}" {params.options:q} --label responses/{wildcards.generation}/{wildcards.shard} '
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"


rule generate_tests:
    """Ask the model for test suites of each instruction, without a response."""
    input:
        instructions="results/generations/{generation}/instructions/{shard}.jsonl",
        model=lambda wildcards: model_file(generation_of(wildcards)["generator"]),
        prompts=lambda wildcards: resource(generation_of(wildcards)["prompts"]),
    output:
        rows="results/generations/{generation}/tests/{shard}.jsonl",
        stats="results/generations/{generation}/tests/{shard}.json",
    log:
        "results/logs/generate_tests/{generation}/{shard}.log",
    benchmark:
        "results/logs/generate_tests/{generation}/{shard}.benchmark.tsv"
    conda:
        engine_conda
    resources:
        gpu=engine_gpus,
    params:
        code=code("generate_tests"),
        options=lambda wildcards: generation_options(wildcards, "tests"),
        engine=engine_identity,
        engine_variable=engine_variable,
        env=engine_environment,
    shell:
        "PATH=${params.env}$PATH python $SCRIPTS/generate_tests.py --instructions {input.instructions:q} "
        "--model {input.model:q} --prompts {input.prompts:q} "
        '--engine "${params.engine_variable}" {params.options:q} --label tests/{wildcards.generation}/{wildcards.shard} '
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"

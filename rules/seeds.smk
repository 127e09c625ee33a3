# Seeds: source code in, filtered functions out.
# REQUIRES  source code (corpora.*.source), results/benchmarks/*.jsonl
# MAKES     results/corpora/{corpus}/functions/{part}.parquet  filtered/{part}.parquet
#           judged/{part}.parquet (where the filters list a judge)  seeds.parquet  rejected.parquet  funnel.json


# On a cluster: the hub is read where Snakemake runs, since nodes often have no network. A folder is no hub.
if any(
    corpus["source"]["kind"] == "hub" and not Path(corpus["source"]["dataset"]).is_dir()
    for corpus in config["corpora"].values()
):

    localrules:
        extract_functions,


rule extract_functions:
    """Extract the top-level functions with docstrings of one part of a corpus, or a random snippet of each file."""
    input:
        files=corpus_files,
    output:
        functions="results/corpora/{corpus}/functions/{part}.parquet",
        funnel="results/corpora/{corpus}/functions/{part}.json",
    log:
        "results/logs/extract_functions/{corpus}/{part}.log",
    benchmark:
        "results/logs/extract_functions/{corpus}/{part}.benchmark.tsv"
    conda:
        "../envs/core.yaml"
    params:
        code=code("extract_functions"),
        source=lambda wildcards: corpus_source(wildcards.corpus),
        versions=source_versions,
        parts=lambda wildcards: config["corpora"][wildcards.corpus]["parts"],
        unit=corpus_unit,
        language=lambda wildcards: language_of(wildcards.corpus),
    shell:
        "python $SCRIPTS/extract_functions.py --source {params.source:q} {params.language:q} "
        "--part {wildcards.part} --parts {params.parts} {params.unit:q} "
        "--output {output.functions:q} --stats {output.funnel:q} 2>&1 | tee {log:q}"


rule filter_functions:
    """Drop functions that are no seeds, one at a time: no return value, type errors, and so on."""
    input:
        functions="results/corpora/{corpus}/functions/{part}.parquet",
    output:
        kept="results/corpora/{corpus}/filtered/{part}.parquet",
        rejected="results/corpora/{corpus}/filtered/{part}.rejected.parquet",
        funnel="results/corpora/{corpus}/filtered/{part}.json",
    log:
        "results/logs/filter_functions/{corpus}/{part}.log",
    benchmark:
        "results/logs/filter_functions/{corpus}/{part}.benchmark.tsv"
    conda:
        "../envs/core.yaml"
    params:
        code=code("filter_functions"),
        filters=lambda wildcards: as_json(filters_of(wildcards.corpus, ROW_FILTERS)),
        language=lambda wildcards: language_of(wildcards.corpus),
    shell:
        "python $SCRIPTS/filter_functions.py --input {input.functions:q} --filters {params.filters:q} {params.language:q} "
        "--label filters/{wildcards.corpus}/{wildcards.part} --kept {output.kept:q} --rejected {output.rejected:q} --funnel {output.funnel:q} 2>&1 | tee {log:q}"


rule judge_seeds:
    """Let a model judge the docstrings of the functions that the filters kept."""
    input:
        functions="results/corpora/{corpus}/filtered/{part}.parquet",
        model=lambda wildcards: model_file(judge_of(wildcards.corpus)["model"]),
        prompts=lambda wildcards: resource(judge_of(wildcards.corpus)["prompts"]),
        sandbox=ancient("results/sandbox.json"),  # known to work before hours of judging are spent
    output:
        kept="results/corpora/{corpus}/judged/{part}.parquet",
        rejected="results/corpora/{corpus}/judged/{part}.rejected.parquet",
        funnel="results/corpora/{corpus}/judged/{part}.json",
    log:
        "results/logs/judge_seeds/{corpus}/{part}.log",
    benchmark:
        "results/logs/judge_seeds/{corpus}/{part}.benchmark.tsv"
    conda:
        engine_conda
    resources:
        gpu=engine_gpus,
    params:
        code=code("judge_seeds"),
        filters=lambda wildcards: as_json([judge_of(wildcards.corpus)]),
        engine=engine_identity,
        engine_variable=engine_variable,
        seed=config["seed"],
        env=engine_environment,
    shell:
        "PATH=${params.env}$PATH python $SCRIPTS/judge_seeds.py --input {input.functions:q} "
        '--filters {params.filters:q} --model {input.model:q} --engine "${params.engine_variable}" --prompts {input.prompts:q} '
        "--run-seed {params.seed} --label judge/{wildcards.corpus}/{wildcards.part} "
        "--kept {output.kept:q} --rejected {output.rejected:q} --stats {output.funnel:q} 2>&1 | tee {log:q}"


rule select_seeds:
    """Join the parts; drop duplicates, near-duplicates and functions of the run's own benchmarks."""
    input:
        kept=lambda wildcards: of_corpus(f"{filter_steps(wildcards.corpus)[-1]}/{{part}}.parquet", wildcards.corpus),
        rejected=lambda wildcards: of_steps("{part}.rejected.parquet", filter_steps(wildcards.corpus), wildcards.corpus),
        funnels=lambda wildcards: of_steps(
            "{part}.json", ["functions", *filter_steps(wildcards.corpus)], wildcards.corpus
        ),
        benchmarks=BENCHMARK_FILES,
    output:
        seeds="results/corpora/{corpus}/seeds.parquet",
        rejected="results/corpora/{corpus}/rejected.parquet",
        contamination="results/corpora/{corpus}/contamination.jsonl",
        funnel="results/corpora/{corpus}/funnel.json",
    log:
        "results/logs/select_seeds/{corpus}.log",
    benchmark:
        "results/logs/select_seeds/{corpus}.benchmark.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    params:
        code=code("select_seeds"),
        corpus=lambda wildcards: f"results/corpora/{wildcards.corpus}",
        parts=lambda wildcards: config["corpora"][wildcards.corpus]["parts"],
        steps=lambda wildcards: filter_steps(wildcards.corpus),
        filters=lambda wildcards: as_json(filters_of(wildcards.corpus, CORPUS_FILTERS)),
    shell:
        "python $SCRIPTS/select_seeds.py --corpus {params.corpus:q} --parts {params.parts} "
        "--steps {params.steps} --benchmarks {input.benchmarks:q} "
        "--filters {params.filters:q} --seeds {output.seeds:q} --rejects {output.rejected:q} "
        "--contamination {output.contamination:q} --processes {threads} "
        "--funnel {output.funnel:q} 2>&1 | tee {log:q}"

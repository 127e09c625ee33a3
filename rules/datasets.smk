# Datasets: which responses become training pairs.
# REQUIRES  concepts, instructions, responses and verdicts of a generation, its seeds, results/benchmarks/*.jsonl
# MAKES     results/datasets/{dataset}/pairs.jsonl  preferences.jsonl  negatives.jsonl  difficulty.jsonl
#           rejected.jsonl  contamination.jsonl  funnel.json  README.md


rule select_pairs:
    """Select the training pairs of a dataset from its generation."""
    input:
        seeds=lambda wildcards: f"results/corpora/{GENERATIONS[dataset_of(wildcards)['generation']]['corpus']}/seeds.parquet",
        concepts=lambda wildcards: of_generation("concepts", dataset_of(wildcards)["generation"]),
        instructions=lambda wildcards: of_generation("instructions", dataset_of(wildcards)["generation"]),
        responses=lambda wildcards: of_generation("responses", dataset_of(wildcards)["generation"]),
        verdicts=lambda wildcards: of_generation("verdicts", dataset_of(wildcards)["generation"]),
        quality=quality_files,
        benchmarks=BENCHMARK_FILES,
        like=like,
    output:
        pairs="results/datasets/{dataset}/pairs.jsonl",
        preferences="results/datasets/{dataset}/preferences.jsonl",
        negatives="results/datasets/{dataset}/negatives.jsonl",
        difficulty="results/datasets/{dataset}/difficulty.jsonl",
        rejected="results/datasets/{dataset}/rejected.jsonl",
        contamination="results/datasets/{dataset}/contamination.jsonl",
        funnel="results/datasets/{dataset}/funnel.json",
        card="results/datasets/{dataset}/README.md",
    log:
        "results/logs/select_pairs/{dataset}.log",
    benchmark:
        "results/logs/select_pairs/{dataset}.benchmark.tsv"
    conda:
        "../envs/core.yaml"
    params:
        code=code("select_pairs"),
        generation=generation_folder,
        language=lambda wildcards: language_of(GENERATIONS[dataset_of(wildcards)["generation"]]["corpus"]),
        quality=lambda wildcards: ["--quality"] if selects_by(dataset_of(wildcards)) else [],
        settings=lambda wildcards: as_json(selection_settings(wildcards)),
        like=lambda wildcards, input: ["--like", *input.like] if input.like else [],
        empty=may_be_empty,
        seed=lambda wildcards: seed_of(dataset_of(wildcards)),
        folder=subpath(output.pairs, parent=True),
    shell:
        "python $SCRIPTS/select_pairs.py --seeds {input.seeds:q} {params.generation:q} {params.language:q} "
        "--benchmarks {input.benchmarks:q} {params.like:q} {params.empty:q} {params.quality:q} --settings {params.settings:q} "
        "--run-seed {params.seed} --output {params.folder:q} 2>&1 | tee {log:q}"

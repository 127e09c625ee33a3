# Rounds: whether a model goes on to generate the next round, and whether that of a further round is trained at all.
# REQUIRES  results/generations/{generation}/  results/datasets/{dataset}/pairs.jsonl of the round, the instructions of
#           the rounds before, results/rounds/{rounds}/1.json
# MAKES     results/rounds/{rounds}/{number}.json


checkpoint judge_round:
    """Measure a round, and judge whether it is the last one."""
    input:
        rows=lambda wildcards: first_samples(of_round(wildcards)["generation"]),
        earlier=lambda wildcards: [
            path for generation in earlier_generations(wildcards) for path in of_generation("instructions", generation)
        ],
        pairs=lambda wildcards: f"results/datasets/{of_round(wildcards)['dataset']}/pairs.jsonl",
        first=first_judgement,
    output:
        "results/rounds/{rounds}/{number}.json",
    log:
        "results/logs/judge_round/{rounds}/{number}.log",
    benchmark:
        "results/logs/judge_round/{rounds}/{number}.benchmark.tsv"
    conda:
        "../envs/core.yaml"
    params:
        code=code("judge_round"),
        generation=lambda wildcards: f"results/generations/{of_round(wildcards)['generation']}",
        shards=lambda wildcards: GENERATIONS[of_round(wildcards)["generation"]]["shards"],
        threshold=lambda wildcards: DATASETS[of_round(wildcards)["dataset"]]["near_duplicate_threshold"],
        earlier=earlier_round_options,
        limits=lambda wildcards: as_json(config["rounds"][wildcards.rounds]["stop"]),
    shell:
        "python $SCRIPTS/judge_round.py --round {wildcards.number} --generation {params.generation:q} "
        "--shards {params.shards} --pairs {input.pairs:q} --threshold {params.threshold} {params.earlier:q} "
        "--limits {params.limits:q} --output {output:q} 2>&1 | tee {log:q}"

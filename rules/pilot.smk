# Pilot: a small run of each generation, for each style of tags, before a long one.
# REQUIRES  what generation and datasets do, for the entries results/generations/_pilot-* and results/datasets/_pilot-*
# MAKES     results/pilot/{generation}.txt  {generation}.json


rule report_pilot:
    """Tell what the pilots of a generation yielded, and project its full run."""
    input:
        rows=lambda wildcards: [
            path
            for pilot in pilots_of(wildcards.generation).values()
            for kind in ("concepts", "instructions", "responses", "verdicts")
            for path in of_generation(kind, pilot)
        ],
        stats=lambda wildcards: [
            path.replace(".jsonl", ".json")
            for pilot in pilots_of(wildcards.generation).values()
            for kind in ("concepts", "instructions", "responses", "verdicts")
            for path in of_generation(kind, pilot)
        ],
        pairs=lambda wildcards: [
            f"results/datasets/{pilot}/{name}.jsonl"
            for pilot in pilots_of(wildcards.generation).values()
            for name in ("pairs", "preferences", "negatives")
        ],
        seeds=lambda wildcards: f"results/corpora/{generation_of(wildcards)['corpus']}/seeds.parquet",
    output:
        text="results/pilot/{generation}.txt",
        data="results/pilot/{generation}.json",
    log:
        "results/logs/report_pilot/{generation}.log",
    conda:
        "../envs/core.yaml"
    params:
        code=code("report_pilot"),
        settings=lambda wildcards: as_json(generation_of(wildcards)),
        pilots=lambda wildcards: [f"{tags}={pilot}" for tags, pilot in pilots_of(wildcards.generation).items()],
        seed=lambda wildcards: seed_of(generation_of(wildcards)),
        gpus=engine_gpus,
    shell:
        "python $SCRIPTS/report_pilot.py --results results --generation {wildcards.generation} "
        "--settings {params.settings:q} --pilots {params.pilots:q} --seeds {input.seeds:q} --gpus {params.gpus} "
        "--run-seed {params.seed} --text {output.text:q} --data {output.data:q} 2>&1 | tee {log:q}"

# Models: given ones are found, the others trained.
# REQUIRES  a folder or hub id (models.*.pretrained), or results/models/{base}/model.json and results/datasets/{dataset}/pairs.jsonl
#           (and preferences.jsonl, for the objective dpo)
# MAKES     results/models/{model}/model.json, a checkpoint and its training log beside it


rule fetch_model:
    """Find a given model, in a folder or on the hub, and record its digest."""
    output:
        "results/models/{model}/model.json",
    log:
        "results/logs/fetch_model/{model}.log",
    wildcard_constraints:
        model=names(PRETRAINED),
    conda:
        "../envs/core.yaml"
    params:
        code=code("fetch_model"),
        pretrained=lambda wildcards: config["models"][wildcards.model]["pretrained"],
        version=lambda wildcards: folder_version(config["models"][wildcards.model]["pretrained"]),
    shell:
        "python $SCRIPTS/fetch_model.py --pretrained {params.pretrained:q} --root $ROOT --output {output:q} "
        "2>&1 | tee {log:q}"


rule train_model:
    """Fine-tune a model on the pairs of a dataset, or on its preferences, with one process for each GPU of the job."""
    input:
        base=lambda wildcards: model_file(config["models"][wildcards.model]["base"]),
        pairs=lambda wildcards: f"results/datasets/{config['models'][wildcards.model]['dataset']}/pairs.jsonl",
        preferences=preferences,
    output:
        model="results/models/{model}/model.json",
        training_log="results/models/{model}/training_log.jsonl",
        stats="results/models/{model}/training_stats.json",
        card="results/models/{model}/README.md",
    log:
        "results/logs/train_model/{model}.log",
    benchmark:
        "results/logs/train_model/{model}.benchmark.tsv"
    wildcard_constraints:
        model=names(TRAINED),
    conda:
        "../envs/core.yaml"
    threads: lambda wildcards: config["models"][wildcards.model]["train"]["threads"]
    resources:
        gpu=1,  # --set-resources train_model:gpu=8 --set-threads train_model=8
    params:
        code=code("train_model"),
        settings=lambda wildcards: as_json(config["models"][wildcards.model]["train"]),
        preferences=lambda wildcards, input: ["--preferences", *input.preferences] if input.preferences else [],
        seed=lambda wildcards: seed_of(config["models"][wildcards.model]),
        folder=subpath(output.model, parent=True),
    shell:
        "python $SCRIPTS/train_model.py --base {input.base:q} --pairs {input.pairs:q} {params.preferences:q} "
        "--settings {params.settings:q} --run-seed {params.seed} --gpus {resources.gpu} "
        "--label train/{wildcards.model} --output {params.folder:q} 2>&1 | tee {log:q}"


rule make_demo_base:
    """Remake the base model of the default run from nothing: hours on two cores, minutes on a GPU."""
    output:
        directory("results/demo-base"),
    log:
        "results/logs/make_demo_base.log",
    conda:
        "../envs/core.yaml"
    shell:
        "python $SCRIPTS/make_demo_base.py --output {output:q} 2>&1 | tee {log:q}"

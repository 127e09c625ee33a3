# Archive: a finished run as one file, with all that tells how it was made.
# REQUIRES  everything that the config names, and the report
# MAKES     results/archive/{run}.tar.zst

ARCHIVE = f"results/archive/{config['run']}.tar.zst"


rule archive_run:
    """Pack config, provenance, rows, scores, report, logs and digests of everything into one file."""
    input:
        *ROUNDS,
        set_aside_artifacts,
        artifacts=reported_artifacts,
        provenance="results/provenance.json",
        report="results/report/index.html",
    output:
        ARCHIVE,
    log:
        "results/logs/archive_run.log",
    conda:
        "../envs/core.yaml"
    params:
        code=code("archive_run"),
        models="--include-models" if config["archive"]["include_models"] else "",
    shell:
        "python $SCRIPTS/archive_run.py --results results --root $ROOT {params.models} --output {output:q} "
        "2>&1 | tee {log:q}"

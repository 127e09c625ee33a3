"""Self-alignment of a code model: seeds, concepts, instructions, responses, verdicts, pairs, training, scores, report."""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


# A config given by --configfile is the whole config; it does not add to config.yaml.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml" if Path("config.yaml").exists() else Path(workflow.basedir, "config.yaml")


include: "rules/common.smk"
include: "rules/running.smk"
include: "rules/seeds.smk"
include: "rules/generation.smk"
include: "rules/verification.smk"
include: "rules/datasets.smk"
include: "rules/pilot.smk"
include: "rules/training.smk"
include: "rules/rounds.smk"
include: "rules/evaluation.smk"
include: "rules/reporting.smk"
include: "rules/archive.smk"


rule all:
    """Make every dataset, model and score that the config names, and the report."""
    default_target: True
    input:
        "results/report/index.html",
        reported_artifacts,  # also when the report was made before one was lost
        set_aside_artifacts,
        *ROUNDS,


rule archive:
    """Pack the finished run into one file, with all that tells how it was made: results/archive/{run}.tar.zst."""
    input:
        ARCHIVE,


rule pilot:
    """Try each generation on few seeds, in each style of tags, and project what the full run costs and yields."""
    input:
        pilot_files,
    log:
        "results/logs/pilot.log",
    localrule: True
    conda:
        "envs/core.yaml"
    shell:  # which runs also when all is there, since it makes no file
        "cat {input:q} | tee {log:q}"


# On a cluster these run where Snakemake does: they are short, or need the network.
localrules:
    fetch_model,
    judge_round,
    prepare_benchmark,
    take_instructions,
    report_pilot,
    record_run,


onstart:  # of what runs jobs only: a dry run is welcome beside a run
    if workflow.is_main_process:
        start_run()


onerror:
    if not workflow.local_exec:
        for line in failed_jobs():
            print(line, file=sys.stderr)


onsuccess:
    if "pilot" in workflow.dag_settings.targets:
        for path in pilot_files(None):
            print(f"This is in {path}, and every number in {path.replace('.txt', '.json')}.")
        for generation, model in pilot_targets(config)[1].items():
            print(f"No pilot of generation {generation}: its model {model} is trained first.")
    elif "archive" in workflow.dag_settings.targets:
        print(Path("results/logs/archive_run.log").read_text().strip())
    else:
        print(Path("results/report/summary.txt").read_text() if Path("results/report/summary.txt").exists() else "")

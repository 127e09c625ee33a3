# Reporting: what was run, and what came out.
# REQUIRES  everything that the config names
# MAKES     results/run_config.yaml  results/provenance.json  results/changes.patch  results/report/


rule record_run:
    """Record the merged config, and the code and package versions that made the artifacts."""
    input:
        *ROUNDS,
        artifacts=reported_artifacts,
        prompts=[resource(path) for path in prompt_files(config)],
    output:
        config="results/run_config.yaml",
        provenance="results/provenance.json",
        changes="results/changes.patch",  # of the code, since the commit; empty where there are none
    log:
        "results/logs/record_run.log",
    conda:
        "../envs/core.yaml"
    params:
        code=code("record_run"),
        config=json.dumps(config),
        locks=sorted(str(path.relative_to(workflow.basedir)) for path in Path(workflow.basedir, "envs").glob("*.lock")),
    shell:
        "python $SCRIPTS/record_run.py --config <(printf %s {params.config:q}) --root $ROOT --locks {params.locks:q} "
        "--output {output.config:q} --provenance {output.provenance:q} --changes {output.changes:q} 2>&1 | tee {log:q}"


EXPERIMENT_PAGE = (
    {"experiments": report("results/report/experiment.html", caption="report/experiments.rst", category="Report")}
    if config["experiments"]
    else {}
)


rule write_report:
    """Write the report: one HTML page, figures, tables and the summary that ends a run."""
    input:
        config="results/run_config.yaml",
        provenance="results/provenance.json",
    output:
        **EXPERIMENT_PAGE,
        page=report("results/report/index.html", caption="report/page.rst", category="Report"),
        summary=report("results/report/summary.txt", caption="report/summary.rst", category="Report"),
        figures=report(
            directory("results/report/figures"),
            patterns=["{name}.svg"],
            caption="report/figures.rst",
            category="Figures",
        ),
        tables=report(
            directory("results/report/tables"),
            patterns=["{name}.csv"],
            caption="report/tables.rst",
            category="Tables",
        ),
    log:
        "results/logs/write_report.log",
    conda:
        "../envs/core.yaml"
    params:
        code=code("write_report"),
        folder=subpath(output.page, parent=True),
    shell:
        "python $SCRIPTS/write_report.py --results results --config {input.config:q} --output {params.folder:q} "
        "2>&1 > {log:q} | tee -a {log:q}"

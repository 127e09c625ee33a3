"""Write the report of a run: its pages, figures, tables, and the summary that ends the run."""

from pathlib import Path

import yaml

from selfalign.records.files import write_text
from selfalign.reporting.artifacts import read_run
from selfalign.reporting.comparisons import comparisons
from selfalign.reporting.drilldown import dropped_examples, kept_examples
from selfalign.reporting.experiment_page import render_experiments
from selfalign.reporting.experiments import read_experiments
from selfalign.reporting.gallery import draw_experiments, draw_figures
from selfalign.reporting.page import render_page
from selfalign.reporting.tables import csv_tables, summary

TABLES = ("corpora", "generations", "datasets", "models", "benchmarks")


class _Settings(dict):
    """A part of a config that was read; a key that it lacks is the file's fault."""

    where = "the config"

    def __missing__(self, key: object) -> object:
        raise ValueError(
            f"{self.where} has no key {key!r}, so the run is of another version of selfalign: look at it with the code "
            "of its commit (provenance.json)"
        )


yaml.SafeDumper.add_representer(_Settings, yaml.SafeDumper.represent_dict)  # the report shows it as YAML


def _settings(value: object, where: str) -> object:
    if not isinstance(value, dict):
        return value
    found = _Settings((key, _settings(one, f"{where}.{key}")) for key, one in value.items())
    found.where = where
    return found


def read_config(path: Path) -> dict:
    """Read a merged config (`run_config.yaml`).

    Raises:
        ValueError: it is not YAML, or lacks a table; and whoever asks for a key that it lacks gets one.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as a config ({error})") from error
    missing = [key for key in ("run", "seed", *TABLES, "evaluate") if not isinstance(config, dict) or key not in config]
    if missing:
        raise ValueError(f"{path}: not a merged config: {', '.join(missing)} missing; record_run writes it")
    for table in TABLES:
        entries = config[table].values() if isinstance(config[table], dict) else [None]
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path}: not a merged config: {table} is no table of tables; record_run writes it")
    return _settings(config, f"{path}: config")


def write_report(results: Path, config: Path, output: Path) -> str:
    """Write the report into a folder and return the summary.

    Figures and tables that an earlier report left there are removed, so that the folder holds this report alone.
    """
    run = read_run(results, read_config(config))
    compared = comparisons(run.first_scores, run.config["models"])
    experiments = read_experiments(run)
    drawings = draw_figures(run) | draw_experiments(experiments)
    pages = [output / "index.html", *([output / "experiment.html"] if experiments else [])]
    told = summary(run, compared, experiments, [str(path) for path in pages])
    page = render_page(run, compared, drawings, kept_examples(run), dropped_examples(run))
    figures = {f"{name}.svg": drawing.wide for name, drawing in drawings.items()}
    for folder, files in (("figures", figures), ("tables", csv_tables(run, compared, experiments))):
        (output / folder).mkdir(parents=True, exist_ok=True)
        for old in (output / folder).iterdir():
            if old.suffix in (".svg", ".csv") and old.name not in files:
                old.unlink()
        for name, content in files.items():
            write_text(output / folder / name, content)
    write_text(output / "summary.txt", told)
    write_text(output / "index.html", page)
    if experiments:
        write_text(output / "experiment.html", render_experiments(run, experiments, drawings))
    else:
        (output / "experiment.html").unlink(missing_ok=True)
    return told

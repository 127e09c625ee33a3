"""Write the report of a run: the page, its figures, its tables, and the summary that ends the run."""

from pathlib import Path

import yaml

from selfalign.records.files import write_text
from selfalign.reporting.artifacts import read_run
from selfalign.reporting.comparisons import comparisons
from selfalign.reporting.drilldown import dropped_examples, kept_examples
from selfalign.reporting.gallery import draw_figures
from selfalign.reporting.page import render_page
from selfalign.reporting.tables import csv_tables, summary

TABLES = ("corpora", "generations", "datasets", "models", "benchmarks")


def read_config(path: Path) -> dict:
    """Read a merged config (`run_config.yaml`).

    Raises:
        ValueError: it is not YAML, or lacks a table.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as a config ({error})") from error
    missing = [key for key in ("run", "seed", *TABLES, "evaluate") if not isinstance(config, dict) or key not in config]
    if missing:
        raise ValueError(f"{path}: not a merged config: {', '.join(missing)} missing; record_run writes it")
    return config


def write_report(results: Path, config: Path, output: Path) -> str:
    """Write the report into a folder and return the summary.

    Figures and tables that an earlier report left there are removed, so that the folder holds this report alone.
    """
    run = read_run(results, read_config(config))
    compared = comparisons(run.scores, run.config["models"])
    drawings = draw_figures(run)
    told = summary(run, compared, str(output / "index.html"))
    page = render_page(run, compared, drawings, kept_examples(run), dropped_examples(run))
    figures = {f"{name}.svg": drawing.wide for name, drawing in drawings.items()}
    for folder, files in (("figures", figures), ("tables", csv_tables(run, compared))):
        (output / folder).mkdir(parents=True, exist_ok=True)
        for old in (output / folder).iterdir():
            if old.suffix in (".svg", ".csv") and old.name not in files:
                old.unlink()
        for name, content in files.items():
            write_text(output / folder / name, content)
    write_text(output / "summary.txt", told)
    write_text(output / "index.html", page)
    return told

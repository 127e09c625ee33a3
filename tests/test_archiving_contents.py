"""Which files an archive has, of which kind each is, and what of a results folder stays out of it."""

import json
import re
from pathlib import Path

import pytest
from archive_files import ROOT, VERDICTS, complete
from reporting_run import CONFIG

from selfalign.archiving.archive import archive_run
from selfalign.archiving.contents import RULES, classify, varies
from selfalign.records.files import write_json, write_text

KINDS = [
    # file below results/, kind, fields that its content is without
    ("generations/self/responses/00000.jsonl", "deterministic", ()),
    ("generations/self/responses/00000.1.jsonl", "deterministic", ()),
    ("corpora/stdlib/seeds.parquet", "deterministic", ()),
    ("corpora/stdlib/filtered/00000.json", "deterministic", ()),
    ("models/aligned/training_log.jsonl", "deterministic", ()),
    ("scores/base/demo/scores.json", "deterministic", ()),
    ("scores/base/perf/scores.json", "recorded", ("extra",)),
    ("scores/base/perf/measurements.jsonl", "recorded", ("values",)),
    ("generations/self/verdicts/00000.1.jsonl", "recorded", ("cpu_s", "wall_s", "max_rss_mb", "core")),
    ("scores/base/demo/verdicts.jsonl", "recorded", ("cpu_s", "wall_s", "max_rss_mb", "core")),
    ("benchmarks/demo.references.jsonl", "recorded", ("checks.*.cpu_s", "checks.*.slow")),
    ("models/base/model.json", "recorded", ("name_or_path", "trained_from.base.name_or_path")),
    ("provenance.json", "machine", ()),
    ("report/index.html", "machine", ()),
    ("report/experiment.html", "machine", ()),
    ("report/tables/experiments.csv", "deterministic", ()),
    ("report/figures/scores.svg", "deterministic", ()),
    ("report/figures/stages.svg", "machine", ()),
    ("report/tables/stages.csv", "machine", ()),
    ("logs/train_model/aligned.benchmark.tsv", "machine", ()),
    ("logs/train_model/aligned.log", "log", ()),
]


@pytest.mark.parametrize(("name", "kind", "fields"), KINDS, ids=[name for name, _, _ in KINDS])
def test_kinds_of_files(name: str, kind: str, fields: tuple[str, ...]) -> None:
    config = {"benchmarks": {"demo": {"kind": "demo"}, "perf": {"kind": "evalperf"}}}
    assert classify(name, config) == (kind, fields)


VARYING = [
    # file below results/, its kind in a run of vLLM, without and with a judge of seeds
    ("generations/self/responses/00000.jsonl", "varying", "varying"),
    ("generations/self/concepts/00000.json", "varying", "varying"),
    ("datasets/verified/pairs.jsonl", "varying", "varying"),
    ("models/aligned/training_log.jsonl", "varying", "varying"),
    ("models/base/model.json", "recorded", "recorded"),
    ("scores/base/demo/verdicts.jsonl", "varying", "varying"),
    ("report/figures/scores.svg", "varying", "varying"),
    ("report/index.html", "machine", "machine"),
    ("logs/train_model/aligned.log", "log", "log"),
    ("corpora/stdlib/filtered/00000.parquet", "deterministic", "deterministic"),
    ("corpora/stdlib/judged/00000.parquet", "deterministic", "varying"),
    ("corpora/stdlib/seeds.parquet", "deterministic", "varying"),
    ("benchmarks/demo.jsonl", "deterministic", "deterministic"),
    ("run_config.yaml", "deterministic", "deterministic"),
]


@pytest.mark.parametrize(("name", "alone", "judged"), VARYING, ids=[name for name, _, _ in VARYING])
def test_kinds_of_files_where_models_vary(name: str, alone: str, judged: str) -> None:
    config = json.loads(json.dumps(CONFIG))
    assert classify(name, config, varying=True)[0] == alone
    config["corpora"]["stdlib"]["filters"] = [{"name": "docstring_judge"}]
    assert classify(name, config, varying=True) == (judged, classify(name, config)[1])


ENGINES = [(None, "cpu", False), ("transformers", "cpu", False), ("vllm", "cpu", True), ("openai", "cpu", True),
           ("transformers", "NVIDIA H100", True)]  # fmt: skip


@pytest.mark.parametrize(("kind", "device", "vary"), ENGINES)
def test_which_runs_vary(tmp_path: Path, kind: str | None, device: str, vary: bool) -> None:
    write_json(tmp_path / "models/aligned/training_stats.json", {"device": device})
    assert varies(tmp_path, CONFIG | ({"engine": {"kind": kind}} if kind else {})) == vary


def test_stats_are_without_times_and_what_a_kill_changes() -> None:
    _, fields = classify("generations/self/concepts/00000.json", CONFIG)
    assert {"wall_s", "cpu_s", "load_s", "tokens_per_s", "generated", "completion_tokens"} <= set(fields)
    assert not {"rows", "dropped", "stage", "label"} & set(fields)
    assert classify("models/aligned/training_stats.json", CONFIG) == ("recorded", fields)


OTHERS = [
    "generations/self/concepts/00002.jsonl",
    "generations/self/responses/00000.1.jsonl",
    "generations/_pilot-self-xml/concepts/00000.jsonl",
    "logs/generate_concepts/_pilot-self-xml/00000.log",
    "corpora/stdlib/functions/00002.json",
    "datasets/old/pairs.jsonl",
    "models/old/model.json",
    "scores/control/demo-few-shot/scores.json",
    "benchmarks/old.jsonl",
    "pilot/self.txt",
    "notes.md",
    "key.pem",
    "run_config.yaml~",
    "report/index.html.orig",
    "report/notes.txt",
    "logs/mine.log",
    "logs/train_model/aligned.log~",
    "logs/generate_concepts/self/notes.txt",
    "generations/self/concepts/00000.jsonl~",
    "datasets/verified/pairs (copy).jsonl",
    "models/aligned/id_rsa",
    "scores/base/demo/scores.json.bak",
    "corpora/stdlib/seeds.xlsx",
]


def test_every_rule_s_logs_are_known() -> None:
    """But for those of what is no run: pilots, the demo's base, the archive itself."""
    logs = {
        name for path in (ROOT / "rules").glob("*.smk") for name in re.findall(r"results/logs/(\w+)", path.read_text())
    }
    assert set(RULES) == logs - {"archive_run", "make_demo_base", "report_pilot"}


def test_files_of_other_configs_are_left_out_and_unfinished_ones_are_none(tmp_path: Path) -> None:
    results = complete(tmp_path)
    of_names = "report/figures/funnel_a+b-c.2.svg"  # an entry of the config can be called so
    write_text(results / of_names, "<svg/>")
    unfinished = ("generations/self/concepts/.00000.jsonl.partial", "datasets/verified/pairs.jsonl.changed")
    for name in (*OTHERS, *unfinished, "archive/tiny.tar.zst", ".sha256/old.yaml"):
        write_text(results / name, "{}")
    manifest, others = archive_run(results, tmp_path / "tiny.tar.zst", root=ROOT, locks=[])
    assert others == sorted(OTHERS)
    paths = {entry["path"] for entry in manifest["files"]}
    assert not {path for path in paths if path.removeprefix("results/") in (*OTHERS, *unfinished) or ".sha256" in path}
    assert {VERDICTS, f"results/{of_names}"} <= paths

"""A small run that is consistent in itself, made of the real row types: what the reporting tests read."""

import random
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import yaml

from selfalign.records.files import write_json, write_jsonl
from selfalign.records.rows import Concepts, Difficulty, Function, Instruction, Pair, Response, Verdict

CONFIG = {
    "run": "tiny",
    "seed": 3407,
    "corpora": {"stdlib": {"source": {"kind": "python-packages", "packages": ["stdlib"]}, "parts": 2}},
    "generations": {
        "self": {
            "corpus": "stdlib",
            "generator": "base",
            "seeds": None,
            "shards": 2,
            "tags": "xml",
            "adaptive": {"samples": [], "until_passed": 1},
            "samples": {"concepts": 1, "instruction": 2, "response": 4},
        }
    },
    "datasets": {
        "verified": {"generation": "self", "select": "passed", "size": None},
        "random": {"generation": "self", "select": "random", "size": "like:verified"},
    },
    "models": {
        "base": {"pretrained": "resources/demo-base"},
        "aligned": {"base": "base", "dataset": "verified", "train": {"epochs": 3}},
        "control": {"base": "base", "dataset": "random", "train": {"epochs": 3}},
    },
    "benchmarks": {"demo": {"kind": "demo", "prompt": "chat"}, "demo-few-shot": {"kind": "demo", "prompt": "few-shot"}},
    "rounds": {},
    "evaluate": [
        {"models": ["base", "aligned", "control"], "benchmarks": ["demo"]},
        {"models": ["base"], "benchmarks": ["demo-few-shot"]},
    ],
}
VERDICTS = ("passed", "passed", "passed", "assertion", "assertion", "exception", "syntax", "timeout_cpu", "no_tests")
HOSTILE = "</pre><script>alert('x')</script> & $x_1$ \x00 \ud800"


def make_run(root: Path, seeds: int = 12, tasks: int = 40) -> Path:
    """Write the artifacts of a run under `root`/results and return that folder."""
    results, draw = root / "results", random.Random(1)
    functions = [_function(number) for number in range(seeds)]
    _write_corpus(results / "corpora" / "stdlib", functions)
    rows = _write_generation(results / "generations" / "self", functions, draw)
    for name in CONFIG["datasets"]:
        _write_dataset(results / "datasets" / name, name, functions, rows)
    for model, share in (("base", 0.1), ("aligned", 0.5), ("control", 0.3)):
        _write_score(results, model, "demo", share, tasks, draw)
    _write_score(results, "base", "demo-few-shot", 0.4, tasks, draw)
    for model, drop in (("aligned", 0.9), ("control", 0.7)):
        folder = results / "models" / model
        log = [
            {"step": step, "loss": 2.0 - drop * step / 20 + draw.random() / 5, "learning_rate": 1e-3}
            for step in range(1, 21)
        ]
        write_jsonl(folder / "training_log.jsonl", log)
        stats = {"stage": "training", "label": f"train/{model}", "rows": 40, "wall_s": 31.5, "cpu_s": 60.0}
        write_json(folder / "training_stats.json", stats | {"tokens": 24_000, "tokens_per_s": 761.9})
    write_json(results / "provenance.json", _provenance())
    (results / "run_config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return results


def _provenance() -> dict:
    git = {
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "diff_digest": None,
        "untracked": [],
    }
    return {
        "run": "tiny",
        "seed": 3407,
        "git": git,
        "python": "3.11.2",
        "platform": "Linux",
        "cpu": "A processor",
        "cores": 2,
        "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
        "locks": {"core.lock": "ab" * 32},
    }


def _function(number: int, name: str = "mean") -> Function:
    code = f'def {name}_{number}(values):\n    """Return the mean of values."""\n    return sum(values) / len(values)\n'
    return Function(
        id=f"{number:016x}",
        code=code,
        name=f"{name}_{number}",
        imports="",
        docstring="Return the mean of values.",
        package="stdlib",
        version="3.11.2",
        path="statistics.py",
        line=10 * number + 1,
        licence="PSF-2.0",
    )


def _write_corpus(folder: Path, functions: list[Function]) -> None:
    kept, rejected = len(functions), len(functions) // 2
    lost = {"stage": "has_argument", "reason": "no argument", "detail": ""}
    dropped = [_function(1000 + number, "lost").dump() | lost for number in range(rejected)]
    lost = {"stage": "type_check", "reason": "type error", "detail": "<b>line 1</b>"}
    dropped += [_function(2000 + number, "<lost>").dump() | lost for number in range(2 * rejected)]
    folder.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row.dump() for row in functions]), folder / "seeds.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(dropped), folder / "rejected.parquet")
    stages = [
        {
            "stage": "has_argument",
            "input": kept + 3 * rejected,
            "kept": kept + 2 * rejected,
            "dropped": {"no argument": rejected},
            "changed": 2,
        },
        {"stage": "type_check", "input": kept + 2 * rejected, "kept": kept, "dropped": {"type error": 2 * rejected}},
    ]
    write_json(folder / "funnel.json", {"stages": stages})
    for part in range(2):
        stats = {"stage": "extract_functions", "label": f"stdlib/{part}", "rows": kept, "wall_s": 1.5, "cpu_s": 1.4}
        write_json(folder / "functions" / f"{part:05}.json", stats | {"stages": []})


def _stats(stage: str, rows: int) -> dict:
    engine = {
        "prompt_tokens": 60 * rows,
        "completion_tokens": 50 * rows,
        "tokens_per_s": 500.0,
        "cached_prompt_tokens": 30 * rows,
    }
    timed = {"stage": stage, "label": f"self/{stage}", "rows": rows, "wall_s": 0.1 * rows, "cpu_s": 0.1 * rows}
    return timed | ({} if stage.startswith("verify") else engine | {"engine": "transformers"})


def _write_generation(folder: Path, functions: list[Function], draw: random.Random) -> dict[str, dict]:
    """Write both shards; return all rows by kind and id."""
    made: dict[str, dict] = {kind: {} for kind in ("concepts", "instructions", "responses", "verdicts")}
    common = {"shots": ["a"], "seed": 1, "finish_reason": "stop"}
    for shard in range(2):
        rows: dict[str, list] = {kind: [] for kind in made}
        for place, seed in enumerate(functions[shard::2]):
            drop = "empty" if place == 1 else None
            concepts = [] if drop else ["mean", "sum of a list"]
            rows["concepts"].append(
                Concepts(
                    id=f"{seed.id}-c0", parent=seed.id, text=", ".join(concepts), concepts=concepts, drop=drop, **common
                )
            )
        for parent in (row for row in rows["concepts"] if row.drop is None):
            for number in range(2):
                rows["instructions"].append(
                    Instruction(
                        id=f"{parent.id}-i{number}",
                        parent=parent.id,
                        category=draw.choice(["function", "class", "program"]),
                        difficulty=draw.choice(["easy", "medium", "hard"]),
                        concepts=parent.concepts,
                        instruction=f"Write a function that returns the mean of a list, task {parent.id}.",
                        drop="malformed instruction" if draw.random() < 0.1 else None,
                        **common,
                    )
                )
        for parent in (row for row in rows["instructions"] if row.drop is None):
            for number in range(4):
                rows["responses"].append(_response(parent, number, draw, common))
        for parent in (row for row in rows["responses"] if row.drop is None):
            verdict = draw.choice(VERDICTS)
            detail = "AssertionError: <b>3 != 4</b>, line 7" if verdict == "assertion" else ""
            rows["verdicts"].append(
                Verdict(
                    id=parent.id,
                    verdict=verdict,
                    detail=detail,
                    cpu_s=0.1,
                    wall_s=0.1,
                    max_rss_mb=9.0,
                    assertions=3,
                    core="c",
                )
            )
        for kind, written in rows.items():
            write_jsonl(folder / kind / f"{shard:05}.jsonl", [_escaped(row.dump()) for row in written])
            stage = {"verdicts": "verify_responses"}.get(kind, f"generate_{kind}")
            write_json(folder / kind / f"{shard:05}.json", _stats(stage, len(written)))
            made[kind].update((row.id, row) for row in written)
    return made


def _response(parent: Instruction, number: int, draw: random.Random, common: dict) -> Response:
    code = "```python\ndef mean(values):\n    return sum(values) / len(values)\n```"
    tests = "```python\nassert mean([1, 2, 3]) == 2\n```"
    drop = "no tests section" if draw.random() < 0.1 else None
    return Response(
        id=f"{parent.id}-r{number}",
        parent=parent.id,
        text=f"{code}\n{HOSTILE}" if drop else code + tests,
        response="" if drop else code,
        tests="" if drop else tests,
        drop=drop,
        **common,
    )


def _escaped(row: dict) -> dict:
    """Replace what UTF-8 cannot hold, as the engines do."""
    return {key: value.replace("\ud800", "\\ud800") if isinstance(value, str) else value for key, value in row.items()}


def _write_dataset(folder: Path, name: str, functions: list[Function], rows: dict[str, dict]) -> None:
    """Drop what did not pass (`verified` only), then all but one response of each instruction, then all but a few."""
    verdicts = {row_id: row.verdict for row_id, row in rows["verdicts"].items()}
    passed = [row_id for row_id, verdict in verdicts.items() if verdict == "passed"]
    unreadable = {row.id: row.drop for row in rows["responses"].values() if row.drop}
    failed = {key: verdict for key, verdict in verdicts.items() if name == "verified" and verdict != "passed"}
    left = [row_id for row_id in verdicts if row_id not in failed]
    first = {row_id.rpartition("-")[0]: row_id for row_id in reversed(left)}
    others = {row_id: "another response chosen" for row_id in left if row_id not in first.values()}
    pairs = sorted(first.values())[: len({row_id.rpartition("-")[0] for row_id in passed})]
    undrawn = {row_id: "not drawn" for row_id in first.values() if row_id not in pairs}
    stages, rejected, entering = [], [], len(rows["responses"])
    for stage, drops in (
        ("responses", unreadable),
        ("verdicts", failed),
        ("one_per_instruction", others),
        ("size", undrawn),
    ):
        kept = entering - len(drops)
        counts = dict(sorted(Counter(drops.values()).items()))
        stages.append({"stage": stage, "input": entering, "kept": kept, "dropped": counts})
        rejected += [{"id": key, "stage": stage, "reason": why, "detail": ""} for key, why in drops.items()]
        entering = kept
    write_jsonl(folder / "pairs.jsonl", [_pair(row_id, functions, rows, passed).dump() for row_id in pairs])
    write_jsonl(folder / "rejected.jsonl", rejected)
    write_jsonl(folder / "preferences.jsonl", [{"instruction_id": "a"}] * 3)
    write_jsonl(folder / "negatives.jsonl", [{"id": "a"}] * 5)
    write_jsonl(folder / "difficulty.jsonl", _difficulties(rows))
    write_json(folder / "funnel.json", {"stages": stages})


def _difficulties(rows: dict[str, dict]) -> list[dict]:
    found = []
    for row in rows["instructions"].values():
        verdicts = [verdict for key, verdict in rows["verdicts"].items() if key.startswith(f"{row.id}-")]
        passed = sum(verdict.passed for verdict in verdicts)
        if verdicts:
            difficulty = Difficulty(
                id=row.id,
                samples=len(verdicts),
                passed=passed,
                pass_rate=round(passed / len(verdicts), 4),
                category=row.category,
                difficulty=row.difficulty,
                seed_id=row.id[:16],
            )
            found.append(difficulty.dump())
    return found


def _pair(row_id: str, functions: list[Function], rows: dict[str, dict], passed: list[str]) -> Pair:
    response = rows["responses"][row_id]
    instruction = rows["instructions"][response.parent]
    seed = functions[int(row_id[:16], 16)]
    return Pair(
        id=row_id,
        instruction=instruction.instruction,
        response=response.response,
        tests=response.tests,
        category=instruction.category,
        difficulty=instruction.difficulty,
        concepts=instruction.concepts,
        instruction_id=instruction.id,
        concepts_id=instruction.parent,
        seed_id=seed.id,
        verdict=rows["verdicts"][row_id].verdict,
        pass_rate=sum(other.startswith(f"{instruction.id}-") for other in passed) / 4,
        samples=4,
        package=seed.package,
        path=seed.path,
        line=seed.line,
        licence=seed.licence,
    )


def _write_score(results: Path, model: str, benchmark: str, share: float, tasks: int, draw: random.Random) -> None:
    per_task = {f"demo/{number:03}": float(draw.random() < share) for number in range(tasks)}
    passed = int(sum(per_task.values()))
    rate = passed / tasks
    group = {"tasks": tasks // 2, "pass@1": rate, "interval": [rate, rate]}
    write_json(
        results / "scores" / model / benchmark / "scores.json",
        {
            "model": model,
            "benchmark": benchmark,
            "tasks": tasks,
            "samples": 1,
            "pass@1": rate,
            "interval": [max(0.0, rate - 0.1), min(1.0, rate + 0.1)],
            "verdicts": {"passed": passed, "assertion": tasks - passed},
            "groups": {"category": {"function": group, "class": group}},
            "left_out": {},
            "per_task": per_task,
        },
    )
    for kind in ("completions", "verdicts"):
        stage = {"completions": "complete_benchmark", "verdicts": "verify_completions"}[kind]
        write_json(results / "scores" / model / benchmark / f"{kind}.json", _stats(stage, tasks))

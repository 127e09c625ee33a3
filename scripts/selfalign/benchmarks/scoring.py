"""Scores of one model on one benchmark, from its verdicts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.measuring import read_measurements
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.references import program_id, read_references
from selfalign.benchmarks.statistics import interval_of_mean, pass_at_k
from selfalign.benchmarks.tasks import Task, read_tasks
from selfalign.records.files import read_json, read_jsonl, write_json
from selfalign.records.rows import Verdict, load_rows

PASSED = "passed"
MORE_SAMPLES = (10, 100)  # pass@k is told for these k where there are as many samples


def score_benchmark(
    *,
    model: str,
    benchmark: Path,
    source: Path,
    references: Path,
    completions: Path,
    verdicts: Path,
    output: Path,
    measurements: Path | None = None,
) -> None:
    """Write pass@1 with its interval for each metric, counts of verdicts, and scores by group and task.

    Args:
        source: What the tasks were read from, from `prepare_benchmark`.
        references: From `run_references`; the tasks that it leaves out are not scored.
        measurements: From `measure_completions`, for benchmarks that measure.

    Raises:
        ValueError: the files are not of the same tasks; names the file and the first row that is missing.
    """
    left_out = {key: row.left_out for key, row in read_references(references).items() if row.left_out}
    tasks = [task for task in read_tasks(benchmark) if task.id not in left_out]
    answers = list(load_rows(Answer, read_jsonl(completions), str(completions)))
    found = {verdict.id: verdict for verdict in load_rows(Verdict, read_jsonl(verdicts), str(verdicts))}
    answered = Counter(answer.task for answer in answers)
    count = max(answered.values(), default=0)
    if answered.keys() != {task.id for task in tasks} | left_out.keys():
        raise ValueError(
            f"{completions}: not answers to the tasks of {benchmark}, {len(answered)} of {len(tasks) + len(left_out)} "
            "tasks have one; delete it and run again to remake it"
        )
    for task, samples in answered.items():
        if samples != count:
            raise ValueError(
                f"{completions}: {samples} answers to {task}, but {count} to other tasks; delete it and run again to "
                "remake it"
            )
    outcomes: dict[str, list[dict[str, str]]] = defaultdict(list)  # task to its samples' outcomes, by check
    by_id = {task.id: task for task in tasks}
    for answer in answers:
        if answer.task in left_out:
            continue
        outcome = {}
        for check in by_id[answer.task].checks:
            name = program_id(answer.id, check.name)
            if answer.drop is None and name not in found:
                raise ValueError(f"{verdicts}: no verdict on {name}; delete it and run again to remake it")
            outcome[check.name] = answer.drop or found[name].verdict
        outcomes[answer.task].append(outcome)
    kind = KINDS[tasks[0].kind]
    if kind.measures and measurements is None:
        raise ValueError(
            f"{benchmark}: {tasks[0].kind} scores measurements, too; run measure_completions and name them"
        )
    measured = read_measurements(measurements) if measurements else {}
    by_task: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_task[answer.task].append(answer)
    names = list(tasks[0].metrics)
    metrics = {name: score_metric(tasks, outcomes, name, count) for name in names}
    per_task = metrics[names[0]]["per_task"]
    for metric in metrics.values():
        del metric["per_task"]
    groups: dict[str, dict[str, dict]] = {}
    for field in _fields(tasks):
        groups[field] = {}
        for value in sorted({task.groups[field] for task in tasks if field in task.groups}):
            some = [task for task in tasks if task.groups.get(field) == value]
            groups[field][value] = score_metric(some, outcomes, names[0], count)
            del groups[field][value]["per_task"]
            groups[field][value]["extra"] = kind.extra_scores(some, by_task, measured)
    scores = {
        "model": model,
        "benchmark": benchmark.stem,
        "metric": names[0],
        "samples": count,
        **metrics[names[0]],
        "metrics": metrics,
        "extra": kind.extra_scores(tasks, by_task, measured),
        "verdicts": dict(sorted(Counter(_worst(outcome) for one in outcomes.values() for outcome in one).items())),
        "groups": groups,
        "left_out": left_out,
        "source": read_json(source),
        "per_task": per_task,
    }
    write_json(output, scores)


def _fields(tasks: Iterable[Task]) -> list[str]:
    return list(dict.fromkeys(field for task in tasks for field in task.groups))


def _worst(outcome: Mapping[str, str]) -> str:
    """Return the outcome of an answer: that of its first check that does not pass."""
    return next((verdict for verdict in outcome.values() if verdict != PASSED), PASSED)


def score_metric(
    tasks: Sequence[Task], outcomes: Mapping[str, Sequence[Mapping[str, str]]], metric: str, samples: int
) -> dict:
    """Return one metric over tasks: the share of units that pass, which are tasks for most metrics.

    Args:
        outcomes: Task to its samples, each check to verdict.

    Returns:
        `tasks`, `units`, `pass@1` (mean over units of the share of samples that pass), its `interval` (of
        `interval_of_mean`), pass@10 and pass@100 where there are as many samples, and `per_task`.
    """
    passes = {
        task.id: [
            sum(all(outcome[check] == PASSED for check in unit) for outcome in outcomes[task.id])
            for unit in task.metrics[metric]
        ]
        for task in tasks
    }
    per_task = {task: sum(units) / len(units) / samples for task, units in passes.items()}
    weights = [len(units) for units in passes.values()]
    scores = {
        "tasks": len(tasks),
        "units": sum(weights),
        "pass@1": sum(sum(units) for units in passes.values()) / samples / sum(weights),
        "interval": list(interval_of_mean(list(per_task.values()), weights, bounds=(0, 1))),
    }
    for k in MORE_SAMPLES:
        if samples >= k:
            every = [pass_at_k(samples, passed, k) for units in passes.values() for passed in units]
            scores[f"pass@{k}"] = sum(every) / len(every)
    return scores | {"per_task": per_task}

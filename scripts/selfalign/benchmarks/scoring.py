"""Scores of one model on one benchmark, from its verdicts."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.statistics import bootstrap_interval, pass_at_k
from selfalign.benchmarks.tasks import Task, read_tasks
from selfalign.records.files import read_jsonl, write_json
from selfalign.records.rows import Verdict, load_rows

PASSED = "passed"
MORE_SAMPLES = (10, 100)  # pass@k is told for these k where there are as many samples


def score_benchmark(*, model: str, benchmark: Path, completions: Path, verdicts: Path, output: Path) -> None:
    """Write pass@1 with its interval, counts of verdicts, and scores by category, difficulty and task.

    Raises:
        ValueError: the three files are not of the same tasks; names the file and the first row that is missing.
    """
    tasks = read_tasks(benchmark)
    answers = list(load_rows(Answer, read_jsonl(completions), str(completions)))
    found = {verdict.id: verdict for verdict in load_rows(Verdict, read_jsonl(verdicts), str(verdicts))}
    samples = Counter(answer.task for answer in answers)
    count = max(samples.values(), default=0)
    if samples.keys() != {task.id for task in tasks}:
        raise ValueError(
            f"{completions}: not answers to the tasks of {benchmark}, {len(samples)} of {len(tasks)} tasks have one; "
            "delete it and run again to remake it"
        )
    for task, found_samples in samples.items():
        if found_samples != count:
            raise ValueError(
                f"{completions}: {found_samples} answers to {task}, but {count} to other tasks; delete it and run "
                "again to remake it"
            )
    outcomes = {}
    for answer in answers:
        if answer.drop is None and answer.id not in found:
            raise ValueError(f"{verdicts}: no verdict on {answer.id}; delete it and run again to remake it")
        outcomes[answer.id] = answer.drop or found[answer.id].verdict
    passed = Counter(answer.task for answer in answers if outcomes[answer.id] == PASSED)
    per_task = {task.id: passed[task.id] / count for task in tasks}
    scores = {"model": model, "benchmark": benchmark.stem, "samples": count, **summarise(per_task)}
    for k in MORE_SAMPLES:
        if count >= k:
            scores[f"pass@{k}"] = sum(pass_at_k(count, passed[task.id], k) for task in tasks) / len(tasks)
    scores["verdicts"] = dict(sorted(Counter(outcomes.values()).items()))
    scores["by_category"] = by_group(tasks, per_task, "category")
    scores["by_difficulty"] = by_group(tasks, per_task, "difficulty")
    scores["per_task"] = per_task
    write_json(output, scores)


def summarise(per_task: Mapping[str, float]) -> dict:
    """Return number of tasks, pass@1 (the mean over tasks of the fraction of samples that pass) and its interval."""
    values = list(per_task.values())
    return {
        "tasks": len(values),
        "pass@1": sum(values) / len(values),
        "interval": list(bootstrap_interval(values)),
    }


def by_group(tasks: list[Task], per_task: Mapping[str, float], field: str) -> dict[str, dict]:
    """Return the summary of every group of tasks with the same value of a field; tasks without one are left out."""
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    for task in tasks:
        if (group := getattr(task, field)) is not None:
            groups[group][task.id] = per_task[task.id]
    return {name: summarise(group) for name, group in groups.items()}

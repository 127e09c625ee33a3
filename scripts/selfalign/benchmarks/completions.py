"""Ask a model to solve a benchmark's tasks and keep its answers."""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from selfalign.benchmarks.asking import AskSettings, asker, way_of_asking
from selfalign.benchmarks.benchmark import Wording
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.tasks import Task, read_tasks
from selfalign.engines.models import read_model
from selfalign.engines.port import Completion, Request, load_settings, open_engine
from selfalign.engines.resumable import Clock, complete_rows, engine_stats
from selfalign.records.commands import derive_seed
from selfalign.records.files import SideFile, digest, file_digest, write_json, write_jsonl

WRITTEN = ("stop", "length")  # finish reasons of a text, which may be empty


def complete_benchmark(
    *,
    model: Path,
    engine: str,
    benchmark: Path,
    settings: AskSettings,
    run_seed: int,
    label: str,
    output: Path,
    stats: Path,
) -> None:
    """Write one answer row per task and sample, in the order of the tasks.

    A task with several questions is asked in rounds: the next question may depend on the answers before.

    Args:
        engine: Engine settings as JSON.
    """
    clock = Clock.start()
    engine_settings = load_settings(engine)
    described = read_model(model)
    way = way_of_asking(settings, described)
    if way == "chat" and not described.chat_template:
        print(
            f"{label}: {model} has no chat template and is asked in the text of the models trained here; for its own "
            "way of going on set prompt: completion",
            file=sys.stderr,
        )
    tasks = {task.id: task for task in read_tasks(benchmark)}
    ask = asker(settings, described, benchmark=benchmark.stem, run_seed=run_seed)
    answers: dict[tuple[str, int], list[Completion]] = {
        (task, k): [] for task in tasks for k in range(settings.samples)
    }

    def request(name: str, task: Task, wording: Wording, answered: list[str]) -> Request:
        question = ask(task, wording)
        return Request(
            id=name,
            prompt=question.prompt,
            n=len(answered),
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            stop=question.stop,
            seeds=tuple(derive_seed(run_seed, "completions", answer) for answer in answered),
            shared=question.shared,
        )

    prompts = file_digest(settings.prompts) if settings.prompts else None
    options = {**asdict(settings), "prompts": prompts, "engine": engine_settings.identity(), "run_seed": run_seed}
    side = SideFile(output, digest("completions", file_digest(benchmark), described.digest, options))
    opened = open_engine(model, engine_settings)
    waiting = list(answers)
    for number in range(max_questions := 1000):
        # All samples of a first question are one request; a later one depends on the sample's own answers.
        requests, samples = [], {}
        for task_id, k in waiting:
            task = tasks[task_id]
            texts = [one.text for one in answers[task_id, k]]
            wording = KINDS[task.kind].wording(task, texts, completes_prompt=way == "completion")
            if wording is None:
                continue
            name = task_id if number == 0 else f"{answer_id(task_id, k)}-q{number}"
            samples[name, k if number == 0 else 0] = (task_id, k)
            if number == 0:
                if k == 0:
                    asked = [answer_id(task_id, each) for each in range(settings.samples)]
                    requests.append(request(name, task, wording, asked))
            else:
                requests.append(request(name, task, wording, [name]))
        if not requests:
            break
        rows = complete_rows(opened, requests, side, _row_id, _to_row, label, need_all=True)
        for row in rows.values():
            answers[samples[row["request"], row["k"]]].append(Completion(**row["completion"]))
        waiting = list(samples.values())
    else:
        raise AssertionError(f"a task has more than {max_questions} questions")

    found = []
    for (task_id, k), completions in answers.items():
        texts = [completion.text for completion in completions]
        reasons = [completion.finish_reason for completion in completions]
        task = tasks[task_id]
        code, drop = KINDS[task.kind].build_code(task, texts, completes_prompt=way == "completion")
        # Nothing was written where the prompt is too long, or a server refused it.
        lacking = [one.finish_reason for one in completions if not one.text and one.finish_reason not in WRITTEN]
        if lacking:
            code, drop = "", lacking[0]
        found.append(
            Answer(
                id=answer_id(task_id, k), task=task_id, k=k, texts=texts, finish_reasons=reasons, code=code, drop=drop
            )
        )
    write_jsonl(output, (answer.dump() for answer in found))
    drops = Counter(answer.drop for answer in found if answer.drop)
    truncated = sum("length" in answer.finish_reasons for answer in found)
    _report(label, len(found), truncated, drops, settings.max_tokens)
    write_json(
        stats,
        {
            "stage": "completions",
            "label": label,
            "rows": len(found),
            "dropped": dict(sorted(drops.items())),
            "truncated": truncated,
            "asked": way,
            **engine_stats(opened.usage, clock, engine_settings.kind),
        },
    )
    side.discard()


def _row_id(request: str, k: int) -> str:
    return f"{request}#{k}"


def _to_row(completion: Completion) -> dict:
    name = _row_id(completion.id, completion.k)
    return {"id": name, "request": completion.id, "k": completion.k, "completion": asdict(completion)}


def _report(label: str, count: int, truncated: int, drops: Counter[str], max_tokens: int) -> None:
    """Say what a reader of the scores has to know: these answers count as they are, mostly as failures."""
    if truncated:
        print(
            f"{label}: {truncated:,} of {count:,} answers were cut off after max_tokens ({max_tokens:,}); if they are "
            "long by right, raise the benchmark's max_tokens",
            file=sys.stderr,
        )
    for reason, number in sorted(drops.items()):
        print(f"{label}: {number:,} of {count:,} answers have nothing to run ({reason}) and fail", file=sys.stderr)


def answer_id(task: str, k: int) -> str:
    """Return the id of a task's k-th answer."""
    return f"{task}-s{k}"

"""Ask a model to solve a benchmark's tasks and keep its answers as programs."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from selfalign.benchmarks.asking import AskSettings, asker
from selfalign.benchmarks.programs import Answer, build_program
from selfalign.benchmarks.tasks import read_tasks
from selfalign.engines.models import read_model
from selfalign.engines.port import TOO_LONG, Completion, Request, load_settings, open_engine
from selfalign.engines.resumable import Clock, complete_rows, engine_stats
from selfalign.records.commands import derive_seed
from selfalign.records.files import SideFile, digest, file_digest, write_json, write_jsonl


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

    Args:
        engine: Engine settings as JSON.
    """
    clock = Clock.start()
    engine_settings = load_settings(engine)
    described = read_model(model)
    tasks = {task.id: task for task in read_tasks(benchmark)}
    ask = asker(settings, described, benchmark=benchmark.stem, run_seed=run_seed)
    requests = []
    for task in tasks.values():
        question = ask(task)
        requests.append(
            Request(
                id=task.id,
                prompt=question.prompt,
                n=settings.samples,
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                stop=question.stop,
                seeds=tuple(
                    derive_seed(run_seed, "completions", answer_id(task.id, k)) for k in range(settings.samples)
                ),
                shared=question.shared,
            )
        )

    def to_row(completion: Completion) -> dict:
        program, drop = build_program(
            tasks[completion.id], completion.text, completes_prompt=settings.prompt == "completion"
        )
        return Answer(
            id=answer_id(completion.id, completion.k),
            task=completion.id,
            k=completion.k,
            text=completion.text,
            finish_reason=completion.finish_reason,
            program=program,
            drop=TOO_LONG if completion.finish_reason == TOO_LONG else drop,
        ).dump()

    prompts = file_digest(settings.prompts) if settings.prompts else None
    options = {**asdict(settings), "prompts": prompts, "engine": engine_settings.identity(), "run_seed": run_seed}
    side = SideFile(output, digest("completions", file_digest(benchmark), described.digest, options))
    opened = open_engine(model, engine_settings)
    rows = complete_rows(opened, requests, side, answer_id, to_row, label)
    write_jsonl(output, rows.values())
    drops = Counter(row["drop"] for row in rows.values() if row["drop"])
    write_json(
        stats,
        {
            "stage": "completions",
            "label": label,
            "rows": len(rows),
            "dropped": dict(sorted(drops.items())),
            **engine_stats(opened.usage, clock, engine_settings.kind),
        },
    )
    side.discard()


def answer_id(task: str, k: int) -> str:
    """Return the id of a task's k-th answer."""
    return f"{task}-s{k}"

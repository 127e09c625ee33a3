"""A benchmark's tasks as the instructions of a generation: its responses can be judged (`benchmarks.truth`)."""

import time
from pathlib import Path

from selfalign.benchmarks.tasks import read_tasks
from selfalign.records.commands import derive_seed
from selfalign.records.files import write_json, write_jsonl
from selfalign.records.rows import Instruction

SUFFIX = "-i0"  # of an instruction's id after that of its task


def take_instructions(
    benchmark: Path, shard: int, shards: int, draw: int | None, run_seed: int, label: str, output: Path, stats: Path
) -> None:
    """Write the instructions of one shard's tasks; their parents are the tasks.

    Args:
        shard: I of `shards`: the tasks at positions I, I + N and so on, in the order of the file.
        draw: How many tasks all shards share, drawn by the run's seed; None takes all.
    """
    begin, begin_cpu = time.monotonic(), time.process_time()
    tasks = read_tasks(benchmark)
    if draw is not None:
        names = sorted((task.id for task in tasks), key=lambda name: derive_seed(run_seed, "seeds", name))[:draw]
        tasks = [task for task in tasks if task.id in set(names)]
    rows = [
        Instruction(
            id=f"{task.id}{SUFFIX}",
            parent=task.id,
            shots=[],
            seed=0,
            finish_reason="stop",
            category=task.groups.get("category", "function"),
            difficulty=task.groups.get("difficulty", "medium"),
            concepts=[],
            instruction=task.instruction,
            drop=None,
        )
        for task in tasks[shard::shards]
    ]
    write_jsonl(output, (row.dump() for row in rows))
    times = {"wall_s": round(time.monotonic() - begin, 3), "cpu_s": round(time.process_time() - begin_cpu, 3)}
    write_json(stats, {"stage": "instructions", "label": label, "rows": len(rows), "dropped": {}, **times})

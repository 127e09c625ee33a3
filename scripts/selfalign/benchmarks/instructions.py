"""A benchmark's tasks as the instructions of a generation: its responses can be judged (`benchmarks.truth`)."""

import time
from pathlib import Path

from selfalign.benchmarks.tasks import read_tasks
from selfalign.records.files import write_json, write_jsonl
from selfalign.records.rows import Instruction
from selfalign.records.shards import rows_of_shard

SUFFIX = "-i0"  # of an instruction's id after that of its task


def take_instructions(
    benchmark: Path, shard: int, shards: int, draw: int | None, run_seed: int, label: str, output: Path, stats: Path
) -> None:
    """Write the instructions of one shard's tasks, of `rows_of_shard`; their parents are the tasks."""
    begin, begin_cpu = time.monotonic(), time.process_time()
    tasks = {task.id: task for task in read_tasks(benchmark)}
    mine = [tasks[name] for name in rows_of_shard(list(tasks), shard, shards, draw, run_seed)]
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
        for task in mine
    ]
    write_jsonl(output, (row.dump() for row in rows))
    times = {"wall_s": round(time.monotonic() - begin, 3), "cpu_s": round(time.process_time() - begin_cpu, 3)}
    write_json(stats, {"stage": "instructions", "label": label, "rows": len(rows), "dropped": {}, **times})

"""Responses to a benchmark's tasks with the benchmark's checks: what self-written tests let through.

A generation that takes its instructions from a benchmark answers them with the response documents of the pipeline, and
its responses run with their own tests as any others do. Here they run with the benchmark's checks, too, which the model
never saw.
"""

from pathlib import Path

from selfalign.benchmarks.instructions import SUFFIX
from selfalign.benchmarks.programs import join_code
from selfalign.benchmarks.references import fit_sandbox, read_references
from selfalign.benchmarks.tasks import read_tasks
from selfalign.benchmarks.verification import check_program
from selfalign.prompts.documents import code_blocks
from selfalign.records.files import digest, read_jsonl
from selfalign.records.rows import Response, load_rows
from selfalign.sandbox import SandboxSettings, source_key, verify


def verify_truth(
    *,
    benchmark: Path,
    references: Path,
    responses: list[Path],
    sandbox: SandboxSettings,
    workers: int,
    label: str,
    output: Path,
    stats: Path,
) -> None:
    """Write one verdict for each check of every response's task: the ids are `{response}/{check}`.

    Dropped responses, and those to tasks that are left out here, have none. The code runs as an answer to the benchmark
    would: behind what stands before the function in the code that the task gives.

    Raises:
        ValueError: a response is not to a task of this benchmark.
    """
    tasks = {f"{task.id}{SUFFIX}": task for task in read_tasks(benchmark)}
    known = read_references(references)
    sandbox = fit_sandbox(sandbox, list(tasks.values()))
    programs = []
    for path in responses:
        for row in load_rows(Response, read_jsonl(path), str(path)):
            if row.drop is not None:
                continue
            if row.parent not in tasks:
                raise ValueError(f"{path}: {row.parent} is no task of {benchmark}; delete {path} and run again")
            task = tasks[row.parent]
            if known[task.id].left_out is None:
                code = join_code(task, code_blocks(row.response))
                programs += [
                    check_program(task, check, known[task.id], code, row.id, sandbox.cpu_s) for check in task.checks
                ]
    key = digest("truth", *map(source_key, (benchmark, references, *responses)))
    verify(programs, sandbox, workers=workers, output=output, stats=stats, label=label, key=key)

"""Run the answers to a benchmark's tasks in the sandbox."""

from pathlib import Path

from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.tasks import read_tasks
from selfalign.records.files import digest, read_jsonl
from selfalign.records.rows import load_rows
from selfalign.sandbox import Program, SandboxSettings, source_key, verify


def verify_completions(
    *,
    benchmark: Path,
    completions: Path,
    sandbox: SandboxSettings,
    workers: int,
    label: str,
    output: Path,
    stats: Path,
) -> None:
    """Write one verdict for every answer with code; a dropped answer has none.

    Raises:
        ValueError: an answer is not to a task of this benchmark.
    """
    key = digest(source_key(benchmark), source_key(completions))
    tasks = {task.id: task for task in read_tasks(benchmark)}
    programs = []
    for number, answer in enumerate(load_rows(Answer, read_jsonl(completions), str(completions)), 1):
        if answer.drop is not None:
            continue
        tests = f"{tasks[answer.task].tests.strip()}\n" if answer.task in tasks else None
        if tests is None or not answer.program.endswith(tests):
            raise ValueError(
                f"{completions}, row {number}: {answer.task} with these tests is not in {benchmark}; delete "
                f"{completions} and run again to remake it"
            )
        # Only assertions of the tests are evidence, so the sandbox has to know where they begin.
        programs.append(Program(id=answer.id, code=answer.program.removesuffix(tests), tests=tests))
    verify(programs, sandbox, workers=workers, output=output, stats=stats, label=label, key=key)

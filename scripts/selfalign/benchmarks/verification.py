"""Run the answers to a benchmark's tasks in the sandbox."""

from functools import partial
from pathlib import Path

from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.outputs import OutputComparison, cpu_limit, output_data
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.references import Reference, fit_sandbox, program_id, read_references
from selfalign.benchmarks.tasks import Check, Task, language_of, read_tasks
from selfalign.records.files import digest, read_jsonl
from selfalign.records.rows import load_rows
from selfalign.sandbox import Program, SandboxSettings, source_key, verify


def verify_completions(
    *,
    benchmark: Path,
    references: Path,
    completions: Path,
    sandbox: SandboxSettings,
    workers: int,
    label: str,
    output: Path,
    stats: Path,
    core: str | None = None,
) -> None:
    """Write one verdict for each check of every answer with code; dropped answers and tasks left out have none.

    Args:
        core: As for `Sandbox`.

    Raises:
        ValueError: an answer is not to a task of this benchmark.
    """
    key = digest(source_key(benchmark), source_key(references), source_key(completions))
    tasks = {task.id: task for task in read_tasks(benchmark)}
    known = read_references(references)
    sandbox = fit_sandbox(sandbox, list(tasks.values()))
    programs = []
    for number, answer in enumerate(load_rows(Answer, read_jsonl(completions), str(completions)), 1):
        if answer.task not in tasks or answer.task not in known:
            raise ValueError(
                f"{completions}, row {number}: {answer.task} is not in {benchmark}; delete {completions} and run again "
                "to remake it"
            )
        if answer.drop is None and known[answer.task].left_out is None:
            task = tasks[answer.task]
            programs += [
                check_program(task, check, known[task.id], answer.code, answer.id, sandbox.cpu_s)
                for check in task.checks
            ]
    language = language_of(list(tasks.values()))
    verify(
        programs,
        sandbox,
        workers=workers,
        output=output,
        stats=stats,
        label=label,
        key=key,
        core=core,
        language=language,
    )


def check_program(task: Task, check: Check, reference: Reference, code: str, answer: str, cpu_s: float) -> Program:
    """Return the program that decides whether a solution stands a check.

    Args:
        answer: Id of the answer.
        cpu_s: The sandbox's own limit, the least that a program gets.
    """
    benchmark, known = KINDS[task.kind], reference.known(check.name)
    program, tests = benchmark.build_program(task, check, code, known)
    compare = None
    if check.inputs is not None:
        expected = known.expected if check.expected is None else check.expected
        compare = OutputComparison(check=check, expected=expected, is_right=partial(benchmark.is_right, task))
    return Program(
        id=program_id(answer, check.name),
        code=program,
        tests=tests,
        data=output_data(check),
        cpu_s=cpu_limit(check, known, cpu_s),
        compare=compare,
    )

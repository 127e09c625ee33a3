"""Measure what passing answers are like, for benchmarks that score more than whether they pass."""

from dataclasses import asdict, dataclass
from pathlib import Path

from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.outputs import OutputCollection
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.references import fit_sandbox, program_id
from selfalign.benchmarks.tasks import read_tasks
from selfalign.records.files import SideFile, digest, file_digest, read_jsonl, write_json, write_jsonl
from selfalign.records.progress import Progress
from selfalign.records.rows import Row, Verdict, load_rows
from selfalign.sandbox import Program, Sandbox, SandboxSettings

PASSED = "passed"


@dataclass(frozen=True, kw_only=True)
class Measurement(Row):
    """What was measured of one passing answer, whose id it has, or of the n-th baseline of a task: `{task}#n`.

    Attributes:
        values: What the benchmark's `read_measurement` returned, None where measuring failed.
        detail: Why it failed.
    """

    values: dict | None
    detail: str = ""


def measure_completions(
    *,
    benchmark: Path,
    completions: Path,
    verdicts: Path,
    sandbox: SandboxSettings,
    workers: int,
    label: str,
    output: Path,
    stats: Path,
) -> None:
    """Write one row for each answer that passed all checks of its task, in the order of the answers, then one for each
    baseline of the tasks that have such answers.

    The same code for a task is measured once.

    Raises:
        ValueError: the benchmark measures nothing, or the sandbox broke; what was measured so far is kept.
    """
    tasks = {task.id: task for task in read_tasks(benchmark)}
    kinds = sorted({task.kind for task in tasks.values()})
    if not all(KINDS[kind].measures for kind in kinds):
        raise ValueError(f"{benchmark}: benchmarks of the kind {', '.join(kinds)} measure nothing; leave this step out")
    found = {row.id: row.verdict for row in load_rows(Verdict, read_jsonl(verdicts), str(verdicts))}
    answers = [
        answer
        for answer in load_rows(Answer, read_jsonl(completions), str(completions))
        if answer.drop is None
        and all(found.get(program_id(answer.id, check.name)) == PASSED for check in tasks[answer.task].checks)
    ]
    subjects = [(answer.id, tasks[answer.task], answer.code) for answer in answers]
    for task in {answer.task: tasks[answer.task] for answer in answers}.values():
        subjects += [(f"{task.id}#{n}", task, code) for n, code in enumerate(KINDS[task.kind].baselines(task))]
    names = {row: digest(task.id, code)[:16] for row, task, code in subjects}
    sandbox = fit_sandbox(sandbox, list(tasks.values()))
    files = [file_digest(path) for path in (benchmark, completions, verdicts)]
    side = SideFile(output, digest("measurements", files, asdict(sandbox)))
    measured = {row["id"]: row for row in side.rows}
    printed: dict[str, str] = {}
    programs, waiting = [], {}
    for row, task, code in subjects:
        name = names[row]
        if name in measured or name in waiting:
            continue
        kind = KINDS[task.kind]
        try:
            program, tests = kind.measure_program(task, code)
        except ValueError as error:
            measured[name] = {"id": name, "values": None, "detail": str(error)}
            continue
        waiting[name] = task, code
        compare = OutputCollection(printed=printed, id=name)
        programs.append(
            Program(
                id=name,
                code=program,
                tests=tests,
                data=kind.measure_data(task),
                cpu_s=kind.measure_s,
                compare=compare,
            )
        )
    progress = Progress(label, len(set(names.values())), done=len(measured), unit="programs")
    cpu_s = 0.0
    opened = Sandbox(sandbox, workers)
    for verdict in opened.run(sorted(programs, key=opened.find_kind)):
        if verdict.verdict == "sandbox_error":
            raise ValueError(f"{label}: the sandbox broke ({verdict.detail}); run the same command again to go on")
        task, code = waiting[verdict.id]
        values, detail = None, f"{verdict.verdict} {verdict.detail}".strip()
        if verdict.verdict == PASSED:
            try:
                values, detail = KINDS[task.kind].read_measurement(task, code, printed.pop(verdict.id)), ""
            except ValueError as error:
                detail = str(error)
        measured[verdict.id] = {"id": verdict.id, "values": values, "detail": detail}
        side.append([measured[verdict.id]])
        cpu_s += verdict.cpu_s
        progress.add()
    rows = [Measurement.load(measured[name] | {"id": row}) for row, name in names.items()]
    failed = [row for row in rows if row.values is None]
    if failed:
        print(f"{label}: {len(failed)} of {len(rows)} solutions could not be measured, the first is "
              f"{failed[0].id} ({failed[0].detail})")  # fmt: skip
    write_jsonl(output, (row.dump() for row in rows))
    write_json(
        stats,
        {"stage": "measurements", "label": label, "rows": len(rows), "failed": len(failed), "cpu_s": round(cpu_s, 3)},
    )
    side.discard()


def read_measurements(path: Path) -> dict[str, dict]:
    """Return what was measured, by answer; those of which nothing could be measured are not among it."""
    rows = load_rows(Measurement, read_jsonl(path), str(path))
    return {row.id: row.values for row in rows if row.values is not None}

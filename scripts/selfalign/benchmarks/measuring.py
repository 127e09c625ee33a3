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
    """What was measured of one passing answer, whose id it has.

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
    """Write one row for each answer that passed all checks of its task, in the order of the answers.

    Answers of the same code to a task are measured once.

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
    names = {answer.id: digest(answer.task, answer.code)[:16] for answer in answers}
    sandbox = fit_sandbox(sandbox, list(tasks.values()))
    files = [file_digest(path) for path in (benchmark, completions, verdicts)]
    side = SideFile(output, digest("measurements", files, asdict(sandbox)))
    measured = {row["id"]: row for row in side.rows}
    printed: dict[str, str] = {}
    programs, waiting = [], {}
    for answer in answers:
        name = names[answer.id]
        if name in measured or name in waiting:
            continue
        waiting[name] = answer
        kind = KINDS[tasks[answer.task].kind]
        code, tests = kind.measure_program(tasks[answer.task], answer.code)
        compare = OutputCollection(printed=printed, id=name)
        programs.append(Program(id=name, code=code, tests=tests, cpu_s=kind.measure_s, compare=compare))
    progress = Progress(label, len(set(names.values())), done=len(measured), unit="programs")
    cpu_s = 0.0
    for verdict in Sandbox(sandbox, workers).run(programs):
        if verdict.verdict == "sandbox_error":
            raise ValueError(f"{label}: the sandbox broke ({verdict.detail}); run the same command again to go on")
        answer = waiting[verdict.id]
        task = tasks[answer.task]
        values, detail = None, f"{verdict.verdict} {verdict.detail}".strip()
        if verdict.verdict == PASSED:
            try:
                values, detail = KINDS[task.kind].read_measurement(task, answer.code, printed.pop(verdict.id)), ""
            except ValueError as error:
                detail = str(error)
        measured[verdict.id] = {"id": verdict.id, "values": values, "detail": detail}
        side.append([measured[verdict.id]])
        cpu_s += verdict.cpu_s
        progress.add()
    rows = [Measurement.load(measured[names[answer.id]] | {"id": answer.id}) for answer in answers]
    failed = [row for row in rows if row.values is None]
    if failed:
        print(f"{label}: {len(failed)} of {len(rows)} passing answers could not be measured, the first is "
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

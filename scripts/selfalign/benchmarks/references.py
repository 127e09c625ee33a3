"""Reference solutions in the sandbox: do they pass here, what do they return, and how much time do they take?

A task whose reference fails on this machine cannot be scored here: it is left out, with the reason, and named in scores
and report. Time limits follow from the references' own times on this machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.outputs import DRIVER, FACTOR, INPUT_S, Known, OutputCollection, output_data, parse_outputs
from selfalign.benchmarks.tasks import Check, Task, language_of, read_tasks
from selfalign.records.files import read_jsonl, write_json, write_jsonl
from selfalign.records.progress import Progress
from selfalign.records.rows import Row, Verdict, load_rows
from selfalign.sandbox import Program, Sandbox, SandboxSettings

REFERENCE_S = 600.0  # CPU seconds for a reference solution's program


@dataclass(frozen=True, kw_only=True)
class Reference(Row):
    """What a task's reference solution did.

    Attributes:
        left_out: None, or why the task is not scored here.
        checks: Check to `Known` as a dictionary.
    """

    left_out: str | None = None
    checks: dict[str, dict] = field(default_factory=dict)

    def known(self, check: str) -> Known:
        """Return what is known of a check; nothing where there is no reference solution."""
        return Known(**self.checks.get(check, {}))


def run_references(
    *,
    benchmark: Path,
    sandbox: SandboxSettings,
    workers: int,
    label: str,
    output: Path,
    stats: Path,
    core: str | None = None,
) -> None:
    """Write one reference row per task, in the order of the tasks.

    Args:
        core: As for `Sandbox`.

    Raises:
        ValueError: no reference solution passes.
    """
    tasks = read_tasks(benchmark)
    sandbox = fit_sandbox(sandbox, tasks)
    printed: dict[str, str] = {}
    programs = list(reference_programs(tasks, printed, sandbox))
    progress = Progress(label, len(programs), unit="programs")
    verdicts: dict[str, Verdict] = {}
    opened = Sandbox(sandbox, workers, core, language_of(tasks))
    # One kind of worker after the other, so that workers are not replaced all the time.
    for verdict in opened.run(sorted(programs, key=opened.find_kind)):
        verdicts[verdict.id] = verdict
        progress.add()
    references = [_reference(task, verdicts, printed) for task in tasks]
    left_out = {reference.id: reference.left_out for reference in references if reference.left_out}
    if len(left_out) == len(tasks):
        first, reason = next(iter(left_out.items()))
        raise ValueError(
            f"{benchmark}: no reference solution passes here, so nothing could be scored; {first}: {reason}"
        )
    for task, reason in left_out.items():
        print(f"{label}: {task} is left out: {reason}")
    write_jsonl(output, (reference.dump() for reference in references))
    write_json(
        stats,
        {
            "stage": "references",
            "label": label,
            "rows": len(tasks),
            "cpu_s": round(sum(verdict.cpu_s for verdict in verdicts.values()), 3),
            "left_out": left_out,
        },
    )


def fit_sandbox(sandbox: SandboxSettings, tasks: Sequence[Task]) -> SandboxSettings:
    """Return the settings with the limits that the benchmark needs at least, and those of its packages that are
    installed; tasks that need others fail."""
    kinds = [KINDS[name] for name in dict.fromkeys(task.kind for task in tasks)]
    limits: dict[str, float] = {}
    for kind in kinds:
        for name, least in kind.sandbox.items():
            limits[name] = max(least, limits.get(name, getattr(sandbox, name)))
    wanted = dict.fromkeys(name for kind in kinds for name in (*kind.packages, DRIVER))
    found = [name for name in wanted if name not in sandbox.packages and find_spec(name.partition(".")[0])]
    return replace(sandbox, **limits, packages=[*sandbox.packages, *found])


def reference_programs(tasks: list[Task], printed: dict[str, str], sandbox: SandboxSettings) -> list[Program]:
    """Return the programs of all reference solutions; what those with inputs print is put into `printed`."""
    programs = []
    for task in tasks:
        if not task.canonical_solution:
            continue
        for check in task.checks:
            name = program_id(task.id, check.name)
            code, tests = KINDS[task.kind].build_program(
                task, check, task.canonical_solution, Known(slow=_patient(check))
            )
            programs.append(
                Program(
                    id=name,
                    code=code,
                    tests=tests,
                    data=output_data(check),
                    cpu_s=max(REFERENCE_S, sandbox.cpu_s),
                    compare=None if check.inputs is None else OutputCollection(printed=printed, id=name),
                )
            )
    return programs


def _patient(check: Check) -> dict[str, float]:
    """Return limits for the inputs under which a reference solution is not interrupted."""
    return {str(number): REFERENCE_S / FACTOR for number in range(len(check.inputs or ()))}


def _reference(task: Task, verdicts: dict[str, Verdict], printed: dict[str, str]) -> Reference:
    checks: dict[str, dict] = {}
    if not task.canonical_solution:
        return Reference(id=task.id)
    for check in task.checks:
        name = program_id(task.id, check.name)
        verdict = verdicts[name]
        if verdict.verdict != "passed":
            reason = f"{check.name}: its reference solution ends with {verdict.verdict} ({verdict.detail})"
            return Reference(id=task.id, left_out=reason)
        known = {"cpu_s": verdict.cpu_s}
        if check.inputs is not None:
            found = parse_outputs(printed[name])
            known["expected"] = found["outputs"]
            known["slow"] = {
                str(number): seconds for number, seconds in enumerate(found["seconds"]) if FACTOR * seconds > INPUT_S
            }
        checks[check.name] = known
    return Reference(id=task.id, checks=checks)


def program_id(answer: str, check: str) -> str:
    """Return the id of the program of an answer (or a task) and a check."""
    return f"{answer}/{check}"


def read_references(path: str | Path) -> dict[str, Reference]:
    """Read what `run_references` wrote, by task."""
    return {row.id: row for row in load_rows(Reference, read_jsonl(path), str(path))}

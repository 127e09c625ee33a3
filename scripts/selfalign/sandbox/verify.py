"""Judge a batch: one verdict row for each program, in the programs' order, resumable, with progress lines."""

import contextlib
import dataclasses
import hashlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from selfalign.records.files import SideFile, digest, file_digest, read_jsonl, write_json, write_jsonl
from selfalign.records.progress import Progress
from selfalign.sandbox.doctor import run_canaries
from selfalign.sandbox.packages import find_imports
from selfalign.sandbox.pool import Sandbox, SandboxUnavailable
from selfalign.sandbox.settings import Program, SandboxSettings

WAITING, GIVEN = 0, -1  # instead of a place in the side file
AGAIN = "the verdicts so far are kept: run the same command again to go on"


def verify(
    programs: Iterable[Program],
    settings: SandboxSettings,
    *,
    workers: int,
    output: str | Path,
    stats: str | Path | None,
    label: str,
    key: str,
    core: str | None = None,
    language: str = "python",
) -> None:
    """Write one verdict for each program; see `judge`.

    Args:
        output: Verdict rows (JSON lines), in the order of the programs.
        stats: Where counts and times go, or None.
    """
    with judge(
        programs, settings, workers=workers, output=output, label=label, key=key, core=core, language=language
    ) as batch:
        write_jsonl(output, batch.rows)
        if stats is not None:
            write_json(stats, batch.summary("verdicts"))


@dataclasses.dataclass(kw_only=True)
class Batch:
    """Programs that were judged.

    Attributes:
        rows: Their verdict rows, in the order of the programs, once.
        facts: What the stats say of the batch.
        counts: Verdicts by kind, of the rows that were taken.
        start: When judging began.
    """

    rows: Iterator[dict]
    facts: dict
    counts: Counter[str]
    start: float

    def summary(self, stage: str) -> dict:
        """Return the stats of a stage, once the rows are taken."""
        wall_s = round(time.monotonic() - self.start, 3)
        return {"stage": stage, **self.facts, "wall_s": wall_s, "verdicts": dict(self.counts)}


@contextlib.contextmanager
def judge(
    programs: Iterable[Program],
    settings: SandboxSettings,
    *,
    workers: int,
    output: str | Path,
    label: str,
    key: str,
    core: str | None = None,
    language: str = "python",
) -> Iterator[Batch]:
    """Run programs and give their verdicts, which survive a kill until the output is written within this context.

    The canaries run first. Programs of the same text, limit and comparison run once, and their verdict stands for each
    of their ids. Some 300 bytes for each program are held in memory.

    Args:
        programs: They are iterated several times: a list, or an object that reads its file anew each time.
        output: What is written from the verdicts; the side file is beside it.
        label: What is judged, for the progress lines.
        key: Digest of what the programs come from; a side file of a killed run with the same key is resumed.
        core, language: As for `Sandbox`.

    Raises:
        ValueError: two programs have one id, the sandbox does not hold here or broke for some programs, or SIGTERM or
            SIGINT came; finished verdicts are kept.
    """
    assert iter(programs) is not programs, "programs can be iterated only once"
    start = time.monotonic()
    with _stop_on_signals(label):
        packages = settings.packages if language == "python" else []
        places, kinds, total = _survey(programs, packages, label)
        depends = [key, dataclasses.asdict(settings), *([] if language == "python" else [language])]
        side = SideFile(output, digest(*depends), keep=False)
        for place, row in side.stored():
            if (name := bytes.fromhex(row["program"])) in places:
                places[name] = place
        done = sum(place != WAITING for place in places.values())
        if done < len(places):
            run_canaries(core, language)
            _run(
                programs,
                places,
                kinds,
                Sandbox(settings, workers, core, language),
                side,
                Progress(label, len(places), done=done, unit="programs"),
            )
        cpu_s = 0.0
        for place, row in side.stored():
            places[bytes.fromhex(row["program"])] = place
            cpu_s += row["cpu_s"]
        facts = {"label": label, "rows": total, "distinct": len(places), "cpu_s": round(cpu_s, 3), "workers": workers}
        counts: Counter[str] = Counter()
        yield Batch(rows=_answer(programs, places, side, counts, label), facts=facts, counts=counts, start=start)
        side.discard()


def _survey(
    programs: Iterable[Program], packages: list[str], label: str
) -> tuple[dict[bytes, int], dict[bytes, tuple[str, ...]], int]:
    """Look at every program before the first one runs.

    Returns:
        For each text its place in the side file (none yet), for those that import packages which, and how many
        programs there are.
    """
    places: dict[bytes, int] = {}
    kinds: dict[bytes, tuple[str, ...]] = {}
    ids: set[bytes] = set()
    total, repeated, first = 0, 0, ""
    for program in programs:
        total += 1
        identity = hashlib.blake2b(program.id.encode(), digest_size=16).digest()
        if identity in ids:
            repeated, first = repeated + 1, first or program.id
        ids.add(identity)
        name = _fingerprint(program)
        places[name] = WAITING
        if kind := find_imports(program, packages):
            kinds[name] = kind
    if repeated:
        raise ValueError(f"{label}: {repeated} ids stand for several programs, the first is {first!r}")
    return places, kinds, total


def _fingerprint(program: Program) -> bytes:
    """Return what tells a program's text, data, limit and comparison from others, in 16 bytes."""
    compare = None if program.compare is None else (program.compare.key, program.compare.collect_kb)
    text = f"{len(program.code)} {len(program.tests)} {program.code}{program.tests}{program.cpu_s} {compare} "
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    found.update(program.data.encode("utf-8", "surrogatepass"))
    return found.digest()


def _run(
    programs: Iterable[Program],
    places: dict[bytes, int],
    kinds: dict[bytes, tuple[str, ...]],
    sandbox: Sandbox,
    side: SideFile,
    progress: Progress,
) -> None:
    """Run what has no verdict yet, and store the verdicts."""
    running: dict[str, bytes] = {}

    def choose() -> Iterator[Program]:
        # One kind of worker after the other, so that workers are not replaced all the time.
        for kind in sorted({(), *kinds.values()}, key=lambda kind: (len(kind), kind)):
            for program in programs:
                name = _fingerprint(program)
                if places.get(name) == WAITING and kinds.get(name, ()) == kind:
                    places[name] = GIVEN
                    running[program.id] = name
                    yield program

    broken, first = 0, ""
    try:
        for verdict in sandbox.run(choose()):
            name = running.pop(verdict.id)
            if verdict.verdict == "sandbox_error":
                broken, first = broken + 1, first or f"{verdict.id} ({verdict.detail})"
                continue
            side.append([{"program": name.hex()} | verdict.dump()])
            progress.add()
    except SandboxUnavailable as error:
        raise SandboxUnavailable(f"{progress.label}: {error}; {AGAIN}") from error
    if broken:
        raise ValueError(
            f"{progress.label}: the sandbox itself broke for {broken} of {len(places)} programs, the first is {first}. "
            f"Run check_sandbox.py to see what this machine lacks, free memory or use fewer workers; {AGAIN}"
        )


def _answer(
    programs: Iterable[Program], places: dict[bytes, int], side: SideFile, counts: Counter[str], label: str
) -> Iterator[dict]:
    """Yield each program's row from the side file, and count the verdicts."""
    for program in programs:
        place = places.get(_fingerprint(program), WAITING)
        if place <= WAITING:
            raise ValueError(f"{label}: the programs changed while they were judged; run the same command again")
        row = side.read(place) | {"id": program.id}
        del row["program"]
        counts[row["verdict"]] += 1
        yield row


class _Stopped(BaseException):
    """A signal came; not an Exception, so that nothing on the way takes it for its own."""


@contextlib.contextmanager
def _stop_on_signals(label: str) -> Iterator[None]:
    """Let SIGTERM (a batch system that takes the machine back) and SIGINT end the work in order, with one error."""

    def stop(number: int, _: object) -> None:
        for signal_number in before:
            signal.signal(signal_number, signal.SIG_IGN)  # a second one must not break the tidying up
        raise _Stopped(signal.Signals(number).name)

    before = {}
    if threading.current_thread() is threading.main_thread():  # others may not set handlers
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _Stopped as stopped:
        raise ValueError(f"{label}: stopped by {stopped}; {AGAIN}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ProgramFile:
    """The programs of a JSON lines file with the fields id, code and, if it likes, tests; each iteration reads it.

    Raises:
        ValueError: while iterating: a row is not JSON, has other fields or types, or is too large; names file and row.
    """

    def __init__(self, path: str | Path):
        self.path = path

    def __iter__(self) -> Iterator[Program]:
        for number, row in enumerate(read_jsonl(self.path), 1):
            fields = set(row)
            where = f"{self.path}, row {number}"
            if not {"id", "code"} <= fields <= {"id", "code", "tests"}:
                found = ", ".join(sorted(fields)) or "none"
                raise ValueError(f"{where}: expected the fields id and code (and tests), found {found}")
            for name, value in row.items():
                if not isinstance(value, str):
                    raise ValueError(f"{where}: id, code and tests must be strings, {name} is {type(value).__name__}")
            try:
                program = Program(**row)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            yield program


def source_key(path: str | Path) -> str:
    """Return the key of a batch that comes from one file.

    Raises:
        ValueError: there is no such file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    return file_digest(path)

"""Judge a batch: one verdict row for each program, in the programs' order, resumable, with progress lines."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from selfalign.records.files import SideFile, digest, file_digest, read_jsonl, write_json, write_jsonl
from selfalign.records.progress import Progress
from selfalign.records.rows import Verdict
from selfalign.sandbox.pool import Sandbox
from selfalign.sandbox.settings import Program, SandboxSettings


def verify(
    programs: Sequence[Program],
    settings: SandboxSettings,
    *,
    workers: int,
    output: str | Path,
    stats: str | Path | None,
    label: str,
    key: str,
) -> None:
    """Write one verdict for each program.

    Args:
        output: Verdict rows (JSON lines), in the order of the programs.
        stats: Where counts and times go, or None.
        label: What is judged, for the progress lines.
        key: Digest of what the programs come from; a side file of a killed run with the same key is resumed.

    Raises:
        ValueError: two programs have one id, or the sandbox broke for some programs; the other verdicts are kept.
    """
    repeated = [name for name, count in Counter(program.id for program in programs).items() if count > 1]
    if repeated:
        raise ValueError(f"{label}: {len(repeated)} ids stand for several programs, the first is {repeated[0]!r}")
    start = time.monotonic()
    sandbox = Sandbox(settings, workers)
    side = SideFile(output, digest(key, settings.dump()))
    done = {row["id"] for row in side.rows}
    progress = Progress(label, len(programs), done=len(done), unit="programs")
    broken: list[Verdict] = []
    for verdict in sandbox.run(program for program in programs if program.id not in done):
        if verdict.verdict == "sandbox_error":
            broken.append(verdict)
            continue
        side.append([verdict.dump()])
        progress.add()
    if broken:
        raise ValueError(
            f"{label}: the sandbox itself broke for {len(broken)} of {len(programs)} programs, the first is "
            f"{broken[0].id} ({broken[0].detail}); the other verdicts are kept. Run check_sandbox.py to see what this "
            "machine lacks, free memory or use fewer workers, then run the same command again"
        )
    rows = {row["id"]: row for row in side.rows}
    write_jsonl(output, (rows[program.id] for program in programs))
    if stats is not None:
        counts = Counter(row["verdict"] for row in rows.values())
        summary = {
            "stage": "verdicts",
            "label": label,
            "rows": len(programs),
            "wall_s": round(time.monotonic() - start, 3),
            "cpu_s": round(sum(row["cpu_s"] for row in rows.values()), 3),
            "workers": workers,
            "verdicts": dict(counts),
        }
        write_json(stats, summary)
    side.discard()


def read_programs(path: str | Path) -> Iterator[Program]:
    """Yield the programs of a JSON lines file with the fields id, code and, if it likes, tests.

    Raises:
        ValueError: a row has other fields or types; names the file and the row.
    """
    for number, row in enumerate(read_jsonl(path), 1):
        fields = set(row)
        if not {"id", "code"} <= fields <= {"id", "code", "tests"}:
            found = ", ".join(sorted(fields)) or "none"
            raise ValueError(f"{path}, row {number}: expected the fields id and code (and tests), found {found}")
        if not all(isinstance(value, str) for value in row.values()):
            raise ValueError(f"{path}, row {number}: id, code and tests must be strings")
        yield Program(**row)


def source_key(path: str | Path) -> str:
    """Return the key of a batch that comes from one file.

    Raises:
        ValueError: there is no such file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    return file_digest(path)

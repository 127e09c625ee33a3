"""The digest of each artifact as it was written: what was damaged or edited since is found before it is used.

The digest of `results/PATH` stands in `results/.sha256/PATH`, with the size and the time of the file, so that to see
that nothing has changed takes no reading. Files elsewhere than in `results/` of the working directory have none, and a
file without one, as a user gives it, is taken as it is.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path("results")
NOTES = RESULTS / ".sha256"
LARGE = 2e9  # bytes that take some seconds to read
SET_ASIDE = ".changed"  # suffix of a changed file that is kept
REMEDY = (
    f"It is kept with the suffix {SET_ASIDE}. Run the same command again to make it anew, or rename it back first to "
    "go on with it as it is"
)


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_path(path: str | Path) -> Path | None:
    """Return where the digest of an artifact is kept; None for other files."""
    path = Path(os.path.abspath(path))
    return NOTES / path.relative_to(RESULTS.absolute()) if path.is_relative_to(RESULTS.absolute()) else None


def _write(path: Path, note: Path, sha256: str) -> None:
    status = path.stat()
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary = note.with_name(f"{note.name}.{os.getpid()}.tmp")
    text = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    with open(temporary, "w") as file:
        file.write(json.dumps(text) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, note)


def read_note(path: Path, note: Path) -> dict | None:
    """Return SHA-256, size and time of an artifact as it was written; None where none is kept.

    Raises:
        ValueError: what is kept is not readable.
    """
    try:
        noted = json.loads(note.read_text())
        return {name: noted[name] for name in ("sha256", "size", "mtime_ns")}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{note}: not the digest of a file ({error!r}); delete it, and check {path}") from error


def move(temporary: Path, path: Path) -> None:
    """Let a finished file appear under its name, and keep its digest. A kill in between leaves a file without one."""
    if note := note_path(path):
        sha256 = file_digest(temporary)
        note.unlink(missing_ok=True)
    os.replace(temporary, path)
    if note:
        _write(path, note, sha256)


class ChangedError(ValueError):
    """Artifacts have changed since they were written."""

    def __init__(self, *paths: Path):
        names = ", ".join(map(str, paths))
        super().__init__(f"{names}: damaged or edited after it had been written (its SHA-256 is another)")
        self.paths = paths


def check(path: str | Path) -> None:
    """Compare an artifact with its digest, if it has one.

    Raises:
        ChangedError: it has changed since it was written.
    """
    path, note = Path(path), note_path(path)
    noted = read_note(path, note) if note else None
    if noted is not None and noted["sha256"] != file_digest(path):
        raise ChangedError(path)


def set_aside(path: Path) -> None:
    """Rename an artifact, so that it is kept and made anew."""
    with contextlib.suppress(FileNotFoundError):  # another job has done it
        os.replace(path, path.with_name(f"{path.name}{SET_ASIDE}"))
    note_path(path).unlink(missing_ok=True)


def not_made_anew() -> list[Path]:
    """Return each artifact that was set aside and is not there again."""
    return [path for kept in sorted(RESULTS.rglob(f"*{SET_ASIDE}")) if not (path := kept.with_suffix("")).exists()]


def changed() -> Iterator[Path]:
    """Yield each artifact that has changed since it was written.

    Only files of another size or time than they had are read: of a new one, too, once, as Snakemake touches what a job
    has made.

    Raises:
        ValueError: a digest is not readable; names it.
    """
    suspects = []
    for folder, _, names in os.walk(NOTES):
        for name in sorted(names):
            note = Path(folder, name)
            path = RESULTS / note.relative_to(NOTES)
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):  # removed: it is made anew as any file that is missing
                continue
            noted = read_note(path, note)
            if noted and (noted["size"], noted["mtime_ns"]) != (status.st_size, status.st_mtime_ns):
                suspects.append((path, note, noted["sha256"], status.st_size))
    if (size := sum(size for *_, size in suspects)) > LARGE:
        print(f"Reading {size / 1e9:.1f} GB of new artifacts, once, to see that they are whole", file=sys.stderr)
    for path, note, expected, _ in suspects:
        if not path.exists():  # set aside with another one
            continue
        if expected == (sha256 := file_digest(path)):
            _write(path, note, sha256)  # touched or copied
        else:
            yield path

"""Artifacts on disk: whole or absent, and what a stage finished survives a kill."""

import fcntl
import glob
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import IO

from selfalign.records import digests
from selfalign.records.digests import file_digest as file_digest

ROW_GROUP = 10_000  # rows of a Parquet file that are written at once; of functions, 10 to 20 MB


def _written(part: object) -> str:
    """Return a value as JSON; strings and numbers without the encoder that json.dumps makes with every call."""
    if type(part) is str:
        return encode_basestring_ascii(part)
    return str(part) if type(part) is int else json.dumps(part, sort_keys=True, default=str)


def digest(*parts: object) -> str:
    """Return the SHA-256 hex digest of the parts, joined unambiguously as JSON."""
    return hashlib.sha256(f"[{', '.join(map(_written, parts))}]".encode()).hexdigest()


def publish(temporary: Path, path: Path, *, with_digest: bool = True) -> None:
    """Let a file that is written whole appear under its name, with the digest of what was written."""
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    if with_digest:
        digests.move(temporary, path)
    else:
        os.replace(temporary, path)


def temporary_path(path: Path) -> Path:
    """Return where a file is written before it is published; make the folder, remove what killed writers left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        writer = left.name.removesuffix(".tmp").rpartition(".")[2]
        if writer.isdecimal() and not Path("/proc", writer).exists():
            left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_bytes(path: str | Path, content: bytes, *, with_digest: bool = False) -> None:
    """Write a file so that it appears whole or not at all. Without a digest, people may edit it."""
    path = Path(path)
    temporary = temporary_path(path)
    try:
        temporary.write_bytes(content)
        publish(temporary, path, with_digest=with_digest)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, with_digest: bool = False) -> None:
    """Write a text file, whole or not at all. Without a digest, people may edit it."""
    write_bytes(path, text.encode(), with_digest=with_digest)


def write_json(path: str | Path, value: object) -> None:
    """Write one JSON value, indented and with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", with_digest=True)


def read_json(path: str | Path) -> object:
    """Read one JSON value.

    Raises:
        ValueError: the file is not JSON, or not what was written; names the file and the line.
    """
    digests.check(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete it and run again to remake it") from error


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> int:
    """Write rows as JSON lines, whole or not at all; return how many."""
    path = Path(path)
    temporary = temporary_path(path)
    count = 0
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def read_jsonl(path: str | Path) -> Iterator[dict]:
    """Yield the rows of a JSON lines file.

    Raises:
        ValueError: a line is not a JSON object, or the file not what was written; names the file and the row.
    """
    digests.check(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}, row {number}: not valid JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, row {number}: expected a JSON object, found {type(row).__name__}")
            yield row


def write_table(path: str | Path, rows: Iterable[dict], columns: dict[str, str]) -> None:
    """Write rows as a Parquet file with the named columns (name to pyarrow type name), whole or not at all.

    The rows may come one after the other: no more than ROW_GROUP of them are in memory at once.
    """
    import pyarrow
    import pyarrow.parquet

    path = Path(path)
    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()])
    temporary = temporary_path(path)
    try:
        rows = iter(rows)
        with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            while group := list(itertools.islice(rows, ROW_GROUP)):
                writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_table(path: str | Path) -> list[dict]:
    """Read a Parquet file as a list of rows.

    Raises:
        ValueError: the file is not what was written.
    """
    import pyarrow.parquet

    digests.check(path)
    return pyarrow.parquet.read_table(path).to_pylist()


def try_lock(file: IO) -> bool:
    """Lock an open file until it is closed, or its process ends, however it ends; return whether nobody else has it.

    Raises:
        ValueError: the file system has no locks; names the file and what to do.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise ValueError(
            f"{file.name}: this file system does not lock files ({error.strerror}), so that two runs could write the "
            "same ones; have it mounted with locks (Lustre: with -o flock), or use a folder on another one with "
            "`snakemake --directory OTHER`"
        ) from None
    return True


class SideFile:
    """What a stage has finished so far, beside its output: it survives a kill and is gone when the stage is done.

    The first line holds a key, a digest of everything that the rows depend on. A side file with another key is
    discarded, so that changed settings never resume old work. A torn last line (a kill in mid-write) is dropped.

    Args:
        output: The declared output; the side file is `.{name}.partial` beside it.
        key: Digest of the inputs and settings, from `digest()`.
        keep: Hold the rows in memory, as `rows`. Without, they are only in the file: `stored` and `read` give them.

    Raises:
        ValueError: another process is writing the same side file, or the file system has no locks.
    """

    def __init__(self, output: str | Path, key: str, *, keep: bool = True):
        output = Path(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        self.path = output.with_name(f".{output.name}.partial")
        self._file = open(self.path, "a+b")  # noqa: SIM115
        if not try_lock(self._file):
            self._file.close()
            raise ValueError(f"{self.path}: another process is writing it; wait for it or stop it, then run again")
        self._keep = keep
        self.rows: list[dict] = []
        self._load(json.dumps({"key": key}).encode() + b"\n")

    def _load(self, header: bytes) -> None:
        self._file.seek(0)
        if self._file.readline() != header:
            self._file.truncate(0)
            self._file.write(header)
            self._file.flush()
            return
        end = len(header)
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # torn
            end += len(line)
            if self._keep:
                self.rows.append(json.loads(line))
        self._file.truncate(end)

    def stored(self) -> Iterator[tuple[int, dict]]:
        """Yield the rows from the file, each with its place for `read`."""
        with open(self.path, "rb") as file:
            place = len(file.readline())
            for line in file:
                yield place, json.loads(line)
                place += len(line)

    def read(self, place: int) -> dict:
        """Return the row at a place."""
        self._file.seek(place)  # what is appended goes to the end all the same
        return json.loads(self._file.readline())

    def append(self, rows: Iterable[dict]) -> None:
        """Add finished rows and hand them to the operating system."""
        rows = list(rows)
        self._file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
        self._file.flush()
        if self._keep:
            self.rows.extend(rows)

    def discard(self) -> None:
        """Remove the side file, once the output is in place."""
        self.path.unlink(missing_ok=True)
        self._file.close()

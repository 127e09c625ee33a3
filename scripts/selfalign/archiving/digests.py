"""Digests of a file while it is read: of its bytes, and of its content without fields that hold times and the like."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from selfalign.records.digests import NOTES, RESULTS, read_note

BLOCK = 1 << 20
_ENCODER = json.JSONEncoder(sort_keys=True)


def leave_out(value: object, field: str) -> None:
    """Remove a dotted field from nested dictionaries; `*` stands for every key."""
    name, _, rest = field.partition(".")
    if not isinstance(value, dict):
        return
    for key in list(value) if name == "*" else [name] if name in value else []:
        if rest:
            leave_out(value[key], rest)
        else:
            del value[key]


class _Content:
    """Digest of JSON lines, or of one JSON value, without some fields. Of lines it holds one at a time."""

    def __init__(self, path: str, without: Sequence[str]):
        self.path, self.without, self.lines = path, without, path.endswith(".jsonl")
        self.total, self.left = hashlib.sha256(), bytearray()

    def update(self, block: bytes) -> None:
        """Take the next bytes."""
        self.left += block
        if self.lines and b"\n" in block:
            *lines, rest = bytes(self.left).split(b"\n")
            self.left = bytearray(rest)
            for line in lines:
                self._count(line)

    def _count(self, text: bytes) -> None:
        try:
            value = json.loads(text)
        except ValueError:
            self.total.update(b"not JSON " + text)  # damage shows as another digest; the bytes' own says so, too
            return
        for field in self.without:
            leave_out(value, field)
        self.total.update(_ENCODER.encode(value).encode() + b"\n")

    def hexdigest(self) -> str:
        """Return the digest of everything."""
        if self.left:
            self._count(bytes(self.left))
            self.left.clear()
        return self.total.hexdigest()


class HashingReader:
    """A file that is hashed as it is read.

    Args:
        path: Its name, which tells how its content is written.
        without: Fields that the content digest is to leave out; there is no content digest without any.
    """

    def __init__(self, file: IO[bytes], path: str, without: Sequence[str] = ()):
        self._file, self._total, self.size = file, hashlib.sha256(), 0
        self._content = _Content(path, without) if without else None

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        block = self._file.read(size)
        self.size += len(block)
        self._total.update(block)
        if self._content:
            self._content.update(block)
        return block

    def finish(self) -> "HashingReader":
        """Read to the end."""
        while self.read(BLOCK):
            pass
        return self

    @property
    def sha256(self) -> str:
        """Digest of the bytes."""
        return self._total.hexdigest()

    @property
    def content(self) -> str | None:
        """Digest of the content without the fields; None without such fields."""
        return self._content.hexdigest() if self._content else None


def noted_digest(results: Path, source: Path) -> str | None:
    """Return the digest of an artifact of a results folder as it was when it was written; None where none was noted.

    Raises:
        ValueError: what is noted is not readable.
    """
    if not source.is_relative_to(results):
        return None
    note = results / NOTES.relative_to(RESULTS) / source.relative_to(results)
    noted = read_note(source, note)
    return noted and noted["sha256"]


def read_digests(source: Path, path: str, without: Sequence[str] = ()) -> HashingReader:
    """Return a file's digests."""
    with open(source, "rb") as file:
        return HashingReader(file, path, without).finish()

"""Python files in zip and tar archives, read without writing any of them to disk.

An archive can promise or hold anything, so what is read of it is bounded: members over the largest file are passed
over, and an archive ends where it has expanded to more than a source tree does. What is wrong is counted, not fatal.
"""

import bz2
import contextlib
import email.parser
import gzip
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from selfalign.seeds.sources import (
    LARGEST_FILE,
    PYTHON,
    SourceFile,
    Suffixes,
    plain_text,
    reason_of_tests,
    stated_licence,
)

ZIPS = (".zip", ".whl")
TARS = {
    ".tar": open,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
}
SUFFIXES = (*ZIPS, *TARS)
# Source code shrinks to a fifth or so; generated tables in it to a fiftieth. Small archives may expand more.
LARGEST_RATIO = 100
ALWAYS_ALLOWED = 256_000_000  # bytes
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)
_METADATA = re.compile(r"(?:^|/)(?:[^/]+\.dist-info/METADATA|(?:[^/]+\.egg-info/)?PKG-INFO)$")
_NAME_AND_VERSION = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*)")


class ExpandsTooMuch(Exception):
    """An archive has expanded to more than source code does."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive on disk; `key` is its path below the folder that holds all archives of the corpus."""

    path: Path
    key: str


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A regular file in an archive; `read` returns its content and may be called only before the next member."""

    path: str
    size: int
    read: Callable[[], bytes]


def list_archives(paths: Sequence[str]) -> list[Archive]:
    """Return the archives that are named or lie in named folders, the largest first, so that parts are alike in size.

    Raises:
        ValueError: a path does not exist, is no archive, or is a folder without one.
    """
    found: set[Path] = set()
    for name in paths:
        path = Path(name)
        if path.is_dir():
            below = {Path(folder, file) for folder, _, files in os.walk(path) for file in files}
            archives = {file for file in below if file.name.lower().endswith(SUFFIXES)}
            if not archives:
                raise ValueError(f"corpus archives {name}: no archive in this folder ({', '.join(SUFFIXES)})")
            found |= archives
        elif not path.exists():
            raise ValueError(f"corpus archives {name}: no such file or folder; give the path of an existing one")
        elif not name.lower().endswith(SUFFIXES):
            raise ValueError(f"corpus archives {name}: not an archive; it has to end with {', '.join(SUFFIXES)}")
        else:
            found.add(path)
    root = os.path.commonpath([path.parent for path in found])
    archives = [(path.stat().st_size, Path(os.path.relpath(path, root)).as_posix(), path) for path in found]
    return [Archive(path=path, key=plain_text(key)) for _, key, path in sorted(archives, key=lambda a: (-a[0], a[1]))]


class _Bounded:
    """A file that can be read up to a number of bytes."""

    def __init__(self, file, limit: int):
        self._file = file
        self._left = limit

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ExpandsTooMuch
        return data


def _read_zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        return file.read(LARGEST_FILE + 1)


def _zip_members(path: Path, _limit: int) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield _Member(path=info.filename, size=info.file_size, read=partial(_read_zip_member, archive, info))


def _tar_members(path: Path, limit: int) -> Iterator[_Member]:
    opener = next(TARS[suffix] for suffix in TARS if path.name.lower().endswith(suffix))
    with opener(path, "rb") as file, tarfile.open(fileobj=_Bounded(file, limit), mode="r|", bufsize=2**16) as archive:
        for info in archive:
            if info.isreg():
                yield _Member(path=info.name, size=info.size, read=lambda info=info: archive.extractfile(info).read())
            archive.members = []  # or it would keep the headers of all


def _members(path: Path) -> Iterator[_Member]:
    limit = max(ALWAYS_ALLOWED, LARGEST_RATIO * path.stat().st_size)
    return (_zip_members if path.name.lower().endswith(ZIPS) else _tar_members)(path, limit)


def _package(archive: Archive, licence: str) -> tuple[str, str, str]:
    """Return name, version and licence as the archive's metadata state them, else by its file name."""
    best: tuple[int, str, bytes] | None = None
    with contextlib.suppress(ExpandsTooMuch, *_BROKEN, RuntimeError, NotImplementedError):
        for member in _members(archive.path):  # what is wrong shows again, and is counted, when the files are read
            path = member.path.removeprefix("./")
            if member.size <= LARGEST_FILE and _METADATA.search(path):
                found = (path.count("/"), path, member.read())
                best = found if best is None else min(best, found)
                if found[0] <= 1 and not path.endswith(".egg-info/PKG-INFO"):
                    break
    name = plain_text(archive.path.name)
    stem = name[: -len(next(suffix for suffix in sorted(SUFFIXES, key=len)[::-1] if name.lower().endswith(suffix)))]
    split = _NAME_AND_VERSION.match(stem)
    package, version = (split["name"], split["version"]) if split else (stem, "")
    if best:
        fields = email.parser.BytesHeaderParser().parsebytes(best[2])
        package, version = str(fields.get("Name") or package), str(fields.get("Version") or version)
        stated = stated_licence(fields)
        licence = licence if stated == "unknown" else stated
    return tuple(text.encode("utf-8", "replace").decode() for text in (package, version, licence))


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return re.sub(r"\d+|'.*'|\".*\"", "…", str(error)) or type(error).__name__


def read_archive(archive: Archive, licence: str, suffixes: Suffixes = PYTHON) -> Iterator[SourceFile]:
    """Yield the source files of an archive, in its order; what cannot or must not be read has a reason.

    Args:
        licence: That of an archive which states none.
        suffixes: Of source files.
    """
    package, version, licence = _package(archive, licence)
    paths: set[str] = set()

    def source(path: str, **values) -> SourceFile:
        return SourceFile(package=package, version=version, licence=licence, path=path, key=archive.key, **values)

    allowed = max(ALWAYS_ALLOWED, LARGEST_RATIO * archive.path.stat().st_size)
    try:
        for member in _members(archive.path):
            path = plain_text(member.path).removeprefix("./")
            if not path.endswith(suffixes):
                continue
            left_out = reason_of_tests(path)
            if path.startswith("/") or ".." in PurePosixPath(path).parts:
                left_out = "left out: path outside its archive"
            elif path in paths:
                left_out = "left out: twice in its archive"
            elif member.size > LARGEST_FILE:
                left_out = "too large"
            paths.add(path)
            if left_out:
                yield source(path, left_out=left_out)
                continue
            try:
                content = member.read()
            except (*_BROKEN, RuntimeError, NotImplementedError) as error:  # bad checksum, password, compression
                if not archive.path.name.lower().endswith(ZIPS):
                    raise
                yield source(path, left_out=f"cannot be read: {_reason(error)}")
                continue
            allowed -= len(content)
            if allowed < 0:
                raise ExpandsTooMuch
            yield source(path, content=content)
    except ExpandsTooMuch:
        yield source("", left_out="rest of an archive: expands too much")
    except _BROKEN as error:
        yield source("", left_out=f"rest of an archive: {_reason(error)}")

"""The files of a corpus, from installed packages, a folder, archives, shards or the hub; dealt into parts.

A source is a list of units (files, archives, row groups) whose order does not depend on the machine. A part takes every
n-th unit: it can be made alone, no file is in two parts, and one file at a time is in memory.
"""

import functools
import json
import os
import platform
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message
from importlib import metadata
from pathlib import Path, PurePosixPath

from selfalign.languages import LANGUAGES
from selfalign.records.settings import load_settings

STDLIB = "stdlib"
Suffixes = tuple[str, ...]  # ends of the names of source files
PYTHON: Suffixes = LANGUAGES["python"].suffixes
LARGEST_FILE = 1_000_000  # bytes or characters; what is larger is data (The Stack has the same limit)
# No tests in any package; of the standard library, no applications (idlelib, turtledemo), no parser for Python 2
# with its test data (lib2to3), no build files of the interpreter
TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
STDLIB_LEFT_OUT = ("idlelib", "turtledemo", "lib2to3", "__phello__", "config-")
NOT_STDLIB = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A source file of a corpus.

    Attributes:
        package: Package or repository.
        path: Path inside the package, with forward slashes.
        file: Where it lies on disk, if it does.
        content: Its bytes or its text, where it does not lie on disk.
        key: What tells it from a file of another archive or row with the same package and path.
        left_out: None, or why the file is not read.
    """

    package: str
    version: str
    licence: str
    path: str
    file: Path | None = None
    content: bytes | str = field(default=b"", repr=False)
    key: str = ""
    left_out: str | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """What the ids of its functions are made from, besides their lines and code."""
        return (self.package, self.key, self.path) if self.key else (self.package, self.path)

    def read(self) -> bytes | str:
        """Return the content; of a file that is too large, only enough to see that.

        Raises:
            OSError: the file cannot be read.
        """
        if self.file is None:
            return self.content
        with open(self.file, "rb") as file:
            return file.read(LARGEST_FILE + 1)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a corpus in units that are read one at a time.

    Attributes:
        unit: What a unit is, in the plural.
        units: One value for each unit; `read` yields its files.
        split: Splits the units further where there are fewer of them than parts.
    """

    unit: str
    units: Sequence
    read: Callable[..., Iterator[SourceFile]]
    split: Callable[[Sequence], Sequence] | None = None

    def part(self, part: int, parts: int) -> Sequence:
        """Return the units of one part."""
        units = self.split(self.units) if self.split and len(self.units) < parts else self.units
        return units[part::parts]


def plain_text(name: str) -> str:
    """Return a file name as text that can be written: bytes that are not UTF-8 are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def reason_of_tests(path: str) -> str | None:
    """Return why a file in a folder of tests is left out; None for another."""
    return "left out: tests" if TEST_FOLDERS & set(PurePosixPath(path).parts[:-1]) else None


def stated_licence(fields: Message) -> str:
    """Return the licence that a package's metadata state: expression, classifier or short free text, in this order."""
    expression = fields.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [
        str(text).split(" :: ") for text in fields.get_all("Classifier") or [] if str(text).startswith("License ::")
    ]
    names = sorted({parts[-1].strip() for parts in classifiers} - {"OSI Approved"})
    text = str(fields.get("License") or "").strip()  # what is not ASCII comes as a Header
    if names:
        return " and ".join(names)
    return text if text and len(text) <= 80 and "\n" not in text else "unknown"


def _files_below(root: Path, suffixes: Suffixes, skip: frozenset[str] = frozenset()) -> list[str]:
    """Return the paths of all source files below a folder, relative to it; links to folders are not followed."""
    paths = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in skip]
        base = Path(folder).relative_to(root)
        paths += [(base / name).as_posix() for name in files if name.endswith(suffixes)]
    return paths


def _stdlib_files() -> list[SourceFile]:
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for path in _files_below(root, PYTHON, NOT_STDLIB):
        top = PurePosixPath(path).parts[0]
        left_out = f"left out: {top.split('-')[0]}" if top.startswith(STDLIB_LEFT_OUT) else reason_of_tests(path)
        files.append(
            SourceFile(
                package=STDLIB,
                version=platform.python_version(),
                licence="PSF-2.0",
                path=plain_text(path),
                file=root / path,
                left_out=left_out,
            )
        )
    return files


def _distribution_files(name: str, suffixes: Suffixes) -> list[SourceFile]:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ValueError(
            f"package {name}: not installed in this environment; install it, or name another one "
            f"('{STDLIB}' is the standard library)"
        ) from None
    if distribution.files is None:
        raise ValueError(f"package {name}: its installation lists no files; install it again from a wheel")
    stated = str(distribution.metadata["Name"]), distribution.version, stated_licence(distribution.metadata)
    found = []
    for file in distribution.files:
        if file.suffix in suffixes and ".." not in file.parts:
            path = Path(file.locate())
            package, version, licence = stated if suffixes == PYTHON else _node_package(path.parent) or stated
            found.append(
                SourceFile(
                    package=package,
                    version=version,
                    licence=licence,
                    path=plain_text(file.as_posix()),
                    file=path,
                    left_out=reason_of_tests(file.as_posix()),
                )
            )
    return found


@functools.cache
def _node_package(folder: Path) -> tuple[str, str, str] | None:
    """Return name, version and licence of the Node package that a folder is in; None where it is in none."""
    for place in (folder, *folder.parents):
        if place.name == "site-packages":
            return None
        try:
            stated = json.loads((place / "package.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(stated, dict) and "name" in stated and "version" in stated:  # others only say how to load
            return str(stated["name"]), str(stated["version"]), str(stated.get("license") or "unknown")
    return None


def list_packages(names: Sequence[str], suffixes: Suffixes = PYTHON) -> list[SourceFile]:
    """Return the files of installed packages, sorted by package and path.

    Raises:
        ValueError: a package is not installed, or has no such file.
    """
    files = []
    for name in dict.fromkeys(names):
        of_python = name == STDLIB and suffixes == PYTHON
        found = _stdlib_files() if of_python else [] if name == STDLIB else _distribution_files(name, suffixes)
        if not found and suffixes != PYTHON:
            raise ValueError(f"package {name}: no {', '.join(suffixes)} file in it; name another one")
        files += found
    return sorted(files, key=lambda file: (file.package, file.path))


def list_folder(folder: str | Path, licence: str, suffixes: Suffixes = PYTHON) -> list[SourceFile]:
    """Return every source file below a folder, sorted by path; the package is the folder's name.

    Raises:
        ValueError: the folder does not exist or holds no source file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"corpus folder {folder}: no such folder; give the path of an existing one")
    paths = sorted(_files_below(root, suffixes))
    if not paths:
        raise ValueError(
            f"corpus folder {folder}: no {', '.join(suffixes)} file in it; give the folder that holds the source code"
        )
    package = plain_text(root.resolve().name)
    return [
        SourceFile(package=package, version="", licence=licence, path=plain_text(path), file=root / path)
        for path in paths
    ]


def _one(file: SourceFile) -> Iterator[SourceFile]:
    yield file


@dataclass(frozen=True, kw_only=True)
class PythonPackages:
    """Installed Python code."""

    packages: tuple[str, ...]

    def open(self, suffixes: Suffixes = PYTHON) -> Source:
        """List the files of the packages."""
        return Source(unit="files", units=list_packages(self.packages, suffixes), read=_one)

    def files(self, part: int, parts: int, suffixes: Suffixes = PYTHON) -> list[Path]:
        """Return the files on which a part depends: none, as installed code does not change."""
        return []


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of .py files under one licence."""

    path: str
    licence: str = "unknown"

    def open(self, suffixes: Suffixes = PYTHON) -> Source:
        """List the files of the folder."""
        return Source(unit="files", units=list_folder(self.path, self.licence, suffixes), read=_one)

    def files(self, part: int, parts: int, suffixes: Suffixes = PYTHON) -> list[Path]:
        """Return the files on which a part depends."""
        return [file.file for file in list_folder(self.path, self.licence, suffixes)[part::parts]]


@dataclass(frozen=True, kw_only=True)
class Archives:
    """Archives of source code, or folders that hold them; `licence` is that of archives that state none."""

    paths: tuple[str, ...]
    licence: str = "unknown"

    def open(self, suffixes: Suffixes = PYTHON) -> Source:
        """List the archives."""
        from selfalign.seeds.archives import list_archives, read_archive

        return Source(
            unit="archives",
            units=list_archives(self.paths),
            read=lambda archive: read_archive(archive, self.licence, suffixes),
        )

    def files(self, part: int, parts: int, suffixes: Suffixes = PYTHON) -> list[Path]:
        """Return the files on which a part depends."""
        return [archive.path for archive in self.open().part(part, parts)]


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Parquet or JSON lines files with a column of source code.

    Attributes:
        paths: Files, folders or patterns.
        columns: Names of the columns in place of those of The Stack; null is a column that the shards do not have.
        licence: That of rows that state none.
    """

    paths: tuple[str, ...]
    columns: dict = field(default_factory=dict)
    licence: str = "unknown"

    def open(self, suffixes: Suffixes = PYTHON) -> Source:
        """List the shards."""
        from selfalign.seeds.shards import list_shards, open_shards

        return open_shards(list_shards(self.paths), self.columns, self.licence)

    def files(self, part: int, parts: int, suffixes: Suffixes = PYTHON) -> list[Path]:
        """Return the files on which a part depends."""
        from selfalign.seeds.shards import list_shards

        shards = list_shards(self.paths)
        return [Path(shard.url) for shard in (shards[part::parts] if len(shards) >= parts else shards)]


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Parquet or JSON lines files of a dataset on the Hugging Face hub, read as they come.

    Attributes:
        dataset: Its id, or a local folder that holds one.
        revision: Commit or tag, so that every part reads the same data.
        data_dir: Folder inside the dataset.
        data_files: Patterns of paths inside `data_dir`.
        split: Only files whose path has this word in it, as the hub names the files of a split.
        columns: Names of the columns in place of those of The Stack; null is a column that the shards do not have.
        licence: That of rows that state none.
    """

    dataset: str
    revision: str
    data_dir: str = ""
    data_files: tuple[str, ...] = ()
    split: str | None = None
    columns: dict = field(default_factory=dict)
    licence: str = "unknown"

    def open(self, suffixes: Suffixes = PYTHON) -> Source:
        """List the shards of the dataset."""
        from selfalign.seeds.shards import list_dataset, open_shards

        shards = list_dataset(self.dataset, self.revision, self.data_dir, self.data_files, self.split)
        return open_shards(shards, self.columns, self.licence)

    def files(self, part: int, parts: int, suffixes: Suffixes = PYTHON) -> list[Path]:
        """Return the files on which a part depends: none, as a revision does not change."""
        return []


KINDS = {"python-packages": PythonPackages, "folder": Folder, "archives": Archives, "shards": Shards, "hub": Hub}


def load_source(text: str) -> PythonPackages | Folder | Archives | Shards | Hub:
    """Build a source from its JSON settings.

    Raises:
        ValueError: not a JSON object, an unknown kind, or settings that the kind does not have or that are missing.
    """
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--source: not valid JSON ({error})") from error
    kind = settings.pop("kind", None) if isinstance(settings, dict) else None
    if kind not in KINDS:
        raise ValueError(f"--source: needs a JSON object with a kind, one of {', '.join(KINDS)}; found {text[:80]}")
    return load_settings(KINDS[kind], json.dumps(settings), f"--source, kind {kind}")

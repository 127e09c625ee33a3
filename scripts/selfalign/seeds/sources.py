"""The files of a corpus: the standard library of the running interpreter, installed distributions, or a folder."""

import os
import platform
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

STDLIB = "stdlib"
# No tests in any package; of the standard library, no applications (idlelib, turtledemo), no parser for Python 2
# with its test data (lib2to3), no build files of the interpreter
TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
STDLIB_LEFT_OUT = ("idlelib", "turtledemo", "lib2to3", "__phello__", "config-")
NOT_STDLIB = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A Python file of a corpus.

    Attributes:
        path: Path inside the package, with forward slashes.
        left_out: None, or why the file is not read.
    """

    package: str
    version: str
    licence: str
    path: str
    file: Path
    left_out: str | None = None


def _python_files(root: Path, skip: frozenset[str] = frozenset()) -> list[str]:
    """Return the paths of all .py files below a folder, relative to it; links to folders are not followed."""
    paths = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in skip]
        base = Path(folder).relative_to(root)
        paths += [(base / name).as_posix() for name in files if name.endswith(".py")]
    return paths


def _tests(path: str) -> str | None:
    return "left out: tests" if TEST_FOLDERS & set(PurePosixPath(path).parts[:-1]) else None


def _stdlib_files() -> list[SourceFile]:
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for path in _python_files(root, NOT_STDLIB):
        top = PurePosixPath(path).parts[0]
        left_out = f"left out: {top.split('-')[0]}" if top.startswith(STDLIB_LEFT_OUT) else _tests(path)
        files.append(
            SourceFile(
                package=STDLIB,
                version=platform.python_version(),
                licence="PSF-2.0",
                path=path,
                file=root / path,
                left_out=left_out,
            )
        )
    return files


def _licence(distribution: metadata.Distribution) -> str:
    """Return the licence that a distribution states: expression, classifier or short free text, in this order."""
    fields = distribution.metadata
    expression = fields.get("License-Expression")
    if expression:
        return expression
    classifiers = [text.split(" :: ") for text in fields.get_all("Classifier") or [] if text.startswith("License ::")]
    names = sorted({parts[-1] for parts in classifiers} - {"OSI Approved"})
    text = (fields.get("License") or "").strip()
    if names:
        return " and ".join(names)
    return text if text and len(text) <= 80 and "\n" not in text else "unknown"


def _distribution_files(name: str) -> list[SourceFile]:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ValueError(
            f"package {name}: not installed in this environment; install it, or name another one "
            f"('{STDLIB}' is the standard library)"
        ) from None
    if distribution.files is None:
        raise ValueError(f"package {name}: its installation lists no files; install it again from a wheel")
    return [
        SourceFile(
            package=distribution.metadata["Name"],
            version=distribution.version,
            licence=_licence(distribution),
            path=file.as_posix(),
            file=Path(file.locate()),
            left_out=_tests(file.as_posix()),
        )
        for file in distribution.files
        if file.suffix == ".py" and ".." not in file.parts
    ]


def list_packages(names: Sequence[str]) -> list[SourceFile]:
    """Return the files of installed packages, sorted by package and path.

    Raises:
        ValueError: a package is not installed.
    """
    files = []
    for name in dict.fromkeys(names):
        files += _stdlib_files() if name == STDLIB else _distribution_files(name)
    return sorted(files, key=lambda file: (file.package, file.path))


def list_folder(folder: str | Path, licence: str) -> list[SourceFile]:
    """Return every .py file below a folder, sorted by path; the package is the folder's name.

    Raises:
        ValueError: the folder does not exist or holds no Python file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"corpus folder {folder}: no such folder; give the path of an existing one")
    paths = sorted(_python_files(root))
    if not paths:
        raise ValueError(f"corpus folder {folder}: no .py file in it; give the folder that holds the source code")
    package = root.resolve().name
    return [SourceFile(package=package, version="", licence=licence, path=path, file=root / path) for path in paths]

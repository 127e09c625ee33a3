"""Read an archive in one pass: check each member against the manifest, unpack it, or take some of its files."""

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from selfalign.archiving.archive import FORMAT, MANIFEST
from selfalign.archiving.contents import KINDS
from selfalign.archiving.digests import BLOCK, HashingReader
from selfalign.records.commands import visible
from selfalign.records.files import digest

LARGEST = 200_000_000  # bytes of a manifest, which is read as a whole: that of half a million files


@dataclass(kw_only=True)
class Checked:
    """What an archive's members are beside what its manifest says of them; the lists hold paths with what is wrong."""

    manifest: Mapping = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Return one line for each fault."""
        kinds = (("damaged", self.damaged), ("missing", self.missing), ("extra", self.extra))
        return [f"{kind}: {path}" for kind, paths in kinds for path in paths]


def read_archive(path: Path, take: Callable[[str, HashingReader], None] | None = None) -> Checked:
    """Read a whole archive and check each member.

    Args:
        take: Gets each member that is a file of a safe name, to read as much of it as it wants.

    Raises:
        ValueError: it is cut, damaged or no archive of a run; or FileNotFoundError.
    """
    found: dict[str, HashingReader] = {}
    checked, text = Checked(), None
    with _unpacked(path) as tar:
        for member in tar:
            if not member.isfile() or not is_safe(member.name) or member.name in found:
                why = "twice" if member.name in found else "no plain file" if is_safe(member.name) else "an unsafe name"
                checked.extra.append(f"{member.name} ({why})")
                continue
            opened = tar.extractfile(member)
            assert opened is not None
            if member.name == MANIFEST:
                if member.size > LARGEST:
                    raise ValueError(f"{path}: its {MANIFEST} is larger than any of ours ({member.size:,} bytes)")
                text = opened.read()
                if take:
                    take(MANIFEST, HashingReader(io.BytesIO(text), MANIFEST))
                continue
            reader = HashingReader(opened, member.name)
            if take:
                take(member.name, reader)
            found[member.name] = reader.finish()
    checked.manifest = _manifest(path, text)
    entries = {entry["path"]: entry for entry in checked.manifest["files"] if entry["included"]}
    for name, entry in entries.items():
        if name not in found:
            checked.missing.append(name)
        elif found[name].sha256 != entry["sha256"]:
            checked.damaged.append(f"{name} ({found[name].size:,} bytes, digest {found[name].sha256[:12]}, should be "
                                   f"{entry['size']:,} bytes, {entry['sha256'][:12]})")  # fmt: skip
    checked.extra += sorted(found.keys() - entries.keys())
    return checked


def is_safe(name: str) -> bool:
    """Tell whether a member's name stays below the folder that it is unpacked into."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def unpack(path: Path, folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> Checked:
    """Unpack an archive, or the files that are wanted; a new folder appears whole, checked, or not at all.

    It is read twice: nothing is written before all of it has been checked, and room for it is there. Members are
    written as plain files of our own making: links, devices and names that lead elsewhere are faults.

    Raises:
        ValueError: the folder is there and not empty, or the archive has a fault; names each.
    """
    there = folder.exists()
    if there and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; unpack into a new or an empty folder")
    entries = _whole(path, read_archive(path)).manifest["files"]
    needed = sum(entry["size"] for entry in entries if entry["included"] and wanted(entry["path"]))
    parent = folder if there else folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(parent).free):
        raise ValueError(
            f"{path}: not unpacked, it needs {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free in {parent}"
        )
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.absolute().name}.", dir=parent))

    def take(name: str, reader: HashingReader) -> None:
        if wanted(name):
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:
                shutil.copyfileobj(reader, file, BLOCK)

    try:
        checked = _whole(path, read_archive(path, take))
        if there:  # and perhaps where somebody stands
            for one in temporary.iterdir():
                os.replace(one, folder / one.name)
        else:
            temporary.chmod(0o777 & ~_umask())
            os.replace(temporary, folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{path}: not unpacked, {error.filename} is both a file and a folder in it") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return checked


def _whole(path: Path, checked: Checked) -> Checked:
    """Return what was read of an archive.

    Raises:
        ValueError: it has a fault.
    """
    if checked.faults:
        raise ValueError(
            f"{path}: not unpacked, it does not hold what its manifest says:\n  "
            + "\n  ".join(map(visible, checked.faults))
        )
    return checked


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _unpacked(path: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive for reading, one member after the other."""
    import pyarrow

    file: IO[bytes]
    with open(path, "rb"):
        pass  # one that is not there is no damaged one
    try:
        with (
            pyarrow.CompressedInputStream(str(path), "zstd") as file,
            tarfile.open(fileobj=file, mode="r|", bufsize=BLOCK) as tar,
        ):
            yield tar
            while rest := tar.fileobj.read(BLOCK):  # to the end of what is packed, so that a cut there is seen
                if rest.strip(b"\0"):
                    raise tarfile.ReadError("there is more behind its last file")
    except (OSError, EOFError, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the system, such as a full disk; what pyarrow says of a damaged file has no number
        raise ValueError(
            f"{path}: cannot be read as an archive of a run, it is cut or damaged ({error}); copy it again from where "
            "it was made, or make it again with snakemake archive"
        ) from error


def _manifest(path: Path, text: bytes | None) -> dict:
    if text is None:
        raise ValueError(f"{path}: no {MANIFEST} in it; it is no archive of a run, or its end is cut off")
    try:
        manifest = json.loads(text)
        if not isinstance(manifest, dict):
            raise TypeError("no JSON object")
        known = manifest.pop("digest")
        if manifest["format"] > FORMAT:
            raise ValueError(f"{path}: of a newer version of selfalign; check it with the code of its commit")
        intact = known == digest(manifest)
    except (KeyError, TypeError, RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: its {MANIFEST} is damaged ({error!r})") from error
    if not intact:
        raise ValueError(f"{path}: its {MANIFEST} is damaged (it has not the digest that it names)")
    if fault := next(_odd(manifest), None):
        raise ValueError(f"{path}: its {MANIFEST} is none of ours ({fault})")
    return manifest


def _odd(manifest: Mapping) -> Iterator[str]:
    """Yield what in a manifest is not as we write it."""
    for name, kind in (("files", list), ("inputs", dict), ("models", dict)):
        if not isinstance(manifest.get(name), kind):
            yield f"{name} is no {kind.__name__}"
            return
    needed = (("path", str), ("size", int), ("sha256", str), ("kind", str), ("included", bool))
    for number, entry in enumerate(manifest["files"]):
        at = f"files.{number}"
        if not isinstance(entry, dict) or not all(isinstance(entry.get(name), kind) for name, kind in needed):
            yield f"{at} has not all of {', '.join(name for name, _ in needed)}"
            return
        if not is_safe(entry["path"]) or entry["kind"] not in KINDS or entry["size"] < 0:
            yield f"{at} has an unsafe path, an unknown kind or a size below 0"
        fields = entry.get("without", [])
        if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
            yield f"{at}.without is no list of names"
        elif bool(fields) != isinstance(entry.get("content_sha256"), str):
            yield f"{at} has only one of without and content_sha256"
    held = {entry["path"] for entry in manifest["files"] if entry["included"]}
    if not all(isinstance(path, str) and path in held for path in manifest["inputs"].values()):
        yield "inputs names files that are not in it"


@contextmanager
def open_run(place: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[Path, Mapping | None]]:
    """Give a run as a folder that holds results/: an archive's wanted files are unpacked for as long as it is open.

    Args:
        place: A results folder, a folder with one, or an archive.

    Yields:
        The folder, and the manifest of an archive.

    Raises:
        ValueError: it is none of these, or an archive with a fault.
    """
    if place.is_dir():
        results = results_folder(place).absolute()
        if results.name != "results":
            raise ValueError(f"{place}: a results folder has to be called results; rename it, or link to it")
        yield results.parent, None
        return
    with tempfile.TemporaryDirectory(prefix="selfalign-") as folder:
        checked = unpack(place, Path(folder, "run"), wanted)
        yield Path(folder, "run"), checked.manifest


def results_folder(place: Path) -> Path:
    """Return the results folder of a run, given that or the folder that holds it.

    Raises:
        ValueError: no finished run is in it.
    """
    for folder in (place / "results", place):
        if (folder / "run_config.yaml").is_file():
            return folder
    raise ValueError(
        f"{place}: no run in it (results/run_config.yaml, which record_run writes); give the results folder of a "
        "finished run, or the folder that holds it"
    )

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
from selfalign.archiving.digests import BLOCK, HashingReader
from selfalign.records.commands import visible
from selfalign.records.files import digest


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
    """Unpack an archive, or the files that are wanted; the folder appears whole, checked, or not at all.

    Members are written as plain files of our own making: links, devices and names that lead elsewhere are faults.

    Raises:
        ValueError: the folder is there and not empty, or the archive has a fault; names each.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; unpack into a new or an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))

    def take(name: str, reader: HashingReader) -> None:
        if wanted(name):
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:
                shutil.copyfileobj(reader, file, BLOCK)

    try:
        checked = read_archive(path, take)
        if checked.faults:
            raise ValueError(
                f"{path}: not unpacked, it does not hold what its manifest says:\n  "
                + "\n  ".join(map(visible, checked.faults))
            )
        temporary.chmod(0o777 & ~_umask())
        os.replace(temporary, folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{path}: not unpacked, {error.filename} is both a file and a folder in it") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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
        known = manifest.pop("digest")
        if manifest["format"] > FORMAT:
            raise ValueError(f"{path}: of a newer version of selfalign; check it with the code of its commit")
        intact = known == digest(manifest)
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: its {MANIFEST} is damaged ({error!r})") from error
    if not intact:
        raise ValueError(f"{path}: its {MANIFEST} is damaged (it has not the digest that it names)")
    return manifest


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
    if not place.is_dir():
        with tempfile.TemporaryDirectory(prefix="selfalign-") as folder:
            checked = unpack(place, Path(folder, "run"), wanted)
            yield Path(folder, "run"), checked.manifest
        return
    for folder in (place, place.absolute().parent):
        if (folder / "results/run_config.yaml").is_file() and (folder == place or place.absolute().name == "results"):
            yield folder, None
            return
    raise ValueError(
        f"{place}: no run in it (results/run_config.yaml, which record_run writes); give the results folder of a "
        "finished run, or an archive"
    )

"""Write a run as one file: a tar packed with zstd, whose last member says what all others are."""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from selfalign.archiving.contents import (
    DETERMINISTIC,
    KINDS,
    MACHINE,
    Item,
    run_files,
)
from selfalign.archiving.crate import crate_metadata
from selfalign.archiving.digests import BLOCK, HashingReader, noted_digest
from selfalign.archiving.inputs import edited_since, find_input, prompt_files
from selfalign.archiving.jobs import read_jobs
from selfalign.records.digests import ChangedError
from selfalign.records.files import digest, publish, read_json, temporary_path
from selfalign.records.rounds import reached
from selfalign.reporting.artifacts import read_provenance
from selfalign.reporting.write import read_config

MANIFEST = "MANIFEST.json"
CRATE = "ro-crate-metadata.json"
FORMAT = 2


def archive_run(
    results: Path, output: Path, *, root: Path, locks: Sequence[Path], include_models: bool = False
) -> tuple[dict, list[str]]:
    """Write the archive of a finished run; it appears whole or not at all.

    Args:
        results: The run's results folder.
        output: The archive.
        root: The repository, to which paths of the config may be relative.
        locks: Lock files of the environments.
        include_models: Let it hold the weights of trained models, too.

    Returns:
        The manifest, and the names of files below results/ that are not of this run.
    """
    config = reached(results, read_config(results / "run_config.yaml"))
    items, others = run_files(results, config, include_models=include_models)
    items += [Item(path=f"envs/{lock.name}", source=lock, kind=DETERMINISTIC) for lock in sorted(locks)]
    inputs, made_with = {}, read_provenance(results / "provenance.json") or {}
    for path in prompt_files(config):
        source = find_input(path, (results.absolute().parent, root))
        if source is None:
            raise ValueError(f"{path}: this prompt file of the config is gone, and the archive has to hold it")
        if edited := edited_since(path, source, made_with):
            raise ValueError(f"{edited}; put the old text back, or run again with the new one, before it is archived")
        inputs[path] = f"inputs/{_inside(path)}"
        items.append(Item(path=inputs[path], source=source, kind=DETERMINISTIC))
    temporary = temporary_path(output)
    try:
        with _packed(temporary) as tar:
            entries = [_add(tar, item, results) for item in sorted(items, key=lambda item: item.path)]
            newest = max((item.source.stat().st_mtime for item in items), default=0)
            manifest = {
                "format": FORMAT,
                "run": config["run"],
                "seed": config["seed"],
                "kinds": KINDS,
                "inputs": inputs,
                "models": _models(results, config),
                "files": entries,
            }
            jobs = read_jobs(results.absolute().parent / ".snakemake/metadata")
            crate = crate_metadata(manifest, results, config, jobs, root.resolve())
            entries.append(_add_text(tar, CRATE, _json(crate), newest))
            _add_text(tar, MANIFEST, _json(manifest | {"digest": digest(manifest)}), newest)
        publish(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    return manifest, others


def summarize(manifest: Mapping, output: Path) -> str:
    """Return what an archive holds, in a few lines."""
    held = [entry for entry in manifest["files"] if entry["included"]]
    kinds = Counter(entry["kind"] for entry in held)
    unpacked = sum(entry["size"] for entry in held)
    told = f"{output}: {output.stat().st_size / 1e6:.1f} MB, {len(held):,} files of {unpacked / 1e6:.1f} MB"
    told += " (" + ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind]) + ")"
    if left_out := len(manifest["files"]) - len(held):
        told += f"; of {left_out:,} others, weights and parts of corpora, the digests"
    return told


def _inside(path: str) -> str:
    """Return where an input of the config lies below inputs/: a relative one under its own path."""
    parts = Path(path).parts
    if Path(path).is_absolute() or ".." in parts:
        return f"elsewhere/{digest(path)[:12]}-{Path(path).name}"
    return Path(path).as_posix()


@contextmanager
def _packed(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a packed tar for writing, one member after the other."""
    import pyarrow

    with (
        pyarrow.CompressedOutputStream(str(path), "zstd") as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=BLOCK) as tar,
    ):
        yield tar


def _member(name: str, size: int, modified: float) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = size, int(modified)  # owner and mode are the same for all
    return member


def _add(tar: tarfile.TarFile, item: Item, results: Path) -> dict:
    """Put a file into the tar, or only read it; return its entry of the manifest.

    Raises:
        ValueError: it is not as it was written.
    """
    changed = f"{item.source}: changed while it was archived; archive a run that has ended"
    with open(item.source, "rb") as file:
        reader = HashingReader(file, item.path, item.without)
        if item.included:
            status = os.fstat(file.fileno())
            try:
                tar.addfile(_member(item.path, status.st_size, status.st_mtime), reader)
            except OSError as error:
                if error.errno is None:  # tarfile's own: the file has become shorter
                    raise ValueError(changed) from error
                raise
            if file.read(1):
                raise ValueError(changed)
        else:
            reader.finish()
    if noted_digest(results, item.source) not in (None, reader.sha256):
        raise ValueError(f"{ChangedError(item.source)}; make it anew with the command of the run, then archive it")
    entry = {"path": item.path, "size": reader.size, "sha256": reader.sha256, "kind": item.kind}
    if item.without:
        entry |= {"content_sha256": reader.content, "without": list(item.without)}
    return entry | {"included": item.included}


def _add_text(tar: tarfile.TarFile, name: str, text: bytes, modified: float) -> dict:
    """Put a text into the tar; return its entry of the manifest."""
    reader = HashingReader(io.BytesIO(text), name)
    tar.addfile(_member(name, len(text), modified), reader)
    return {"path": name, "size": reader.size, "sha256": reader.sha256, "kind": MACHINE, "included": True}


def _models(results: Path, config: Mapping) -> dict[str, dict]:
    """Return name, revision and digest of each model that is there, and what it was trained from."""
    found = {}
    for name in config["models"]:
        path = results / "models" / name / "model.json"
        if path.is_file():
            found[name] = read_json(path)
    return found


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()

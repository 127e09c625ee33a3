"""A run to archive, and archives taken apart and put together again, for tests."""

import io
import tarfile
from pathlib import Path

import pyarrow
from reporting_run import make_run

from selfalign.archiving.archive import archive_run
from selfalign.records.files import write_json, write_text

ROOT = Path(__file__).parent.parent
VERDICTS = "results/generations/self/verdicts/00000.jsonl"
PAIRS = "results/datasets/verified/pairs.jsonl"


def complete(folder: Path) -> Path:
    """Make the small run of the reporting tests in a folder, with files of all kinds; return its results."""
    results = make_run(folder)
    write_text(results / "logs/generate_concepts/self/00000.log", "[concepts] 12/12 rows, 3.1/s\n")
    write_text(results / "logs/generate_concepts/self/00000.benchmark.tsv", "s\th:m:s\n3.1\t0:00:03\n")
    write_text(results / "report/index.html", "<p>wall time 3 s</p>")
    write_text(results / "models/aligned/model.safetensors", "weights")
    for name, base in (("base", None), ("aligned", "base")):
        origin = base and {"base": {"name_or_path": "/here/base", "digest": "base" * 16}}
        described = {"name_or_path": "/here/base" if base is None else ".", "revision": None, "digest": name * 16}
        write_json(
            results / f"models/{name}/model.json", described | {"chat_template": bool(base), "trained_from": origin}
        )
    write_text(results / "corpora/stdlib/functions/00000.parquet", "all functions")
    return results


def pack(results: Path, output: Path, **options) -> dict:
    """Archive a run; return the manifest's entries by path."""
    manifest, _ = archive_run(results, output, root=ROOT, locks=[ROOT / "envs/core.lock"], **options)
    return {entry["path"]: entry for entry in manifest["files"]}


Members = list[tuple[tarfile.TarInfo, bytes]]


def members(path: Path) -> Members:
    """Return what an archive holds, in order."""
    with pyarrow.CompressedInputStream(str(path), "zstd") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]


def write_members(path: Path, found: Members) -> Path:
    """Write an archive of any members."""
    with pyarrow.CompressedOutputStream(str(path), "zstd") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for member, content in found:
            member.size = len(content) if member.isfile() else 0
            tar.addfile(member, io.BytesIO(content))
    return path

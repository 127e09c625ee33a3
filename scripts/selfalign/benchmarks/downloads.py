"""Fetch benchmarks' files from where their authors publish them, for a config that names none."""

import os
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from selfalign.records.files import digest, publish, temporary_path

TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published file or folder of files.

    Attributes:
        url: Of the file; or
        hub: dataset id on the Hugging Face hub, with
        files: the files to take (glob patterns) and
        revision: a commit or tag.
    """

    url: str | None = None
    hub: str | None = None
    files: tuple[str, ...] = ()
    revision: str = "main"


def cache_folder() -> Path:
    """Return where fetched files are kept: below XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfalign/benchmarks"


def fetch(source: Source | None, kind: str) -> Path:
    """Return the local path of a benchmark's published file or folder; what was fetched before is not fetched again.

    Raises:
        ValueError: it has no published file, or that cannot be reached.
    """
    if source is None:
        raise ValueError(f"benchmark kind {kind}: no published file is known; set the benchmark's path in the config")
    if source.hub is not None:
        return _fetch_hub(source, kind)
    target = cache_folder() / digest(source.url)[:16] / source.url.rpartition("/")[2]
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(target)
        try:
            with urllib.request.urlopen(source.url, timeout=TIMEOUT_S) as answer, open(temporary, "wb") as file:
                shutil.copyfileobj(answer, file)
                expected = answer.headers["Content-Length"]
                if expected is not None and file.tell() != int(expected):
                    raise OSError(f"only {file.tell():,} of {int(expected):,} bytes came")
            publish(temporary, target)
        except (URLError, OSError) as error:
            raise ValueError(f"benchmark kind {kind}: {source.url} cannot be fetched ({error}); {ELSEWHERE}") from error
        finally:
            temporary.unlink(missing_ok=True)
    return target


ELSEWHERE = "fetch it on a machine with network and set the benchmark's path in the config"


def _fetch_hub(source: Source, kind: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            source.hub, repo_type="dataset", revision=source.revision, allow_patterns=list(source.files)
        )
    except Exception as error:  # its errors have no common type
        raise ValueError(
            f"benchmark kind {kind}: the hub's dataset {source.hub} cannot be fetched ({error}); {ELSEWHERE}"
        ) from error
    return Path(folder)

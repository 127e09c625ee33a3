"""Source code in the rows of Parquet and JSON lines files, on disk or on the Hugging Face hub, a few rows at a time."""

import glob
import gzip
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from selfalign.seeds.sources import Source, SourceFile

PARQUET = ".parquet"
JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst")
SUFFIXES = (PARQUET, *JSON_LINES)
# The names in The Stack; content is the one that has to be there
COLUMNS = {
    "content": "content",
    "repository": "max_stars_repo_name",
    "version": "max_stars_repo_head_hexsha",
    "path": "max_stars_repo_path",
    "licence": "max_stars_repo_licenses",
}
BATCH = 200  # rows of Parquet in memory at once; with files of up to 1 MB, 200 MB at worst
BLOCK = 64_000_000  # bytes of a JSON lines file that are one unit where files are split
LONGEST_LINE = 16_000_000  # bytes; a file of 1 MB is at most 6 MB as JSON


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of rows, or a piece of it.

    Attributes:
        url: Path on disk, or a URL that fsspec opens.
        key: Its path below the folder that holds all shards of the corpus.
        piece: None for the whole, else the number of the row group (Parquet) or of the block (JSON lines).
    """

    url: str
    key: str
    piece: int | None = None


def _is_remote(url: str) -> bool:
    return "://" in url


def _open(url: str):
    if _is_remote(url):
        import fsspec

        return fsspec.open(url, "rb").open()
    return open(url, "rb")


def _shards(urls: Sequence[str], root: str) -> list[Shard]:
    return [Shard(url=url, key=Path(os.path.relpath(url, root)).as_posix()) for url in sorted(urls)]


def list_shards(paths: Sequence[str]) -> list[Shard]:
    """Return the shards that are named, match a pattern or lie in a named folder, sorted by path.

    Raises:
        ValueError: a path does not exist or matches nothing, or is no file of rows.
    """
    found: set[str] = set()
    for name in paths:
        if os.path.isdir(name):
            below = (os.path.join(folder, file) for folder, _, files in os.walk(name) for file in files)
            matches = [path for path in below if path.lower().endswith(SUFFIXES)]
        else:
            matches = glob.glob(name, recursive=True) if glob.has_magic(name) and not os.path.exists(name) else [name]
        if not matches:
            raise ValueError(f"corpus shards {name}: no file of rows there ({', '.join(SUFFIXES)})")
        for path in matches:
            if not os.path.exists(path):
                raise ValueError(f"corpus shards {path}: no such file; give a file, a folder or a pattern")
            if not path.lower().endswith(SUFFIXES):
                raise ValueError(f"corpus shards {path}: not a file of rows; it has to end with {', '.join(SUFFIXES)}")
        found.update(matches)
    return _shards(list(found), os.path.commonpath([os.path.dirname(path) for path in found]) or ".")


def list_dataset(
    dataset: str, revision: str, data_dir: str, data_files: Sequence[str], split: str | None
) -> list[Shard]:
    """Return the shards of a dataset on the hub, or in a local folder of that layout, sorted by path.

    Raises:
        ValueError: the dataset cannot be listed, or no file of it is meant.
    """
    import fsspec

    local = os.path.isdir(dataset)
    root = dataset if local else f"hf://datasets/{dataset}@{quote(revision, safe='')}"
    root = f"{root}/{data_dir}".rstrip("/")
    where = f"hub dataset {dataset}, revision {revision}, folder {data_dir or '/'}"
    try:
        system, base = fsspec.core.url_to_fs(root)
        paths = sorted(system.find(base))
    except (OSError, ValueError) as error:  # what the hub answers is an OSError: offline, not found, no access
        raise ValueError(
            f"{where}: cannot be listed ({type(error).__name__}: {error}); check the id, and for a dataset with "
            "conditions accept them on the hub and set HF_TOKEN"
        ) from error
    shards = []
    for path in paths:
        key = path.removeprefix(base).lstrip("/")
        words = PurePosixPath(key).as_posix().replace("/", " ").replace("-", " ").replace(".", " ").replace("_", " ")
        if (
            key.lower().endswith(SUFFIXES)
            and (not data_files or any(fnmatch(key, pattern) for pattern in data_files))
            and (split is None or split in words.split())
        ):
            shards.append(Shard(url=path if local else f"{root}/{key}", key=key))
    if not shards:
        raise ValueError(
            f"{where}: no file of rows ({', '.join(SUFFIXES)}) for data_files {list(data_files) or 'all'} and split "
            f"{split}; the dataset has {', '.join(path.removeprefix(base) for path in paths[:5]) or 'no file'}"
        )
    return shards


def _split(shards: Sequence[Shard]) -> list[Shard]:
    """Split Parquet files into row groups, and JSON lines files that are not compressed into blocks."""
    import pyarrow.parquet

    pieces = []
    for shard in shards:
        count = 0
        if shard.url.lower().endswith(PARQUET):
            with _open(shard.url) as file:
                count = pyarrow.parquet.ParquetFile(file).num_row_groups
        elif not _is_remote(shard.url) and shard.url.lower().endswith((".jsonl", ".json")):
            count = -(-os.path.getsize(shard.url) // BLOCK)
        pieces += [Shard(url=shard.url, key=shard.key, piece=piece) for piece in range(count)] if count else [shard]
    return pieces


def _parquet_rows(shard: Shard, columns: dict[str, str]) -> Iterator[tuple[int, dict]]:
    import pyarrow.parquet

    with _open(shard.url) as file:
        table = pyarrow.parquet.ParquetFile(file, buffer_size=2**20)
        _check_columns(shard, columns, table.schema_arrow.names)
        groups = list(range(table.num_row_groups)) if shard.piece is None else [shard.piece]
        row = sum(table.metadata.row_group(group).num_rows for group in range(groups[0] if groups else 0))
        batches = table.iter_batches(BATCH, row_groups=groups, columns=[*columns.values()], use_threads=False)
        for batch in batches:
            for values in batch.to_pylist():
                yield row, values
                row += 1


def _lines(shard: Shard) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines of a file or a block, each with its offset; None in place of one that is too long.

    A line belongs to the block in which it starts.
    """
    with _open(shard.url) as file:
        reader = file
        if shard.url.lower().endswith(".gz"):
            reader = gzip.GzipFile(fileobj=file)
        elif shard.url.lower().endswith(".zst"):
            import pyarrow

            reader = io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"))
        offset, end = 0, None
        if shard.piece:
            offset = shard.piece * BLOCK - 1
            reader.seek(offset)
            while line := reader.readline(LONGEST_LINE):  # the end of a line of the block before
                offset += len(line)
                if line.endswith(b"\n"):
                    break
        if shard.piece is not None:
            end = (shard.piece + 1) * BLOCK
        while end is None or offset < end:
            line = reader.readline(LONGEST_LINE)
            if not line:
                return
            start, whole = offset, line
            offset += len(line)
            while len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                whole = None
                line = reader.readline(LONGEST_LINE)
                offset += len(line)
            yield start, whole


def _json_rows(shard: Shard, columns: dict[str, str]) -> Iterator[tuple[int, dict | str]]:
    checked = False
    for offset, line in _lines(shard):
        if line is None:
            yield offset, "row too long"
        elif line.strip():
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
                yield offset, "row is not JSON"
                continue
            if not isinstance(row, dict):
                yield offset, "row is not a JSON object"
                continue
            if not checked:
                _check_columns(shard, columns, list(row))
                checked = True
            yield offset, row


def _check_columns(shard: Shard, columns: dict[str, str], names: Sequence[str]) -> None:
    for meaning, name in columns.items():
        if name not in names:
            raise ValueError(
                f"{shard.url}: no column {name!r} for the {meaning}; the columns are {', '.join(names)}. Name it under "
                f"source.columns.{meaning}{'' if meaning == 'content' else ', or null where there is none'}"
            )


def _text(value: object) -> str:
    """Return what a column holds as text; the licences of a repository are a list."""
    if isinstance(value, list):
        value = " and ".join(sorted({str(part) for part in value if part}))
    return "" if value is None else str(value).encode("utf-8", "replace").decode()


def read_shard(shard: Shard, columns: dict[str, str], licence: str) -> Iterator[SourceFile]:
    """Yield the files in the rows of a shard; a row that holds none has a reason.

    Raises:
        ValueError: a column is missing, or the file is no Parquet file.
    """
    import pyarrow

    rows = _parquet_rows if shard.url.lower().endswith(PARQUET) else _json_rows
    try:
        for number, row in rows(shard, columns):
            found = {} if isinstance(row, str) else {meaning: row.get(name) for meaning, name in columns.items()}
            content = found.get("content")
            left_out = row if isinstance(row, str) else None
            if left_out is None and not isinstance(content, str | bytes):
                left_out = "row without content"
            yield SourceFile(
                package=_text(found.get("repository")) or PurePosixPath(shard.key).name.split(".")[0],
                version=_text(found.get("version")),
                licence=_text(found.get("licence")) or licence,
                path=_text(found.get("path")),
                content="" if left_out else content,
                key=f"{shard.key}:{number}",
                left_out=left_out,
            )
    except (pyarrow.ArrowInvalid, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{shard.url}: cannot be read ({error}); fetch the file again") from error


def open_shards(shards: Sequence[Shard], columns: dict[str, str | None], licence: str) -> Source:
    """Return the source of some shards.

    Args:
        columns: Meaning to name of a column, in place of those of The Stack; None is a column that is not there.
        licence: That of rows that state none.

    Raises:
        ValueError: a meaning that there is not, or no name for the content.
    """
    for meaning, name in columns.items():
        if meaning not in COLUMNS:
            raise ValueError(f"source.columns.{meaning}: unknown; the columns are {', '.join(COLUMNS)}")
        if not (isinstance(name, str) or (name is None and meaning != "content")):
            raise ValueError(f"source.columns.{meaning}: {name!r} is not the name of a column")
    names = {meaning: name for meaning, name in (COLUMNS | columns).items() if name is not None}
    return Source(unit="shards", units=shards, split=_split, read=lambda shard: read_shard(shard, names, licence))

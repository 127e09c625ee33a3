"""Reading benchmarks' own files."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path


def read_text(path: Path) -> str:
    """Return the text of a file, gzipped or not.

    Raises:
        ValueError: missing or corrupt.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such benchmark file; correct the benchmark's path in the config")
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            return file.read().decode()
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: corrupt ({error}); fetch the file again") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield row number and fields of a JSON lines file, gzipped or not.

    Raises:
        ValueError: missing, corrupt, or a row that is no JSON object.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such benchmark file; correct the benchmark's path in the config")
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    number = 0
    try:
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    fields = json.loads(line)
                    if not isinstance(fields, dict):
                        raise ValueError(f"a JSON object was expected, not {type(fields).__name__}")
                    yield number, fields
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: corrupt after row {number} ({error}); fetch the file again") from error
    except ValueError as error:  # JSON and UTF-8 errors are of this kind
        raise ValueError(f"{path}, row {number}: not a row of JSON lines ({error}); fetch the file again") from error

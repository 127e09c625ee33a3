"""From a benchmark's own file to the rows that all benchmarks share."""

import ast
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from selfalign.benchmarks import demo, humaneval
from selfalign.benchmarks.tasks import Task
from selfalign.records.files import write_jsonl

KINDS = {"demo": demo.read_task, "humaneval": humaneval.read_task}


def prepare_benchmark(kind: str, path: Path, output: Path) -> int:
    """Turn a benchmark's own file into task rows; return how many. The benchmark's name is that of the output.

    Raises:
        ValueError: the file is missing, corrupt or not of this kind; names file, row and what is wrong.
    """
    tasks: dict[str, Task] = {}
    for number, fields in read_source(path):
        where = f"{path}, row {number}"
        try:
            task = KINDS[kind](fields, output.stem)
            ast.parse(f"{task.canonical_solution}\n{task.tests}")
        except KeyError as error:
            raise ValueError(f"{where}: no field {error}; is this a file of the kind {kind}?") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{where}: a field has the wrong type ({error}); is this of the kind {kind}?") from error
        except SyntaxError as error:
            raise ValueError(f"{where}: solution and tests are not valid Python ({error})") from error
        if task.id in tasks:
            raise ValueError(f"{where}: the task {task.id} is there twice")
        tasks[task.id] = task
    if not tasks:
        raise ValueError(f"{path}: no tasks in it; fetch the benchmark's file again")
    return write_jsonl(output, (task.dump() for task in tasks.values()))


def read_source(path: Path) -> Iterator[tuple[int, dict]]:
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

"""From a benchmark's own file to the rows that all benchmarks share."""

import ast
from pathlib import Path

from selfalign.benchmarks.downloads import fetch
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.tasks import Task
from selfalign.records.files import file_digest, write_json, write_jsonl


def prepare_benchmark(kind: str, path: Path | None, options: dict, output: Path, source: Path) -> int:
    """Turn a benchmark's own file into task rows; return how many. The benchmark's name is that of the output.

    Args:
        path: The benchmark's own file or folder; None fetches what its authors publish.
        options: Of this kind of benchmark.
        source: Where it is written what the tasks come from: files with their digests.

    Raises:
        ValueError: the file is missing, corrupt or not of this kind; names file, row and what is wrong.
    """
    benchmark = KINDS[kind]
    if unknown := options.keys() - benchmark.options.keys():
        known = ", ".join(benchmark.options) or "none"
        raise ValueError(f"benchmark {output.stem}: {kind} has no option {', '.join(sorted(unknown))}; it has {known}")
    options = {**benchmark.options, **options}
    if path is None:
        path = fetch(benchmark.published(**options), kind)
    tasks: dict[str, Task] = {}
    for place, fields in benchmark.rows(path):
        where = f"{path}, {place}"
        try:
            found = benchmark.read_tasks(fields, output.stem, **options)
            for task in found:
                tests = "\n".join(check.tests for check in task.checks)
                if task.language == "python":  # of another language the reference solutions tell, when they run
                    ast.parse(f"{task.canonical_solution}\n{tests}")
        except KeyError as error:
            raise ValueError(f"{where}: no field {error}; is this a file of the kind {kind}?") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{where}: a field has the wrong type ({error}); is this of the kind {kind}?") from error
        except SyntaxError as error:
            raise ValueError(f"{where}: solution and tests are not valid Python ({error})") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        for task in found:
            if task.id in tasks:
                raise ValueError(f"{where}: the task {task.id} is there twice")
            tasks[task.id] = task
    if not tasks:
        raise ValueError(f"{path}: no tasks in it; correct the benchmark's options, or fetch its file again")
    count = write_jsonl(output, (task.dump() for task in tasks.values()))
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    write_json(source, {"kind": kind, "options": options, "files": {file.name: file_digest(file) for file in files}})
    return count

"""Measure decontamination: CPU time per function of ours and of the original's way, by the number of tasks.

The original's way looks for each docstring and each solution of each task in each row, as a substring. Ours looks for
the same kinds alone ("ours, exact") and for all kinds ("ours": also renamed identifiers, n-grams and entry points).
Ours takes all functions at a time, as a corpus does. All methods run in turns in one process, in an order that moves on
by one from round to round, on the same functions.
Functions of the benchmarks themselves are planted among them, verbatim and changed, and must be found.
"""

import argparse
import ast
import gc
import gzip
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from measuring import describe_machine, spread  # noqa: E402
from sandbox_speed import read_rows  # noqa: E402

from selfalign.matching.benchmarks import BenchmarkIndex, parse_python  # noqa: E402
from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_table, write_json  # noqa: E402
from selfalign.records.progress import Progress  # noqa: E402

TARGET = 50  # times our CPU time, for all kinds, that the original's way takes at least
SHORTEST = 30  # characters of a docstring or solution that the substring loop looks for


def read_tasks(folder: Path) -> list[dict]:
    """Return benchmark rows of all files at hand, those of HumanEval first."""
    tasks = []

    def add(benchmark: str, name: object, instruction: str, prompt: str | None, entry: str, solution: str) -> None:
        row = {"benchmark": benchmark, "id": str(name), "instruction": instruction, "prompt": prompt}
        tasks.append(row | {"entry_point": entry, "canonical_solution": solution.replace("\r\n", "\n")})

    completions = {
        "humaneval": "humaneval/HumanEval.jsonl.gz",
        "humaneval+": "humaneval_plus/HumanEvalPlus.jsonl.gz",
        "evoeval-creative": "evoeval/EvoEval_creative.jsonl.gz",
        "evoeval-difficult": "evoeval/EvoEval_difficult.jsonl.gz",
    }
    for benchmark, path in completions.items():
        for row in read_rows(folder / path):
            prompt = row["prompt"]
            add(benchmark, row["task_id"], prompt, prompt, row["entry_point"], prompt + row["canonical_solution"])
    for row in read_rows(folder / "mbpp/mbpp.jsonl.gz"):
        names = re.findall(r"^def +(\w+)", row["code"], re.MULTILINE)
        add("mbpp", row["task_id"], row["text"], None, names[-1] if names else "", row["code"])
    for row in read_rows(folder / "mbpp_plus/MbppPlus.jsonl.gz"):
        add("mbpp+", row["task_id"], row["prompt"].strip('"\n'), None, row["entry_point"], row["canonical_solution"])
    for number, row in enumerate(read_rows(folder / "ds1000/ds1000.jsonl.gz")):
        add("ds1000", number, row["prompt"], None, "", row["reference_code"])
    with gzip.open(folder / "classeval/ClassEval_data.json.gz", "rt") as file:
        for row in json.load(file):
            add("classeval", row["task_id"], row["skeleton"], row["skeleton"], row["class_name"], row["solution_code"])
    return tasks


def needles(tasks: list[dict]) -> list[str]:
    """Return what the substring loop looks for."""
    found: dict[str, None] = {}
    for task in tasks:
        tree = parse_python(task["canonical_solution"])
        definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, definitions) and (docstring := ast.get_docstring(node, clean=False)):
                found[docstring.strip()] = None
        found[task["canonical_solution"].strip()] = None
        if task["prompt"] is None:
            found[task["instruction"].strip()] = None
    return [text for text in found if len(text) >= SHORTEST]


Method = Callable[[list[str]], int]  # how many of some codes match


def substring(tasks: list[dict]) -> Method:
    """Return the original's way for these tasks."""
    texts = needles(tasks)
    return lambda codes: sum(any(text in code for text in texts) for code in codes)


def ours(tasks: list[dict], *, exact: bool = False) -> Method:
    """Return our way for these tasks."""
    index = BenchmarkIndex(tasks)
    return lambda codes: sum(map(bool, index.find_all(codes, exact=exact)))


def rename(code: str) -> str | None:
    """Return a function with its variables renamed, and without its docstring."""
    tree = ast.parse(code)
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.name = f"z_{node.name}" if node.name in names else node.name
            if ast.get_docstring(node):
                node.body = node.body[1:] or [ast.Pass()]
        for field in ("id", "arg"):
            if getattr(node, field, None) in names and not isinstance(node, ast.keyword):
                setattr(node, field, f"z_{getattr(node, field)}")
    return ast.unparse(tree)


PLANTS: dict[str, Callable[[dict], str]] = {
    "verbatim": lambda task: task["canonical_solution"],
    "reformatted": lambda task: ast.unparse(ast.parse(task["canonical_solution"])),
    "renamed": lambda task: rename(task["canonical_solution"]),
    "inside a longer file": lambda task: (
        f"import os\n\n\ndef other(q):\n    return q\n\n\n{task['canonical_solution']}"
    ),
}


def found_plants(tasks: list[dict], methods: dict[str, Method]) -> dict[str, dict[str, str]]:
    """Return of each way to plant a task's solution how many each method finds."""
    solved = [task for task in tasks if task["entry_point"] and parse_python(task["canonical_solution"])]
    results = {}
    for name, plant in PLANTS.items():
        codes = [plant(task) for task in solved]
        results[name] = {method: f"{find(codes)} of {len(codes)}" for method, find in methods.items()}
    return results


def main() -> None:
    """Measure and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", nargs="+", required=True, help="functions (Parquet)")
    parser.add_argument("--count", type=int, default=20_000, help="functions, drawn at random (default 20,000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each method runs (default 3)")
    parser.add_argument("--tasks", nargs="+", type=int, default=[164, 1500, 5000], help="first so many tasks")
    parser.add_argument("--output", required=True, help="JSON file for every round's figures")
    options = parser.parse_args()
    if "SELFALIGN_BENCHDATA" not in os.environ:
        raise ValueError("SELFALIGN_BENCHDATA is not set; let it name the folder with the benchmarks' own files")
    tasks = read_tasks(Path(os.environ["SELFALIGN_BENCHDATA"]))
    rows = [row for path in options.functions for row in read_table(path)]
    codes = [row["code"] for row in random.Random(0).sample(rows, min(options.count, len(rows)))]
    del rows
    results: dict = {"machine": describe_machine(), "functions": len(codes), "target": TARGET, "tasks": {}}
    print("| tasks | method | CPU µs per function | times ours | matches |\n|---|---|---|---|---|")
    for count in sorted({min(count, len(tasks)) for count in options.tasks}):
        some = tasks[:count]
        methods = {"ours": ours(some), "ours, exact": ours(some, exact=True), "substring": substring(some)}
        gc.collect()
        gc.freeze()  # tables are no garbage, for any of the methods
        rounds, matches, names = [], {}, list(methods)
        progress = Progress(f"{count:,} tasks", options.rounds * len(methods), unit="runs")
        for number in range(options.rounds):
            start, times = number % len(names), {}
            for name in names[start:] + names[:start]:
                before = time.process_time()
                matches[name] = methods[name](codes)
                times[name] = round((time.process_time() - before) * 1e6 / len(codes), 1)
                progress.add()
            rounds.append(times)
        found = {
            name: {
                "cpu_us": spread([times[name] for times in rounds]),
                "times_ours": spread([round(times[name] / times["ours"], 2) for times in rounds]),
                "matches": matches[name],
            }
            for name in names
        }
        results["tasks"][str(count)] = {"rounds": rounds, "methods": found}
        if count == len(tasks):
            results["planted"] = found_plants(some, methods)
        for name, row in found.items():
            cpu, ratio = row["cpu_us"], row["times_ours"]
            print(
                f"| {count:,} | {name} | {cpu['median']} ({cpu['min']}–{cpu['max']}) | {ratio['median']} | "
                f"{row['matches']:,} |"
            )
    for name, row in results.get("planted", {}).items():
        print(f"planted {name}: " + ", ".join(f"{method} {number}" for method, number in row.items()))
    write_json(options.output, results)


if __name__ == "__main__":
    run_command(main)

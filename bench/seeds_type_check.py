"""Measure the type check of seeds: functions per CPU-second beside the original's way, and agreement with Pyright.

Speed: all methods run in turns on the same functions, in an order that moves on by one from round to round, each in a
process of its own whose CPU time is counted with that of all its children. A method starts from functions as they were
extracted, so steps before the checker count. "original" is Pyright on batches of 250 files, without a step before it.
"ty+basedpyright" is ty, then basedpyright on what ty keeps. What the original's way needs for a function does not
depend on how many there are; ours gets cheaper with many (packages are read once), so --original gives it a part only.

Agreement: checkers without the steps before them, on functions without undefined names and with all imports installed,
against Pyright. A function that Pyright refuses and another checker keeps is one "kept wrongly"; the other way round it
is "lost".

The checkers that are not in envs/core.lock are looked for on the PATH.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from measuring import describe_machine, spread  # noqa: E402

from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_table, write_json  # noqa: E402
from selfalign.records.progress import Progress  # noqa: E402
from selfalign.records.rows import Function, load_rows  # noqa: E402
from selfalign.seeds.type_check import (  # noqa: E402
    CHECKERS,
    InstalledModules,
    TypeChecker,
    find_tool,
    program_text,
    undefined_names,
)

ORIGINAL_BATCH = 250  # files; a batch gets 120 s there, here none is cut, which only helps it
ONE_BATCH = 1_000_000
TARGET = 20.0  # times the original's functions per CPU-second


def original(functions: Sequence[Function]) -> dict[int, str]:
    """Run Pyright as the original does, and return the refused functions."""
    refused = {}
    for start in range(0, len(functions), ORIGINAL_BATCH):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for number, function in enumerate(functions[start : start + ORIGINAL_BATCH], start):
                Path(folder, f"{number}.py").write_text(program_text(function), encoding="utf-8")
            command = [find_tool("pyright"), "--pythonpath", sys.executable, "."]
            output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
        for line in output.splitlines():
            if "- error:" in line:
                refused[int(Path(line.strip().partition(":")[0]).stem)] = "type error"
    return refused


def ours(functions: Sequence[Function], checkers: str) -> dict[int, str]:
    """Run the whole filter with "+"-joined checkers, and return the refused functions with their reasons."""
    found = TypeChecker(checkers=checkers.split("+"), batch=ONE_BATCH, timeout_s=3600).check(functions)
    return {number: error[0] for number, error in enumerate(found) if error}


def alone(functions: Sequence[Function], checkers: str) -> dict[int, str]:
    """Run "+"-joined checkers without the steps before them, and return the refused functions with what they say."""
    check = TypeChecker(checkers=checkers.split("+"), batch=ONE_BATCH, timeout_s=3600)
    refused: dict[int, tuple[str, str]] = {}
    for checker in check.checkers:
        left = [number for number in range(len(functions)) if number not in refused]
        refused |= check.type_errors(checker, functions, left)
    return {number: detail for number, (_, detail) in refused.items()}


def _cpu_s() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _measured(method: Callable, functions: Sequence[Function], arguments: tuple) -> dict:
    cpu, wall = _cpu_s(), time.monotonic()
    refused = method(functions, *arguments)
    return {
        "cpu_s": round(_cpu_s() - cpu, 2),
        "wall_s": round(time.monotonic() - wall, 2),
        "largest_process_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "refused": refused,
    }


def measure(method: Callable, functions: Sequence[Function], *arguments: str) -> dict:
    """Run a method in a process of its own."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(_measured, method, functions, arguments).result()


def compare_speed(functions: list[Function], checkers: list[str], rounds: int, part: int) -> dict:
    """Run the original's way on the first `part` functions and the whole filter with each checker on all, in turns."""
    methods = [("original", original, ()), *((checker, ours, (checker,)) for checker in checkers)]
    progress = Progress("speed", rounds * len(methods), unit="runs")
    found: list[dict[str, dict]] = []
    for number in range(rounds):
        start = number % len(methods)
        runs = {}
        for name, method, arguments in methods[start:] + methods[:start]:
            some = functions[:part] if method is original else functions
            runs[name] = measure(method, some, *arguments)
            runs[name]["per_cpu_s"] = round(len(some) / runs[name]["cpu_s"], 2)
            runs[name]["kept"] = len(some) - len(runs[name]["refused"])
            progress.add()
        found.append(runs)
    reference = set(found[0]["original"]["refused"])
    refused = {name: {number for number in found[0][name]["refused"] if number < part} for name, _, _ in methods}
    summary = {
        name: {
            **{key: spread([runs[name][key] for runs in found]) for key in ("per_cpu_s", "largest_process_mb")},
            "times_original": spread(
                [round(runs[name]["per_cpu_s"] / runs["original"]["per_cpu_s"], 2) for runs in found]
            ),
            "kept": found[0][name]["kept"],
            "kept_wrongly": len(reference - refused[name]),
            "lost": len(refused[name] - reference),
            "reasons": dict(Counter(found[0][name]["refused"].values())),
        }
        for name, _, _ in methods
    }
    return {"functions": len(functions), "of_original": part, "rounds": rounds, "methods": summary}


def compare_verdicts(functions: list[Function], checkers: list[str], examples: int) -> dict:
    """Run each checker once on functions that the steps before it keep, and compare with Pyright."""
    progress = Progress("agreement", len({"pyright", *checkers}), unit="checkers")
    runs = {}
    for checker in dict.fromkeys(["pyright", *checkers]):
        runs[checker] = measure(alone, functions, checker)
        progress.add()
    reference = runs["pyright"]["refused"]
    table = {}
    for checker, run in runs.items():
        refused = run["refused"]
        wrongly = sorted(reference.keys() - refused.keys())
        lost = sorted(refused.keys() - reference.keys())
        table[checker] = {
            "cpu_s": run["cpu_s"],
            "largest_process_mb": run["largest_process_mb"],
            "both_keep": len(functions) - len(reference.keys() | refused.keys()),
            "both_refuse": len(reference.keys() & refused.keys()),
            "kept_wrongly": len(wrongly),
            "lost": len(lost),
            "agreement_percent": round(100 - 100 * (len(wrongly) + len(lost)) / len(functions), 2),
            "kept_wrongly_by_pyright_rule": _by_rule([reference[number] for number in wrongly]),
            "lost_by_rule": _by_rule([refused[number] for number in lost]),
            "examples_kept_wrongly": [
                f"{functions[number].name}: {reference[number]}" for number in wrongly[:examples]
            ],
            "examples_lost": [f"{functions[number].name}: {refused[number]}" for number in lost[:examples]],
        }
    return {"functions": len(functions), "checkers": table}


def _by_rule(details: list[str]) -> dict[str, int]:
    return dict(Counter(detail.partition(":")[0] for detail in details).most_common())


def survivors(functions: list[Function]) -> list[Function]:
    """Return the functions without undefined names whose imports are all installed here."""
    undefined, installed = undefined_names(functions), InstalledModules()
    return [
        function
        for number, function in enumerate(functions)
        if number not in undefined and not installed.missing(function.imports)
    ]


def tool_versions() -> dict[str, str]:
    """Return the versions of ruff and of the type checkers that are installed; the others are not measured."""
    versions = {}
    for name in ("ruff", *CHECKERS):
        try:
            said = subprocess.run([find_tool(name), "--version"], capture_output=True, text=True, check=True)
        except ValueError:
            continue
        versions[name] = said.stdout.split("\n")[0].split()[-1]
    return versions


def main() -> None:
    """Parse the options, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", nargs="+", help="Parquet files of extract_functions")
    parser.add_argument(
        "--checkers",
        nargs="+",
        default=[*CHECKERS, "ty+basedpyright"],
        help=f"which to measure, of {', '.join(CHECKERS)}; joined by + they run one after the other (default: all)",
    )
    parser.add_argument("--count", type=int, default=500, help="functions for the speed (default 500)")
    parser.add_argument("--original", type=int, help="of these, functions for the original's way (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the speed; 0 leaves it out (default 3)")
    parser.add_argument(
        "--agreement", type=int, default=3000, help="functions for the agreement; 0 leaves it out (default 3000)"
    )
    parser.add_argument("--examples", type=int, default=10, help="disagreements to show, of each kind (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default 1)")
    parser.add_argument("--output", help="JSON to write (default: only shown)")
    options = parser.parse_args()
    for checkers in options.checkers:
        TypeChecker(checkers=checkers.split("+"), batch=ONE_BATCH, timeout_s=3600)  # an unknown one is said first
    for name in ("ruff", "pyright", *(name for checkers in options.checkers for name in checkers.split("+"))):
        find_tool(name)
    functions = [row for path in options.functions for row in load_rows(Function, read_table(path), path)]
    if max(options.count, options.agreement) > len(functions):
        raise ValueError(f"the files hold {len(functions):,} functions; give more, or ask for fewer")
    if options.original is not None and not 1 <= options.original <= options.count:
        raise ValueError(f"--original is {options.original}; it must be from 1 to {options.count}, what --count says")
    random.Random(options.seed).shuffle(functions)
    results = {"machine": describe_machine() | {"tools": tool_versions()}, "load_average": os.getloadavg()[0]}
    if options.agreement:
        fit = survivors(functions[: 6 * options.agreement])[: options.agreement]
        results["agreement"] = compare_verdicts(fit, options.checkers, options.examples)
    if options.rounds:
        part = options.count if options.original is None else options.original
        results["speed"] = compare_speed(functions[: options.count], options.checkers, options.rounds, part)
        methods = results["speed"]["methods"]
        times = {name: methods[name]["times_original"]["median"] for name in options.checkers}
        results["target"] = {
            name: {"at_least": TARGET, "found": found, "met": found >= TARGET} for name, found in times.items()
        }
    if options.output:
        write_json(options.output, results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    run_command(main)

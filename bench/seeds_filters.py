"""Measure the filters of seeds: functions per CPU-second, what each drops alone, and what their order changes.

Each filter runs alone on the same functions, on fresh candidates ("alone", parsing included where it has to) and on
candidates that are parsed already ("shared"), in rounds whose order moves on by one; CPU time is counted with that of
all child processes. Then the whole list runs in four orders: as the paper has it, as the original's code has it, as the
default config has it, and cheapest first. Filters that look at one function give the same functions in any order, which
is checked; the order only decides what they cost. That is not so for near-duplicates: before the other filters, one of
them can stand for a cluster and then be dropped, so both places are compared.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from measuring import describe_machine, spread  # noqa: E402

from selfalign.matching.near_duplicates import near_duplicates  # noqa: E402
from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_table, write_json  # noqa: E402
from selfalign.records.progress import Progress  # noqa: E402
from selfalign.records.rows import Function, load_rows  # noqa: E402
from selfalign.seeds.filters import parse_filters  # noqa: E402
from selfalign.seeds.part import Candidate, Drop, RowFilter, filter_part  # noqa: E402

THRESHOLD = 0.5  # Jaccard similarity of near-duplicates, the paper's
NODES_AT_NIGHT = (5_359_051, 64)  # functions of the paper's corpus, cores of one node
# What an order's source does not have stands at its end
PAPER = "infer_imports returns_value type_check docstring_quality bad_words sandbox_imports size has_argument licences"
CODE = "returns_value infer_imports type_check bad_words sandbox_imports size has_argument docstring_quality licences"
DEFAULT = (
    "returns_value has_argument size bad_words licences sandbox_imports docstring_quality infer_imports type_check"
)
CHEAPEST = (
    "licences size bad_words sandbox_imports returns_value has_argument docstring_quality infer_imports type_check"
)
ORDERS = {
    "paper": PAPER.split(),
    "original code": CODE.split(),
    "default config": DEFAULT.split(),
    "cheapest first": CHEAPEST.split(),
}


def cpu_s() -> float:
    """Return the CPU seconds of this process and its ended children so far."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def measure_each(functions: list[Function], filters: dict[str, RowFilter], rounds: int) -> dict:
    """Run each filter alone, in turns; return speeds and what it drops."""
    parsed = [Candidate(function) for function in functions]
    for candidate in parsed:
        candidate.definition  # noqa: B018
    names = list(filters)
    rates: dict[str, dict[str, list[float]]] = {name: {"alone": [], "shared": []} for name in names}
    reasons: dict[str, Counter[str]] = {}
    changed: dict[str, int] = {}
    progress = Progress("each", rounds * len(names), unit="runs")
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            for kind, candidates in (("alone", [Candidate(function) for function in functions]), ("shared", parsed)):
                before = cpu_s()
                outcomes = filters[name](candidates)
                rates[name][kind].append(round(len(functions) / (cpu_s() - before), 1))
            changed[name] = sum(
                not isinstance(outcome, Drop) and outcome is not function
                for outcome, function in zip(outcomes, functions, strict=True)
            )
            reasons[name] = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Drop))
            progress.add()
    return {
        name: {
            "per_cpu_s_alone": spread(rates[name]["alone"]),
            "per_cpu_s_shared": spread(rates[name]["shared"]),
            "changed": changed[name],
            "dropped": reasons[name].total(),
            "dropped_percent": round(100 * reasons[name].total() / len(functions), 2),
            "reasons": dict(reasons[name].most_common(12)),
        }
        for name in names
    }


def measure_orders(
    functions: list[Function], filters: dict[str, RowFilter], rounds: int
) -> tuple[dict, list[Function]]:
    """Run the whole list in each order, in turns; return speeds and funnels, and the functions that are kept."""
    rates: dict[str, list[float]] = {name: [] for name in ORDERS}
    funnels, kept = {}, {}
    progress = Progress("orders", rounds * len(ORDERS), unit="runs")
    for number in range(rounds):
        start = number % len(ORDERS)
        for name in [*ORDERS][start:] + [*ORDERS][:start]:
            before = cpu_s()
            rows, _, funnel = filter_part(functions, [(kind, filters[kind]) for kind in ORDERS[name]])
            rates[name].append(round(len(functions) / (cpu_s() - before), 1))
            funnels[name], kept[name] = funnel.dump()["stages"], rows
            progress.add()
    first, *others = kept.values()
    assert all(rows == first for rows in others), "the order of filters changed what they keep"
    total, cores = NODES_AT_NIGHT
    return {
        name: {
            "per_cpu_s": spread(rates[name]),
            "hours_on_64_cores": round(total / statistics.median(rates[name]) / cores / 3600, 2),
            "funnel": funnels[name],
        }
        for name in ORDERS
    }, first


def place_of_near_duplicates(functions: list[Function], kept: list[Function]) -> dict[str, int]:
    """Return how many functions are left with near-duplicates taken out before the other filters, and after them."""
    first = near_duplicates({row.id: row.code for row in functions}, THRESHOLD)
    last = near_duplicates({row.id: row.code for row in kept}, THRESHOLD)
    return {
        "all": len(functions),
        "near_duplicates_of_all": len(first),
        "left_when_first": sum(row.id not in first for row in kept),
        "left_when_last": len(kept) - len(last),
    }


def main() -> None:
    """Parse the options, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", nargs="+", help="Parquet files of extract_functions")
    parser.add_argument("--count", type=int, default=5000, help="functions to measure on (default 5000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--checkers", nargs="+", default=["ty"], help="of the type check, in order (default ty)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default 1)")
    parser.add_argument("--output", help="JSON to write (default: only shown)")
    options = parser.parse_args()
    functions = [row for path in options.functions for row in load_rows(Function, read_table(path), path)]
    if options.count > len(functions):
        raise ValueError(f"the files hold {len(functions):,} functions; give more, or ask for fewer")
    functions = random.Random(options.seed).sample(functions, options.count)
    listed = [
        {"name": name} | ({"checkers": options.checkers} if name == "type_check" else {}) for name in ORDERS["paper"]
    ]
    filters = dict(parse_filters(json.dumps(listed)).rows)
    results: dict = {
        "machine": describe_machine(),
        "load_average": os.getloadavg()[0],
        "functions": len(functions),
        "each": measure_each(functions, filters, options.rounds),
    }
    results["orders"], kept = measure_orders(functions, filters, options.rounds)
    results["near_duplicates"] = place_of_near_duplicates(functions, kept)
    results["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    results["largest_child_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    if options.output:
        write_json(options.output, results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    run_command(main)

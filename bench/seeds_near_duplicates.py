"""Measure near-duplicates: CPU time per function of ours and of other ways, and all against exact Jaccard.

The original's way is that of the MinHash scripts which its authors used: sha1 of each word 5-gram in Python, 250
permutations of datasketch, an update for each n-gram ("original") or for each text ("original, batched"), LSH with 41
bands of 6 rows, clusters of whatever shares a bucket. rensa and gaoya are libraries in Rust and have as many
permutations and the same bands as ours; what shares a bucket is linked where their estimate reaches the threshold. They
run in the environment of the peers (see bench/README.md), each time in a new process that counts its own CPU time,
without imports. All methods take turns, in an order that moves on by one from round to round, on the same functions.
Exact similarities come from an inverted index over all n-grams.
"""

import argparse
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import near_duplicates_peers as peers  # noqa: E402
from measuring import describe_machine, spread  # noqa: E402
from near_duplicates_peers import THRESHOLD, Kept, clusters, ngrams  # noqa: E402

from selfalign.matching.near_duplicates import SHINGLE, bands, near_duplicates  # noqa: E402
from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_table, write_json  # noqa: E402
from selfalign.records.progress import Progress  # noqa: E402

TARGET = 10  # times our CPU time that the original's way takes at least
METHODS = ["ours", *peers.METHODS]
assert SHINGLE == peers.SHINGLE
assert bands(THRESHOLD) == (peers.BANDS, peers.PERMUTATIONS // peers.BANDS)


def run_method(name: str, texts: Mapping[str, str], peers_python: str) -> tuple[float, Kept]:
    """Return the CPU seconds of a method, and what it drops.

    Raises:
        ValueError: a peer failed.
    """
    if name in peers.PACKAGED:
        command = [peers_python, str(Path(peers.__file__)), name]
        done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"{name} ended with code {done.returncode}: {done.stderr.strip()}")
        found = json.loads(done.stdout)
        return found["cpu_s"], found["kept"]
    before = time.process_time()
    kept = near_duplicates(texts, THRESHOLD) if name == "ours" else clusters(sorted(texts), peers.METHODS[name](texts))
    return time.process_time() - before, kept


def exact_pairs(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return all pairs at the threshold or above: those that share an n-gram, counted."""
    sets = {key: ngrams(text) for key, text in texts.items()}
    holders: dict[str, list[str]] = defaultdict(list)
    found = []
    for key in sorted(sets):
        shared = Counter(itertools.chain.from_iterable(holders.get(ngram, ()) for ngram in sets[key]))
        for other, count in shared.items():
            if count >= THRESHOLD * (len(sets[key]) + len(sets[other]) - count):
                found.append((other, key))
        for ngram in sets[key]:
            holders[ngram].append(key)
    return found


def quality(kept: Kept, pairs: list[tuple[str, str]], exact: Kept) -> dict[str, float]:
    """Compare what a method drops with exact similarities.

    Returns:
        recall: Share of the similar pairs that are in one cluster.
        wrong: Share of the dropped functions that exact clusters (union-find over the similar pairs) keep apart from
            the function that stands for them.
    """
    root = {key: kept.get(key, key) for pair in pairs for key in pair}
    together = sum(root[a] == root[b] for a, b in pairs)
    wrong = sum(exact.get(key, key) != exact.get(stays, stays) for key, stays in kept.items())
    return {
        "dropped": len(kept),
        "recall": round(together / len(pairs), 5) if pairs else 1.0,
        "wrong": round(wrong / len(kept), 5) if kept else 0.0,
    }


def main() -> None:
    """Measure and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", nargs="+", required=True, help="functions (Parquet)")
    parser.add_argument("--count", type=int, default=20_000, help="functions, drawn at random (default 20,000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each method runs (default 3)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="only these")
    parser.add_argument("--peers-python", default=".venv-bench/bin/python", help="interpreter with bench/peers.lock")
    parser.add_argument("--output", required=True, help="JSON file for every round's figures")
    options = parser.parse_args()
    if options.rounds < 1 or options.count < 2:
        raise ValueError("--rounds must be at least 1, --count at least 2")
    methods = options.methods
    if not Path(options.peers_python).exists() and (left := peers.PACKAGED.intersection(methods)):
        print(f"without {', '.join(sorted(left))}: there is no {options.peers_python}; bench/README.md says how to "
              "make it", file=sys.stderr)  # fmt: skip
        methods = [name for name in methods if name not in left]
    rows = [row for path in options.functions for row in read_table(path)]
    rows = random.Random(0).sample(rows, min(options.count, len(rows)))
    texts = {row["id"]: row["code"] for row in rows}
    pairs = exact_pairs(texts)
    exact = clusters(sorted(texts), iter(pairs))
    for name in methods:
        run_method(name, {"a": "a"}, options.peers_python)  # imports
    rounds: list[dict[str, float]] = []
    found: dict[str, dict] = {}
    progress = Progress("near-duplicates", options.rounds * len(methods), unit="runs")
    for number in range(options.rounds):
        start, times = number % len(methods), {}
        for name in methods[start:] + methods[:start]:
            cpu_s, kept = run_method(name, texts, options.peers_python)
            times[name] = round(cpu_s * 1e6 / len(texts), 1)
            found[name] = quality(kept, pairs, exact)
            progress.add()
        rounds.append(times)
    ratios = {
        name: spread([round(times[name] / times["ours"], 2) for times in rounds])
        for name in methods
        if name != "ours" and "ours" in methods
    }
    results = {
        "machine": describe_machine(),
        "functions": len(texts),
        "similar_pairs": len(pairs),
        "dropped_by_exact_clusters": len(exact),
        "rounds": rounds,
        "cpu_us": {name: spread([times[name] for times in rounds]) for name in methods},
        "quality": found,
        "ratios": ratios,
        "target": TARGET,
    }
    write_json(options.output, results)
    print(f"{len(texts):,} functions, {len(pairs):,} pairs at {THRESHOLD} or above, {len(rounds)} rounds\n")
    print("| method | CPU µs per function | times ours | dropped | recall of pairs | wrong drops |")
    print("|---|---|---|---|---|---|")
    for name in methods:
        time_, ratio, drops = results["cpu_us"][name], ratios.get(name), found[name]
        print(
            f"| {name} | {time_['median']} ({time_['min']}–{time_['max']}) | {ratio['median'] if ratio else 1} | "
            f"{drops['dropped']:,} of {len(exact):,} | {drops['recall']:.4f} | {drops['wrong']:.4f} |"
        )


if __name__ == "__main__":
    run_command(main)

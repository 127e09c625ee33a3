"""Measure near-duplicates: CPU time per function of ours and of the original's way, and both against exact Jaccard.

The original's way is that of the MinHash scripts which its authors used: sha1 of each word 5-gram in Python, 250
permutations of datasketch, an update for each n-gram ("original") or for each text ("original, batched"), LSH with 41
bands of 6 rows, clusters of whatever shares a bucket. All methods run in turns in one process, in an order that moves
on by one from round to round, on the same functions. Exact similarities come from an inverted index over all n-grams.
"""

import argparse
import itertools
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from datasketch import MinHash, MinHashLSH  # noqa: E402
from measuring import describe_machine, spread  # noqa: E402

from selfalign.matching.near_duplicates import SHINGLE, near_duplicates  # noqa: E402
from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_table, write_json  # noqa: E402
from selfalign.records.progress import Progress  # noqa: E402

THRESHOLD = 0.5
PERMUTATIONS = 250
BANDS = (41, 6)
TARGET = 10  # times our CPU time that the original's way takes at least

Kept = dict[str, str]  # id of a dropped function to the id that its cluster keeps


def ngrams(text: str) -> set[str]:
    """Return the word 5-grams of a text, in lower case."""
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def clusters(keys: list[str], links: Iterator[tuple[str, str]]) -> Kept:
    """Return what union-find drops when the smallest id of each cluster is kept."""
    parents = {key: key for key in keys}

    def find(key: str) -> str:
        while parents[key] != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    for pair in links:
        low, high = sorted(map(find, pair))
        parents[high] = low
    return {key: root for key in keys if (root := find(key)) != key}


def original(texts: Mapping[str, str], *, batched: bool = False) -> Kept:
    """Run the original's way."""
    lsh = MinHashLSH(num_perm=PERMUTATIONS, params=BANDS)
    pairs = []
    for key in sorted(texts):
        minhash = MinHash(num_perm=PERMUTATIONS, seed=42, scheme="legacy")
        found = [ngram.encode("utf-8", "surrogatepass") for ngram in ngrams(texts[key])]
        if batched:
            minhash.update_batch(found)
        else:
            for ngram in found:
                minhash.update(ngram)
        pairs += [(key, other) for other in lsh.query(minhash)]
        lsh.insert(key, minhash, check_duplication=False)
    return clusters(sorted(texts), iter(pairs))


METHODS = {
    "ours": lambda texts: near_duplicates(texts, THRESHOLD),
    "original": original,
    "original, batched": lambda texts: original(texts, batched=True),
}


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
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="only these")
    parser.add_argument("--output", required=True, help="JSON file for every round's figures")
    options = parser.parse_args()
    if options.rounds < 1 or options.count < 2:
        raise ValueError("--rounds must be at least 1, --count at least 2")
    rows = [row for path in options.functions for row in read_table(path)]
    rows = random.Random(0).sample(rows, min(options.count, len(rows)))
    texts = {row["id"]: row["code"] for row in rows}
    pairs = exact_pairs(texts)
    exact = clusters(sorted(texts), iter(pairs))
    near_duplicates({"a": "a"}, THRESHOLD)  # imports
    rounds: list[dict[str, float]] = []
    found: dict[str, dict] = {}
    progress = Progress("near-duplicates", options.rounds * len(options.methods), unit="runs")
    for number in range(options.rounds):
        start, times = number % len(options.methods), {}
        for name in options.methods[start:] + options.methods[:start]:
            before = time.process_time()
            kept = METHODS[name](texts)
            times[name] = round((time.process_time() - before) * 1e6 / len(texts), 1)
            found[name] = quality(kept, pairs, exact)
            progress.add()
        rounds.append(times)
    ratios = {
        name: spread([round(times[name] / times["ours"], 2) for times in rounds])
        for name in options.methods
        if name != "ours" and "ours" in options.methods
    }
    results = {
        "machine": describe_machine(),
        "functions": len(texts),
        "similar_pairs": len(pairs),
        "dropped_by_exact_clusters": len(exact),
        "rounds": rounds,
        "cpu_us": {name: spread([times[name] for times in rounds]) for name in options.methods},
        "quality": found,
        "ratios": ratios,
        "target": TARGET,
    }
    write_json(options.output, results)
    print(f"{len(texts):,} functions, {len(pairs):,} pairs at {THRESHOLD} or above, {len(rounds)} rounds\n")
    print("| method | CPU µs per function | times ours | dropped | recall of pairs | wrong drops |")
    print("|---|---|---|---|---|---|")
    for name in options.methods:
        time_, ratio, drops = results["cpu_us"][name], ratios.get(name), found[name]
        print(
            f"| {name} | {time_['median']} ({time_['min']}–{time_['max']}) | {ratio['median'] if ratio else 1} | "
            f"{drops['dropped']:,} of {len(exact):,} | {drops['recall']:.4f} | {drops['wrong']:.4f} |"
        )


if __name__ == "__main__":
    run_command(main)

"""Other ways to near-duplicates, one function each, with the pairs of texts that they link.

As a command it runs one of them in the environment of the peers: texts come on standard input (JSON, id to text), the
CPU seconds and what is dropped go to standard output. It imports nothing of the project, which is not installed there.
"""

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping

SHINGLE = 5  # words
THRESHOLD = 0.5
ORIGINAL_PERMUTATIONS, ORIGINAL_BANDS = 250, (41, 6)  # the original's
PERMUTATIONS, BANDS = 126, 42  # what ours uses at this threshold: 42 bands of 3 rows, of its 128 permutations

Kept = dict[str, str]  # id of a dropped function to the id that its cluster keeps
Pairs = Iterator[tuple[str, str]]


def ngrams(text: str) -> set[str]:
    """Return the word 5-grams of a text, in lower case."""
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def clusters(keys: Iterable[str], links: Iterable[tuple[str, str]]) -> Kept:
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
    return {key: root for key in parents if (root := find(key)) != key}


def original(texts: Mapping[str, str], *, batched: bool = False) -> Pairs:
    """Link as the original does: whatever shares a bucket; datasketch."""
    from datasketch import MinHash, MinHashLSH

    lsh = MinHashLSH(num_perm=ORIGINAL_PERMUTATIONS, params=ORIGINAL_BANDS)
    for key in sorted(texts):
        minhash = MinHash(num_perm=ORIGINAL_PERMUTATIONS, seed=42, scheme="legacy")
        found = [ngram.encode("utf-8", "surrogatepass") for ngram in ngrams(texts[key])]
        if batched:
            minhash.update_batch(found)
        else:
            for ngram in found:
                minhash.update(ngram)
        yield from ((key, other) for other in lsh.query(minhash))
        lsh.insert(key, minhash, check_duplication=False)


def original_batched(texts: Mapping[str, str]) -> Pairs:
    """Link as the original does, with one update of a MinHash for each text."""
    return original(texts, batched=True)


def rensa(texts: Mapping[str, str]) -> Pairs:
    """Link what shares a bucket and has an estimated similarity at the threshold or above; rensa, in Rust."""
    from rensa import RMinHash, RMinHashLSH

    keys = sorted(texts)
    minhashes = RMinHash.from_token_sets([list(ngrams(texts[key])) for key in keys], PERMUTATIONS, 1)
    lsh = RMinHashLSH(THRESHOLD, PERMUTATIONS, BANDS)
    lsh.insert_many(minhashes)
    for number, others in enumerate(lsh.query_all(minhashes)):
        for other in others:
            if other < number and minhashes[number].jaccard(minhashes[other]) >= THRESHOLD:
                yield keys[number], keys[other]


def gaoya(texts: Mapping[str, str]) -> Pairs:
    """Link as `rensa` does; gaoya, in Rust, makes the n-grams, too."""
    from gaoya.minhash import MinHashStringIndex

    keys = sorted(texts)
    words = [" ".join(re.findall(r"\w+", texts[key].lower())) for key in keys]
    index = MinHashStringIndex(
        32, THRESHOLD, BANDS, PERMUTATIONS // BANDS, None, "word", False, (SHINGLE, SHINGLE), "vec"
    )
    for number, text in enumerate(words):
        index.insert_document(number, text)
    for number, text in enumerate(words):
        yield from ((keys[number], keys[other]) for other in index.query(text) if other < number)


METHODS = {"original": original, "original, batched": original_batched, "rensa": rensa, "gaoya": gaoya}
PACKAGED = {"rensa", "gaoya"}  # of bench/peers.lock


def main() -> None:
    """Run one method on the texts of standard input."""
    texts = json.load(sys.stdin)
    method = METHODS[sys.argv[1]]
    list(method({"a": "a"}))  # imports
    before = time.process_time()
    kept = clusters(sorted(texts), method(texts))
    json.dump({"cpu_s": time.process_time() - before, "kept": kept}, sys.stdout)


if __name__ == "__main__":
    main()

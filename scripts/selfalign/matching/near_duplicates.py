"""Near-duplicates by the Jaccard similarity of word shingles: candidates from datasketch's LSH, checked exactly.

Two texts are linked when they share a bucket and their exact similarity reaches the threshold; linked texts form
clusters (union-find), and each cluster keeps its smallest id. Links do not depend on the order of the texts, so
neither do the clusters. The bands are chosen for recall, since a false candidate costs one comparison and no row.
"""

import re
import zlib
from collections.abc import Mapping

SHINGLE = 5  # words; the size that the paper's tools use
PERMUTATIONS = 128
PERMUTATION_SEED = 1
RECALL = 0.98  # least chance that a pair exactly at the threshold becomes a candidate

_WORD = re.compile(r"\w+")


def shingles(text: str) -> frozenset[str]:
    """Return the text's runs of five words in lower case; a shorter text is one shingle."""
    words = _WORD.findall(text.lower())
    if len(words) <= SHINGLE:
        return frozenset([" ".join(words)])
    return frozenset(" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets, from 0 to 1."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def bands(threshold: float) -> tuple[int, int]:
    """Return bands and rows of the LSH: the most rows (fewest false candidates) that still reach the recall."""
    for rows in range(PERMUTATIONS // 2, 1, -1):
        count = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return PERMUTATIONS, 1


def _find(parents: dict[str, str], key: str) -> str:
    while parents[key] != key:
        parents[key] = parents[parents[key]]
        key = parents[key]
    return key


def near_duplicates(texts: Mapping[str, str], threshold: float) -> dict[str, str]:
    """Return the ids to drop, each with the id that its cluster keeps.

    Args:
        texts: Id to text.
        threshold: Least Jaccard similarity of two near-duplicates, from 0 (exclusive) to 1.
    """
    from datasketch import MinHash, MinHashLSH

    if not 0 < threshold <= 1:
        raise ValueError(f"near-duplicate threshold {threshold}: it must lie above 0 and be at most 1")
    ids = sorted(texts)
    sets = {key: shingles(texts[key]) for key in ids}
    lsh = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, params=bands(threshold))
    hashes = MinHash.generator(
        ([shingle.encode() for shingle in sets[key]] for key in ids),
        num_perm=PERMUTATIONS,
        seed=PERMUTATION_SEED,
        hashfunc=zlib.crc32,
    )
    parents = {key: key for key in ids}
    for key, minhash in zip(ids, hashes, strict=True):
        for other in lsh.query(minhash):
            roots = sorted((_find(parents, key), _find(parents, other)))
            if roots[0] != roots[1] and similarity(sets[key], sets[other]) >= threshold:
                parents[roots[1]] = roots[0]
        lsh.insert(key, minhash, check_duplication=False)
    kept = {key: _find(parents, key) for key in ids}
    return {key: root for key, root in kept.items() if key != root}

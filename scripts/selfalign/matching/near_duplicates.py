"""Near-duplicates by the Jaccard similarity of word shingles: candidates from MinHash and LSH, checked exactly.

Two texts are linked when they share a bucket and their exact similarity reaches the threshold; linked texts form
clusters, and each cluster keeps its smallest id. Links do not depend on the order of the texts, so neither do the
clusters. The bands are chosen for recall, since a false candidate costs one comparison and no row.

The signatures are datasketch's (scheme affine32), computed for many texts at once and cut to their low 16 bits (b-bit
minwise hashing, Li and König 2010): what is in memory is 2 bytes a permutation, and the shingles wait in a file without
a name, which is gone when the process is. For n texts of w words that is 2 x 128 x n bytes of memory for the
signatures, at most 60 n besides while a band is looked at, and 4 x w x n bytes of disk.
"""

import functools
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHINGLE = 5  # words; the size that the paper's tools use
PERMUTATIONS = 128
PERMUTATION_SEED = 1
RECALL = 0.98  # least chance that a pair exactly at the threshold becomes a candidate
MARGIN = 4  # standard deviations by which an estimated similarity may lie below the threshold; loses 3 pairs in 100,000
BATCH = 128  # texts that are hashed together: what is made of them fits into a core's cache
PAIRS = 1 << 16  # candidate pairs that are compared together

_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_MULTIPLIER, -1, 1 << 64)
_NO_WORD = re.compile(r"\W")
_IS_WORD = np.zeros(256, dtype=bool)
_IS_WORD[[ord(character) for character in "0123456789_abcdefghijklmnopqrstuvwxyz"]] = True
_IS_WORD[128:] = True  # in a text of which `_NO_WORD` took everything else


@functools.lru_cache(maxsize=4)
def _powers(base: int, count: int) -> np.ndarray:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _mix(values: np.ndarray) -> np.ndarray:
    """Spread the bits of 64-bit values (the finalizer of MurmurHash3): sums of similar values do not cancel out."""
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(multiplier)
    return values ^ (values >> np.uint64(33))


def _word_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash of 64 bits for each word (`\\w+`, in lower case) of all texts, and the words of each text."""
    joined = "\0".join(text.replace("\0", " ") if text.isascii() else _NO_WORD.sub(" ", text.lower()) for text in texts)
    data = np.frombuffer(f"\0{joined}\0".lower().encode("utf-8", "surrogatepass"), dtype=np.uint8)
    is_word = _IS_WORD[data]
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts = edges[::2]
    counts = np.diff(np.searchsorted(starts, np.flatnonzero(data == 0)))
    if not len(starts):
        return np.empty(0, dtype=np.uint64), counts
    # A word's hash is a polynomial of its bytes: what sums over the text gain from its beginning to its end, divided
    # by the multiplier to the power of where it begins
    size = 1 << len(data).bit_length()
    sums = np.cumsum(data * _powers(_MULTIPLIER, size)[: len(data)])
    return _mix((sums[edges[1::2] - 1] - sums[starts - 1]) * _powers(_INVERSE, size)[starts]), counts


def shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes (32 bits) of each text's runs of five words in lower case, one text after the other.

    A text of fewer words is one shingle. Two shingles of two texts are taken for one by chance once in 2^32.

    Returns:
        The hashes, repeated ones included, and how many each text has.
    """
    hashes, words = _word_hashes(texts)
    counts = np.maximum(words - SHINGLE + 1, 1)
    firsts = np.cumsum(words) - words
    offsets = np.cumsum(counts) - counts
    starts = np.arange(counts.sum()) + np.repeat(firsts - offsets, counts)
    hashes = np.append(hashes, np.zeros(SHINGLE, dtype=np.uint64))
    values = np.zeros(len(starts), dtype=np.uint64)
    ends = np.repeat(firsts + words, counts)
    for place in range(SHINGLE):  # the shingle of a short text does not run into the next one
        values = values * np.uint64(_MULTIPLIER) + np.where(starts + place < ends, hashes[starts + place], np.uint64(0))
    return _mix(values).astype(np.uint32), counts


@functools.cache
def _permutations() -> tuple[np.ndarray, np.ndarray]:
    from datasketch import MinHash  # brings scipy, which takes a second

    factors, terms = MinHash(num_perm=PERMUTATIONS, seed=PERMUTATION_SEED, scheme="affine32").permutations
    return factors.astype(np.uint32), terms.astype(np.uint32)


def signatures(hashes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the low 16 bits of each text's MinHash: datasketch's, of the scheme affine32.

    Args:
        hashes: Shingles of all texts.
        counts: How many each text has, at least 1.

    Returns:
        An array of shape (texts, `PERMUTATIONS`).
    """
    factors, terms = _permutations()
    mixed = hashes  # the finalizer of 32 bits, which datasketch applies first
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    mixed = mixed ^ (mixed >> np.uint32(16))
    offsets = np.cumsum(counts) - counts
    found = np.empty((PERMUTATIONS, len(counts)), dtype=np.uint16)
    for number in range(PERMUTATIONS):
        permuted = mixed * factors[number] + terms[number]
        found[number] = np.minimum.reduceat(permuted, offsets).astype(np.uint16)
    return found.T.copy()


def bands(threshold: float) -> tuple[int, int]:
    """Return bands and rows of the LSH: the most rows (fewest false candidates) that still reach the recall."""
    for rows in range(PERMUTATIONS // 2, 1, -1):
        count = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return PERMUTATIONS, 1


@dataclass(frozen=True)
class Sketch:
    """What is needed of some texts to find their near-duplicates: shingles, how many each text has, signatures."""

    shingles: np.ndarray
    counts: np.ndarray
    signatures: np.ndarray


def sketch(texts: Sequence[str]) -> Sketch:
    """Hash some texts, a batch at a time."""
    found = []
    for start in range(0, len(texts), BATCH):
        hashes, counts = shingles(texts[start : start + BATCH])
        found.append((hashes, counts, signatures(hashes, counts)))
    return Sketch(*map(np.concatenate, zip(*found, strict=True)))


class Sketches:
    """The sketches of a corpus, in which clusters are looked for.

    Args:
        folder: Where the file of the shingles is, 4 bytes a word; None is the system's folder for temporary files.
    """

    def __init__(self, folder: str | Path | None = None):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._signatures = np.empty((0, PERMUTATIONS), dtype=np.uint16)
        self._counts: list[np.ndarray] = []
        self.compared = 0  # candidate pairs that were compared exactly

    def add(self, part: Sketch) -> None:
        """Add the sketch of further texts."""
        self._file.write(part.shingles)
        size = len(self._signatures)
        self._signatures.resize((size + len(part.counts), PERMUTATIONS), refcheck=False)
        self._signatures[size:] = part.signatures
        self._counts.append(part.counts.astype(np.uint32))

    def clusters(self, threshold: float) -> np.ndarray:
        """Return for each text, in the order in which they were added, the number of the first one of its cluster.

        Args:
            threshold: Least Jaccard similarity of two near-duplicates, from 0 (exclusive) to 1.

        Raises:
            ValueError: the threshold lies outside.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"near-duplicate threshold {threshold}: it must lie above 0 and be at most 1")
        if not self._counts:
            return np.empty(0, dtype=np.int32)
        self._file.flush()
        counts = np.concatenate(self._counts)
        offsets = np.cumsum(counts, dtype=np.int64) - counts
        parents = np.arange(len(counts), dtype=np.int32)  # 2^31 texts would be half a terabyte of signatures
        count, rows = bands(threshold)
        for band in range(count):
            for first, second in _candidates(self._signatures[:, band * rows : (band + 1) * rows], parents):
                near = _estimates(self._signatures, first, second) >= threshold - MARGIN * 0.5 / PERMUTATIONS**0.5
                first, second = first[near], second[near]
                self.compared += len(first)
                linked = self._similarities(first, second, offsets, counts) >= threshold
                _link(parents, first[linked], second[linked])
        return parents

    def _similarities(
        self, first: np.ndarray, second: np.ndarray, offsets: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Return the Jaccard similarities of pairs of texts."""
        texts, places = np.unique(np.concatenate([first, second]), return_inverse=True)
        sets = [
            np.unique(np.frombuffer(os.pread(self._file.fileno(), 4 * size, 4 * offset), dtype=np.uint32))
            for size, offset in zip(counts[texts].tolist(), offsets[texts].tolist(), strict=True)
        ]
        found = np.empty(len(first))
        for number, (a, b) in enumerate(places.reshape(2, -1).T.tolist()):
            both = np.concatenate([sets[a], sets[b]])
            both.sort(kind="stable")
            shared = np.count_nonzero(both[1:] == both[:-1])
            found[number] = shared / (len(both) - shared)
        return found


def _buckets(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts that share their values in a band with another one, bucket by bucket, and their buckets."""
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        if rows.shape[1] > 4:
            keys = _mix(keys ^ column)
        else:
            keys <<= np.uint64(16)
            keys |= column
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    shared = np.append(same, False)
    shared[1:] |= same
    return order[shared].astype(np.int32), np.cumsum(np.append(False, ~same)[shared], dtype=np.int32)


def _candidates(rows: np.ndarray, parents: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of texts with the same values in a band, those left out that one cluster has already.

    The caller links pairs in between; neighbours in a bucket come first, so that a bucket of copies is one cluster
    before all of its pairs have been looked at.
    """
    order, buckets = _buckets(rows)
    left = np.arange(len(order))
    for distance in range(1, len(order)):
        left = left[left < len(order) - distance]
        left = left[buckets[left] == buckets[left + distance]]
        if distance & (distance - 1) == 0:  # now and then, leave out the buckets that have become one cluster
            clusters = parents[order]
            several = np.zeros(buckets[-1] + 1, dtype=bool)
            several[buckets[1:][(buckets[1:] == buckets[:-1]) & (clusters[1:] != clusters[:-1])]] = True
            left = left[several[buckets[left]]]
        if not len(left):
            return
        for start in range(0, len(left), PAIRS):
            places = left[start : start + PAIRS]
            first, second = order[places], order[places + distance]
            apart = parents[first] != parents[second]
            if apart.any():
                yield first[apart], second[apart]


def _estimates(signatures: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the similarities of pairs of texts as their signatures tell them."""
    found = np.empty(len(first))
    for start in range(0, len(first), BATCH):
        pairs = slice(start, start + BATCH)
        found[pairs] = (signatures[first[pairs]] == signatures[second[pairs]]).mean(axis=1)
    return found


def _link(parents: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Join the clusters of pairs of texts; afterwards every text has the first one of its cluster as its parent."""
    roots: dict[int, int] = {}

    def find(text: int) -> int:
        while (parent := roots.get(text, text)) != text:
            roots[text] = text = roots.get(parent, parent)
        return text

    for a, b in zip(parents[first].tolist(), parents[second].tolist(), strict=True):
        low, high = sorted((find(a), find(b)))
        roots[high] = low
    if roots:
        changed = np.array(sorted(roots))
        new = np.arange(len(parents), dtype=parents.dtype)
        new[changed] = [find(text) for text in changed.tolist()]
        parents[:] = new[parents]


def near_duplicates(texts: Mapping[str, str], threshold: float) -> dict[str, str]:
    """Return the ids to drop, each with the id that its cluster keeps, the smallest one.

    Args:
        texts: Id to text.
        threshold: Least Jaccard similarity of two near-duplicates, from 0 (exclusive) to 1.

    Raises:
        ValueError: the threshold lies outside.
    """
    ids = sorted(texts)
    sketches = Sketches()
    if ids:
        sketches.add(sketch([texts[key] for key in ids]))
    first = sketches.clusters(threshold).tolist()
    return {key: ids[root] for number, (key, root) in enumerate(zip(ids, first, strict=True)) if root != number}

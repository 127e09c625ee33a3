"""Hashes of the words of many texts at once, and tables to look them up in.

Equal words have equal hashes. Two words that differ rarely share one, which a caller has to allow for: what is found
here is a candidate.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, and its bits look random
_SECOND_MULTIPLIER = np.uint64(0xC2B2AE3D27D4EB4F)
_WORD = re.compile(r"\w+")
_SIGNS = "".join(chr(code) for code in range(128) if not _WORD.match(chr(code)))
_NO_SIGNS = dict.fromkeys(map(ord, _SIGNS), " ")
_OTHER_SIGN = re.compile(r"[^\w\x00-\x7f]")
ONLY_WORDS = bytes.maketrans(_SIGNS.encode(), bytes(len(_SIGNS)))  # zero for every byte that is part of no word
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)
PADDING = bytes(8)  # after the last word, of which eight bytes are read however short it is
_SPARSE = 5  # bits by which a table of flags has more places than keys: 3 of 100 other hashes hit one


def normalize(text: str) -> str:
    """Return a text in lower case, its letters as Python reads those of identifiers."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower()


def split_words(normal: str) -> list[str]:
    """Return the words (`\\w+`) of a normalized text in order."""
    # The same words at a fifth of the time
    return normal.translate(_NO_SIGNS).split() if normal.isascii() else _WORD.findall(normal)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Where the words of some bytes are.

    Attributes:
        starts: First byte of each word.
        sizes: Its bytes.
        values: Its first eight bytes as a number, the first one lowest.
    """

    starts: np.ndarray
    sizes: np.ndarray
    values: np.ndarray


def read_eights(data: bytes, starts: np.ndarray) -> np.ndarray:
    """Return the eight bytes at each of some places as a number, the first one lowest."""
    return np.ndarray(len(data) - 7, dtype="<u8", buffer=data, strides=(1,))[starts]


def find_words(data: bytes) -> Words:
    """Find the words in bytes of which `ONLY_WORDS` made the others zero; they begin with a zero, end in `PADDING`."""
    is_word = np.frombuffer(data, dtype=np.uint8) != 0
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts = edges[::2]
    sizes = edges[1::2] - starts
    return Words(starts=starts, sizes=sizes, values=read_eights(data, starts) & _MASKS[np.minimum(sizes, 8)])


@dataclass(frozen=True, kw_only=True)
class HashedTexts:
    """The words of some texts, one text after the other.

    Attributes:
        hashes: 64 bits for each word; of a word of more than 16 bytes the middle does not count.
        ends: Number of words up to the end of each text.
    """

    hashes: np.ndarray
    ends: np.ndarray

    def of(self, number: int) -> set[int]:
        """Return the hashes of one text's words."""
        return set(self.hashes[self.ends[number - 1] if number else 0 : self.ends[number]].tolist())


def hash_words(texts: Sequence[str]) -> HashedTexts:
    """Hash the words of some texts."""
    parts = [
        (text if text.isascii() else _OTHER_SIGN.sub(" ", normalize(text))).encode("utf-8", "surrogatepass")
        for text in texts
    ]
    data = b"\0".join([b"", *parts, PADDING]).lower().translate(ONLY_WORDS)
    words = find_words(data)
    hashes = (words.values + words.sizes.astype(np.uint64)) * MULTIPLIER
    longer = np.flatnonzero(words.sizes > 8)
    hashes[longer] ^= read_eights(data, (words.starts + words.sizes)[longer] - 8) * _SECOND_MULTIPLIER
    ends = np.searchsorted(words.starts, np.cumsum([len(part) + 1 for part in parts]))
    return HashedTexts(hashes=hashes ^ hashes >> np.uint64(32), ends=ends)


def hash_runs(hashes: np.ndarray, sizes: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each size, the smallest first, and the hashes of all runs of so many words."""
    runs = hashes
    for size in range(1, max(sizes, default=0) + 1):
        if size > 1:
            runs = runs[:-1] * MULTIPLIER + hashes[size - 1 :]
        if size in sizes:
            yield size, runs


class HashTable:
    """Hashes, numbered from the smallest one, in which many others are looked up at a time."""

    def __init__(self, keys: Iterable[int]):
        self.keys = np.unique(np.fromiter(keys, dtype=np.uint64))
        bits = len(self.keys).bit_length() + _SPARSE
        self._shift = np.uint64(64 - bits)
        self._flags = np.zeros(1 << bits, dtype=bool)
        self._flags[self._places(self.keys)] = True

    def _places(self, hashes: np.ndarray) -> np.ndarray:
        return hashes * MULTIPLIER >> self._shift

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of some hashes are in the table, and the number of each."""
        found = np.flatnonzero(self._flags[self._places(hashes)])
        numbers = np.searchsorted(self.keys, hashes[found])
        numbers[numbers == len(self.keys)] = 0
        same = self.keys[numbers] == hashes[found] if len(self.keys) else np.zeros(0, dtype=bool)
        return found[same], numbers[same]

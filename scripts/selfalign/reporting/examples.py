"""Examples of rows for the page, chosen by the hash of their id: the same in every rerun, and not by eye."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Block:
    """One labelled piece of an example; `code` is shown in a fixed-width font."""

    label: str
    text: str
    code: bool = True


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row, told as blocks in the order in which they were made.

    Attributes:
        stage: The stage that kept or dropped the row.
        reason: The drop reason; None for a kept row.
        origin: Where its seed comes from.
    """

    id: str
    stage: str
    reason: str | None
    origin: str
    blocks: tuple[Block, ...]


class Sample:
    """Keep one value per key, that of the id with the smallest hash, whatever order they come in."""

    def __init__(self):
        self._best: dict[str, tuple[str, object]] = {}

    def offer(self, key: str, row_id: str, make: Callable[[], object]) -> None:
        """Consider a row; `make` is called only when the row is the best so far."""
        rank = hashlib.sha256(row_id.encode()).hexdigest()
        if key not in self._best or rank < self._best[key][0]:
            self._best[key] = (rank, make())

    def chosen(self) -> dict[str, object]:
        """Return the chosen values by key, keys sorted."""
        return {key: self._best[key][1] for key in sorted(self._best)}


def smallest_hashes(ids: list[str], count: int) -> list[str]:
    """Return the ids with the smallest hashes, at most `count`."""
    return sorted(ids, key=lambda row_id: hashlib.sha256(row_id.encode()).hexdigest())[:count]

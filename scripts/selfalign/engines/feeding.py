"""Which request goes to which engine next, when several engines with a prefix cache each share one list."""

from collections import deque
from collections.abc import Iterable, Sequence

from selfalign.engines.port import Request


class PrefixQueue:
    """Hands out requests so that those with the same prefix follow one another, in one engine as far as possible.

    An engine goes on with the prefix that it is at; then takes one that nobody has begun; then helps with the one of
    which most is left, so that all engines end at about the same time.
    """

    def __init__(self, requests: Iterable[Request], engines: int):
        by_prefix: dict[str, deque[Request]] = {}
        for request in requests:
            by_prefix.setdefault(request.prompt[: request.shared], deque()).append(request)
        self._untouched = deque(by_prefix.values())
        self._begun: list[deque[Request]] = []
        self._at: list[deque[Request]] = [deque()] * engines

    def take(self, engine: int) -> Request | None:
        """Return the next request for an engine, or None when all are given out."""
        if not self._at[engine]:
            self._begun = [group for group in self._begun if group]
            if self._untouched:
                self._at[engine] = self._untouched.popleft()
                self._begun.append(self._at[engine])
            elif self._begun:
                self._at[engine] = max(self._begun, key=len)
            else:
                return None
        return self._at[engine].popleft()

    def hand_out(self, samples: Sequence[int], most: Sequence[int]) -> list[list[Request]]:
        """Return requests for each engine: the next one always goes to the engine with the least to do.

        Args:
            samples: What each engine has to do now.
            most: With how many samples an engine is full; the request that reaches it is its last.
        """
        load = list(samples)
        given: list[list[Request]] = [[] for _ in load]
        while True:
            engine = min(range(len(load)), key=lambda number: load[number] / most[number])
            if load[engine] >= most[engine] or (request := self.take(engine)) is None:
                return given
            given[engine].append(request)
            load[engine] += request.n

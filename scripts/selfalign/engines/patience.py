"""What a server's failure means: ask again and when, give this row up, or stop."""

import math
import random
import time
from email.utils import parsedate_to_datetime

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds before the next try where the server does not say how many
TRIES = 8  # of one request at a server that answers others; about a minute


class GaveUp(Exception):
    """The server has not answered anybody for too long."""


class Patience:
    """The state that all requests to one server share.

    Args:
        limit: Seconds without any answer after which to give up.

    Attributes:
        resume: Moment (monotonic) before which nobody asks.
        last_answer: Moment of the last answer to anybody.
    """

    def __init__(self, limit: float):
        self.limit = limit
        self.resume = 0.0
        self.last_answer = -math.inf
        self._failing_since: float | None = None

    def answered(self) -> None:
        """Note that the server works; the refusal of a request is an answer, too."""
        self._failing_since = None
        self.last_answer = time.monotonic()

    def failed(self, tries: int, retry_after: float | None) -> float:
        """Note a failure; return in how many seconds to try again.

        Args:
            tries: Of this request, with the failed one.
            retry_after: Seconds that the server asks to wait; then all requests do.

        Raises:
            GaveUp: the server has failed for too long, or would by then.
        """
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        left = self._failing_since + self.limit - now
        if left <= 0:
            raise GaveUp(f"for {self.limit:g} s")
        wait = min(FIRST_WAIT * 2 ** min(tries - 1, 10), LONGEST_WAIT) * random.uniform(0.75, 1)
        wait = min(wait, left)  # the last try comes when the time is up, not before it
        if retry_after is not None:
            if retry_after > left:
                raise GaveUp(f"and asks to wait {retry_after:g} s")
            self.resume = max(self.resume, now + retry_after)
            wait = max(wait, retry_after)  # which may be 0
        return max(now + wait, self.resume) - now


def read_retry_after(headers) -> float | None:
    """Return how many seconds an answer's headers ask to wait, or None when they do not say."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError):
        return None

"""Progress of a long stage as plain lines: done/total, rate and time left."""

import sys
import time


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Print `[label] done/total unit, rate, time left` to standard error, at most once per interval.

    Args:
        label: What is running, for example `responses self/00000`.
        total: Rows to do in all.
        done: Rows that an earlier, killed run had finished; they do not count towards the rate.
        interval: Seconds between two lines.
    """

    def __init__(self, label: str, total: int, *, done: int = 0, unit: str = "rows", interval: float = 5.0):
        self.label, self.total, self.unit, self.interval = label, total, unit, interval
        self.done = self.resumed = done
        self.start = self.last = time.monotonic()
        if done:
            self._say(f"resuming after {done:,} {unit}")

    def _say(self, text: str) -> None:
        print(f"[{self.label}] {text}", file=sys.stderr, flush=True)

    def add(self, count: int = 1) -> None:
        """Count finished rows, and print a line when the interval has passed or all are done."""
        self.done += count
        now = time.monotonic()
        if now - self.last < self.interval and self.done < self.total:
            return
        self.last = now
        rate = (self.done - self.resumed) / max(now - self.start, 1e-9)
        if self.done >= self.total:
            tail = f"in {_clock(now - self.start)}"
        else:
            tail = f"{_clock((self.total - self.done) / rate)} left" if rate else "time left unknown"
        self._say(f"{self.done:,}/{self.total:,} {self.unit}, {rate:,.1f}/s, {tail}")

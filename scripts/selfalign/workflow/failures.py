"""What made jobs fail that ran elsewhere, where nobody sees their screen: the error lines of their logs."""

from collections.abc import Iterable
from pathlib import Path

SILENT = "ended without a message: killed, out of memory or time, or never begun; see what is said of it above"


def explain_failures(jobs: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """Return a line for each error that failed jobs wrote into their logs, once for all jobs that wrote it.

    Args:
        jobs: For each failed job its rule and its logs.
    """
    found: dict[str, list[str]] = {}
    for rule, logs in jobs:
        for log in logs:
            path = Path(log)
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            errors = [line for line in text.splitlines() if line.startswith("error: ")]
            line = errors[-1] if errors else f"error: {rule} {SILENT}"
            found.setdefault(line, []).append(str(log))
    return [
        f"{line} ({logs[0]}{f' and {len(logs) - 1} more' if len(logs) > 1 else ''})" for line, logs in found.items()
    ]

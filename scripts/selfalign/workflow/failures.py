"""What made jobs fail that ran elsewhere, where nobody sees their screen: the error lines of their logs."""

from collections.abc import Iterable
from pathlib import Path

SILENT = "ended without a message: killed, out of memory or time, or never begun; see what is said of it above"


def _last_error(path: Path, since: float) -> str | None:
    """Return the last error line of a log; none of one that an earlier run left."""
    if not path.is_file() or path.stat().st_mtime < since:
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith("error: ")), None)


def explain_failures(groups: Iterable[Iterable[tuple[str, Iterable[str]]]], since: float) -> list[str]:
    """Return a line for each error that failed jobs wrote into their logs, once for all jobs that wrote it.

    Args:
        groups: For each failed job of the cluster, the rules in it, each with its logs. Where one of them tells an
            error, the silence of the others means nothing: they succeeded, or waited for it.
        since: When the run began, in seconds as the times of files.
    """
    found: dict[str, list[str]] = {}
    for group in groups:
        logs = [(rule, str(log), _last_error(Path(log), since)) for rule, names in group for log in names]
        told = [(error, log) for _, log, error in logs if error]
        for line, log in told or [(f"error: {rule} {SILENT}", log) for rule, log, _ in logs]:
            found.setdefault(line, []).append(log)
    return [
        f"{line} ({logs[0]}{f' and {len(logs) - 1} more' if len(logs) > 1 else ''})" for line, logs in found.items()
    ]

"""Running requests so that a killed stage goes on where it stopped and ends with the same rows."""

import contextlib
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from selfalign.engines.port import UNANSWERED, Completion, Engine, Request, Usage
from selfalign.records.files import SideFile
from selfalign.records.progress import Progress


def complete_rows(
    engine: Engine,
    requests: Iterable[Request],
    side: SideFile,
    row_id: Callable[[str, int], str],
    to_row: Callable[[Completion], dict],
    label: str,
    *,
    need_all: bool = False,
) -> dict[str, dict]:
    """Complete all requests, storing finished groups in the side file; return the rows by id.

    Args:
        row_id: Row id of a request's id and a sample number.
        to_row: The row of a completion; its `id` is that of `row_id`.
        label: For progress lines.
        need_all: A request that a server left without an answer must not become a row.

    Raises:
        ValueError: there are such requests; the rows of all others are stored.
    """
    requests = list(requests)
    rows = {row["id"]: row for row in side.rows}
    wanted = [row_id(request.id, k) for request in requests for k in range(request.n)]
    done = {request.id for request in requests if all(row_id(request.id, k) in rows for k in range(request.n))}
    finished = sum(request.n for request in requests if request.id in done)
    progress = Progress(label, len(wanted), done=finished)
    unanswered: set[str] = set()
    for completions in engine.complete(requests, done):
        if need_all:
            unanswered.update(one.id for one in completions if one.finish_reason == UNANSWERED)
            completions = [one for one in completions if one.id not in unanswered]
        new = [to_row(completion) for completion in completions]
        side.append(new)
        rows.update((row["id"], row) for row in new)
        # A group that a kill tore runs again whole; its stored rows are counted already.
        progress.add(sum(completion.id not in done for completion in completions))
    if unanswered:
        raise ValueError(
            f"{label}: the server left {len(unanswered):,} of {len(requests):,} requests without an answer (one is "
            f"{min(unanswered)}), and no answer must not count as a wrong one; finished rows are kept: run again"
        )
    return {key: rows[key] for key in wanted}


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Wall and CPU time since a moment."""

    wall: float
    cpu: float

    @classmethod
    def start(cls) -> "Clock":
        """Return a clock that starts now."""
        return cls(wall=time.monotonic(), cpu=_cpu_seconds())

    def read(self) -> tuple[float, float]:
        """Return the wall and CPU seconds (with child processes) since the start."""
        return time.monotonic() - self.wall, _cpu_seconds() - self.cpu


def engine_stats(usage: Usage, clock: Clock, kind: str) -> dict:
    """Return the engine's part of a stage's stats; what an earlier, killed run did is not in it."""
    wall, cpu = clock.read()
    return {
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu, 3),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_prompt_tokens": usage.cached_prompt_tokens,
        "tokens_per_s": round(usage.completion_tokens / max(wall, 1e-9), 1),
        "engine": kind,
    }


def stats_without_engine(stage: str, rows: int, clock: Clock) -> dict:
    """Return the stats of rows that no model was asked for."""
    return {
        "stage": stage,
        "rows": rows,
        "dropped": {},
        "generated": 0,
        "load_s": 0.0,
        **engine_stats(Usage(), clock, "none"),
    }


def _cpu_seconds() -> float:
    """Return the CPU time of this process, of its ended children, and of its living ones, such as vLLM's."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(usage.ru_utime + usage.ru_stime for usage in spent)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user, system, and those of its ended children
    return total

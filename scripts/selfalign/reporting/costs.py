"""What the stages took: from the stats that they write, or from the times that Snakemake's `benchmark:` records."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import read_json


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one stage of one artifact took, over all its jobs.

    Attributes:
        rows: Rows that it made; None where they are not recorded.
        cpu_s: CPU time in seconds; None where it is not recorded.
        tokens: Generated tokens, or those that a training read; None where no model ran, as `prompt_tokens`.
    """

    stage: str
    artifact: str
    jobs: int
    rows: int | None
    wall_s: float
    cpu_s: float | None
    prompt_tokens: int | None = None
    tokens: int | None = None
    cached_prompt_tokens: int | None = None

    def rate(self, count: int | None) -> float | None:
        """Return a count per second of the jobs' wall time; None where the count is not recorded."""
        return None if count is None or not self.wall_s else round(count / self.wall_s, 3)


def _total(jobs: Iterable[Mapping], *keys: str) -> float | None:
    values = [job[key] for job in jobs for key in keys if job.get(key) is not None]
    return sum(values) if values else None


def sum_costs(artifact: str, paths: Iterable[Path]) -> list[Cost]:
    """Sum the stats files of one artifact by stage; files that are not there are left out.

    Raises:
        ValueError: a file does not hold stats.
    """
    by_stage: dict[str, list[Mapping]] = {}
    for path in paths:
        if path.is_file():
            stats = read_json(path)
            if not isinstance(stats, dict) or not {"stage", "rows", "wall_s", "cpu_s"} <= stats.keys():
                raise ValueError(
                    f"{path}: not stats (stage, rows, wall_s, cpu_s); delete it and run again to remake it"
                )
            by_stage.setdefault(stats["stage"], []).append(stats)
    return [
        Cost(
            stage=stage,
            artifact=artifact,
            jobs=len(jobs),
            rows=_total(jobs, "rows"),
            wall_s=round(_total(jobs, "wall_s") or 0.0, 3),
            cpu_s=round(_total(jobs, "cpu_s") or 0.0, 3),
            prompt_tokens=_total(jobs, "prompt_tokens"),
            tokens=_total(jobs, "completion_tokens", "tokens"),
            cached_prompt_tokens=_total(jobs, "cached_prompt_tokens"),
        )
        for stage, jobs in by_stage.items()
    ]


def job_costs(stage: str, artifact: str, logs: Iterable[Path]) -> list[Cost]:
    """Sum the times that Snakemake recorded for jobs that write no stats, from `{log}.benchmark.tsv`."""
    jobs = []
    for path in (log.with_name(f"{log.name}.benchmark.tsv") for log in logs):
        if path.is_file():
            with open(path, encoding="utf-8", newline="") as file:
                jobs += list(csv.DictReader(file, delimiter="\t"))
    if not jobs:
        return []
    try:
        wall = sum(float(job["s"]) for job in jobs)
        # A job that ends before the first sample has no CPU time ("NA")
        cpu = [float(job["cpu_time"]) for job in jobs if job["cpu_time"] not in ("NA", "-")]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a record of Snakemake's benchmark directive ({error!r}); delete it") from error
    return [
        Cost(
            stage=stage,
            artifact=artifact,
            jobs=len(jobs),
            rows=None,
            wall_s=round(wall, 3),
            cpu_s=round(sum(cpu), 3) if len(cpu) == len(jobs) else None,
        )
    ]

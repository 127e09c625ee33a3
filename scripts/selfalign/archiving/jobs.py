"""What Snakemake noted of the jobs that made a run's files: command, inputs, outputs and times."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job.

    Attributes:
        inputs: As the workflow names them, from the working directory or absolute.
        start, end: Seconds since 1970.
    """

    rule: str
    command: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    start: float
    end: float


def read_jobs(folder: Path) -> list[Job]:
    """Return the jobs that a working directory's `.snakemake/metadata` tells of, in the order of their start.

    It holds a record of each file; the files of one job have one command. A run without these records (another
    backend, --drop-metadata, or a copied results folder) has no jobs to tell of.
    """
    records: dict[tuple[str, str], list[tuple[str, dict]]] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if not path.is_file():
            continue
        encoded = "".join(path.relative_to(folder).parts)  # a long name is folders, each marked by an @ that is no data
        try:
            name = base64.urlsafe_b64decode(encoded).decode()
            record = json.loads(path.read_text(encoding="utf-8"))
            key = record["rule"], record["shellcmd"]
            whole = record["starttime"] and record["endtime"] and record["shellcmd"] and not record["incomplete"]
        except (ValueError, KeyError, TypeError):
            continue  # a record that is just being written, or of another version of Snakemake
        if whole:
            records.setdefault(key, []).append((name, record))
    jobs = [
        Job(
            rule=rule,
            command=command,
            inputs=tuple(made[0][1]["input"]),
            outputs=tuple(sorted(name for name, _ in made)),
            start=min(record["starttime"] for _, record in made),
            end=max(record["endtime"] for _, record in made),
        )
        for (rule, command), made in records.items()
    ]
    return sorted(jobs, key=lambda job: (job.start, job.outputs))

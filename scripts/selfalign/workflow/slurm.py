"""Runs on SLURM: no job of an earlier run beside the new one's, and settings that depend on the working directory.

A killed Snakemake leaves its jobs in the queue. The next run would submit the same ones again, and two jobs would write
one file. The names of the jobs tell to which working directory they belong. Jobs that ended after Snakemake was killed
left whole files, but nobody noted what they were made with, so that no changed setting would rerun them. Therefore it
is written down beforehand.
"""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from selfalign.records.files import digest, read_json, write_json

RECORD = Path(".snakemake/selfalign.slurm")  # what was submitted from here: first output to the job's version
SANDBOX = Path("results/sandbox.json")
GONE_S = 300  # SLURM gives a job KillWait (30 s) to end, and looks every half minute
POLL_S = 2


class Executor(Protocol):
    """What is set in Snakemake's executor for SLURM (2.8.0), which the profile cannot say."""

    run_uuid: str  # the name of all jobs of a run
    slurm_logdir: Path


def job_name() -> str:
    """Return how the names of all jobs of the working directory begin."""
    return f"selfalign-{digest(str(Path.cwd().resolve()))[:12]}"


def _call(*command: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"SLURM cannot be asked for jobs of an earlier run ({error}); run again later") from None


def _jobs() -> list[str]:
    """Return the ids of this user's jobs of the working directory that have not ended."""
    done = _call("squeue", "--me", "--noheader", "--format=%i %j")
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise ValueError(f"SLURM cannot be asked for jobs of an earlier run ({said}); run again later")
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    return [number for number, _, name in lines if name.startswith(job_name())]


def end_earlier_jobs() -> None:
    """Cancel the jobs that an earlier run of the working directory left in SLURM's queue; wait until they are gone.

    To be called by the main process of a run only, which holds the run's lock: then no living run owns them.

    Raises:
        ValueError: SLURM does not answer, or they do not end.
    """
    if not (left := _jobs()):
        return
    count = f"{len(left)} SLURM job{'s' if len(left) > 1 else ''}"
    print(f"Cancelling {count} of an earlier run that was killed; finished rows stay.", file=sys.stderr, flush=True)
    _call("scancel", *left)  # it may fail for a job that ended just now
    end = time.monotonic() + GONE_S
    while left := _jobs():
        if time.monotonic() > end:
            raise ValueError(
                f"SLURM jobs of an earlier run do not end: {' '.join(left)}; see `squeue --me`, and ask the "
                "administrators if their node is down"
            )
        time.sleep(POLL_S)


def refuse_jobs_of(earlier: str) -> None:
    """Leave the jobs of a run on another computer alone: where each computer has locks of its own, it may be alive.

    Args:
        earlier: The process and the computer of that run; empty if it was here.

    Raises:
        ValueError: it has jobs in the queue, or SLURM does not answer.
    """
    if earlier and RECORD.exists() and shutil.which("squeue") and (left := _jobs()):
        raise ValueError(
            f"a run was begun in {Path.cwd()} on another computer (process {earlier}), and its SLURM jobs are in the "
            f"queue. Go on there with the same command; or see that the process has ended, and then cancel its jobs "
            f"with `scancel {' '.join(left)}` and run the same command here"
        )


def accounting_answers() -> bool:
    """Return whether sacct gives the states of jobs; without SLURM's database it fails at once."""
    if not shutil.which("sacct"):
        return False
    return subprocess.run(["sacct", "-nX"], capture_output=True, check=False).returncode == 0


def prepare_slurm(executor: Executor | None) -> None:
    """Prepare a run in the working directory: end the jobs of an earlier one, and mark those to come.

    Args:
        executor: That for SLURM; None where the run takes another one.

    Raises:
        ValueError: as for `end_earlier_jobs`.
    """
    if executor is not None or (RECORD.exists() and shutil.which("squeue")):
        end_earlier_jobs()
    if executor is not None:
        executor.run_uuid = f"{job_name()}_{executor.run_uuid}"
        executor.slurm_logdir = Path.cwd() / "results/logs/slurm"  # the setting counts from where Snakemake was called


def require_sandbox_of(partition: str | None, account: str | None, script: Path) -> None:
    """Take no word for the sandbox that is of other nodes, such as the login node's of a pilot.

    What was found stays where it is: without that file Snakemake would make nearly everything anew.

    Args:
        partition: Where programs will run; several are separated by commas. None: SLURM chooses.
        account: Who pays; None: SLURM chooses.
        script: The command that tries the sandbox.

    Raises:
        ValueError: the sandbox was tried elsewhere; names the command that tries it there.
    """
    if not SANDBOX.exists():
        return
    tried = read_json(SANDBOX).get("partition", "")
    if tried and (not partition or tried in partition.split(",")):
        return
    options = [*(["-p", partition] if partition else []), *(["-A", account] if account else [])]
    command = shlex.join(["srun", *options, sys.executable, str(script), "--output", str(SANDBOX)])
    where = f"partition {partition}" if partition else "SLURM"
    raise ValueError(
        f"the sandbox was tried on other computers than those of {where}, where programs will run. Try it there, "
        f"then run the same command again: cd {shlex.quote(str(Path.cwd()))} && {command}"
    )


def submitted_jobs() -> dict[str, str]:
    """Return the version of each job that was submitted from the working directory, by its first output."""
    return read_json(RECORD) if RECORD.exists() else {}


def record_submitted(jobs: dict[str, str]) -> None:
    """Write down the jobs of a run before it submits any."""
    write_json(RECORD, submitted_jobs() | jobs)

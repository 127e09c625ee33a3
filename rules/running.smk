# A run as a whole: what it looks at before its first job, and what it tells of jobs that failed.
import sys
from pathlib import Path

from selfalign.archiving.contents import membership
from selfalign.records.digests import not_made_anew
from selfalign.records.files import digest
from selfalign.workflow.failures import explain_failures
from selfalign.workflow.integrity import date_now, refuse_changed_artifacts
from selfalign.workflow.run_lock import LOCK, hold_run_lock, note_run
from selfalign.workflow.slurm import (
    RECORD,
    accounting_answers,
    prepare_slurm,
    record_submitted,
    refuse_jobs_of,
    require_sandbox_of,
    submitted_jobs,
)


def start_run():
    """Let no other run work here, nor jobs of one that was killed. A dry run and the processes of jobs do not ask."""
    slurm = workflow.executor_plugin.name == "slurm"
    try:
        refuse_jobs_of(hold_run_lock())
        note_run()
        prepare_slurm(workflow.scheduler._executor if slurm else None)
        refuse_changed_artifacts()
        date_now(file for job in workflow.dag.jobs for file in job.output)
        adopt_finished_jobs()
        if slurm and any("results/sandbox.json" in job.input for job in workflow.dag.needrun_jobs()):
            (job,) = [job for job in workflow.dag.jobs if job.rule.name == "check_sandbox"]
            where = [job.resources.get(f"slurm_{name}") for name in ("partition", "account")]
            require_sandbox_of(*where, Path(workflow.basedir, "scripts/check_sandbox.py"))
    except ValueError as error:
        sys.exit(f"error: {error}")
    if slurm or RECORD.exists():  # what is made without SLURM takes the place of what was submitted
        record_submitted({str(job.output[0]): job_version(job) for job in workflow.dag.needrun_jobs() if job.output})
    if slurm and not accounting_answers():  # the executor would wait for its jobs for ever
        workflow.executor_settings.status_command = "squeue"


def job_version(job):
    """Return a digest of what a change of reruns a job: its command, params and input files."""
    params = sorted((name, str(value)) for name, value in job.params.items())
    return digest(str(job.rule.shellcmd), params, sorted(map(str, job.input)))


def adopt_finished_jobs():
    """Note what the files were made with that jobs finished after their run was killed, which Snakemake does not know."""
    submitted = submitted_jobs()
    stale = []
    late = []
    for job in workflow.dag.jobs:
        version = submitted.get(str(job.output[0])) if job.output else None
        if version is None:
            continue
        if workflow.dag.needrun(job):
            if finished_since_plan(job) and version == job_version(job):
                late.append(str(job.output[0]))
        elif any(unnoted(path) for path in job.output):
            if version == job_version(job):
                workflow.async_run(workflow.persistence.finished(job))
            else:
                workflow.persistence.started(job)  # so that it counts as incomplete
                stale.append(str(job.output[0]))
    if late:
        raise ValueError(
            f"{len(late)} jobs of an earlier run have finished while this one was planned ({late[0]}); run the same "
            "command again, which keeps their files"
        )
    if stale:
        raise ValueError(
            f"{len(stale)} files were finished after their run was killed, with other settings than those of now "
            f"({stale[0]}); run the same command again, which makes them anew"
        )


def unnoted(path):
    """Return whether a file was written after Snakemake had noted last what it is made with, and when that was."""
    if not Path(path).exists():
        return False
    noted = workflow.persistence.metadata(path)
    written = workflow.async_run(path.mtime_uncached()).local_or_storage()
    return noted is None or abs(written - noted.endtime) > 2  # copies may have whole or even seconds only


def finished_since_plan(job):
    """Return whether all files of a job are there that was planned as some were missing, and for no other reason."""
    reason = workflow.dag.reason(job)
    return (
        bool(reason.missing_output)
        and not reason.updated_input_run
        and all(Path(path).exists() for path in job.output)
        and not workflow.async_run(workflow.persistence.incomplete(job))
    )


def failed_jobs():
    """Return why jobs failed that ran where their screen is not seen, a line for each reason."""
    groups = [failed.jobs if failed.is_group() else [failed] for failed in workflow.scheduler.failed]
    return explain_failures([[(job.rule.name, job.log) for job in jobs] for jobs in groups], LOCK.stat().st_mtime)


def set_aside_artifacts(wildcards):
    """Return what was damaged or edited and set aside. Nothing else asks for it where all that follows from it is there.

    What is of further rounds is left to their judgements, which say how many there are.
    """
    tables = ("generations", "datasets", "models")
    further = {"rounds"} | {name for table in tables for name, entry in config[table].items() if is_further(entry)}
    belongs = membership(config)
    return [
        str(path)
        for path in not_made_anew()
        if belongs(path.relative_to("results").as_posix())
        and further.isdisjoint(path.parts)
        and any(maker.is_producer(str(path)) for maker in workflow.rules)
    ]

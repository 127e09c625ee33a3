"""What Snakemake would run, asked in this process; and runs that are finished as far as Snakemake can tell."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import snakemake.executors.touch
import yaml
from conftest import ROOT
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    ExecutionSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

Job = tuple[str, tuple[tuple[str, str], ...]]  # rule; wildcards and their values


@dataclass(frozen=True)
class Plan:
    """The jobs of a run, those of them that would run, and which jobs each one's files are an input of."""

    jobs: set[Job]
    needed: set[Job]
    readers: dict[Job, set[Job]]

    def following(self, jobs: Iterable[Job]) -> set[Job]:
        """Return jobs and all that is made from their files."""
        found: set[Job] = set()
        todo = list(jobs)
        while todo:
            job = todo.pop()
            if job not in found:
                found.add(job)
                todo.extend(self.readers[job])
        return found


@contextmanager
def open_workflow(
    folder: Path, config: Path, repository: Path, targets: Iterable[str], cores: int = 2, **settings: bool
) -> Iterator[tuple]:
    """Give Snakemake's API for a run in a folder: the workflow, and what plans and executes it."""
    here = Path.cwd()
    try:
        quiet = {Quietness.RULES, Quietness.PROGRESS}  # with which a dry run ends when its plan is made
        with SnakemakeApi(OutputSettings(quiet=quiet)) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=cores),
                config_settings=ConfigSettings(configfiles=[config]),
                snakefile=repository / "Snakefile",
                workdir=folder,
            )
            yield workflow, workflow.dag(DAGSettings(targets=set(targets), **settings))
    finally:
        os.chdir(here)


def _job(job) -> Job:
    return job.rule.name, tuple(sorted((job.wildcards_dict or {}).items()))


def plan(
    folder: Path, config: Path, repository: Path = ROOT, targets: Iterable[str] = ("all",), cores: int = 2
) -> Plan:
    """Return what `snakemake TARGETS` would do in a folder."""
    with open_workflow(folder, config, repository, targets, cores) as (workflow, dag_api):
        dag_api.execute_workflow(executor="dryrun", execution_settings=ExecutionSettings(lock=False))
        dag = workflow._workflow.dag  # there is no public way to it
        jobs = {job: _job(job) for job in dag.jobs if job.rule.name not in targets}
        readers: dict[Job, set[Job]] = {name: set() for name in jobs.values()}
        for job, name in jobs.items():
            for source, files in dag.dependencies[job].items():
                if any(not file.is_ancient for file in job.input if file in files):
                    readers[jobs[source]].add(name)
        needed = {_job(job) for job in dag.needrun_jobs(exclude_finished=False)}
        return Plan(set(jobs.values()), needed - {(target, ()) for target in targets}, readers)


def pretend(folder: Path, config: Path, repository: Path = ROOT, targets: Iterable[str] = ("all",)) -> None:
    """Leave in a folder what a finished run leaves, each file empty: Snakemake's own records of it are real.

    Judgements of rounds, which say what follows them, are there before, or say that the rounds go on.
    """
    touched: set[str] = set()
    rounds = yaml.safe_load(config.read_text()).get("rounds") or {}
    for name, entry in rounds.items():
        for number in range(1, entry["rounds"] + 1):
            path = folder / f"results/rounds/{name}/{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text('{"verdict": "go"}')
    while True:
        with open_workflow(folder, config, repository, targets) as (workflow, dag_api):
            dag_api.execute_workflow(executor="dryrun", execution_settings=ExecutionSettings(lock=False))
            jobs = list(workflow._workflow.dag.jobs)
            new = {output for job in jobs for output in job.output} - touched
            for job in jobs:
                for output in job.output:
                    path = folder / output
                    (path if output.is_directory else path.parent).mkdir(parents=True, exist_ok=True)
                    if not output.is_directory:
                        path.touch()
        if not new:
            return
        touch(folder, config, repository, targets, forceall=True)
        touched |= new
        if not rounds:
            return


def touch(
    folder: Path, config: Path, repository: Path = ROOT, targets: Iterable[str] = ("all",), *, forceall: bool = False
) -> None:
    """Do what `snakemake --touch` does, without its pauses."""
    pause, snakemake.executors.touch.Executor.SLEEPING_TIME = snakemake.executors.touch.Executor.SLEEPING_TIME, 0
    try:
        with open_workflow(folder, config, repository, targets, forceall=forceall) as (_, dag_api):
            settings = ExecutionSettings(lock=False, no_hooks=True)
            dag_api.execute_workflow(executor="touch", execution_settings=settings)
    finally:
        snakemake.executors.touch.Executor.SLEEPING_TIME = pause

"""The workflow on a real SLURM (make test-slurm): where jobs go, and what a cancelled, killed or starved one leaves.

One run of a tiny config meets everything in turn: it is cancelled, killed, sent again, a job of it hangs until its
time is up, another one takes more memory than it asked for. Then its files are compared with those of a local run.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, checkout
from slurm_cluster import ENDED, Job, SlurmCluster, missing_programs
from test_end_to_end import final_files

pytestmark = pytest.mark.slurm

CONFIG = "tests/configs/cluster.yaml"
TASKS = 8  # of the benchmark
CHANGES = {
    # As a user would edit the profile; the first attempt at training gets too little memory: it takes 800 MB.
    "slurm-init-seconds-before-status-checks: 20": "slurm-init-seconds-before-status-checks: 3",
    "mem_mb: attempt * 64000": "mem_mb: attempt * 600",
    "verify_responses: 8": "verify_responses: 2",
}
GPU_RULES = {"generate_concepts", "generate_instructions", "generate_responses", "train_model", "complete_benchmark"}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[SlurmCluster]:
    assert not missing_programs(), f"{missing_programs()} are missing; `make test-slurm` installs them"
    assert os.geteuid() == 0, "the daemons of SLURM need root"
    with SlurmCluster(tmp_path_factory.mktemp("slurm") / "cluster") as cluster:
        yield cluster


def prepare(folder: Path) -> Path:
    """Make a checkout with the profile as it is on this cluster, and folders for a run there and one without it."""
    checkout(folder)
    lines = (ROOT / "resources/demo/benchmark.jsonl").read_text().splitlines(keepends=True)
    for name in ("run", "local"):
        (folder / name).mkdir()
        (folder / name / "benchmark.jsonl").write_text("".join(lines[:TASKS]))
    profile = folder / "profiles/slurm/config.yaml"
    text = profile.read_text()
    for old, new in CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    profile.write_text(text)
    return folder


def command(*arguments: str, slurm: bool = True, directory: str = "run", config: str = CONFIG) -> list[str]:
    machine = ["--workflow-profile", "profiles/slurm"] if slurm else ["--cores", "1"]
    return [sys.executable, "-m", "snakemake", "--configfile", config, "--directory", directory, *machine, *arguments]


class Run:
    """A run in the background, whose screen is in a file; it must end before the test does."""

    def __init__(self, folder: Path, screen: str, **options):
        self.screen = folder / screen
        with open(self.screen, "wb") as file:
            # What a script starts in the background ignores SIGINT, and so does all that it starts.
            interruptible = ["env", "--default-signal=INT", *command(**options)]
            self.process = subprocess.Popen(interruptible, cwd=folder, stdout=file, stderr=file, start_new_session=True)

    def until(self, condition: Callable[[], object], seconds: float = 900) -> None:
        """Wait for something to happen while the run goes on."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"the run ended: {self.text()}"
            assert time.monotonic() < end, f"not within {seconds} s: {self.text()}"
            time.sleep(0.1)

    def wait(self, seconds: float = 1200) -> int:
        """Wait for the end of the run; return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not within {seconds} s: {self.text()}") from None

    def text(self) -> str:
        return self.screen.read_text(errors="replace")

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Campaign:
    """What was seen at each step."""

    folder: Path
    cancelled: int = 0
    after_cancel: list[Job] = field(default_factory=list)
    orphans: list[Job] = field(default_factory=list)
    repeated: str = ""
    hung: Job | None = None
    rows_before_limit: int = 0
    limit_screen: str = ""
    final_code: int = -1
    screen: str = ""
    jobs: list[Job] = field(default_factory=list)


def with_state(cluster: SlurmCluster, rule: str, *states: str) -> list[Job]:
    return [job for job in cluster.jobs() if job.rule == rule and job.state in states]


def finish(cluster: SlurmCluster) -> None:
    """Wait until no job is in the queue."""
    end = time.monotonic() + 300
    while {job.state for job in cluster.jobs()} - ENDED:
        assert time.monotonic() < end, cluster.jobs()
        time.sleep(0.5)


def processes(script: str, folder: Path) -> list[int]:
    """Return the processes of a command of ours that work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if f"/{script}.py".encode() in words[1] and (place / "cwd").resolve() == folder:
                found.append(int(place.name))
        except (OSError, IndexError):
            continue  # it ended meanwhile, or is called in another way
    return found


@pytest.fixture(scope="module")
def campaign(cluster, tmp_path_factory) -> Campaign:
    folder = prepare(tmp_path_factory.mktemp("cluster"))
    seen = Campaign(folder)
    started = []

    def start(screen: str, **options) -> Run:
        started.append(Run(folder, screen, **options))
        return started[-1]

    try:
        reference = start("local.txt", slurm=False, directory="local")
        first = start("cancelled.txt")
        first.until(lambda: with_state(cluster, "extract_functions", "RUNNING"))
        os.killpg(first.process.pid, signal.SIGINT)
        seen.cancelled = first.wait(180)
        seen.after_cancel = cluster.jobs()

        early = start("killed-early.txt")
        early.until(lambda: with_state(cluster, "extract_functions", "RUNNING"))
        early.end()
        finish(cluster)

        second = start("killed.txt")
        second.until(lambda: with_state(cluster, "generate_responses", "RUNNING"))
        second.end()
        seen.orphans = with_state(cluster, "generate_responses", "RUNNING")

        third = start("final.txt")
        third.until(lambda: "Cancelling" in third.text())
        third.until(lambda: "Job stats" in third.text() and with_state(cluster, "generate_responses", "RUNNING"))
        seen.repeated = third.text()
        side = folder / "run/results/generations/self/responses/.00000.jsonl.partial"
        third.until(lambda: side.exists() and len(side.read_bytes().splitlines()) > 20)
        for process in processes("generate_responses", folder / "run"):
            os.kill(process, signal.SIGSTOP)  # as one that waits for a disk that does not answer
        (seen.hung,) = with_state(cluster, "generate_responses", "RUNNING")
        seen.rows_before_limit = side.read_bytes().count(b"\n") - 1
        cluster.update(seen.hung.number, "EndTime=now")
        third.until(lambda: "TIMEOUT" in third.text())
        seen.final_code = third.wait()
        seen.screen = third.text()
        seen.jobs = cluster.jobs()
        assert reference.wait() == 0, reference.text()
    finally:
        for run in started:
            run.end()
    return seen


def plan(campaign: Campaign, **options) -> set[str]:
    """Return the rules that a run would run now."""
    result = subprocess.run(command("-n", **options), cwd=campaign.folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    table = re.search(r"^job +count\n[- ]+\n(.*?)^total", result.stdout + result.stderr, re.MULTILINE | re.DOTALL)
    return {line.split()[0] for line in table[1].splitlines()} - {"all"} if table else set()


def test_a_cancelled_run_takes_its_jobs_along(campaign):
    assert campaign.cancelled != 0
    assert campaign.after_cancel
    assert {job.state for job in campaign.after_cancel} <= ENDED
    assert "CANCELLED" in {job.state for job in campaign.after_cancel}


def test_jobs_of_a_killed_run_are_cancelled_by_the_next(campaign):
    assert campaign.orphans
    states = {job.number: job.state for job in campaign.jobs}
    assert {states[job.number] for job in campaign.orphans} == {"CANCELLED"}
    said = [line for line in campaign.repeated.splitlines() if line.startswith("Cancelling ")]
    assert said == ["Cancelling 1 SLURM job of an earlier run that was killed; finished rows stay."]
    again = [job for job in campaign.jobs if job.rule == "generate_responses"]
    assert int(again[1].number) > int(again[0].number)


def test_files_of_jobs_that_outlived_their_run_are_kept_and_follow_later_changes(campaign):
    states = [job.state for job in campaign.jobs if job.rule == "extract_functions"]
    assert sorted(states) == ["CANCELLED", "CANCELLED", "COMPLETED", "COMPLETED"]
    config = yaml.safe_load((campaign.folder / CONFIG).read_text())
    config["corpora"]["packages"]["source"]["packages"].append("PyYAML")
    (campaign.folder / "changed.yaml").write_text(yaml.safe_dump(config))
    assert "extract_functions" in plan(campaign, slurm=True, config="changed.yaml")


def test_a_job_at_its_time_limit_goes_on_where_it_was(campaign):
    states = [job.state for job in campaign.jobs if job.rule == "generate_responses"]
    assert states == ["CANCELLED", "TIMEOUT", "COMPLETED"]
    assert re.search(rf"SLURM-job '{campaign.hung.number}' failed, SLURM status is: 'TIMEOUT'", campaign.screen)
    stats = json.loads((campaign.folder / "run/results/generations/self/responses/00000.json").read_text())
    assert campaign.rows_before_limit >= 20
    assert stats["rows"] - stats["generated"] == campaign.rows_before_limit


def test_a_job_that_dies_for_memory_is_sent_again_with_more(campaign):
    trainings = [job for job in campaign.jobs if job.rule == "train_model"]
    assert [job.state for job in trainings] in (["FAILED", "COMPLETED"], ["OUT_OF_MEMORY", "COMPLETED"])
    assert [job.memory for job in trainings] == ["600M", "1200M"]
    (log,) = campaign.folder.glob(f"run/results/logs/slurm/rule_train_model/aligned/{trainings[0].number}.log")
    assert "exceeded memory limit" in log.read_text()


def test_each_job_is_where_the_profile_says(campaign):
    assert campaign.final_code == 0, campaign.screen
    for job in campaign.jobs:
        gpu = job.rule in GPU_RULES
        assert (job.partition, job.gpus) == (("gpu", "gres:gpu:1") if gpu else ("cpu", "N/A")), job
    submitted = {job.rule for job in campaign.jobs}
    assert submitted > GPU_RULES
    assert {"extract_functions", "select_seeds", "check_sandbox", "verify_responses", "select_pairs"} <= submitted
    assert not {"fetch_model", "prepare_benchmark", "record_run"} & submitted
    groups = {path.name for path in (campaign.folder / "run/results/logs/slurm").glob("group_*")}
    assert {"group_filters_filter_functions"} <= groups
    assert not {"filter_functions", "score_benchmark"} & submitted  # as jobs of their own


def test_the_files_are_those_of_a_local_run(campaign):
    assert final_files(campaign.folder / "run") == final_files(campaign.folder / "local")
    assert not list(campaign.folder.rglob("*.partial"))
    assert not list(campaign.folder.rglob("*.tmp"))
    summary = (campaign.folder / "run/results/report/summary.txt").read_text()
    assert summary.strip() in campaign.screen


def test_a_second_run_does_nothing(campaign):
    assert plan(campaign) == set()
    assert plan(campaign, slurm=False) == set()


def test_without_user_namespaces_no_gpu_is_asked_for(cluster, campaign, tmp_path):
    """All is there that a model could be asked with, but the sandbox was tried on the login node only."""
    folder = tmp_path / "checkout"
    shutil.copytree(campaign.folder, folder)
    for name in ("sandbox.json", ".sha256/sandbox.json"):
        shutil.copy2(folder / "local/results" / name, folder / "run/results" / name)
    shutil.rmtree(folder / "run/results/generations")
    first = subprocess.run(command(), cwd=folder, capture_output=True, text=True, check=False)
    assert first.returncode != 0
    (there,) = re.findall(r"^error: the sandbox was tried on .* partition cpu, .*: (cd .*)$", first.stderr, re.M)
    found = folder / "run/results/sandbox.json"
    before = found.read_bytes()
    cluster.stop_node()
    cluster.start_node(user_namespaces=False)
    try:
        tried = subprocess.run(there, shell=True, capture_output=True, text=True, check=False, timeout=600)
        assert tried.returncode != 0
        assert "user namespaces" in tried.stderr
        assert found.read_bytes() == before
        found.unlink()  # as of a new run
        earlier = {job.number for job in cluster.jobs()}
        run = Run(folder, "screen.txt")
        try:
            assert run.wait(200) != 0
        finally:
            run.end()
        new = [job for job in cluster.jobs() if job.number not in earlier]
    finally:
        cluster.stop_node()
        cluster.start_node()
    subprocess.run(there, shell=True, check=True, timeout=600)
    assert json.loads(found.read_text())["partition"] == "cpu"
    errors = [line for line in run.text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, run.text()
    assert "user namespaces" in errors[0]
    assert "results/logs/check_sandbox.log" in errors[0]
    assert [(job.rule, job.partition, job.gpus) for job in new] == [("check_sandbox", "cpu", "N/A")]

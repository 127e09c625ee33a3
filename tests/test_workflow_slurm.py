"""Runs on SLURM, without a cluster: whose jobs a new run ends, when it refuses, what failed jobs say, the profile.

The queue is a file here, read and changed by programs named squeue and scancel; tests/test_slurm.py asks the real ones.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from selfalign.workflow.failures import explain_failures
from selfalign.workflow.slurm import (
    RECORD,
    SANDBOX,
    accounting_answers,
    end_earlier_jobs,
    job_name,
    prepare_slurm,
    record_submitted,
    require_sandbox_of,
    submitted_jobs,
)

ROOT = Path(__file__).parent.parent
PROGRAMS = {
    "squeue": 'cat "$QUEUE" || exit 1; '
    '[ ! -e "$QUEUE.stuck" ] || exit 0; cp "$QUEUE.left" "$QUEUE" 2>/dev/null || true',
    "scancel": 'echo "$@" >> "$QUEUE.cancelled"; '
    'grep -v -F -f <(printf "%s \\n" "$@") "$QUEUE" > "$QUEUE.left"; exit 1',
    "sacct": 'echo "Slurm accounting storage is disabled" >&2; exit 1',
}


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    """Return the file of a queue; a cancelled job is still in it when it is looked at the next time."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in PROGRAMS.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(tmp_path / "queue"))
    monkeypatch.setattr("selfalign.workflow.slurm.POLL_S", 0.01)
    (tmp_path / "run/.snakemake").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "queue"


def test_only_jobs_of_the_working_directory_are_ended(queue, capsys, tmp_path, monkeypatch):
    mine = job_name()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert job_name() != mine
    queue.write_text(f"11 {mine}_a\n12 {job_name()}_b\n13 interactive\n14 {mine}_c\n")
    monkeypatch.chdir(tmp_path / "run")
    end_earlier_jobs()
    assert Path(f"{queue}.cancelled").read_text() == "11 14\n"
    assert [line.split()[0] for line in queue.read_text().splitlines()] == ["12", "13"]
    assert "Cancelling 2 SLURM jobs of an earlier run" in capsys.readouterr().err


def test_nothing_is_said_when_there_is_none(queue, capsys):
    queue.write_text("13 interactive\n")
    end_earlier_jobs()
    assert not Path(f"{queue}.cancelled").exists()
    assert capsys.readouterr().err == ""


def test_a_job_that_does_not_end_is_an_error(queue, monkeypatch):
    queue.write_text(f"11 {job_name()}_a\n")
    Path(f"{queue}.stuck").touch()
    monkeypatch.setattr("selfalign.workflow.slurm.GONE_S", 0.1)
    with pytest.raises(ValueError, match="do not end: 11; see"):
        end_earlier_jobs()


def test_a_queue_that_does_not_answer_is_an_error(queue):
    with pytest.raises(ValueError, match=r"SLURM cannot be asked for jobs of an earlier run \(cat: .*No such file"):
        end_earlier_jobs()


class Executor:
    run_uuid = "uuid"
    slurm_logdir = Path("logs")


def test_a_run_marks_its_jobs_and_a_local_one_ends_them(queue):
    queue.write_text(f"11 {job_name()}_uuid\n")
    prepare_slurm(None)  # nothing was submitted from here, so SLURM is not asked
    assert not Path(f"{queue}.cancelled").exists()
    queue.write_text("")
    executor = Executor()
    prepare_slurm(executor)
    assert executor.run_uuid == f"{job_name()}_uuid"
    assert executor.slurm_logdir == Path.cwd() / "results/logs/slurm"
    record_submitted({"a": "1", "b": "1"})
    record_submitted({"b": "2"})
    assert submitted_jobs() == {"a": "1", "b": "2"}
    queue.write_text(f"11 {executor.run_uuid}\n")
    prepare_slurm(None)
    assert Path(f"{queue}.cancelled").read_text() == "11\n"


def test_results_may_go_where_no_slurm_is(queue, monkeypatch):
    RECORD.touch()
    monkeypatch.setenv("PATH", "/nowhere")
    prepare_slurm(None)


SANDBOXES = [("cpu", "cpu", True), ("cpu", "long,cpu", True), ("", "cpu", False), ("gpu", "cpu", False)]


@pytest.mark.parametrize(("tried", "partition", "counts"), SANDBOXES)
def test_only_a_sandbox_of_the_same_nodes_counts(queue, tried, partition, counts):
    require_sandbox_of(partition)  # it is not there: a job will try it
    SANDBOX.parent.mkdir()
    SANDBOX.write_text(json.dumps({"partition": tried} if tried else {}))
    if counts:
        require_sandbox_of(partition)
    else:
        with pytest.raises(ValueError, match="was tried on other computers"):
            require_sandbox_of(partition)
    assert SANDBOX.exists() == counts


def test_no_database_is_seen(queue, tmp_path):
    assert not accounting_answers()
    (tmp_path / "tools/sacct").write_text("#!/bin/sh\n")
    assert accounting_answers()


def test_failed_jobs_say_each_error_once(tmp_path):
    texts = {"a": "loading\nerror: first try\nerror: no space\n", "b": "error: no space\n", "c": "Killed\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    failed = [("verify", [tmp_path / "a"]), ("verify", [tmp_path / "b"]), ("train", [tmp_path / "c"])]
    lines = explain_failures([*failed, ("score", [tmp_path / "not begun"])])
    assert lines[0] == f"error: no space ({tmp_path}/a and 1 more)"
    assert lines[1].startswith("error: train ended without a message")
    assert lines[2].startswith("error: score ended without a message")
    assert len(lines) == 3


def snakemake(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def planned_jobs(text: str) -> dict[str, str]:
    """Return what a dry run says of one job of each rule."""
    found = re.findall(r"^(?:local)?rule (\w+):\n(.*?)(?=^\[|^\w|\Z)", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def test_the_profile_fits_the_workflow(tmp_path):
    """Every rule that it names is one; names of partitions reach the jobs from its first lines, and no science does."""
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    profile = yaml.safe_load(text)
    rules = {
        name for file in (ROOT / "rules").glob("*.smk") for name in re.findall(r"^rule (\w+):", file.read_text(), re.M)
    }
    assert set(profile["set-resources"]) | set(profile["set-threads"]) | set(profile["groups"]) <= rules
    assert "retries" in profile
    assert not {"config", "configfile", "array-jobs", "slurm-array-jobs"} & set(profile)
    folder = tmp_path / "slurm"
    folder.mkdir()
    for old, new in [("cpu_partition: cpu", "cpu_partition: small"), ("account: null", "account: 4711")]:
        assert old in text
        text = text.replace(old, new)
    (folder / "config.yaml").write_text(text)
    jobs = planned_jobs(snakemake("-n", "--workflow-profile", str(folder), "--directory", str(tmp_path), cwd=tmp_path))
    assert {"generate_responses", "verify_responses", "train_model", "select_pairs"} <= set(jobs)
    for rule, job in jobs.items():
        wanted = "gpu" if "gpu=1" in job else "small"
        assert f"slurm_partition={wanted}" in job, rule
        assert "slurm_account=4711" in job, rule
        assert re.search(r"mem_mb=\d+,.*runtime=\d+", job), rule


# A dry run calls every job local, so the rules are asked themselves.
LOCAL_RULES = """
import sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings
with SnakemakeApi(OutputSettings()) as api:
    settings = ConfigSettings(configfiles=[Path("hub.yaml")])
    workflow = api.workflow(resource_settings=ResourceSettings(), config_settings=settings, snakefile=Path(sys.argv[1]))
    workflow.list_rules()
    print("local:", *sorted(workflow._workflow._localrules))
"""


def test_a_hub_corpus_is_read_where_snakemake_runs(tmp_path):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    source = {"kind": "hub", "revision": "0123abc"}
    config["corpora"]["stdlib"]["source"] = source
    (tmp_path / "folder").mkdir()
    local = {}
    for dataset in ("owner/code", "folder"):
        source["dataset"] = dataset
        (tmp_path / "hub.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-c", LOCAL_RULES, str(ROOT / "Snakefile")]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        (line,) = re.findall(r"^local: (.*)$", result.stdout, re.MULTILINE)
        local[dataset] = set(line.split())
    assert local["folder"] == {"fetch_model", "pilot", "prepare_benchmark", "record_run", "report_pilot"}
    assert local["owner/code"] == local["folder"] | {"extract_functions"}


def test_what_outlived_its_run_with_other_settings_is_made_anew(queue, tmp_path):
    """A job that ended after Snakemake was killed leaves its file, and no note of what it was made with."""
    queue.write_text("")
    base, benchmark = "results/models/base/model.json", "results/benchmarks/demo.jsonl"
    options = ["--cores", "1", "--directory", str(tmp_path), base, benchmark]
    snakemake(*options, cwd=tmp_path)
    made = (tmp_path / base).stat().st_mtime_ns
    shutil.rmtree(tmp_path / ".snakemake/metadata")
    (tmp_path / benchmark).unlink()
    (tmp_path / RECORD).write_text(json.dumps({base: "of other settings"}))
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *options]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert (
        f"error: 1 files were finished after their run was killed, with other settings than those of now ({base})"
        in (result.stderr)
    )
    assert (tmp_path / base).stat().st_mtime_ns == made
    snakemake(*options, cwd=tmp_path)
    assert (tmp_path / base).stat().st_mtime_ns > made
    assert "Nothing to be done" in snakemake(*options, cwd=tmp_path)


def test_a_dry_run_beside_a_run_says_what_is_left(tmp_path):
    hold = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
    hold += (
        "from selfalign.workflow.run_lock import hold_run_lock\nhold_run_lock()\nprint('held', flush=True)\ninput()\n"
    )
    run = subprocess.Popen([sys.executable, "-c", hold], cwd=tmp_path, stdin=-1, stdout=-1, text=True)
    assert run.stdout.readline() == "held\n"
    try:
        assert "generate_responses" in snakemake("-n", "--directory", str(tmp_path), cwd=tmp_path)
        options = ["--cores", "1", "--directory", str(tmp_path), "results/models/base/model.json"]
        result = subprocess.run(
            [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert f"error: another run (process {run.pid}) is working in" in result.stderr
        assert not (tmp_path / "results/models").exists()
    finally:
        run.kill()
        run.wait()

"""Runs on SLURM, without a cluster: whose jobs a new run ends, when it refuses, what failed jobs say, the profile.

The queue is a file here, read and changed by programs named squeue and scancel; tests/test_slurm.py asks the real ones.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
import yaml
from workflow_plans import plan, pretend

from selfalign.records import digests
from selfalign.records.files import read_json
from selfalign.workflow.failures import explain_failures
from selfalign.workflow.slurm import (
    RECORD,
    SANDBOX,
    accounting_answers,
    end_earlier_jobs,
    job_name,
    prepare_slurm,
    record_submitted,
    refuse_jobs_of,
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


SANDBOXES = [
    ("cpu", "cpu", True),
    ("cpu", "long,cpu", True),
    ("cpu", None, True),
    ("", None, False),
    ("", "cpu", False),
    ("gpu", "cpu", False),
]


@pytest.mark.parametrize(("tried", "partition", "counts"), SANDBOXES)
def test_only_a_sandbox_of_the_same_nodes_counts(queue, tried, partition, counts):
    arguments = partition, "mine", Path("check_sandbox.py")
    require_sandbox_of(*arguments)  # it is not there: a job will try it
    SANDBOX.parent.mkdir()
    SANDBOX.write_text(json.dumps({"partition": tried} if tried else {}))
    if counts:
        require_sandbox_of(*arguments)
    else:
        options = f"-p {partition} -A mine" if partition else "-A mine"
        with pytest.raises(ValueError, match=rf"was tried on other computers .* srun {options} .*check_sandbox\.py"):
            require_sandbox_of(*arguments)
    assert SANDBOX.exists()


def test_other_nodes_plan_nothing_anew_and_the_command_tries_them(queue, tmp_path, monkeypatch):
    """The partition is named as a function of Python is, and the queue is empty."""
    queue.write_text("")
    (tmp_path / "tools/srun").write_text('#!/bin/bash\nexport SLURM_JOB_PARTITION=$2\nshift 4\nexec "$@"\n')
    (tmp_path / "tools/srun").chmod(0o755)
    run, config = tmp_path / "run", ROOT / "tests/configs/small.yaml"
    pretend(run, config)
    SANDBOX.write_text(json.dumps({"partition": "old"}))
    Path("results/generations/self/verdicts/00000.jsonl").unlink()
    due = plan(run, config).needed
    assert {rule for rule, _ in due} >= {"verify_responses", "train_model"}
    assert not {rule for rule, _ in due} & {"generate_concepts", "generate_responses", "check_sandbox"}
    options = [
        "--workflow-profile",
        str(profile(tmp_path, "all")),
        "--configfile",
        str(config),
        "--directory",
        str(run),
    ]
    screen = snakemake(*options, cwd=tmp_path, code=1)
    (command,) = re.findall(r"^error: the sandbox was tried on .*: (cd .* && srun -p all .*)$", screen, re.MULTILINE)
    assert plan(run, config).needed == due
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert read_json(SANDBOX)["partition"] == "all"
    assert list(digests.changed()) == []
    assert plan(run, config).needed == due
    require_sandbox_of("all", None, Path())


def test_no_database_is_seen(queue, tmp_path):
    assert not accounting_answers()
    (tmp_path / "tools/sacct").write_text("#!/bin/sh\n")
    assert accounting_answers()


def test_failed_jobs_say_each_error_once(tmp_path):
    texts = {"a": "loading\nerror: first try\nerror: no space\n", "b": "error: no space\n", "c": "Killed\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    failed = [("verify", [tmp_path / "a"]), ("verify", [tmp_path / "b"]), ("train", [tmp_path / "c"])]
    lines = explain_failures([[job] for job in (*failed, ("score", [tmp_path / "not begun"]))], since=0)
    assert lines[0] == f"error: no space ({tmp_path}/a and 1 more)"
    assert lines[1].startswith("error: train ended without a message")
    assert lines[2].startswith("error: score ended without a message")
    assert len(lines) == 3


def test_of_a_group_only_the_job_that_failed_speaks(tmp_path):
    (tmp_path / "verified").write_text("2 of 2\n")
    (tmp_path / "measured").write_text("error: no counter\n")
    group = [(name, [tmp_path / name]) for name in ("verified", "measured", "not begun")]
    assert explain_failures([group], since=0) == [f"error: no counter ({tmp_path}/measured)"]


def test_what_an_earlier_run_said_is_not_repeated(tmp_path):
    (tmp_path / "log").write_text("error: mended since\n")
    os.utime(tmp_path / "log", (1000, 1000))
    (line,) = explain_failures([[("train", [tmp_path / "log"])]], since=1001)
    assert line.startswith("error: train ended without a message")


def test_jobs_of_a_run_on_another_computer_are_left_alone(queue):
    queue.write_text(f"11 {job_name()}_a\n12 {job_name()}_b\n")
    refuse_jobs_of("")  # the run before was here: its lock would be seen
    refuse_jobs_of("4711 on login2")  # nothing was submitted from here
    record_submitted({"a": "1"})
    with pytest.raises(ValueError, match=r"process 4711 on login2.*`scancel 11 12`"):
        refuse_jobs_of("4711 on login2")
    assert not Path(f"{queue}.cancelled").exists()
    queue.write_text("")
    refuse_jobs_of("4711 on login2")


def snakemake(*arguments: str, cwd: Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def profile(folder: Path, partition: str) -> Path:
    """Write the profile as a user edits it: the partition of jobs without a GPU, and an account."""
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    for old, new in [("cpu_partition: cpu", f"cpu_partition: {partition}"), ("account: null", "account: 4711")]:
        assert old in text
        text = text.replace(old, new)
    (folder / "slurm").mkdir()
    (folder / "slurm/config.yaml").write_text(text)
    return folder / "slurm"


def planned_jobs(text: str) -> dict[str, str]:
    """Return what a dry run says of one job of each rule."""
    found = re.findall(r"^(?:local)?rule (\w+):\n(.*?)(?=^\[|^\w|\Z)", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def test_the_profile_fits_the_workflow(tmp_path):
    """Every rule that it names is one; names of partitions reach the jobs from its first lines, and no science does."""
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    settings = yaml.safe_load(text)
    rules = {
        name for file in (ROOT / "rules").glob("*.smk") for name in re.findall(r"^rule (\w+):", file.read_text(), re.M)
    }
    assert set(settings["set-resources"]) | set(settings["set-threads"]) | set(settings["groups"]) <= rules
    assert "retries" in settings
    assert not {"config", "configfile", "array-jobs", "slurm-array-jobs"} & set(settings)
    options = ["--workflow-profile", str(profile(tmp_path, "all")), "--directory", str(tmp_path)]
    jobs = planned_jobs(snakemake("-n", *options, cwd=tmp_path))
    assert {"generate_responses", "verify_responses", "train_model", "select_pairs"} <= set(jobs)
    for rule, job in jobs.items():
        wanted = "gpu" if "gpu=1" in job else "all"
        assert f"slurm_partition={wanted}" in job, rule
        assert "slurm_account=4711" in job, rule
        assert re.search(r"mem_mb=\d+,.*runtime=\d+", job), rule
        assert ("nodes=1" in job) == ("gpu=1" in job), rule  # those of a group would be added up
    scores = [rule for rule, group in settings["groups"].items() if group == "scores"]
    assert sum(settings["set-resources"][rule]["runtime"] for rule in scores) <= 8 * 60


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
    assert local["folder"] == {
        *(
            "fetch_model",
            "judge_round",
            "pilot",
            "prepare_benchmark",
            "record_run",
            "report_pilot",
            "take_instructions",
        ),
    }
    assert local["owner/code"] == local["folder"] | {"extract_functions"}


BASE, BENCHMARK = "results/models/base/model.json", "results/benchmarks/demo.jsonl"


@pytest.fixture
def outlived(queue, tmp_path) -> list[str]:
    """Return the options of a small run that was made here; what it submitted is known, and the queue is empty."""
    queue.write_text("")
    RECORD.write_text("{}")
    options = ["--cores", "1", "--directory", str(tmp_path / "run"), BASE, BENCHMARK]
    snakemake(*options, cwd=tmp_path)
    assert set(submitted_jobs()) == {BASE, BENCHMARK}
    return options


@pytest.mark.parametrize("noted", [False, True])
def test_what_outlived_its_run_with_other_settings_is_made_anew(outlived, tmp_path, noted):
    """A job that ended after Snakemake was killed leaves its file without a note, or with that of the file before."""
    if not noted:
        shutil.rmtree(".snakemake/metadata")
    os.utime(BASE, (made := Path(BASE).stat().st_mtime - 10,) * 2)
    Path(BENCHMARK).unlink()
    record_submitted({BASE: "of other settings"})
    screen = snakemake(*outlived, cwd=tmp_path, code=1)
    assert (
        f"error: 1 files were finished after their run was killed, with other settings than those of now ({BASE})"
        in screen
    )
    assert Path(BASE).stat().st_mtime == made
    snakemake(*outlived, cwd=tmp_path)
    assert Path(BASE).stat().st_mtime != made
    assert "Nothing to be done" in snakemake(*outlived, cwd=tmp_path)


def test_what_outlived_its_run_with_the_same_settings_is_noted(outlived, tmp_path):
    os.utime(BASE, (made := Path(BASE).stat().st_mtime - 10,) * 2)
    Path(BENCHMARK).unlink()
    snakemake(*outlived, cwd=tmp_path)
    assert Path(BASE).stat().st_mtime == made
    (note,) = Path(".snakemake/metadata").glob(urlsafe_b64encode(BASE.encode()).decode())
    assert json.loads(note.read_text())["endtime"] == made


@pytest.mark.parametrize("change", ["none", "touched", "copied"])
def test_what_its_own_run_has_noted_is_no_orphan(outlived, tmp_path, change):
    """Files of a finished run keep their notes, whatever was submitted for them long ago."""
    if change == "touched":
        snakemake("--touch", "--forceall", *outlived, cwd=tmp_path)
    if change == "copied":
        seconds = int(Path(BASE).stat().st_mtime)  # as on file systems that keep no more
        os.utime(BASE, (seconds, seconds))
    Path(BENCHMARK).unlink()
    record_submitted({BASE: "of other settings"})
    made = Path(BASE).stat().st_mtime_ns
    snakemake(*outlived, cwd=tmp_path)
    assert Path(BASE).stat().st_mtime_ns == made


def test_what_finishes_while_the_run_is_planned_is_kept(outlived, tmp_path):
    Path(BASE).rename("late")
    (tmp_path / "tools/squeue").write_text(f"#!/bin/bash\n[ ! -e late ] || mv late {BASE}\n")
    made = Path("late").stat().st_mtime_ns
    screen = snakemake(*outlived, cwd=tmp_path, code=1)
    assert f"error: 1 jobs of an earlier run have finished while this one was planned ({BASE})" in screen
    assert "Nothing to be done" in snakemake(*outlived, cwd=tmp_path)
    assert Path(BASE).stat().st_mtime_ns == made

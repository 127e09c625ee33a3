"""The lock of a run: who holds it, and where there is none to be had."""

import errno
import fcntl
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_workflow_slurm import snakemake

from selfalign.records.files import SideFile
from selfalign.workflow import run_lock
from selfalign.workflow.run_lock import LOCK, hold_run_lock, note_run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_lock, "_held", [])


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(monkeypatch, code):
    def flock(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    for lock in (hold_run_lock, lambda: SideFile("a.jsonl", "key")):
        with pytest.raises(
            ValueError, match=rf"(selfalign\.lock|\.a\.jsonl\.partial): .*{os.strerror(code)}.*-o flock"
        ):
            lock()


def test_a_folder_that_cannot_be_written_is_named():
    Path(".snakemake").write_text("")  # the tests may run as root, whom no permission stops
    with pytest.raises(ValueError, match=r"cannot write /.*/\.snakemake/selfalign\.lock: File exists; .*--directory"):
        hold_run_lock()


@pytest.mark.parametrize("options", [[], ["-n"]], ids=["run", "dry run"])
def test_a_read_only_folder_is_one_clear_error(tmp_path, options):
    folder = tmp_path / "run"
    (folder / ".snakemake").mkdir(parents=True)
    mount = f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec "$@"'
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "1", *options]
    found = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", mount, "-", *command, "-d", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert f"error: cannot write {folder}/.snakemake; a run needs a folder" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_run_before_this_one_is_told_only_if_it_was_elsewhere():
    assert hold_run_lock() == ""
    note_run()
    assert LOCK.read_text() == f"{os.getpid()} on {platform.node()}"
    run_lock._held.clear()
    assert hold_run_lock() == ""
    run_lock._held.clear()
    LOCK.write_text("4711 on login2")
    assert hold_run_lock() == "4711 on login2"
    run_lock._held.clear()
    assert hold_run_lock() == "4711 on login2"  # until this run is known to be the only one
    note_run()
    assert LOCK.read_text() == f"{os.getpid()} on {platform.node()}"


def test_run_lock_refuses_a_second_run_and_dies_with_its_holder(tmp_path):
    hold = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
    hold += "from selfalign.workflow.run_lock import hold_run_lock, note_run\n"
    hold += "hold_run_lock()\nnote_run()\nprint('held', flush=True)\n"
    first = subprocess.Popen([sys.executable, "-c", hold + "input()"], stdin=-1, stdout=-1, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        options = ["--cores", "1", "--directory", str(tmp_path)]
        assert "generate_responses" in snakemake("-n", *options, cwd=tmp_path)  # looking on says what is left
        refused = snakemake(*options, "results/models/base/model.json", cwd=tmp_path, code=1)
        said = f"error: another run (process {first.pid} on {platform.node()}) is working in {tmp_path};"
        assert any(line.startswith(said) for line in refused.splitlines())
        assert "Traceback" not in refused
        assert not Path("results/models").exists()
    finally:
        first.kill()
        first.wait()
    third = subprocess.run([sys.executable, "-c", hold], capture_output=True, text=True, check=False)
    assert third.stdout == "held\n"

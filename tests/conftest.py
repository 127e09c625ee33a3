"""Where the repository is, and one whole small run that several tests look at."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SMALL = ROOT / "tests/configs/small.yaml"


def workflow_command(folder: Path, *arguments: str, root: Path = ROOT, config: Path = SMALL) -> list[str]:
    """Return the command that runs the workflow of a checkout in a folder."""
    where = ["-s", str(root / "Snakefile"), "--directory", str(folder), "--configfile", str(config)]
    return [sys.executable, "-m", "snakemake", *where, "--cores", "2", *arguments]


def run_workflow(folder: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    """Run the workflow in a folder to its end."""
    command = workflow_command(folder, *arguments, **options)
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def run_and_kill(folder: Path, stop: Callable[[], bool]) -> bool:
    """Run the workflow in a folder; kill -9 its whole process group when stop() says so; return whether it did."""
    log = open(folder / "killed.log", "ab")  # noqa: SIM115
    command = workflow_command(folder)
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    while process.poll() is None:
        if stop():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 0, (folder / "killed.log").read_text()
    return False


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """Return the folder of one unbroken run of the small config."""
    folder = tmp_path_factory.mktemp("small")
    result = run_workflow(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "screen.txt").write_text(result.stdout + result.stderr)
    return folder


@pytest.fixture
def small_config() -> dict:
    """Return the small config as a dictionary to change."""
    return yaml.safe_load(SMALL.read_text())

"""Where the repository is, and one whole small run that several tests look at."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SMALL = "tests/configs/small.yaml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the file that takes longest first: else one worker has it left when the other has nothing to do."""
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")


def checkout(folder: Path) -> Path:
    """Copy what a run needs of this repository, without what earlier runs made; return the folder.

    Of the demo's benchmark every fifth task is there: all of them would take most of a small run's time.
    """
    folder.mkdir(exist_ok=True)
    for name in ("scripts", "rules", "envs", "profiles", "resources", "tests/configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Snakefile", folder)
    benchmark = folder / "resources/demo/benchmark.jsonl"
    benchmark.write_text("".join(benchmark.read_text().splitlines(keepends=True)[::5]))
    return folder


def workflow_command(*arguments: str, config: Path | str = SMALL) -> list[str]:
    """Return the command that runs the workflow in a checkout."""
    return [sys.executable, "-m", "snakemake", "--configfile", str(config), "--cores", "2", *arguments]


def run_workflow(folder: Path, *arguments: str, config: Path | str = SMALL) -> subprocess.CompletedProcess:
    """Run the workflow of a checkout to its end."""
    command = workflow_command(*arguments, config=config)
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def run_and_kill(folder: Path, stop: Callable[[], bool], *targets: str) -> bool:
    """Run the workflow in a folder, all of it or some targets; kill -9 its process group when stop() says so.

    Returns:
        Whether it was killed; it may have ended before.
    """
    log = open(folder / "killed.log", "ab")  # noqa: SIM115
    command = workflow_command(*targets)
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
    """Return a checkout with one unbroken run of the small config."""
    folder = checkout(tmp_path_factory.mktemp("small"))
    result = run_workflow(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "screen.txt").write_text(result.stdout + result.stderr)
    return folder


@pytest.fixture
def small_config() -> dict:
    """Return the small config as a dictionary to change."""
    return yaml.safe_load((ROOT / SMALL).read_text())

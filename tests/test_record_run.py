"""record_run, run as a command: the config comes through unchanged, the provenance tells what is known."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parent.parent / "scripts" / "record_run.py"
CONFIG = {"run": "tiny", "seed": 7, "models": {"z": {"pretrained": "a"}, "a": {"base": "z"}}, "note": "größer: yes"}
GIT = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def record(folder: Path, *options: str, config: object = CONFIG, path: str | None = None):
    """Run the command in a folder; return the finished process."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return subprocess.run(
        [
            *(sys.executable, SCRIPT, "--config", "config.json", "--output", "out/run_config.yaml"),
            *("--provenance", "out/provenance.json", *options),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        env=None if path is None else {"PATH": path},
        check=False,
    )


def provenance(folder: Path) -> dict:
    """Return what the command recorded."""
    return json.loads((folder / "out" / "provenance.json").read_text(encoding="utf-8"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a git repository with one committed file."""
    root = tmp_path / "repository"
    root.mkdir()
    (root / "code.py").write_text("a = 1\n", encoding="utf-8")
    for arguments in (("init", "-q"), ("add", "code.py"), (*GIT, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", root, *arguments], check=True)
    return root


def test_config_and_facts(tmp_path: Path):
    (tmp_path / "core.lock").write_bytes(b"torch==2.13.0\n")
    done = record(tmp_path, "--root", ".", "--locks", "core.lock")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "out" / "run_config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == CONFIG
    assert list(yaml.safe_load(text)["models"]) == ["z", "a"], "the order given is the order shown"
    found = provenance(tmp_path)
    assert set(found) == {
        *(
            "run",
            "seed",
            "git",
            "python",
            "implementation",
            "platform",
            "cpu",
            "cores",
            "memory_gib",
            "packages",
            "locks",
        )
    }
    assert (found["run"], found["seed"]) == ("tiny", 7)
    assert found["python"] == sys.version.split()[0]
    assert found["packages"]["PyYAML"] == yaml.__version__
    assert found["cores"] >= 1
    assert found["locks"] == {"core.lock": hashlib.sha256(b"torch==2.13.0\n").hexdigest()}


def test_two_recordings_are_identical(tmp_path: Path):
    def files() -> list[bytes]:
        record(tmp_path, "--root", ".")
        return [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]

    assert files() == files()


def test_state_of_the_repository(tmp_path: Path, repository: Path):
    commit = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)

    def state() -> dict:
        assert record(tmp_path, "--root", str(repository)).returncode == 0
        return provenance(tmp_path)["git"]

    clean = {"commit": commit.stdout.strip(), "dirty": False, "diff_digest": None, "untracked_files": 0}
    assert state() == clean
    (repository / "new.py").write_text("", encoding="utf-8")
    assert state() == clean | {"dirty": True, "untracked_files": 1}
    (repository / "code.py").write_text("a = 2\n", encoding="utf-8")
    first = state()["diff_digest"]
    assert len(first) == 64
    (repository / "code.py").write_text("a = 3\n", encoding="utf-8")
    assert state()["diff_digest"] != first
    (repository / "code.py").write_text("a = 2\n", encoding="utf-8")
    assert state()["diff_digest"] == first, "the same edit has the same digest"


def test_no_repository_and_no_git_are_null(tmp_path: Path, repository: Path):
    assert record(tmp_path, "--root", ".").returncode == 0
    assert provenance(tmp_path)["git"] is None
    (tmp_path / "out" / "provenance.json").unlink()
    assert record(tmp_path, "--root", str(repository), path="/nowhere").returncode == 0
    assert provenance(tmp_path)["git"] is None


def test_a_repository_without_a_commit_is_null(tmp_path: Path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert record(tmp_path, "--root", ".").returncode == 0
    assert provenance(tmp_path)["git"] is None


@pytest.mark.parametrize(
    ("config", "options", "told"),
    [
        ({"run": "tiny"}, (), "config.json: not a merged config"),
        ([1], (), "config.json: not a merged config"),
        (CONFIG, ("--locks", "core.lock"), "core.lock; name existing files after --locks"),
    ],
)
def test_bad_input_is_one_error(tmp_path: Path, config: object, options: tuple[str, ...], told: str):
    done = record(tmp_path, "--root", ".", *options, config=config)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

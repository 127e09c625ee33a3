"""record_run, run as a command: the config comes through unchanged, provenance and patch tell what is known."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from selfalign.reporting.provenance import git_state

SCRIPT = Path(__file__).parent.parent / "scripts" / "record_run.py"
CONFIG = {"run": "tiny", "seed": 7, "models": {"z": {"pretrained": "a"}, "a": {"base": "z"}}, "note": "größer: yes"}
CONFIG |= {"corpora": {}, "generations": {}, "benchmarks": {}}
GIT = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def record(folder: Path, *options: str, config: object = CONFIG, path: str | None = None):
    """Run the command in a folder; return the finished process."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return subprocess.run(
        [
            *(sys.executable, SCRIPT, "--config", "config.json", "--output", "out/run_config.yaml"),
            *("--provenance", "out/provenance.json", "--changes", "out/changes.patch", *options),
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
            "prompts",
        )
    }
    assert (found["run"], found["seed"]) == ("tiny", 7)
    assert found["python"] == sys.version.split()[0]
    assert found["packages"]["PyYAML"] == yaml.__version__
    assert found["cores"] >= 1
    assert found["locks"] == {"core.lock": hashlib.sha256(b"torch==2.13.0\n").hexdigest()}


def test_prompts_of_every_kind_are_known_by_digest(tmp_path: Path):
    root = tmp_path / "repository/resources/prompts"
    root.mkdir(parents=True)
    texts = {"own.yaml": "own", "few.yaml": "few", "resources/prompts/seed_judge.yaml": "judge"}
    (tmp_path / "own.yaml").write_text("own")
    (tmp_path / "few.yaml").write_text("few")
    (root / "seed_judge.yaml").write_text("judge")
    config = CONFIG | {
        "corpora": {"code": {"filters": [{"name": "size"}, {"name": "docstring_judge", "model": "a"}]}},
        "generations": {"self": {"prompts": "own.yaml"}, "again": {"prompts": "own.yaml"}},
        "benchmarks": {"chat": {"prompts": None}, "shots": {"prompts": "few.yaml"}},
    }
    assert record(tmp_path, "--root", "repository", config=config).returncode == 0
    assert provenance(tmp_path)["prompts"] == {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()
    }


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

    def patch() -> bytes:
        return (tmp_path / "out" / "changes.patch").read_bytes()

    clean = {"commit": commit.stdout.strip(), "dirty": False, "diff_digest": None, "untracked": []}
    assert (state(), patch()) == (clean, b"")
    (repository / "new.py").write_text("b = 1\n", encoding="utf-8")
    new = {"path": "new.py", "size": 6, "sha256": hashlib.sha256(b"b = 1\n").hexdigest()}
    assert (state(), patch()) == (clean | {"dirty": True, "untracked": [new]}, b"")
    (repository / "code.py").write_text("a = 2\n", encoding="utf-8")
    first = state()["diff_digest"]
    assert first == hashlib.sha256(patch()).hexdigest()
    (repository / "code.py").write_text("a = 3\n", encoding="utf-8")
    assert state()["diff_digest"] != first
    (repository / "code.py").write_text("a = 2\n", encoding="utf-8")
    assert state()["diff_digest"] == first, "the same edit has the same digest"


def test_the_patch_makes_the_tree_again(tmp_path: Path, repository: Path):
    """Bytes that are no text, a file that is gone, a new one that is staged: in a clone all are as they were."""
    for name, content in (
        ("data.bin", bytes(range(256))),
        ("gone.py", b"c = 1\n"),
        ("latin.txt", "größer\n".encode("latin1")),
    ):
        (repository / name).write_bytes(content)
    subprocess.run(["git", "-C", repository, "add", "."], check=True)
    subprocess.run(["git", "-C", repository, *GIT, "commit", "-qm", "second"], check=True)
    subprocess.run(["git", "clone", "-q", repository, tmp_path / "clone"], check=True)
    (repository / "data.bin").write_bytes(bytes(reversed(range(256))))
    (repository / "gone.py").unlink()
    (repository / "latin.txt").write_bytes("größer, kleiner\n".encode("latin1"))
    (repository / "code.py").write_text("a = 2\n", encoding="utf-8")
    (repository / "staged.py").write_text("d = 1\n", encoding="utf-8")
    subprocess.run(["git", "-C", repository, "add", "staged.py"], check=True)
    subprocess.run(["git", "-C", repository, "config", "color.ui", "always"], check=True)
    assert record(tmp_path, "--root", str(repository)).returncode == 0
    subprocess.run(["git", "-C", tmp_path / "clone", "apply", tmp_path / "out/changes.patch"], check=True)

    def tree(root: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}

    assert tree(tmp_path / "clone") == tree(repository)


def test_untracked_files_of_all_kinds(tmp_path: Path, repository: Path, monkeypatch):
    monkeypatch.setattr("selfalign.reporting.provenance.HASHED", 3)
    (repository / "large").write_text("four", encoding="utf-8")
    (repository / "link").symlink_to("nowhere")
    (repository / os.fsdecode(b"\xff")).write_text("odd", encoding="utf-8")
    state, _ = git_state(repository)
    odd = {"path": "\\xff", "size": 3, "sha256": hashlib.sha256(b"odd").hexdigest()}
    nothing = {"size": None, "sha256": None}
    assert state["untracked"] == [
        {"path": "large", "size": 4, "sha256": None},
        {"path": "link", **nothing},
        odd,
    ]
    json.dumps(state).encode()


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
        ({"run": "tiny", "seed": 1}, (), "config.json: not a merged config"),
        ([1], (), "config.json: not a merged config"),
        (
            CONFIG | {"generations": {"self": {"prompts": "own.yaml"}}},
            (),
            "prompt file not found: own.yaml; put it back",
        ),
        (CONFIG, ("--locks", "core.lock"), "core.lock; name existing files after --locks"),
    ],
)
def test_bad_input_is_one_error(tmp_path: Path, config: object, options: tuple[str, ...], told: str):
    done = record(tmp_path, "--root", ".", *options, config=config)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

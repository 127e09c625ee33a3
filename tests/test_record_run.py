"""record_run, run as a command: the config comes through unchanged, provenance and patch tell what is known."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from selfalign.reporting.repository import describe_code, git_state

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
    assert (done.returncode, done.stdout) == (0, "")
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
    new = {"path": "new.py", "size": 6, "sha256": hashlib.sha256(b"b = 1\n").hexdigest(), "in_patch": True}
    index = (repository / ".git/index").read_bytes()
    found = state()
    assert found == clean | {"dirty": True, "untracked": [new], "diff_digest": hashlib.sha256(patch()).hexdigest()}
    assert b"+b = 1" in patch()
    assert (repository / ".git/index").read_bytes() == index, "the user's index is as it was"
    (repository / "code.py").write_text("a = 2\n", encoding="utf-8")
    first = state()["diff_digest"]
    assert first == hashlib.sha256(patch()).hexdigest()
    (repository / "code.py").write_text("a = 3\n", encoding="utf-8")
    assert state()["diff_digest"] != first
    (repository / "code.py").write_text("a = 2\n", encoding="utf-8")
    assert state()["diff_digest"] == first, "the same edit has the same digest"


SETTINGS = [
    [],
    [("color.ui", "always"), ("color.diff", "always")],
    [("diff.noprefix", "true")],
    [("diff.mnemonicPrefix", "true")],
    [("diff.context", "0")],
    [("diff.orderFile", "nowhere")],
    [("diff.external", "false")],
    [("diff.shout.textconv", "tr a-z A-Z <")],
    [("diff.shout.command", "false")],
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_patch_makes_the_tree_again(tmp_path: Path, repository: Path, setting):
    """Bytes that are no text, a file that is gone, new ones, staged or not: in a clone all are as they were."""
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
    for name, content in (("new.bin", bytes(range(256))), (":(top)new [1].py", b"e = 1\n"), ("empty", b"")):
        (repository / name).write_bytes(content)
    (repository / "link").symlink_to("code.py")
    (repository / ".gitattributes").write_text("*.py diff=shout\n", encoding="utf-8")
    for name, value in setting:
        subprocess.run(["git", "-C", repository, "config", name, value], check=True)
    assert record(tmp_path, "--root", str(repository)).returncode == 0
    subprocess.run(["git", "-C", tmp_path / "clone", "apply", tmp_path / "out/changes.patch"], check=True)

    def tree(root: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}

    assert tree(tmp_path / "clone") == tree(repository)


def test_an_edit_in_the_second_of_the_commit_is_seen(repository: Path):
    """Git looks at seconds and sizes; a file as old as its index it reads."""
    times = (1_000_000_000, 1_000_000_000)
    os.utime(repository / "code.py", times)
    subprocess.run(["git", "-C", repository, "update-index", "--refresh"], check=False, capture_output=True)
    os.utime(repository / ".git/index", times)
    (repository / "new.py").write_text("b = 1\n", encoding="utf-8")
    (repository / "code.py").write_text("a = 2\n", encoding="utf-8")
    os.utime(repository / "code.py", times)
    assert b"+a = 2" in git_state(repository)[1]


def test_untracked_files_of_all_kinds(tmp_path: Path, repository: Path, monkeypatch):
    monkeypatch.setattr("selfalign.reporting.repository.HASHED", 3)
    monkeypatch.setattr("selfalign.reporting.repository.PATCHED", 3 + len("nowhere"))
    (repository / "large").write_text("four", encoding="utf-8")
    (repository / "link").symlink_to("nowhere")
    (repository / os.fsdecode(b"\xff")).write_text("odd", encoding="utf-8")
    (repository / "large").write_text("four, and more", encoding="utf-8")
    state, diff = git_state(repository)
    assert state["untracked"] == [
        {"path": "large", "size": 14, "sha256": None, "in_patch": False},
        {"path": "link", "size": None, "sha256": None, "in_patch": True},
        {"path": "\\xff", "size": 3, "sha256": hashlib.sha256(b"odd").hexdigest(), "in_patch": True},
    ]
    assert (b"+nowhere" in diff, b"+odd" in diff, b"+four" in diff) == (True, True, False)
    json.dumps(state).encode()
    assert describe_code({"git": state}) == [
        f"Code: commit {state['commit']} with local changes, in changes.patch; new files there: link, \\xff",
        "  untracked files that are not kept, only named: large",
    ]
    assert "no commit is recorded" in describe_code({"git": None})[0]


NO_STATE = [
    # what is wrong, PATH of the command, what is told
    (lambda root: shutil.rmtree(root / ".git"), None, "not a git repository"),
    (lambda root: None, "/nowhere", "git is not installed"),
    (lambda root: shutil.rmtree(root / ".git/refs"), None, "failed: fatal: "),
    (lambda root: (root / ".git/HEAD").write_text("ref: refs/heads/none\n"), None, "HEAD"),
]


@pytest.mark.parametrize(("spoil", "path", "told"), NO_STATE)
def test_without_a_commit_it_is_null_and_git_says_why(tmp_path: Path, repository: Path, spoil, path, told):
    spoil(repository)
    done = record(tmp_path, "--root", str(repository), path=path)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: git rev-parse in ")
    assert told in done.stderr
    assert provenance(tmp_path)["git"] is None
    assert (tmp_path / "out/changes.patch").read_bytes() == b""


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

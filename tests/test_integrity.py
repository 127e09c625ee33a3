"""A file that is not what was written is found before it is used, and made anew."""

import os
import shutil
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from selfalign.records import digests
from selfalign.records.commands import run_command
from selfalign.records.files import read_json, read_jsonl, read_table, write_json, write_jsonl, write_table, write_text
from selfalign.workflow.integrity import date_now, refuse_changed_artifacts

ROWS = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]
KINDS = {
    "rows.jsonl": (lambda path: write_jsonl(path, ROWS), lambda path: list(read_jsonl(path)), ROWS),
    "stats.json": (lambda path: write_json(path, {"a": "b"}), read_json, {"a": "b"}),
    "table.parquet": (
        lambda path: write_table(path, ROWS, {"id": "int64", "text": "string"}),
        read_table,
        ROWS,
    ),
}


def damage(path: Path, *, unseen: bool = False) -> None:
    """Change one bit of a file's middle; unseen, it keeps its time."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if unseen:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("results")


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_artifact_is_not_read(results, name):
    write, read, expected = KINDS[name]
    path = results / "folder" / name
    write(path)
    assert read(path) == expected
    damage(path, unseen=True)
    with pytest.raises(ValueError, match=f"{name}: damaged or edited after it had been written"):
        read(path)
    assert path.exists()  # who reads it decides
    write(path)
    assert read(path) == expected


def test_files_of_the_user_and_an_edit_that_is_meant_are_read(results, tmp_path):
    outside = tmp_path / "rows.jsonl"
    write_jsonl(outside, ROWS)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
    outside.write_text('{"id": 3}\n')
    assert list(read_jsonl(outside)) == [{"id": 3}]
    path = results / "rows.jsonl"
    write_jsonl(path, ROWS)
    path.write_text('{"id": 4}\n')
    with pytest.raises(ValueError, match="rename it back first to go on with it as it is"):
        refuse_changed_artifacts()
    path.with_name("rows.jsonl.changed").rename(path)
    refuse_changed_artifacts()
    assert list(read_jsonl(path)) == [{"id": 4}]


CHANGES = {
    "nothing": (lambda path: None, False),
    "touched": (lambda path: os.utime(path, (1, 1)), False),
    "copied": (lambda path: (shutil.copy(path, f"{path}.2"), os.replace(f"{path}.2", path)), False),
    "one bit": (damage, True),
    "cut": (lambda path: os.truncate(path, 5), True),
    "emptied": (lambda path: path.write_text(""), True),
    "removed": (lambda path: path.unlink(), False),
}


@pytest.mark.parametrize(("change", "found"), CHANGES.values(), ids=CHANGES)
def test_what_changed_is_set_aside_and_kept(results, change, found):
    path = results / "deep/folder/rows.jsonl"
    write_jsonl(path, ROWS)
    write_jsonl(path.with_name("other.jsonl"), ROWS)
    write_text(path.with_name("README.md"), "a card")
    path.with_name("README.md").write_text("a card that somebody edited")
    change(path)
    now = path.read_bytes() if path.exists() else None
    with pytest.raises(ValueError, match=f"^{path}: damaged or edited") if found else nullcontext():
        refuse_changed_artifacts()
    kept = path.with_name("rows.jsonl.changed")
    assert kept.exists() == found
    if found:
        assert kept.read_bytes() == now
        assert not path.exists()
        assert digests.not_made_anew() == [path]
        write_jsonl(path, ROWS)
    assert path.with_name("other.jsonl").exists()
    assert digests.not_made_anew() == []
    refuse_changed_artifacts()


def test_a_torn_digest_is_one_clear_error(results):
    path = results / "rows.jsonl"
    write_jsonl(path, ROWS)
    digests.note_path(path).write_text('{"sha')
    with pytest.raises(ValueError, match=r"\.sha256/rows\.jsonl: not the digest of a file .* delete it, and check"):
        next(read_jsonl(path))


def test_a_damaged_checkpoint_is_no_checkpoint(results, tmp_path):
    weights, model = results / "models/a/model.safetensors", results / "models/a/model.json"
    temporary = tmp_path / "weights"
    temporary.write_bytes(b"weights")
    model.parent.mkdir(parents=True)
    digests.move(temporary, weights)
    config = weights.with_name("config.json")
    write_json(config, {})
    write_json(model, {})
    refuse_changed_artifacts()
    damage(weights)
    damage(config)
    damage(model)
    with pytest.raises(
        ValueError, match=r"config\.json, results/models/a/model\.json, results/models/a/model\.safetensors: damaged"
    ):
        refuse_changed_artifacts()
    assert not model.exists()


@pytest.mark.parametrize("makes", [True, False])
def test_a_command_of_the_workflow_sets_a_changed_artifact_aside_and_others_leave_it(results, capsys, makes):
    path = results / "rows.jsonl"
    write_jsonl(path, ROWS)
    damage(path, unseen=True)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: list(read_jsonl(path)), makes=makes)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: damaged or edited after it had been written")
    assert ("Run the same command again to make it anew" in said) == makes
    assert path.exists() != makes
    assert path.with_name("rows.jsonl.changed").exists() == makes


def test_files_of_the_future_get_the_present_time_and_others_keep_theirs(tmp_path, capsys):
    paths = {name: tmp_path / name for name in ("past", "soon", "tomorrow", "missing", "folder")}
    paths["folder"].mkdir()
    now = time.time()
    for name, ahead in {"past": -1000, "soon": 500, "tomorrow": 86400}.items():
        paths[name].write_text(name)
        os.utime(paths[name], (now + ahead, now + ahead))
    date_now(map(str, paths.values()))
    times = {name: paths[name].stat().st_mtime for name in ("past", "soon", "tomorrow")}
    assert times["past"] == pytest.approx(now - 1000)
    assert now <= times["soon"] == times["tomorrow"] <= time.time()
    assert "2 files were dated in the future" in capsys.readouterr().err
    date_now(map(str, paths.values()))
    assert not capsys.readouterr().err

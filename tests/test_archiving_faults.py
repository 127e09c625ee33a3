"""Only a whole and harmless archive is unpacked: what is damaged, missing, more or hostile in it is named."""

import errno
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from archive_files import PAIRS, VERDICTS, Members, complete, members, pack, write_members
from commands import run

from selfalign.archiving.reading import is_safe, read_archive, unpack
from selfalign.records.files import digest


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Return the archive of a run; tests do not change it."""
    folder = tmp_path_factory.mktemp("archive")
    pack(complete(folder / "run"), folder / "tiny.tar.zst")
    return folder / "tiny.tar.zst"


def edit_content(name: str, old: bytes, new: bytes) -> Callable[[Members], Members]:
    def edit(found: Members) -> Members:
        assert any(old in content for member, content in found if member.name == name)
        return [(one, content.replace(old, new, 1) if one.name == name else content) for one, content in found]

    return edit


def add(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Callable[[Members], Members]:
    def edit(found: Members) -> Members:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        return [(member, b"extra"), *found]

    return edit


def without(name: str) -> Callable[[Members], Members]:
    return lambda found: [pair for pair in found if pair[0].name != name]


FAULTS = [
    ("one character", edit_content(PAIRS, b"mean", b"maen"), [f"damaged: {PAIRS} ("]),
    ("a row less", edit_content(PAIRS, b"\n", b""), [f"damaged: {PAIRS} ("]),
    ("a missing file", without(VERDICTS), [f"missing: {VERDICTS}"]),
    ("an extra file", add("results/more.txt"), ["extra: results/more.txt"]),
    ("a file twice", lambda found: [found[0], *found], ["extra: envs/core.lock (twice)"]),
    ("a path that leads up", add("results/../../evil"), ["extra: results/../../evil (an unsafe name)"]),
    ("an absolute path", add("/tmp/evil"), ["extra: /tmp/evil (an unsafe name)"]),
    ("a symbolic link", add("results/x", tarfile.SYMTYPE, "/etc"), ["extra: results/x (no plain file)"]),
    ("a hard link", add("results/x", tarfile.LNKTYPE, "../x"), ["extra: results/x (no plain file)"]),
    ("a device", add("results/x", tarfile.CHRTYPE), ["extra: results/x (no plain file)"]),
    ("two faults", lambda found: without(VERDICTS)(edit_content(PAIRS, b"mean", b"maen")(found)),
     [f"damaged: {PAIRS} (", f"missing: {VERDICTS}"]),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "told"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_fault_is_named_and_nothing_is_unpacked(archive: Path, tmp_path: Path, edit, told: list[str]) -> None:
    bad = write_members(tmp_path / "bad.tar.zst", edit(members(archive)))
    faults = read_archive(bad).faults
    assert len(faults) == len(told)
    assert all(fault.startswith(start) for fault, start in zip(faults, told, strict=True)), faults
    with pytest.raises(ValueError, match="not unpacked") as caught:
        unpack(bad, tmp_path / "unpacked")
    assert all(start in str(caught.value) for start in told)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.zst"]
    done = run("verify_archive", bad)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[:-1] == faults


def test_a_link_is_no_way_out(archive: Path, tmp_path: Path) -> None:
    """A link to a folder outside, then a file through it: neither is made."""
    outside = tmp_path / "outside"
    outside.mkdir()
    through = add("results/way/evil")(members(archive))
    bad = write_members(tmp_path / "bad.tar.zst", add("results/way", tarfile.SYMTYPE, str(outside))(through))
    with pytest.raises(ValueError, match="not unpacked"):
        unpack(bad, tmp_path / "unpacked")
    assert list(outside.iterdir()) == []


def test_a_name_cannot_steer_the_terminal(archive: Path, tmp_path: Path) -> None:
    bad = write_members(tmp_path / "bad.tar.zst", add("results/\x9b2J\n\x1b[2J")(members(archive)))
    told = run("verify_archive", bad).stdout
    assert told.startswith("extra: results/\\x9b2J\\n\\x1b[2J\n")
    told = run("verify_archive", bad, "--unpack", tmp_path / "new").stderr
    assert told.endswith("\n  extra: results/\\x9b2J\\n\\x1b[2J\n")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
def test_a_file_that_is_a_folder_too(archive: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    """Even where the manifest names both."""
    *found, (last, text) = add(names[0])(add(names[1])(members(archive)))
    manifest = json.loads(text)
    del manifest["digest"]
    facts = {"size": 5, "sha256": hashlib.sha256(b"extra").hexdigest(), "kind": "log", "included": True}
    manifest["files"] += [{"path": name} | facts for name in names]
    manifest["digest"] = digest(manifest)
    bad = write_members(tmp_path / "bad.tar.zst", [*found, (last, json.dumps(manifest).encode())])
    assert read_archive(bad).faults == []
    with pytest.raises(ValueError, match="is both a file and a folder in it"):
        unpack(bad, tmp_path / "unpacked")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.zst"]


def test_a_full_disk_is_not_told_as_damage(archive: Path, tmp_path: Path, monkeypatch) -> None:
    def full(reader, file, block):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("selfalign.archiving.reading.shutil.copyfileobj", full)
    done = run("verify_archive", archive, "--unpack", tmp_path / "unpacked")
    assert (done.returncode, "No space left on device" in done.stderr) == (1, True)
    assert "damaged" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def cut(keep: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * keep)]


UNREADABLE = [
    ("cut in half", cut(0.5), "it is cut or damaged (Truncated compressed stream)"),
    ("its last bytes cut", lambda content: content[:-3], "it is cut or damaged"),
    ("empty", cut(0), "it is cut or damaged (empty file)"),
    ("no archive", lambda content: b"PK\x03\x04" + content, "it is cut or damaged"),
    ("more behind it", lambda content: content + b"more", "it is cut or damaged"),
]


@pytest.mark.parametrize(("change", "told"), [one[1:] for one in UNREADABLE], ids=[one[0] for one in UNREADABLE])
def test_what_cannot_be_read_is_one_clear_error(archive: Path, tmp_path: Path, change, told: str) -> None:
    bad = tmp_path / "bad.tar.zst"
    bad.write_bytes(change(archive.read_bytes()))
    for options in ((), ("--unpack", tmp_path / "unpacked")):
        done = run("verify_archive", bad, *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {bad}: cannot be read as an archive of a run, ")
        assert told in done.stderr
        assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.zst"]


def test_every_byte_counts(archive: Path, tmp_path: Path) -> None:
    """Change single bytes all over the file: either it cannot be read, or a fault is named."""
    content = archive.read_bytes()
    bad = tmp_path / "bad.tar.zst"
    unseen = []
    for place in range(5, len(content), len(content) // 40):
        bad.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            if not read_archive(bad).faults:
                unseen.append(place)
        except ValueError:
            continue
    # What no digest covers are owner, mode and time of a member.
    assert len(unseen) <= 2, unseen


MANIFESTS = [
    (lambda manifest: manifest.pop("digest"), "its MANIFEST.json is damaged"),
    (lambda manifest: manifest.update(seed=1), "it has not the digest that it names"),
    (lambda manifest: manifest["files"][0].update(kind="log"), "it has not the digest that it names"),
    (lambda manifest: manifest.update(format=99), "of a newer version of selfalign"),
]


@pytest.mark.parametrize(("change", "told"), MANIFESTS)
def test_a_wrong_manifest(archive: Path, tmp_path: Path, change, told: str) -> None:
    found = members(archive)
    manifest = json.loads(found[-1][1])
    change(manifest)
    bad = write_members(tmp_path / "bad.tar.zst", [*found[:-1], (found[-1][0], json.dumps(manifest).encode())])
    with pytest.raises(ValueError, match=told):
        read_archive(bad)


def first_file(**changes) -> Callable[[dict], dict]:
    return lambda manifest: manifest | {"files": [manifest["files"][0] | changes, *manifest["files"][1:]]}


ODD = [
    (lambda manifest: [], "is damaged (TypeError('no JSON object'))"),
    (lambda manifest: "text", "is damaged (TypeError('no JSON object'))"),
    (lambda manifest: manifest | {"format": "1"}, "is damaged (TypeError("),
    (lambda manifest: manifest | {"files": {}}, "is none of ours (files is no list)"),
    (lambda manifest: manifest | {"files": [1]}, "is none of ours (files.0 has not all of path, size, "),
    (lambda manifest: {key: manifest[key] for key in manifest if key != "inputs"}, "none of ours (inputs is no dict)"),
    (lambda manifest: manifest | {"models": None}, "is none of ours (models is no dict)"),
    (first_file(size="1"), "is none of ours (files.0 has not all of path, size, "),
    (first_file(path="results/../../x"), "is none of ours (files.0 has an unsafe path, "),
    (first_file(kind="other"), "is none of ours (files.0 has an unsafe path, an unknown kind"),
    (first_file(without="ab"), "is none of ours (files.0.without is no list of names)"),
    (first_file(without=["cpu_s"]), "is none of ours (files.0 has only one of without and content_sha256)"),
    (lambda manifest: manifest | {"inputs": {"own.yaml": "/etc/passwd"}}, "none of ours (inputs names files that are"),
    (lambda manifest: manifest | {"inputs": {"own.yaml": ["x"]}}, "none of ours (inputs names files that are not in"),
]


@pytest.mark.parametrize(("change", "told"), ODD)
def test_an_odd_manifest_is_one_clear_error(archive: Path, tmp_path: Path, change, told: str) -> None:
    found = members(archive)
    manifest = json.loads(found[-1][1])
    del manifest["digest"]
    manifest = change(manifest)
    manifest = manifest | {"digest": digest(manifest)} if isinstance(manifest, dict) else manifest
    bad = write_members(tmp_path / "bad.tar.zst", [*found[:-1], (found[-1][0], json.dumps(manifest).encode())])
    done = run("verify_archive", bad)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert told in done.stderr


def test_what_has_no_room_is_not_unpacked(archive: Path, tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("selfalign.archiving.reading.shutil.disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(ValueError, match=r"not unpacked, it needs 0\.\d MB, and 0\.0 MB are free in "):
        unpack(archive, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    unpack(archive, tmp_path / "new", lambda name: name == "results/run_config.yaml")


def test_a_manifest_that_is_too_large_is_not_read(archive: Path, monkeypatch) -> None:
    monkeypatch.setattr("selfalign.archiving.reading.LARGEST", 1000)
    with pytest.raises(ValueError, match=r"its MANIFEST\.json is larger than any of ours"):
        read_archive(archive)


@pytest.mark.parametrize("gap", [0, 3 << 20])
def test_what_hides_behind_the_last_file(archive: Path, tmp_path: Path, gap: int) -> None:
    """Where tar stops to read, near and far: in its buffer, and beyond."""
    with pyarrow.CompressedInputStream(str(archive), "zstd") as stream:
        content = stream.read()
    for name, more in (("good", b""), ("bad", b"hidden")):
        with pyarrow.CompressedOutputStream(str(tmp_path / name), "zstd") as stream:
            stream.write(content + bytes(gap) + more)
    assert read_archive(tmp_path / "good").faults == []
    with pytest.raises(ValueError, match="there is more behind its last file"):
        read_archive(tmp_path / "bad")


def test_an_archive_without_its_end(archive: Path, tmp_path: Path) -> None:
    bad = write_members(tmp_path / "bad.tar.zst", members(archive)[:-1])
    with pytest.raises(ValueError, match=r"no MANIFEST\.json in it"):
        read_archive(bad)


NAMES = [("a/b", True), ("a", True), ("..", False), ("a/../b", False), ("/a", False), ("", False), ("a..b", True)]


@pytest.mark.parametrize(("name", "safe"), NAMES)
def test_safe_names(name: str, safe: bool) -> None:
    assert is_safe(name) == safe

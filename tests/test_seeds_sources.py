"""Sources: which files each kind lists, what they carry, how they are dealt into parts, and what is refused."""

import bz2
import gzip
import io
import json
import lzma
import os
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterable
from email.message import Message
from itertools import chain
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from selfalign.records.files import read_table
from selfalign.seeds import archives, shards
from selfalign.seeds.extraction import Extraction, extract_functions
from selfalign.seeds.sources import SourceFile, list_packages, load_source, stated_licence

SCRIPTS = Path(__file__).parents[1] / "scripts"
CODE = "def {name}(x):\n    'Doc.'\n    return x\n"


def run(source: dict, *arguments: object) -> subprocess.CompletedProcess:
    script = SCRIPTS / "extract_functions.py"
    command = [sys.executable, str(script), "--source", json.dumps(source), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(source: dict, part: int = 0, parts: int = 1) -> list[SourceFile]:
    opened = load_source(json.dumps(source)).open()
    return [file for unit in opened.part(part, parts) for file in opened.read(unit)]


def function_ids(files: Iterable[SourceFile]) -> list[str]:
    return [row.id for row in extract_functions(files, Extraction())]


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def write_tar(path: Path, members: dict[str, bytes], opener=open) -> None:
    with opener(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_the_standard_library_is_listed_with_what_is_left_out():
    files = list_packages(["stdlib", "stdlib"])
    assert files == sorted(files, key=lambda file: file.path)
    kept = {file.path: file for file in files if not file.left_out}
    assert len(kept) > 400
    assert kept["json/encoder.py"].licence == "PSF-2.0"
    assert kept["json/encoder.py"].file.is_file()
    assert not any("test" in path.split("/")[:-1] for path in kept)
    reasons = {file.left_out for file in files if file.left_out}
    assert "left out: tests" in reasons
    library = Path(sysconfig.get_path("stdlib"))
    for name in ("idlelib", "turtledemo"):  # distributions may ship Python without them
        assert (f"left out: {name}" in reasons) == (library / name).is_dir()
    assert not any(path.startswith(("site-packages", "idlelib", "lib2to3")) for path in kept)


def test_a_distribution_carries_version_and_licence():
    files = list_packages(["datasketch"])
    source = next(file for file in files if file.path == "datasketch/minhash.py")
    assert (source.package, source.licence) == ("datasketch", "MIT License")
    assert source.version
    assert b"def _fmix(" in source.read()


def test_parts_are_disjoint_and_together_the_whole(tmp_path):
    folder = tmp_path / "corpus"
    for number in range(5):
        file = folder / f"sub{number % 2}" / f"m{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"def f{number}(x):\n    'Doc.'\n    return x\n\n\ndef plain():\n    pass\n")
    rows = {}
    for parts in (1, 2):
        for part in range(parts):
            output, stats = tmp_path / f"{part}-{parts}.parquet", tmp_path / f"{part}-{parts}.json"
            options = ["--part", part, "--parts", parts, "--output", output, "--stats", stats]
            result = run({"kind": "folder", "path": str(folder), "licence": "MIT"}, *options)
            assert result.returncode == 0, result.stderr
            rows[part, parts] = read_table(output)
    assert sorted(row["name"] for row in rows[0, 2]) == ["f0", "f3", "f4"]  # sub0/m0, sub0/m4, sub1/m3
    assert sorted(row["name"] for row in rows[1, 2]) == ["f1", "f2"]
    assert sorted(rows[0, 2] + rows[1, 2], key=lambda row: row["id"]) == sorted(rows[0, 1], key=lambda row: row["id"])
    assert rows[0, 1][0]["package"] == "corpus"
    assert rows[0, 1][0]["version"] == ""
    stats = json.loads((tmp_path / "0-2.json").read_text())
    assert stats["rows"] == 3
    assert stats["files"] == {"read": 3}
    assert stats["stages"] == [{"stage": "extract", "input": 6, "kept": 3, "dropped": {"no docstring": 3}}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "folder", "path": "missing"}, "corpus folder missing: no such folder"),
        ({"kind": "folder", "path": "."}, "corpus folder .: no .py file in it"),
        ({"kind": "folder", "paths": ["."]}, "--source, kind folder: unknown setting 'paths'; did you mean path?"),
        ({"kind": "python-packages", "packages": ["no-such-package"]}, "package no-such-package: not installed"),
        ({"kind": "archives", "paths": ["missing.zip"]}, "corpus archives missing.zip: no such file or folder"),
        ({"kind": "archives", "paths": ["."]}, "corpus archives .: no archive in this folder"),
        ({"kind": "shards", "paths": ["*.parquet"]}, "corpus shards *.parquet: no file of rows there"),
        ({"kind": "shards", "paths": ["."]}, "corpus shards .: no file of rows there"),
        (
            {"kind": "hub", "dataset": ".", "revision": "main"},
            "hub dataset ., revision main, folder /: no file of rows",
        ),
        ({"kind": "hub", "dataset": "."}, "--source, kind hub: "),
        ({"kind": "git"}, "--source: needs a JSON object with a kind, one of python-packages, folder, archives"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    result = run(options, "--output", "o.parquet", "--stats", "s.json")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}")
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_that_is_not_utf8_is_no_obstacle(tmp_path):
    (tmp_path / "corpus").mkdir()
    with open(os.fsencode(tmp_path / "corpus") + b"/caf\xe9.py", "w") as file:
        file.write(CODE.format(name="f"))
    result = run(
        {"kind": "folder", "path": str(tmp_path / "corpus")}, "--output", tmp_path / "o", "--stats", tmp_path / "s"
    )
    assert result.returncode == 0, result.stderr
    assert [row["path"] for row in read_table(tmp_path / "o")] == ["caf\N{REPLACEMENT CHARACTER}.py"]


LICENCES = [
    ({"License-Expression": "MIT OR Apache-2.0", "License": "other"}, "MIT OR Apache-2.0"),
    ({"Classifier": "License :: OSI Approved :: BSD License", "License": "other"}, "BSD License"),
    ({"License": "Zlib"}, "Zlib"),
    ({"License": "Licence publique g\udcc3\udca9n\udcc3\udca9rale"}, "Licence publique g\N{REPLACEMENT CHARACTER}"),
    ({"License": "All of the text\n of a licence"}, "unknown"),
    ({}, "unknown"),
]


@pytest.mark.parametrize(("fields", "licence"), LICENCES)
def test_the_licence_that_metadata_state(fields, licence):
    message = Message()
    for name, value in fields.items():
        message[name] = value
    assert stated_licence(message).startswith(licence)


WHEEL = {
    "pkg/__init__.py": b"",
    "pkg/code.py": b"from .other import go\n\n\ndef f(x):\n    'Doc.'\n    return go(x)\n",
    "pkg/tests/test_code.py": CODE.format(name="t").encode(),
    "pkg/data.txt": b"no code",
    "pkg-1.5.dist-info/METADATA": b"Metadata-Version: 2.1\nName: Pkg\nVersion: 1.5\nLicense-Expression: MIT\n\nText\n",
}
SDIST = {
    "pkg-1.5/src/pkg/code.py": WHEEL["pkg/code.py"],
    "pkg-1.5/tests/test_code.py": WHEEL["pkg/tests/test_code.py"],
    "pkg-1.5/PKG-INFO": WHEEL["pkg-1.5.dist-info/METADATA"],
}
PACKED = [
    ("pkg-1.5-py3-none-any.whl", write_zip, WHEEL, "pkg/code.py"),
    ("pkg-1.5.zip", write_zip, SDIST, "pkg-1.5/src/pkg/code.py"),
    ("pkg-1.5.tar", write_tar, SDIST, "pkg-1.5/src/pkg/code.py"),
    ("pkg-1.5.tar.gz", lambda path, members: write_tar(path, members, gzip.open), SDIST, "pkg-1.5/src/pkg/code.py"),
    ("pkg-1.5.tgz", lambda path, members: write_tar(path, members, gzip.open), SDIST, "pkg-1.5/src/pkg/code.py"),
    ("pkg-1.5.tar.bz2", lambda path, members: write_tar(path, members, bz2.open), SDIST, "pkg-1.5/src/pkg/code.py"),
    ("pkg-1.5.tar.xz", lambda path, members: write_tar(path, members, lzma.open), SDIST, "pkg-1.5/src/pkg/code.py"),
]


@pytest.mark.parametrize(("name", "write", "members", "path"), PACKED, ids=[row[0] for row in PACKED])
def test_an_archive_is_read_with_its_metadata(tmp_path, name, write, members, path):
    write(tmp_path / name, members)
    files = read({"kind": "archives", "paths": [str(tmp_path)], "licence": "unused"})
    kept = [file for file in files if not file.left_out]
    assert {file.left_out for file in files} == {None, "left out: tests"}
    assert {(file.package, file.version, file.licence) for file in files} == {("Pkg", "1.5", "MIT")}
    [function] = extract_functions(kept, Extraction())
    assert (function.path, function.line, function.imports) == (path, 4, "from pkg.other import go")
    assert not (tmp_path / "pkg").exists()


def test_an_archive_without_metadata_goes_by_its_name(tmp_path):
    write_zip(tmp_path / "some-repo-main.zip", {"some-repo-main/a.py": CODE.format(name="f").encode()})
    write_zip(tmp_path / "tool-2.0.zip", {"a.py": CODE.format(name="f").encode()})
    files = read({"kind": "archives", "paths": [str(tmp_path)], "licence": "BSD-3-Clause"})
    assert sorted((file.package, file.version, file.licence) for file in files) == [
        ("some-repo-main", "", "BSD-3-Clause"),
        ("tool", "2.0", "BSD-3-Clause"),
    ]


def test_two_versions_of_a_package_have_different_ids(tmp_path):
    for version in ("1.0", "2.0"):
        write_zip(tmp_path / f"pkg-{version}.zip", {"pkg/a.py": CODE.format(name="f").encode()})
    ids = function_ids(read({"kind": "archives", "paths": [str(tmp_path)]}))
    assert len(ids) == 2
    assert len(set(ids)) == 2


def test_hostile_archives_are_counted_and_never_fatal(tmp_path, monkeypatch):
    good = CODE.format(name="good").encode()
    write_zip(
        tmp_path / "a_members.zip", {"../out.py": good, "/abs.py": good, "big.py": b"#" * 1_000_001, "ok.py": good}
    )
    with zipfile.ZipFile(tmp_path / "b_twice.zip", "w") as archive:
        archive.writestr("x.py", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.py", good)
    with zipfile.ZipFile(tmp_path / "c_checksum.zip", "w") as archive:
        archive.writestr("x.py", good)
        archive.writestr("y.py", good)
    data = (tmp_path / "c_checksum.zip").read_bytes().replace(b"Doc.", b"Dog.", 1)
    (tmp_path / "c_checksum.zip").write_bytes(data)
    (tmp_path / "d_garbage.zip").write_bytes(b"no zip")
    (tmp_path / "e_garbage.tar.gz").write_bytes(b"no tar")
    (tmp_path / "f_empty.tar.xz").write_bytes(b"")
    write_tar(tmp_path / "whole.tar.gz", {"a.py": good, "b.py": os.urandom(300_000), "c.py": good}, gzip.open)
    (tmp_path / "g_cut.tar.gz").write_bytes((tmp_path / "whole.tar.gz").read_bytes()[:150_000])
    (tmp_path / "whole.tar.gz").unlink()
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 3_000_000)
    write_tar(tmp_path / "h_bomb.tar.gz", {"a.py": good, "zeros": b"\0" * 20_000_000, "b.py": good}, gzip.open)
    write_zip(tmp_path / "i_bomb.zip", {f"{number}.py": b"#" * 999_999 for number in range(10)})
    with tarfile.open(tmp_path / "j_links.tar", "w") as archive:
        for name, kind in (("link.py", tarfile.SYMTYPE), ("fifo.py", tarfile.FIFOTYPE), ("dir.py", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    found: dict[str, Counter] = {}
    for path in sorted(tmp_path.iterdir()):
        files = read({"kind": "archives", "paths": [str(path)]})
        extraction = Extraction()
        list(extract_functions(files, extraction))
        found[path.name[0]] = extraction.files
    assert found["a"] == {"left out: path outside its archive": 2, "too large": 1, "read": 1}
    assert found["b"] == {"read": 1, "left out: twice in its archive": 1}
    assert found["c"] == {"cannot be read: Bad CRC-… for file …": 1, "read": 1}
    assert found["d"] == {"rest of an archive: File is not a zip file": 1}
    assert found["e"] == {"rest of an archive: Not a gzipped file (b…)": 1}
    assert found["f"].total() == 1
    assert found["g"]["read"] == 1
    assert found["g"].total() == 2
    assert found["h"] == {"read": 1, "rest of an archive: expands too much": 1}
    assert found["i"] == {"read": 3, "rest of an archive: expands too much": 1}
    assert found["j"] == {}


STACK_ROWS = [
    {
        "content": CODE.format(name=f"f{number}"),
        "max_stars_repo_name": f"owner/repo{number % 3}",
        "max_stars_repo_head_hexsha": f"{number:040x}",
        "max_stars_repo_path": f"src/m{number}.py",
        "max_stars_repo_licenses": ["MIT", "Apache-2.0"] if number % 2 else ["MIT"],
        "ext": "py",
    }
    for number in range(20)
]


def write_shards(folder: Path, form: str, rows: list[dict]) -> None:
    """Write rows as two shards in one of the forms."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        some = rows[number::2]
        path = folder / f"train-{number:05}{form}"
        text = "".join(json.dumps(row) + "\n" for row in some).encode()
        if form == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(some), path, row_group_size=3)
        elif form == ".jsonl.gz":
            path.write_bytes(gzip.compress(text[:500]) + gzip.compress(text[500:]))
        elif form == ".jsonl.zst":
            codec = pyarrow.Codec("zstd")
            path.write_bytes(codec.compress(text[:500], asbytes=True) + codec.compress(text[500:], asbytes=True))
        else:
            path.write_bytes(text)


@pytest.mark.parametrize("form", [".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("kind", ["shards", "hub"])
def test_shards_give_the_same_rows_however_they_are_split(tmp_path, monkeypatch, form, kind):
    monkeypatch.setattr(shards, "BLOCK", 1000)
    write_shards(tmp_path / "data/python", form, STACK_ROWS)
    source = {"kind": "shards", "paths": [str(tmp_path / f"data/*/*{form}")]}
    if kind == "hub":
        (tmp_path / "data/python" / f"test-00000{form}").write_bytes(b"not read")
        source = {
            "kind": "hub",
            "dataset": str(tmp_path),
            "revision": "main",
            "data_dir": "data/python",
            "split": "train",
        }
    whole = read(source)
    assert {(file.path, file.package, file.version, file.licence) for file in whole} == {
        (
            row["max_stars_repo_path"],
            row["max_stars_repo_name"],
            row["max_stars_repo_head_hexsha"],
            " and ".join(sorted(row["max_stars_repo_licenses"])),
        )
        for row in STACK_ROWS
    }
    ids = function_ids(whole)
    assert len(set(ids)) == len(ids) == 20
    for parts in (2, 3, 7, 30):
        dealt = [function_ids(read(source, part, parts)) for part in range(parts)]
        assert sorted(chain.from_iterable(dealt)) == sorted(ids), parts
        if form in (".parquet", ".jsonl") and parts > 2:
            assert sum(bool(part) for part in dealt) > 2, parts


def test_rows_that_hold_no_code_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "LONGEST_LINE", 300)
    row = {"text": CODE.format(name="f"), "repo": "a/b"}
    lines = [row, {"text": None}, "no object", {"text": "#" * 500}, row | {"text": "x = '\ud800'"}, row]
    text = "\n".join(json.dumps(line) for line in lines) + "\n{broken\n\n"
    (tmp_path / "a.jsonl").write_text(text)
    columns = {"content": "text", "repository": "repo", "version": None, "path": None, "licence": None}
    source = {"kind": "shards", "paths": [str(tmp_path)], "columns": columns, "licence": "MIT"}
    extraction = Extraction()
    rows = list(extract_functions(read(source), extraction))
    assert [(row.package, row.version, row.path, row.licence) for row in rows] == [("a/b", "", "", "MIT")] * 2
    assert rows[0].id != rows[1].id
    assert extraction.files == {
        "read": 2,
        "row without content": 1,
        "row is not a JSON object": 1,
        "row too long": 1,
        "lone surrogates": 1,
        "row is not JSON": 1,
    }


@pytest.mark.parametrize("form", [".parquet", ".jsonl"])
def test_a_missing_column_is_one_clear_error(tmp_path, form):
    write_shards(tmp_path, form, STACK_ROWS)
    source = {"kind": "shards", "paths": [str(tmp_path)], "columns": {"content": "code"}}
    result = run(source, "--output", tmp_path / "o", "--stats", tmp_path / "s")
    assert result.returncode == 1
    assert f"train-00000{form}: no column 'code' for the content; the columns are content, max_stars" in result.stderr
    assert "Name it under source.columns.content" in result.stderr
    assert not (tmp_path / "o").exists()


def test_a_part_depends_on_its_own_files_only(tmp_path):
    for number in range(4):
        write_zip(tmp_path / f"p{number}-1.zip", {"a.py": b"#" * number})
    write_shards(tmp_path, ".parquet", STACK_ROWS)
    by_archive = load_source(json.dumps({"kind": "archives", "paths": [str(tmp_path)]}))
    dealt = [by_archive.files(part, 2) for part in range(2)]
    assert sorted(chain.from_iterable(dealt)) == sorted(tmp_path.glob("*.zip"))
    by_shard = load_source(json.dumps({"kind": "shards", "paths": [str(tmp_path)]}))
    assert [path.name for path in by_shard.files(1, 2)] == ["train-00001.parquet"]
    assert len(by_shard.files(1, 3)) == 2  # fewer files than parts: their row groups are dealt
    assert load_source('{"kind": "hub", "dataset": "a/b", "revision": "main"}').files(0, 1) == []


def test_a_killed_part_is_made_again_alone_with_the_same_rows(tmp_path):
    source = {"kind": "python-packages", "packages": ["stdlib", "networkx"]}
    options = ["--part", "0", "--parts", "2", "--output", tmp_path / "o", "--stats", tmp_path / "s"]
    assert run(source, *options).returncode == 0
    whole = (tmp_path / "o").read_bytes()
    (tmp_path / "o").unlink()
    command = [sys.executable, SCRIPTS / "extract_functions.py", "--source", json.dumps(source), *options]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE)
    while not list(tmp_path.glob(".o.*.tmp")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "o").exists()
    assert run(source, *options).returncode == 0
    assert (tmp_path / "o").read_bytes() == whole

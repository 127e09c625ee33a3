"""Files that are whole or absent, what survives a kill, and one clear error for what the user can mend."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selfalign.records.commands import derive_seed
from selfalign.records.files import SideFile, digest, read_json, read_jsonl, write_jsonl, write_text
from selfalign.records.progress import Progress
from selfalign.records.rows import Verdict, load_rows

SCRIPTS = Path(__file__).parent.parent / "scripts"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"id": 1}])

    def rows():
        yield {"id": 2}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(path, rows())
    assert list(read_jsonl(path)) == [{"id": 1}]
    assert os.listdir(tmp_path) == ["rows.jsonl"]


BAD_FILES = [
    ("rows.jsonl", b'{"id": 1}\nnot json\n', "rows.jsonl, row 2: not valid JSON"),
    ("rows.jsonl", b'{"id": 1}\n[1]\n', "rows.jsonl, row 2: expected a JSON object, found list"),
    ("rows.jsonl", b'{"id": "\xff"}\n', "rows.jsonl, row 1: not valid JSON"),
    ("value.json", b"{", "value.json: not valid JSON"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_file_is_named_with_its_row(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_jsonl(path)) if name.endswith("l") else read_json(path)


def test_a_row_with_other_fields_is_named():
    with pytest.raises(ValueError, match=r"v\.jsonl, row 1: not a Verdict row .* its fields are id, verdict"):
        list(load_rows(Verdict, [{"id": "a"}], "v.jsonl"))


def test_a_side_file_resumes_after_a_torn_line(tmp_path):
    output = tmp_path / "out.jsonl"
    side = SideFile(output, digest("settings"))
    side.append([{"id": "a"}, {"id": "b"}])
    with pytest.raises(ValueError, match="another process is writing it"):
        SideFile(output, digest("settings"))
    side._file.close()
    with open(side.path, "ab") as file:
        file.write(b'{"id": "c", "te')
    again = SideFile(output, digest("settings"))
    assert again.rows == [{"id": "a"}, {"id": "b"}]
    again.append([{"id": "c"}])
    again._file.close()
    assert [row["id"] for row in SideFile(output, digest("settings")).rows] == ["a", "b", "c"]


def test_a_side_file_of_other_settings_is_discarded(tmp_path):
    side = SideFile(tmp_path / "out.jsonl", digest("old"))
    side.append([{"id": "a"}])
    side._file.close()
    other = SideFile(tmp_path / "out.jsonl", digest("new"))
    assert other.rows == []
    other.discard()
    assert os.listdir(tmp_path) == []


def test_seeds_depend_on_every_part_and_nothing_else():
    seeds = {derive_seed(run, stage, row, k) for run in (1, 2) for stage in "ab" for row in ("x", "y") for k in (0, 1)}
    assert len(seeds) == 16
    assert derive_seed(3407, "responses", "row", 0) == derive_seed(3407, "responses", "row", 0)
    assert all(0 <= seed < 2**48 for seed in seeds)


def test_progress_says_done_total_rate_and_time(capsys):
    progress = Progress("stage x", 4, done=1, interval=0)
    progress.add()
    progress.add(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[stage x] resuming after 1 rows"
    assert lines[1].startswith("[stage x] 2/4 rows, ")
    assert lines[1].endswith(" left")
    assert lines[2].startswith("[stage x] 4/4 rows, ")


ENDS = [
    ("raise ValueError('the file is wrong')", 1, "error: the file is wrong\n"),
    ("open('no/such/file')", 1, "error: no/such/file does not exist; check the path, or run the step that makes it\n"),
    ("open('/dev/full', 'w').write('x' * 100000)", 1, "error: cannot write the output: No space left on device."),
    ("raise RuntimeError('a bug')", 1, "Traceback"),
    ("return 3", 3, ""),
    ("return None", 0, ""),
]


@pytest.mark.parametrize(("body", "code", "message"), ENDS)
def test_how_a_command_ends(tmp_path, body, code, message):
    program = f"from selfalign.records.commands import run_command\ndef main():\n    {body}\nrun_command(main)\n"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr[: len(message)]) == (code, message)


def test_text_is_replaced_whole(tmp_path):
    write_text(tmp_path / "a/b.txt", "one")
    write_text(tmp_path / "a/b.txt", json.dumps("two"))
    assert (tmp_path / "a/b.txt").read_text() == '"two"'


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / f".x.json.{int(gone.stdout)}.tmp"
    others = [tmp_path / f".x.json.{os.getppid()}.tmp", tmp_path / f".y.json.{int(gone.stdout)}.tmp"]
    for path in (left, *others):
        path.write_text("half")
    write_text(tmp_path / "x.json", "1")
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "x.json"])


DIGESTED = [
    (),
    ("a", 1, "b"),
    ('caf\xe9 \U0001f600 \ud800 \x00\x7f"\\/\n', -1, 10**30),
    (True, None, 1.0, 1e300, float("inf")),
    ({"b": [1, "x"], "a": {"c": None}}, ["x", ("y", 2)], Path("a/b")),
]


@pytest.mark.parametrize("parts", DIGESTED)
def test_a_digest_is_that_of_the_parts_as_one_json_list(parts):
    text = json.dumps(parts, sort_keys=True, default=str)
    assert digest(*parts) == hashlib.sha256(text.encode()).hexdigest()


def test_ids_stay_what_they_are():
    assert digest("pkg", "pkg/mod.py", 3, "def f():\n    'Doc \xe9.'")[:16] == "befeef5883762c22"

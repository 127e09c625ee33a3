"""The benchmark of extraction runs for real, and fails when functions are missing."""

import ast
import json
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import seeds_extraction  # noqa: E402

FILES = [Path(sysconfig.get_path("stdlib"), name) for name in ("bisect.py", "colorsys.py", "fnmatch.py", "textwrap.py")]
PYTHON_2 = 'def f(x):\n    """Doc."""\n    print x\n\n\ndef g(x):\n    \'Doc.\'\n    return x\n'


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """An archive of a few modules of the standard library, and one of Python 2."""
    path = tmp_path_factory.mktemp("archives") / "some-1.0.zip"
    with zipfile.ZipFile(path, "w") as file:
        for module in FILES:
            file.write(module, f"some/{module.name}")
        file.writestr("some/old.py", PYTHON_2)
    return path


def run(monkeypatch, *arguments: object) -> int:
    """Run the command in this process; its measurements have processes of their own."""
    monkeypatch.setattr(sys, "argv", ["seeds_extraction.py", *map(str, arguments)])
    return seeds_extraction.main()


def test_every_way_is_measured_for_real_and_compared(archive, tmp_path, monkeypatch, capsys):
    output = tmp_path / "found.json"
    assert run(monkeypatch, "--archives", archive, "--rounds", 2, "--compare", "--output", output) == 0
    found = json.loads(output.read_text())
    assert found["files"] == len(FILES) + 1
    assert [set(one) for one in found["rounds"]] == [set(seeds_extraction.METHODS)] * 2
    nodes = [node for path in FILES for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    documented = sum(ast.get_docstring(node) is not None for node in nodes)
    assert documented > 10
    # ast takes no function of the file of Python 2; the original takes its broken one and none in single quotes
    assert {way: row["functions"] for way, row in found["summary"].items()} == {
        "lines": documented + 1,
        "lines, text only": documented + 2,
        "original": documented + 1,
        "ast": documented,
    }
    assert found["rounds"][0]["lines"]["seen"] == len(nodes) + 2
    counts = found["differences"]["counts"]
    assert counts["by lines"] == counts["by whole files"] == documented + 1
    assert counts["files that ast refuses"] == counts["by lines, in files that ast refuses"] == 1
    assert set(found["hours_for_the_stack"]) == {"all functions", "with docstrings"}
    printed = capsys.readouterr()
    assert "| original | " in printed.out
    assert "missing" not in printed.err


def test_a_missing_function_fails_the_command(archive, tmp_path, monkeypatch, capsys):
    extract_source = seeds_extraction.extract_source

    def forgetful(text, source, extraction, *, whole=False):
        rows = list(extract_source(text, source, extraction, whole=whole))
        return rows if whole else rows[1:]

    monkeypatch.setattr(seeds_extraction, "extract_source", forgetful)
    output = tmp_path / "found.json"
    assert run(monkeypatch, "--archives", archive, "--rounds", 1, "--compare", "--output", output) == 1
    assert "missing: by ast, not by lines: 3" in capsys.readouterr().err


MISSING = [
    (10, 10, {}, []),
    (11, 10, {"by lines only": 1, "by lines, not by ast": 1}, []),
    (9, 10, {}, ["ours finds 9 functions and ast 10"]),
    (10, 10, {"by ast, not by lines": 2}, ["by ast, not by lines: 2"]),
    (10, 10, {"by whole file only": 1}, ["by whole file only: 1"]),
    (10, 10, {"by whole file only in a file that tree-sitter finds broken": 1}, []),
]


@pytest.mark.parametrize(("ours", "theirs", "counts", "found"), MISSING)
def test_what_counts_as_missing(ours, theirs, counts, found):
    summary = {"lines": {"functions": ours}, "ast": {"functions": theirs}}
    assert seeds_extraction.missing(summary, counts) == found


@pytest.mark.parametrize("options", [["--rounds", "0", "--output", "x.json"], ["--rounds", "1"]])
def test_wrong_options_are_refused(options, archive, monkeypatch):
    with pytest.raises(ValueError, match=r"--rounds must be at least 1|--output: missing"):
        run(monkeypatch, "--archives", archive, *options)

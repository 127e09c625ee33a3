"""Extraction: which functions are found, what they carry, and that no file, however hostile, is fatal."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from selfalign.records.files import read_table
from selfalign.seeds.extraction import Extraction, decode_source, extract_functions, extract_source
from selfalign.seeds.sources import SourceFile, list_folder, list_packages

SCRIPTS = Path(__file__).parents[1] / "scripts"


def extract(text: str, path: str = "pkg/mod.py") -> Extraction:
    extraction = Extraction()
    source = SourceFile(package="pkg", version="1", licence="MIT", path=path, file=Path(path))
    extract_source(text, source, extraction)
    return extraction


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / "extract_functions.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


DOCSTRINGS = [
    ('"""Doc."""', "Doc."),
    ("'''Doc.'''", "Doc."),
    ('"Doc."', "Doc."),
    ("'Doc.'", "Doc."),
    ('r"""Doc \\d."""', "Doc \\d."),
    ("u'Doc.'", "Doc."),
    ('("Doc."\n     " More.")', "Doc. More."),
    ('# comment\n    "Doc."', "Doc."),
    ('"""\n    Doc.\n\n      More.\n    """', "Doc.\n\n  More."),
]


@pytest.mark.parametrize(("literal", "docstring"), DOCSTRINGS)
def test_every_spelling_of_a_docstring_is_found(literal, docstring):
    [function] = extract(f"def f(x):\n    {literal}\n    return x\n").functions
    assert function.docstring == docstring


@pytest.mark.parametrize("body", ["return x", 'f"""Doc."""', 'b"Doc."', "x = 'no'", "pass", '""', "..."])
def test_what_is_no_docstring_is_counted(body):
    extraction = extract(f"def f(x):\n    {body}\n")
    assert extraction.functions == []
    assert extraction.dropped == ["no docstring"]


def test_only_top_level_functions_with_decorators_lines_and_licence():
    text = (
        "import functools\n\n\n"
        "@functools.cache\n@other\ndef first(x):\n    'Doc.'\n    def inner(y):\n        'Doc.'\n    return x\n\n\n"
        "class C:\n    def method(self):\n        'Doc.'\n\n\n"
        "if True:\n    def conditional():\n        'Doc.'\n\n\n"
        "async def second(x):\n    'Doc.'\n    return x\n"
    )
    extraction = extract(text)
    assert [(row.name, row.line) for row in extraction.functions] == [("first", 4), ("second", 23)]
    assert extraction.functions[0].code.startswith("@functools.cache\n@other\ndef first(x):")
    assert extraction.functions[0].code.endswith("return x")
    assert {(row.package, row.version, row.path, row.licence) for row in extraction.functions} == {
        ("pkg", "1", "pkg/mod.py", "MIT")
    }
    assert all(len(row.id) == 16 for row in extraction.functions)


IMPORTS = [
    ("import os\nimport re\n", "return os.sep", "import os"),
    ("import os.path\nimport os\n", "return os.sep", "import os.path\nimport os"),
    ("import numpy as np\n", "return np.zeros(x)", "import numpy as np"),
    ("from a.b import (c, d as e,\n    f)\n", "return c(e(x))", "from a.b import c\nfrom a.b import d as e"),
    ("from . import sibling\n", "return sibling.go(x)", "from pkg import sibling"),
    ("from .other import go\n", "return go(x)", "from pkg.other import go"),
    ("from ..gone import go\n", "return go(x)", ""),
    ("from os import *\n", "return sep", ""),
    ("try:\n    import fast as json\nexcept ImportError:\n    import json\n", "return json", "import fast as json"),
    ("import re\nfrom __future__ import annotations\n", "return re", "from __future__ import annotations\nimport re"),
    ("import os\n", "os = x\n    return os", ""),
    ("import os\nimport re\n", "def inner(os):\n        return os, re\n    return inner", "import re"),
    ("import os\n", "return [os for os in x]", ""),
]


@pytest.mark.parametrize(("header", "body", "imports"), IMPORTS)
def test_the_imports_that_a_function_uses_are_kept(header, body, imports):
    [function] = extract(f"{header}\n\ndef f(x):\n    'Doc.'\n    {body}\n").functions
    assert function.imports == imports


GOOD = "def good(x):\n    'Doc.'\n    return x\n\n\n"
BROKEN = [
    ("def bad(x):\n    'Doc.'\n    return (x +\n", "syntax error"),
    ("def bad(x):\n    'Doc.'\n    print 'no'\n    return x\n", "not Python 3"),
    ("def bad(x):\n    'Doc.'\n    exec 'no' in x\n", "not Python 3"),
    ("def bad(x, x):\n    'Doc.'\n    return x\n", "not Python 3"),
    (f"def bad(x):\n    'Doc.'\n    return {'(' * 300}x{')' * 300}\n", "not Python 3"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_function_is_counted_and_the_others_stay(text, reason):
    extraction = extract(GOOD + text)
    assert [row.name for row in extraction.functions] == ["good"]
    assert extraction.dropped == [reason]


HOSTILE = {
    "latin.py": (b"# -*- coding: latin-1 -*-\ndef caf\xe9(x):\n    'Doc \xe9.'\n    return x\n", "read"),
    "bom.py": (b"\xef\xbb\xbfdef f(x):\r\n    'Doc.'\r\n    return x\r\n", "read"),
    "empty.py": (b"", "read"),
    "huge_line.py": (b"x = [" + b"1," * 20_000 + b"]\ndef f(x):\n    'Doc.'\n    return x\n", "read"),
    "python2.py": (b"def f(x):\n    'Doc.'\n    print 'x'\n", "read"),
    "syntax.py": (b"def f(x:\n    'Doc.'\n)))\ndef g(x):\n    'Doc.'\n    return x\n", "read, with syntax errors"),
    "not_utf8.py": (b"def f(x):\n    'Doc \xff.'\n    return x\n", "not UTF-8"),
    "not_utf8_first.py": (b"# \xff\xfe\n", "not UTF-8"),
    "not_ascii.py": (b"# coding: ascii\nx = 'a'\n\ny = '\xc3\xa9'\n", "not ascii"),
    "no_encoding.py": (b"# coding: klingon\nx = 1\n", "unknown encoding"),
    "no_text.py": (b"# coding: rot13\nx = 1\n", "unknown encoding"),
    "null.py": (b"def f(x):\n    'Doc.'\n    return x\0\n", "null bytes"),
    "utf16.py": ("def f(x):\n    'Doc.'\n".encode("utf-16"), "null bytes"),
    "large.py": (b"#" * 1_000_001, "too large"),
}


def test_hostile_files_are_counted_and_never_fatal(tmp_path):
    for name, (data, _) in HOSTILE.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
    for name, (_, outcome) in HOSTILE.items():
        [source] = [file for file in list_folder(tmp_path, "MIT") if file.path == name]
        assert dict(extract_functions([source], "test").files) == {outcome: 1}, name
    extraction = extract_functions(list_folder(tmp_path, "MIT"), "test")
    assert extraction.files.total() == len(HOSTILE) + 1
    assert extraction.files["cannot be read: No such file or directory"] == 1
    assert [(row.path, row.docstring) for row in extraction.functions] == [
        ("bom.py", "Doc."),
        ("huge_line.py", "Doc."),
        ("latin.py", "Doc é."),
        ("syntax.py", "Doc."),
    ]


def test_line_endings_become_newlines():
    assert decode_source(b"a = 1\r\nb = 2\rc = 3\n") == "a = 1\nb = 2\nc = 3\n"


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
    assert any(row.name == "_fmix" for row in extract_functions([source], "test").functions)


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
            result = run("--folder", folder, "--licence", "MIT", *options)
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
        (["--folder", "missing"], "error: corpus folder missing: no such folder"),
        (["--folder", "."], "error: corpus folder .: no .py file in it"),
        (["--packages", "no-such-package"], "error: package no-such-package: not installed"),
        (["--folder", ".", "--part", "2", "--parts", "2"], "error: --part 2: with --parts 2 it must be 0 to 1"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    result = run(*options, "--output", "o.parquet", "--stats", "s.json")
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []

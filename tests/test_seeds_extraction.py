"""Extraction: which functions are found, what they carry, and that no file, however hostile, is fatal."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import pytest

from selfalign.records.rows import Function
from selfalign.seeds.extraction import Extraction, decode_source, extract_functions
from selfalign.seeds.sources import SourceFile, list_folder


class Result(NamedTuple):
    functions: list[Function]
    dropped: Counter
    files: Counter


def extract(text: str, path: str = "pkg/mod.py") -> Result:
    return extract_all([SourceFile(package="pkg", version="1", licence="MIT", path=path, content=text)])


def extract_all(files: Iterable[SourceFile]) -> Result:
    """Extract some files; every function and every file that is read has to be accounted for."""
    files = list(files)
    extraction = Extraction()
    functions = list(extract_functions(files, extraction))
    assert extraction.kept == len(functions)
    assert extraction.files.total() == len(files)
    return Result(functions, extraction.dropped, extraction.files)


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
    assert extraction.dropped == {"no docstring": 1}


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
    assert extraction.dropped == {reason: 1}


HOSTILE = {
    "latin.py": (b"# -*- coding: latin-1 -*-\ndef caf\xe9(x):\n    'Doc \xe9.'\n    return x\n", "read"),
    "bom.py": (b"\xef\xbb\xbfdef f(x):\r\n    'Doc.'\r\n    return x\r\n", "read"),
    "empty.py": (b"", "read"),
    "huge_line.py": (b"x = [" + b"1," * 20_000 + b"]\ndef f(x):\n    'Doc.'\n    return x\n", "read"),
    "python2.py": (b"def f(x):\n    'Doc.'\n    print 'x'\n", "read"),
    "syntax.py": (b"def f(x:\n    'Doc.'\n)))\ndef g(x):\n    'Doc.'\n    return x\n", "read"),
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
        assert dict(extract_all([source]).files) == {outcome: 1}, name
    extraction = extract_all(list_folder(tmp_path, "MIT"))
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

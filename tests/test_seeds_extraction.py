"""Extraction: which functions are found, what they carry, and that no file, however hostile, is fatal."""

import ast
import dataclasses
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from re import _parser as parser
from typing import NamedTuple

import pytest

from selfalign.records.rows import Function
from selfalign.seeds import extraction, scanning
from selfalign.seeds.extraction import Extraction, decode_source, extract_functions, extract_source
from selfalign.seeds.sources import SourceFile, list_folder, list_packages


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
    assert [Function.load(row.dump()) for row in extraction.functions] == extraction.functions
    assert extraction.functions[0].dump() == dataclasses.asdict(extraction.functions[0])


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
    ("import os\n", "return lambda: [y for y in x if os]", "import os"),
    ("import os\n", "global os\n    os = x\n    return os", "import os"),
    ("import os\n", "global os\n    os = x", ""),
    ("from a import (b as  # why\n    os, re,)\n", "return os, re", "from a import b as os\nfrom a import re"),
    ("from a import café as os\n", "return os", "from a import café as os"),
    ("from .. import os\nfrom ... import re\n", "return os, re", ""),
    ("import re as os, os\n", "return os", "import re as os"),
    ("import os, os.path, re as os\n", "return os", "import os\nimport os.path"),
    # No imports of Python 3
    ("import (os)\n", "return os", ""),
    ("import os,\n", "return os", ""),
    ("import class, os\n", "return os", ""),
    ("import os.if\n", "return os", ""),
    ("from a import b.os, os\n", "return os", ""),
    ("from a import os as as\n", "return os", ""),
    ("from a import (os,,)\n", "return os", ""),
    ("from a import ()\nfrom is import os\n", "return os", ""),
]


def test_a_decorator_and_a_default_take_their_imports():
    [function] = extract("import os, re, sys\n\n\n@os.a\ndef f(x=re, sys=1):\n    'Doc.'\n    return sys\n").functions
    assert function.imports == "import os\nimport re"


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


DOC = "def f(x):\n    'Doc.'\n    return x\n"
LAYOUTS = {
    # name: (text, names, how the file is read)
    "function in a string": (f"CODE = '''\n{DOC}'''\ndef g(x): 'Doc.'; return x\n", ["g"], "read"),
    "string that goes on by a backslash": (f"CODE = 'a\\\ndef g(x):'\n{DOC}", ["f"], "read"),
    "docstring at the left margin": ('def f(x):\n    """Doc.\ndef g(x):\n@other\n"""\n    return x\n', ["f"], "read"),
    "header at the left margin": ("def f(\nx,\ny=(1,\n2),\n):\n    'Doc.'\n    return x\n\nz = 1\n", ["f"], "read"),
    "list at the left margin": ("def f(x):\n    'Doc.'\n    return [\n1,\n2,\n]\n\nz = 1\n", ["f"], "read"),
    "brackets and colons in the header": (
        "def f(x: dict[str, 'a:b'] = {1: ':'}, y=lambda: 0, # :\n      *z) -> {1: 2}: # :\n    'Doc.'\n",
        ["f"],
        "read",
    ),
    "decorators": (
        "@a\n# note\n\n@b(\n    1,\n)\ndef f(x):\n    'Doc.'\n@c\nclass C:\n    pass\n" + DOC,
        ["f", "f"],
        "read",
    ),
    "decorator with lines at the left margin": ("@a(\n1,\n)\n" + DOC, ["f"], "read as a whole"),
    "form feed, tabs": ("x = 1\n\f\n\fdef f(x):\n\t'Doc.'\n\f\treturn x\n", ["f"], "read"),
    "async, spaces": ("async   def  f (x) :\n    'Doc.'\n    await x\n", ["f"], "read"),
    "comments before the docstring": ("def f(x):  # 'no'\n\n# 'no'\n    # 'no'\n    'Doc.'\n", ["f"], "read"),
    "parenthesised docstring": ("def f(x):\n    (  # comment\n        r'Doc'\n        '.')\n", ["f"], "read"),
    "no docstrings": ("def f(x):\n    'a' % x\ndef g(x):\n    ('a', x)\ndef h(x):\n    'a'.b\n", [], "read"),
    "trailing comments": (DOC + "    # in\n# out\n    # out\n\n# out\n" + DOC, ["f", "f"], "read"),
    "name beyond ASCII": ("def café(x):\n    'Doc.'\n", ["café"], "read"),
    "string in single quotes at the left margin": (f"x = 1\ny = 'a\\\n@b\\\n'\n{DOC}", ["f"], "read"),
    "three quotes in a continued string": (f'x = \'a\\\n"""\'\n{DOC}x = \'b"""\'\n', ["f"], "read"),
    "three quotes in comments and strings": (
        f'# don\'t """\nx = \'"""\'  # """\n{DOC}y = """\'\'\'\ndef g(x):\n""", \'\'\'"""\n@a\n\'\'\'\n',
        ["f"],
        "read",
    ),
    "escaped quotes": ('x = """a\\"""\ndef g(x):\n\\\\"""\n' + DOC, ["f"], "read"),
    "quote before the closing ones": ('x = """a""""b"\n' + DOC + 'y = """c\\""""\n', ["f"], "read"),
    "strings side by side": ('x = """a""""""\ndef g(x):\n""" """b"""\n' + DOC, ["f"], "read"),
    "comment that ends in a backslash": ("# a\\\n" + DOC + "# b\\\n@c\n" + DOC, ["f", "f"], "read"),
    "open quote alone": (DOC + "x = 'open\n" + DOC, ["f", "f"], "read"),
    "open quotes": (DOC + 'x = """open\n', ["f"], "read as a whole, with syntax errors"),
    "open quote before others": (DOC + 'x = \'open"""a"""\n', ["f"], "read as a whole, with syntax errors"),
    "endless header": (
        "def f(\n" + "".join(f"x{n}=(),\n" for n in range(4000)) + "):\n    'Doc.'\n" + DOC,
        ["f", "f"],
        "read as a whole",
    ),
    "nothing": ("x = 1\n", [], "read"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_lines_find_what_a_parse_of_the_whole_file_finds(name):
    text, names, outcome = LAYOUTS[name]
    source = SourceFile(package="pkg", version="1", licence="MIT", path="pkg/mod.py")
    by_lines, by_tree = Extraction(), Extraction()
    found = list(extract_source(text, source, by_lines))
    assert [row.name for row in found] == names
    assert by_lines.files == {outcome: 1}
    assert found == list(extract_source(text, source, by_tree, whole=True))
    assert by_lines.dropped == by_tree.dropped


MODULE_IMPORTS = [
    ("if TYPE_CHECKING:\n    from a import os\n", "from a import os"),
    ("if x:\n    pass\nelse:\n\n    # note\n    import os\n", "import os"),
    ("try: import os\nexcept ImportError: os = None\n", "import os"),
    ("with a:\n    try:\n        import os\n    finally:\n        pass\n", "import os"),
    ("x = 1; import os; y = 2\n", "import os"),
    ("import a, \\\n    os\n", "import os"),
    ("import a , os\n", "import os"),
    ("if x:\n    y = 'a\\\n    import os\\\n'\n", ""),
    ("if x:\n    # note \\\n    import os\n", "import os"),
    ("x = 1; \\\nimport os\n", "import os"),
    ("x = 1; \\\n    from a import os\n", "from a import os"),
    ("x = (1,\n); import os\n", "import os"),
    ("x = '''\n; import os\n'''\n", ""),
    ("from.b import os\n", "from pkg.b import os"),
    ("\f\fimport os\n", "import os"),
    ("from a \\\n    import os\n", "from a import os"),
    ("from a import (  # (why\n    b,\n    os,\n)\n", "from a import os"),
    ("from a import(os)\n", "from a import os"),
    ("def g():\n    import os\n", ""),
    ("def g():\n    x = (1\n); import os\n", ""),
    ("class C:\n    import os\n", ""),
    ("if x:\n    def g():\n        import os\n", ""),
    ("'import os'\n# import os\nx = 'a; import os'\n", ""),
    ("'''\nimport os\n'''\n", ""),
]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("header", "imports"), MODULE_IMPORTS)
def test_the_imports_of_the_module_are_those_of_its_blocks(header, imports, whole):
    source = SourceFile(package="pkg", version="1", licence="MIT", path="pkg/mod.py")
    text = header + "\n\ndef f(x):\n    'Doc.'\n    return os, x\n"
    [function] = [row for row in extract_source(text, source, Extraction(), whole=whole) if row.name == "f"]
    assert function.imports == imports


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("pkg/sub/a.py", "pkg.sub.b"),
        ("pkg-1.0/pkg/a.py", "pkg.b"),
        ("pkg-1.0/src/pkg/a.py", "pkg.b"),
        ("usr/lib/python3/dist-packages/pkg/a.py", "pkg.b"),
        ("pkg-1.0.data/purelib/pkg/a.py", "pkg.b"),
    ],
)
def test_relative_imports_lead_from_the_root_of_the_package(path, module):
    [function] = extract("from .b import go\n\n\ndef f(x):\n    'Doc.'\n    return go(x)\n", path).functions
    assert function.imports == f"from {module} import go"


def test_lines_whole_files_and_ast_agree_on_the_standard_library():
    """They differ in one kind: ast's functions end before trailing comments that are indented like the body."""
    ours = trailing = 0
    for source in list_packages(["stdlib"]):
        if source.left_out:
            continue
        text = decode_source(source.read())
        by_lines = list(extract_source(text, source, Extraction()))
        assert by_lines == list(extract_source(text, source, Extraction(), whole=True)), source.path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        nodes = [node for node in nodes if ast.get_docstring(node)]
        assert [row.name for row in by_lines] == [node.name for node in nodes], source.path
        assert [row.docstring for row in by_lines] == [ast.get_docstring(node) for node in nodes], source.path
        for row, node in zip(by_lines, nodes, strict=True):
            lines = row.code.split("\n")
            length = node.end_lineno - row.line + 1
            assert "\n".join(lines[:length]) == "\n".join(text.split("\n")[row.line - 1 : node.end_lineno]).rstrip()
            assert all(line.strip()[:1] in ("", "#") for line in lines[length:])
            trailing += len(lines) > length
        ours += len(by_lines)
    assert ours > 1500
    assert trailing < ours / 100


def test_relative_imports_of_two_packages_are_not_mixed_up():
    text = "from.b import go\n\n\ndef f(x):\n    'Doc.'\n    return go(x)\n"
    assert [extract(text, path).functions[0].imports for path in ("p/a.py", "q/a.py", "p/a.py")] == [
        "from p.b import go",
        "from q.b import go",
        "from p.b import go",
    ]


def can_fail_late(pattern: str, flags: int = 0) -> bool:
    """Return whether a possessive loop of a pattern can fail behind the first character of its group.

    Python before 3.11.5 does not go back then (python/cpython issue 106052) and takes or refuses other texts.
    """

    def optional(item) -> bool:
        return item[0] in (parser.MAX_REPEAT, parser.POSSESSIVE_REPEAT) and item[1][0] == 0

    def fails_late(items) -> bool:
        [kind, value], *others = items
        if not all(map(optional, others)):
            return True
        if kind is parser.BRANCH:
            return any(map(fails_late, value[1]))
        if kind in (parser.MAX_REPEAT, parser.POSSESSIVE_REPEAT):
            return fails_late(value[2])
        return kind not in (parser.IN, parser.LITERAL, parser.NOT_LITERAL, parser.ANY)

    def walk(value) -> bool:
        if isinstance(value, tuple) and value and value[0] is parser.POSSESSIVE_REPEAT and fails_late(value[1][2]):
            return True
        return isinstance(value, tuple | list | parser.SubPattern) and any(map(walk, value))

    return walk(parser.parse(pattern, flags))


@pytest.mark.parametrize(
    ("pattern", "late"),
    [("(?:ab?c)*+", True), ("x(?:y|(?:a|bc)++)", True), ("(?:(?!C).)++", True), ("a(?:b[c]*|d)*+[^e]++f", False)],
)
def test_a_possessive_loop_that_old_python_gets_wrong_is_told_from_others(pattern, late):
    assert can_fail_late(pattern) == late


@pytest.mark.parametrize("module", [scanning, extraction])
def test_patterns_match_the_same_in_every_version_of_python(module):
    patterns = [value for value in vars(module).values() if isinstance(value, re.Pattern)]
    assert len(patterns) > 3
    assert [row.pattern for row in patterns if can_fail_late(row.pattern, row.flags & ~re.UNICODE)] == []


SLOW = {
    "open headers": "def f(\n" * 140_000,
    "open quotes": "'\n" * 490_000,
    "open triple quotes": '"""\\\'\n' * 166_000,
    "decorators": "@a\n" * 330_000,
    "imports in one block": "if x:\n" + "  import a\n" * 80_000 + DOC,
    "one long import": "from a import (\n" + "  a as b,  # c\n" * 60_000 + ")\n" + DOC,
    "one long broken import": "from a import (\n" + "  a as b  # c\n" * 60_000 + ")\n" + DOC,
    "imports between functions": ("if x:\n  import a\n" + DOC) * 15_000,
    "imports in one line": "x = 1" + "; import a" * 98_000 + "\n" + DOC,
    "imports in continued lines": "x = 1" + "; import a\\\n" * 80_000 + "\n" + DOC,
    "long line": "x = " + "1+" * 490_000 + "1\n" + DOC,
    "long line in a function": "def f(x):\n    'Doc.'\n    return " + "1+" * 490_000 + "1\n",
    "deep brackets": "x = " + "(" * 490_000 + ")" * 490_000 + "\n" + DOC,
    "deep brackets in a function": "def f(x):\n    'Doc.'\n    return " + "[" * 400_000 + "]" * 400_000 + "\n",
    "many signs in a function": "def f(x):\n    'Doc.'\n    return " + "-" * 900_000 + "1\n",
    "deep blocks": "".join(f"{' ' * depth}if x:\n" for depth in range(1300)) + " " * 1300 + "import a\n" + DOC,
    "docstring of code": 'def f(x):\n    """' + "def g():\n" * 100_000 + '"""\n    return x\n',
    "Python 2": "def f(x):\n    'Doc.'\n    print 'x'\n" * 20_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_no_file_takes_long(name):
    """These files of up to 1 MB would take minutes or kill the process if time or depth grew with what they repeat."""
    assert len(SLOW[name]) <= 1_000_000
    start = time.process_time()
    extract(SLOW[name])
    assert time.process_time() - start < 20

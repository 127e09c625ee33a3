"""Row filters: what each keeps, its reasons, and the errors of a filter list; the type check with its real tools."""

import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from selfalign.matching.funnels import sum_funnels
from selfalign.records.files import read_table, write_table
from selfalign.records.rows import Function
from selfalign.seeds.filters import (
    BadWords,
    DocstringQuality,
    HasArgument,
    InferImports,
    Licences,
    ReturnsValue,
    SandboxImports,
    Size,
    parse_filters,
)
from selfalign.seeds.import_inference import TABLE
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS, Candidate, Drop, filter_part
from selfalign.seeds.type_check import CHECKERS, InstalledModules, TypeChecker, find_tool, undefined_names

SCRIPTS = Path(__file__).parents[1] / "scripts"


def function(
    code: str, number: int = 0, imports: str = "", docstring: str = "Doc.", name: str = "f", licence: str = "MIT"
) -> Function:
    return Function(
        id=f"{number:016x}",
        code=code,
        name=name,
        imports=imports,
        docstring=docstring,
        package="pkg",
        version="1",
        path="mod.py",
        line=number + 1,
        licence=licence,
    )


def reason_of(row_filter, row: Function) -> str | None:
    [outcome] = row_filter([Candidate(row)])
    assert isinstance(outcome, Drop) or outcome == row
    return outcome.reason if isinstance(outcome, Drop) else None


RETURNS = [
    ("def f(x):\n    return x", None),
    ("async def f(x):\n    if x:\n        return 1", None),
    ("@cache\ndef f(x):\n    return not x", None),
    ("def f(x):\n    return", "returns no value"),
    ("def f(x):\n    return None", "returns no value"),
    ("def f(x):\n    yield x", "returns no value"),
    ("def f(x):\n    def g():\n        return 1\n    x.append(g)", "returns no value"),
    ("def f(x):\n    x.sort(key=lambda y: y)", "returns no value"),
    ("def f(x):\n    try:\n        pass\n    except OSError:\n        return 1", None),
    ("def f(x):\n    match x:\n        case 1:\n            return 1", None),
    ("def f(x):\n    print 'x'", "not Python 3"),
    ("def f(x):\n    return 1\nx = 2", "not Python 3"),
]
ARGUMENTS = [
    ("def f(x): return 1", None),
    ("def f(*x): return 1", None),
    ("def f(**x): return 1", None),
    ("def f(*, x): return 1", None),
    ("def f(x, /): return 1", None),
    ("def f(): return lambda x: x", "no argument"),
]
SIZES = [
    ("def f(x):\n    return x", None),
    ("def f(x):\n    y = x\n    return y", "more than 2 lines"),
    ("def f(x): return x", "fewer than 2 lines"),
    ("def f(x):\n    return '" + "x" * 80 + "'", "more than 60 characters"),
]
WORDS = [
    ("def f(x):\n    # TODO: more\n    return x", "bad word: todo"),
    ("def f(x):\n    # a bug.\n    return x", "bad word: bug"),
    ("def f(debug, bugs, todo_list):\n    return debug", None),
    ("def f(x):\n    # not your  code\n    return x", None),
    ("def f(x):\n    # your code\n    return x", "bad word: your code"),
    ("def f(x):\n    # debug or bug_report\n    return x  # Bug!", "bad word: bug"),
]
SANDBOX = [
    # imports, body, reason
    ("import re", "return re", None),
    ("import subprocess", "return subprocess", "import: subprocess"),
    ("from subprocess import run", "return run", "import: subprocess"),
    ("import subprocess_tee", "return subprocess_tee", None),
    ("import urllib.parse", "return urllib.parse", None),
    ("import urllib.request", "return urllib.request", "import: urllib.request"),
    ("from urllib import request", "return request", "import: urllib.request"),
    ("from urllib import parse", "return parse", None),
    ("import google.cloud.storage as s", "return s", "import: google.cloud"),
    ("", "if x:\n        import socket\n    return x", "import: socket"),
    ("", "def g():\n        from http import client\n    return g", "import: http.client"),
    ("", "from . import y\n    return y", "relative import"),
    ("", "from .y import z\n    return z", "relative import"),
    ("", "return 'import socket'", None),
]
CASES = [
    *((ReturnsValue(), *case) for case in RETURNS),
    *((HasArgument(), *case) for case in ARGUMENTS),
    *((Size(min_lines=2, max_lines=2, max_characters=60), *case) for case in SIZES),
    *((BadWords(words=("todo", "bug", "your code")), *case) for case in WORDS),
    (BadWords(words=("bug", "bug report")), "def f(x): return 'bug report'", "bad word: bug"),
    (BadWords(words=()), "def f(x): # todo", None),
]


@pytest.mark.parametrize(("row_filter", "code", "reason"), CASES)
def test_a_row_filter_keeps_or_names_a_reason(row_filter, code, reason):
    assert reason_of(row_filter, function(code)) == reason


@pytest.mark.parametrize(("imports", "body", "reason"), SANDBOX)
def test_imports_that_make_no_sense_in_a_sandbox(imports, body, reason):
    row = function(f"def f(x):\n    {body}", imports=imports)
    assert reason_of(SandboxImports(), row) == reason
    assert reason in (None, "relative import") or reason_of(SandboxImports(modules=("os",)), row) is None


LICENCES = [
    # stated, allowed by the default list
    ("MIT", True),
    ("mit", True),
    ("MIT License", True),
    ("The MIT License (MIT)", True),
    ("Apache Software License", True),
    ("Apache License, Version 2.0", True),
    ("apache-2.0", True),
    ("3-Clause BSD License", True),
    ("BSD-3-Clause", True),
    ("ISC License (ISCL)", True),
    ("Python Software Foundation License", True),
    ("The Unlicense (Unlicense)", True),
    ("Boost Software License 1.0 (BSL-1.0)", True),
    ("MIT OR GPL-3.0-only", True),
    ("MIT AND GPL-3.0-only", False),
    ("MIT, GPL-2.0", False),
    ("MIT, Apache-2.0", True),
    ("(MIT OR GPL-2.0) AND ISC", True),
    ("(MIT OR GPL-2.0) AND LGPL-3.0", False),
    ("Apache-2.0 WITH LLVM-exception", True),
    ("MIT License and Python Software Foundation License", True),
    ("GNU General Public License v3 or later (GPLv3+)", False),
    ("MIT License and GNU General Public License v3 or later (GPLv3+)", False),
    ("BSD-4-Clause", False),
    ("Apache-1.1", False),
    ("Other/Proprietary License", False),
    ("OSI Approved", False),
    ("unknown", False),
    ("UNKNOWN", False),
    ("None", False),
    ("", False),
    ("MIT AND unknown", False),
    ("AND", False),
    ("MIT MIT)", False),
]


@pytest.mark.parametrize(("stated", "allowed"), LICENCES)
def test_licences_are_the_same_however_they_are_written(stated, allowed):
    row = function("def f(x): return x", licence=stated)
    assert reason_of(Licences(), row) == (None if allowed else f"licence: {stated or 'unknown'}")


def test_a_licence_is_allowed_only_by_its_own_list():
    assert reason_of(Licences(allowed=("GPL-3.0+",)), function("", licence="GPL-3.0-or-later")) is None
    assert reason_of(Licences(allowed=("GPL-3.0",)), function("", licence="MIT")) == "licence: MIT"
    assert reason_of(Licences(allowed=()), function("", licence="MIT")) == "licence: MIT"
    assert reason_of(Licences(allowed=("MIT", "unknown")), function("", licence="")) is None


INFERRED = [
    # body, imports that the function has, imports that are added
    ("return np.zeros(x)", "", "import numpy as np"),
    ("return np.zeros(x)", "import mine as np", ""),
    ("return os.path.join(x)", "import re", "import os"),
    ("y: Optional[int] = os.getpid()\n    return y", "", "from typing import Optional\nimport os"),
    ("return datetime.now()", "", "from datetime import datetime"),
    ("return datetime.datetime.now()", "", "import datetime"),
    ("return datetime.nothing", "", ""),
    ("return copy.copy(x)", "", "import copy"),
    ("return copy(x)", "", ""),
    ("return os", "", ""),  # a module that is handed on: whose name is this?
    ("return helper(np.zeros(x))", "", ""),  # it would be no whole function with numpy either
    ("return [np for np in x]", "", ""),
    ("np = x\n    return np.zeros", "", ""),
    ("return f(x - 1)", "", ""),
    ("return len(x), __name__", "", ""),
]


@pytest.mark.parametrize(("body", "imports", "added"), INFERRED)
def test_imports_are_inferred_only_where_they_make_a_function_whole(body, imports, added):
    row = function(f"def f(x):\n    {body}", imports=imports)
    [outcome] = InferImports()([Candidate(row)])
    assert outcome.inferred_imports == added
    assert outcome.imports == "\n".join(filter(None, [imports, added]))
    assert (outcome.id, outcome.code) == (row.id, row.code)


def test_changed_functions_are_counted_and_carry_what_was_added():
    rows = [function(f"def f(x):\n    return {body}", number) for number, body in enumerate(["np.a", "x", "helper"])]
    kept, rejected, funnel = filter_part(rows, parse_filters('[{"name": "infer_imports"}]').rows)
    assert [(row.imports, row.inferred_imports) for row in kept] == [("import numpy as np",) * 2, ("", ""), ("", "")]
    assert rejected == []
    assert funnel.dump()["stages"] == [{"stage": "infer_imports", "input": 3, "kept": 3, "dropped": {}, "changed": 1}]
    assert sum_funnels({"a": funnel.dump(), "b": funnel.dump()}).dump()["stages"][0]["changed"] == 2


def test_what_an_inferred_import_binds_is_there():
    for lines in TABLE.values():
        for line in lines:
            if line.split()[1].partition(".")[0] in sys.stdlib_module_names:
                exec(line, {})


DOCSTRINGS = [
    # name, docstring, reason
    ("merge", "Merge two sorted lists into one.", None),
    ("merge", "Merge two lists.\n\n>>> merge([1], [2])\n[1, 2]", None),
    ("merge", ":param a: First list.\n:returns: all items of both lists", None),
    ("merge", "Args:\n    a: First list of the two.\nReturns:\n    All items of both lists.", None),
    ("merge", "Merge.", "fewer than 3 words"),
    ("merge", ">>> merge([1], [2])\n[1, 2]\n>>> merge([], [])\n[]", "only code"),
    ("merge", "```\nmerge the lists a and b\n```", "only code"),
    ("merge", "Example::\n\n    call merge with two lists\n", "only code"),
    ("merge", ":param a: First list of the two\n:param b: Second list of the two", "only parameters"),
    ("merge", "Parameters\n----------\na : list\n    The first list of the two.", "only parameters"),
    ("merge", "See https://example.org/docs/merge-two-lists.html", "only a URL"),
    ("merge_lists", "Merge the lists.", "repeats the signature"),
    ("merge_lists", "Merges a list with another list.", None),
    ("getUser", "Get the user by user_id.", "repeats the signature"),
    ("merge", "Auto-generated by the build, see there.", "boilerplate"),
    ("merge", "Reads what is auto-generated by the build.", None),
    ("merge", "_summary_", "boilerplate"),
    ("merge", "Add docstring here", "boilerplate"),
    ("merge", "\u5408\u5e76\u4e24\u4e2a\u5217\u8868 merge \u5e76\u8fd4\u56de", "not English: another script"),
    ("merge", "Devuelve una lista con los elementos de las dos listas.", "not English: Spanish"),
    ("merge", "Gibt eine Liste mit allen Werten der beiden Listen zur\u00fcck.", "not English: German"),
    ("merge", "Retourne la liste des \u00e9l\u00e9ments des deux listes pour le tri.", "not English: French"),
    ("merge", "Solve with the L\u00e9vy\u2013Prokhorov metric \u03c0 of two lists.", None),
    ("merge", "word " * 11, "more than 10 words"),
]


@pytest.mark.parametrize(("name", "docstring", "reason"), DOCSTRINGS)
def test_static_rules_for_docstrings(name, docstring, reason):
    limit = 10 if reason == "more than 10 words" else 400
    row = function("def f(user_id): return user_id", docstring=docstring, name=name)
    assert reason_of(DocstringQuality(max_words=limit), row) == (reason and f"docstring: {reason}")


TYPES = [
    # code, imports, reason
    ("def f(x):\n    return x + 1", "", None),
    ("def f(x):\n    return helper(x)", "", "undefined name"),
    ("def f(x):\n    return helper(x)  # noqa", "", "undefined name"),
    ("def f(x):\n    return os.path.join(x, 'a')", "", "undefined name"),
    ("def f(x):\n    return os.path.join(x, 'a')", "import os", None),
    ("def f(x: int):\n    return x.nothing", "", "type error"),
    ("def f(x):\n    return len(5) + x", "", "type error"),
    ("def f(x):\n    return sys.no_such_name", "import sys", "type error"),
    ("def f(x):\n    return no_such_name(x)", "from math import no_such_name", "type error"),
    ("def f(x):\n    return gone.go(x)", "import no_such_module as gone", "unresolved import"),
    ("def f(x):\n    return os.gone", "import os.gone", "type error"),
    # No type stubs exist for it, but it is of the standard library
    ("def f(x):\n    return _symtable.symtable(x, 'a', 'exec')", "import _symtable", None),
    ("def f(x):\n    return Table(x)", "from pyarrow.lib import Table", None),  # compiled, without stubs
    ("def f(x: ParseFloat):\n    return x", "from tomllib._types import ParseFloat", None),
    ("def f(x: Later) -> Later:\n    return x", "from __future__ import annotations", "undefined name"),
    ("def f(x: int):\n    return x.nothing  # type: ignore", "", None),
    # Comments for one checker are for none, so that the verdict is the same with all
    ("def f(x: int):\n    return x.nothing  # ty: ignore", "", "type error"),
    ("def f(x: int):\n    return x.nothing  # pyright: ignore", "", "type error"),
]


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_type_check_finds_planted_errors_and_nothing_else(checker):
    if shutil.which(checker, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])) is None:
        pytest.skip(f"{checker} is not in the lock and not installed")
    rows = [function(code, number, imports) for number, (code, imports, _) in enumerate(TYPES)]
    found = TypeChecker(checkers=[checker], batch=10, timeout_s=300).check(rows)
    assert [error and error[0] for error in found] == [case[2] for case in TYPES]
    assert found[1] == ("undefined name", "helper")
    assert found[9] == ("unresolved import", "no_such_module")
    assert "nothing" in found[5][1]


# What only one of the two finds
DISAGREEMENTS = [
    # code, the checker that finds an error, its rule
    ("def f(x):\n    # type: (Later) -> int\n    return 1", "basedpyright", "reportUndefinedVariable"),
    (
        "def f(x):\n    def g(y): return 1\n    def g(y): return 2\n    return g(x)",
        "basedpyright",
        "reportRedeclaration",
    ),
    ("def f(x, y=[]):\n    return y.nothing", "ty", "missing-union-attribute"),
    ("def f(x):\n    global later\n    later = x\n    return later", "ty", "unresolved-global"),
]


@pytest.mark.parametrize("checkers", [["ty"], ["basedpyright"], ["ty", "basedpyright"]], ids="+".join)
def test_checkers_in_turn_keep_what_all_of_them_keep_however_functions_are_batched(checkers):
    rows = [function(code, number, imports) for number, (code, imports, _) in enumerate(TYPES)]
    rows += [function(code, len(rows) + number) for number, (code, _, _) in enumerate(DISAGREEMENTS)]
    found = TypeChecker(checkers=checkers, batch=100, timeout_s=300).check(rows)
    assert [error and error[0] for error in found[: len(TYPES)]] == [case[2] for case in TYPES]
    for error, (_, checker, rule) in zip(found[len(TYPES) :], DISAGREEMENTS, strict=True):
        assert (error and error[1].partition(":")[0]) == (rule if checker in checkers else None)
    order = random.Random(1).sample(range(len(rows)), len(rows))
    in_batches = TypeChecker(checkers=checkers, batch=9, timeout_s=300).check([rows[number] for number in order])
    assert in_batches == [found[number] for number in order]


def test_the_default_checker_is_installed():
    [(_, row_filter)] = parse_filters('[{"name": "type_check"}]').rows
    assert all(find_tool(name) for name in row_filter.checkers)


MODULES = [
    ("json", True),
    ("json.decoder", True),
    ("tomllib._types", True),
    ("_symtable", True),
    ("pytest", True),
    ("pyarrow.lib", True),  # compiled
    ("filter_functions", False),  # beside the command
    ("no_such_module", False),
    ("json.no_such_module", False),
    ("json.decoder.no_package", False),
]


@pytest.mark.parametrize(("name", "installed"), MODULES)
def test_which_modules_are_installed(name, installed):
    assert (name in InstalledModules()) == installed


# What a checker prints about the canary, in its own form
CANARY_REPORTS = {
    "ty": '[{"severity": "major", "check_name": "a", "description": "b", "location": {"path": "canary.py"}}]',
    "pyrefly": '{"errors": [{"severity": "error", "name": "a", "concise_description": "b", "path": "canary.py"}]}',
    "zuban": "canary.py:2: error: b  [a]",
    "pyright": '{"generalDiagnostics": [{"severity": "error", "rule": "a", "message": "b", "file": "canary.py"}]}',
}
EMPTY_REPORTS = {"ty": "[]", "pyrefly": '{"errors": []}', "zuban": "", "pyright": '{"generalDiagnostics": []}'}


@pytest.mark.parametrize("checker", CANARY_REPORTS)
def test_a_crash_or_a_time_out_of_the_type_checker_loses_no_other_function(checker, tmp_path, monkeypatch):
    tools = Path(find_tool("ruff")).parent
    fragile = tmp_path / checker
    fragile.write_text(
        "#!/bin/sh\n"
        "if grep -q crash program_*; then echo '[{'; exit 2; fi\n"
        "if grep -q garbage program_*; then echo '[{\"a\": 1}]'; exit 0; fi\n"
        "if grep -q hang program_*; then sleep 100 & wait; fi\n"
        f"if grep -q skip program_*; then echo '{EMPTY_REPORTS[checker]}'; exit 0; fi\n"
        f"echo '{CANARY_REPORTS[checker]}'\n"
    )
    fragile.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    reasons = {
        "1": None,
        "'crash'": "crashed",
        "2": None,
        "'skip'": "skipped a function",
        "3": None,
        "'hang'": "timed out",
    }
    rows = [function(f"def f(x):\n    return {body}", number) for number, body in enumerate(reasons)]
    rows.append(function("def f(x):\n    return 'garbage'", len(rows)))
    found = TypeChecker(checkers=[checker], batch=100, timeout_s=1).check(rows)
    expected = [reason and (f"type checker {reason}", "") for reason in reasons.values()]
    garbage = "skipped a function" if checker == "zuban" else "crashed"  # its output is lines
    assert found == [*expected, (f"type checker {garbage}", "")]


def test_a_type_checker_that_is_not_installed_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="basedpyright is not installed; install it with"):
        TypeChecker(checkers=["basedpyright"], batch=1, timeout_s=1).check([function("def f(x): return x")])
    with pytest.raises(ValueError, match="ruff is not installed; install it with"):
        undefined_names([function("def f(x): return x")])
    with pytest.raises(ValueError, match="unknown checker 'mypy'; known are ty, pyrefly, zuban, pyright, basedpyright"):
        TypeChecker(checkers=["mypy"], batch=1, timeout_s=1)
    (tmp_path / "ty").write_text("#!/bin/sh\n")
    (tmp_path / "ty").chmod(0o755)
    with pytest.raises(ValueError, match="basedpyright is not installed"):  # said first, though it runs last
        TypeChecker(checkers=["ty", "basedpyright"], batch=1, timeout_s=1).check([function("def f(x): return x")])


LISTS = [
    ("[", "not valid JSON"),
    ("{}", "expected a list"),
    ('["size"]', "entry 1: unknown filter 'size'"),
    ('[{"name": "sizes"}]', "unknown filter 'sizes'; the filters are returns_value, has_argument"),
    ('[{"name": ["size"]}]', "entry 1: unknown filter"),
    ('[{"name": "size", "max_line": 3}]', "unknown setting 'max_line'; did you mean max_lines?"),
    ('[{"name": "size", "max_lines": "3"}]', "max_lines is '3', which is not a whole number"),
    ('[{"name": "size"}, {"name": "size"}]', "size is listed twice"),
    ('[{"name": "benchmarks"}, {"name": "size"}]', "size is listed after benchmarks.*list size before it"),
    (
        '[{"name": "docstring_judge", "model": "m"}, {"name": "size"}]',
        "size is listed after docstring_judge, which needs",
    ),
    ('[{"name": "docstring_judge"}]', "model"),
    ('[{"name": "docstring_judge", "model": "m", "threshold": 0}]', "threshold above 0"),
    ('[{"name": "type_check", "checkers": ["mypy"]}]', "entry 1, type_check: .*unknown checker 'mypy'"),
    ('[{"name": "type_check", "checkers": "ty"}]', "entry 1, type_check: checkers is 'ty', which is not"),
    ('[{"name": "type_check", "checkers": []}]', "entry 1, type_check: .*no checker; list at least one of ty"),
    ('[{"name": "type_check", "checkers": ["ty", "ty"]}]', "entry 1, type_check: .*ty is listed twice"),
]


JAVASCRIPT_LISTS = [
    (
        '[{"name": "size"}, {"name": "infer_imports"}]',
        r"^filters\.1: infer_imports is not there for JavaScript; take it",
    ),
    ('[{"name": "docstring_judge", "model": "m"}]', r"^filters\.0: docstring_judge is not there for JavaScript"),
    ('[{"name": "type_check", "checkers": ["ty"]}]', r"^filters\.0\.checkers: ty is not for JavaScript; it has node"),
]


@pytest.mark.parametrize(("text", "message"), JAVASCRIPT_LISTS)
def test_what_a_language_lacks_is_a_clear_error(text, message):
    parse_filters(text)
    with pytest.raises(ValueError, match=message):
        parse_filters(text, "javascript")
    with pytest.raises(ValueError, match=r"^filters\.0\.checkers: node is not for Python; it has ty"):
        parse_filters('[{"name": "type_check", "checkers": ["node"]}]')


@pytest.mark.parametrize(("text", "message"), LISTS)
def test_a_wrong_filter_list_is_a_clear_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse_filters(text)


def test_filters_run_in_the_order_of_the_list_and_the_counts_add_up():
    codes = ["def f():\n    pass", "def f(x):\n    pass", "def f():\n    return 1", "def f(x):\n    return x"]
    rows = [function(code, number) for number, code in enumerate(codes)]
    outcomes = {}
    for names in (["returns_value", "has_argument"], ["has_argument", "returns_value"]):
        filters = parse_filters(json.dumps([{"name": name} for name in [*names, "benchmarks"]]))
        assert [name for name, _ in filters.corpus] == ["benchmarks"]
        kept, rejected, funnel = filter_part(rows, filters.rows)
        in_blocks = filter_part(rows, filters.rows, block=3)
        assert (in_blocks[0], in_blocks[2].dump()) == (kept, funnel.dump())
        assert sorted(in_blocks[1], key=lambda row: row["id"]) == sorted(rejected, key=lambda row: row["id"])
        assert [row.id for row in kept] == [rows[3].id]
        outcomes[names[0]] = {row["id"]: (row["stage"], row["reason"]) for row in rejected}
        first, second = funnel.dump()["stages"]
        assert (first["input"], first["kept"], second["input"], second["kept"]) == (4, 2, 2, 1)
    assert outcomes["returns_value"][rows[0].id] == ("returns_value", "returns no value")
    assert outcomes["has_argument"][rows[0].id] == ("has_argument", "no argument")


def test_the_command_keeps_every_function_in_one_of_its_two_files(tmp_path):
    rows = [function(code, number, imports) for number, (code, imports, _) in enumerate(TYPES)]
    write_table(tmp_path / "part.parquet", [row.dump() for row in rows], FUNCTION_COLUMNS)
    filters = '[{"name": "returns_value"}, {"name": "type_check"}, {"name": "near_duplicates"}]'
    files = {name: tmp_path / f"out/{name}" for name in ("kept.parquet", "rejected.parquet", "funnel.json")}
    options = ["--input", tmp_path / "part.parquet", "--filters", filters]
    for option, path in zip(("--kept", "--rejected", "--funnel"), files.values(), strict=True):
        options += [option, path]
    command = [sys.executable, SCRIPTS / "filter_functions.py", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == files.keys()
    kept, rejected = read_table(files["kept.parquet"]), read_table(files["rejected.parquet"])
    assert sorted(row["id"] for row in [*kept, *rejected]) == [row.id for row in rows]
    assert list(rejected[0]) == list(REJECTED_COLUMNS)
    assert {row["id"]: row["reason"] for row in rejected} == {
        row.id: reason for row, (_, _, reason) in zip(rows, TYPES, strict=True) if reason
    }
    assert json.loads(files["funnel.json"].read_text())["stages"] == [
        {"stage": "returns_value", "input": 18, "kept": 18, "dropped": {}},
        {
            "stage": "type_check",
            "input": 18,
            "kept": 6,
            "dropped": {"type error": 7, "undefined name": 4, "unresolved import": 1},
        },
    ]

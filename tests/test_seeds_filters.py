"""Row filters: what each keeps, its reasons, and the errors of a filter list; the type check with its real tools."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from selfalign.records.files import read_table, write_table
from selfalign.records.rows import Function
from selfalign.seeds.filters import BadWords, HasArgument, ReturnsValue, Size, parse_filters
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS, filter_part
from selfalign.seeds.type_check import TypeChecker, find_tool

SCRIPTS = Path(__file__).parents[1] / "scripts"


def function(code: str, number: int = 0, imports: str = "") -> Function:
    return Function(
        id=f"{number:016x}",
        code=code,
        name="f",
        imports=imports,
        docstring="Doc.",
        package="pkg",
        version="1",
        path="mod.py",
        line=number + 1,
        licence="MIT",
    )


RETURNS = [
    ("def f(x):\n    return x", None),
    ("async def f(x):\n    if x:\n        return 1", None),
    ("@cache\ndef f(x):\n    return not x", None),
    ("def f(x):\n    return", "returns no value"),
    ("def f(x):\n    return None", "returns no value"),
    ("def f(x):\n    yield x", "returns no value"),
    ("def f(x):\n    def g():\n        return 1\n    x.append(g)", "returns no value"),
    ("def f(x):\n    x.sort(key=lambda y: y)", "returns no value"),
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
]
CASES = [
    *((ReturnsValue(), *case) for case in RETURNS),
    *((HasArgument(), *case) for case in ARGUMENTS),
    *((Size(min_lines=2, max_lines=2, max_characters=60), *case) for case in SIZES),
    *((BadWords(words=("todo", "bug", "your code")), *case) for case in WORDS),
    (BadWords(words=()), "def f(x): # todo", None),
]


@pytest.mark.parametrize(("row_filter", "code", "reason"), CASES)
def test_a_row_filter_keeps_or_names_a_reason(row_filter, code, reason):
    assert row_filter([function(code)]) == [reason]


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
    ("def f(x):\n    return gone.go(x)", "import no_such_module as gone", "type error"),
    # No type stubs exist for it, but it is of the standard library
    ("def f(x):\n    return _symtable.symtable(x, 'a', 'exec')", "import _symtable", None),
    ("def f(x: Later) -> Later:\n    return x", "from __future__ import annotations", "undefined name"),
]


def test_the_type_check_finds_planted_errors_and_nothing_else():
    rows = [function(code, number, imports) for number, (code, imports, _) in enumerate(TYPES)]
    # Batches are only a matter of speed: the command below runs all in one
    assert TypeChecker(checker="basedpyright", batch=4, timeout_s=300).check(rows) == [case[2] for case in TYPES]


@pytest.fixture
def fragile_checker(tmp_path, monkeypatch):
    """Put a checker first on the path that crashes, hangs or skips a file when a batch holds a given word."""
    tools = Path(find_tool("ruff")).parent
    checker = tmp_path / "pyright"
    checker.write_text(
        "#!/bin/sh\n"
        "if grep -q crash program_*; then echo '{' ; exit 2; fi\n"
        "if grep -q hang program_*; then sleep 100; fi\n"
        "count=$(grep -L skip program_* | wc -l)\n"
        'echo "{\\"summary\\": {\\"filesAnalyzed\\": $count}, \\"generalDiagnostics\\": []}"\n'
    )
    checker.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")


def test_a_crash_or_a_time_out_of_the_type_checker_loses_no_other_function(fragile_checker):
    bodies = ["1", "'crash'", "2", "'skip'", "3", "'hang'"]
    rows = [function(f"def f(x):\n    return {body}", number) for number, body in enumerate(bodies)]
    assert TypeChecker(checker="pyright", batch=100, timeout_s=2).check(rows) == [
        None,
        "type checker crashed",
        None,
        "type checker skipped a function",
        None,
        "type checker timed out",
    ]


def test_a_type_checker_that_is_not_installed_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="ruff is not installed; install it with"):
        TypeChecker(checker="basedpyright", batch=1, timeout_s=1).check([function("def f(x): return x")])
    with pytest.raises(ValueError, match="unknown checker 'mypy'; known are basedpyright, pyright"):
        TypeChecker(checker="mypy", batch=1, timeout_s=1)


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
]


@pytest.mark.parametrize(("text", "message"), LISTS)
def test_a_wrong_filter_list_is_a_clear_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse_filters(text)


def test_filters_run_in_the_order_of_the_list_and_the_counts_add_up():
    codes = ["def f():\n    pass", "def f(x):\n    pass", "def f():\n    return 1", "def f(x):\n    return x"]
    rows = [function(code, number) for number, code in enumerate(codes)]
    outcomes = {}
    for names in (["returns_value", "has_argument"], ["has_argument", "returns_value"]):
        row_filters, corpus_filters = parse_filters(json.dumps([{"name": name} for name in [*names, "benchmarks"]]))
        assert [name for name, _ in corpus_filters] == ["benchmarks"]
        kept, rejected, funnel = filter_part(rows, row_filters)
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
        {"stage": "returns_value", "input": 11, "kept": 11, "dropped": {}},
        {"stage": "type_check", "input": 11, "kept": 3, "dropped": {"type error": 4, "undefined name": 4}},
    ]

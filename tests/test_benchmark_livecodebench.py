"""LiveCodeBench: contest problems with standard input and with calls, in the format of the published files."""

import base64
import json
import pickle
import zlib
from functools import partial
from pathlib import Path

import pytest

from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.livecodebench import read_tests, same_text
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.references import Reference, fit_sandbox
from selfalign.benchmarks.tasks import Task, read_tasks
from selfalign.benchmarks.verification import check_program
from selfalign.records.files import write_jsonl
from selfalign.sandbox import Sandbox, SandboxSettings

PUBLIC = [{"input": "3\n1 2 3\n", "output": "6\n", "testtype": "stdin"}]
HIDDEN = [{"input": "1\n-4\n", "output": "-4\n", "testtype": "stdin"}]


def pack(tests: list[dict]) -> str:
    """Pack hidden tests as the lite version does."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


SCRIPT = {
    "question_title": "Sum",
    "question_content": "Print the sum of the numbers.",
    "platform": "atcoder",
    "question_id": "abc1_a",
    "contest_id": "abc1",
    "contest_date": "2023-09-10T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps(PUBLIC),
    "private_test_cases": pack(HIDDEN),
    "metadata": "{}",
}
CALL = {
    **SCRIPT,
    "question_id": "100",
    "platform": "leetcode",
    "contest_date": "2023-05-02T00:00:00",
    "starter_code": "class Solution:\n    def pairs(self, xs: List[int], k: int) -> List[int]:\n        ",
    "public_test_cases": json.dumps([{"input": "[3, 1, 2]\n2", "output": "[1, 2]", "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "[]\n1", "output": "[]", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "pairs"}),
}


def prepare(tmp_path: Path, rows: list[dict], **options) -> list[Task]:
    """Write the problems as a folder of two files and return the tasks."""
    folder = tmp_path / "lcb"
    folder.mkdir()
    write_jsonl(folder / "test.jsonl", rows[:1])
    write_jsonl(folder / "test2.jsonl", rows[1:])
    prepare_benchmark("livecodebench", folder, options, tmp_path / "lcb.jsonl", tmp_path / "source.json")
    return read_tasks(tmp_path / "lcb.jsonl")


def verdicts(task: Task, codes: dict[str, str]) -> dict[str, str]:
    """Return the verdict on each solution, by its name."""
    make = partial(check_program, task, task.checks[0], Reference(id=task.id))
    programs = [make(code, name, 4.0) for name, code in codes.items()]
    sandbox = Sandbox(fit_sandbox(SandboxSettings(), [task]), 1)
    return {one.id.removesuffix("/tests"): one.verdict for one in sandbox.run(programs)}


FORGED = """import os
os.write(1, b'\\x1e{"outputs": ["6", "-4"], "seconds": [0, 0]}\\n')
os._exit(0)
"""
READS = {
    "right by input": ("n = int(input())\nprint(sum(map(int, input().split())))", "passed"),
    "right by sys.stdin": ("print(sum(list(map(int, stdin.read().split()))[1:]))", "passed"),
    "right by the buffer": ("import sys\nprint(sum(map(int, sys.stdin.buffer.read().split()[1:])))", "passed"),
    "right by descriptor 0": ("xs = open(0).read().split()\nprint(sum(map(int, xs[1:])))", "passed"),
    "right by os": ("import os\nprint(sum(map(int, os.read(0, 100).split()[1:])))", "passed"),
    "right in a main": ("def main():\n    input()\n    print(sum(map(int, input().split())))\n"
                        "if __name__ == '__main__':\n    main()", "passed"),
    "right, then exit": ("import sys\ninput()\nprint(sum(map(int, input().split())))\nsys.exit(0)", "passed"),
    "right as a decimal": ("input()\nprint(f'  {sum(map(int, input().split())):.2f}  \\n')", "passed"),
    "wrong": ("print(6)", "wrong_output"),
    "silent": ("input()", "wrong_output"),
    "one line too many": ("input()\nprint(sum(map(int, input().split())))\nprint(0)", "wrong_output"),
    "raises": ("raise ValueError", "exception"),
    "reads too much": ("input()\ninput()\ninput()", "exception"),
    "does not parse": ("print(", "exception"),
    "prints what the driver prints": (FORGED, "early_exit"),
}  # fmt: skip


def test_scripts_read_their_input_in_every_way(tmp_path):
    task = prepare(tmp_path, [SCRIPT])[0]
    assert (task.entry_point, task.checks[0].driver, task.groups["month"]) == ("", "script", "2023-09")
    found = verdicts(task, {name: code for name, (code, _) in READS.items()})
    assert found == {name: verdict for name, (_, verdict) in READS.items()}


BODY = "    def pairs(self, xs: List[int], k: int) -> List[int]:\n        "
CALLS = {
    "right": (f"class Solution:\n{BODY}return sorted(xs)[:k]", "passed"),
    "right with taken-for-granted imports": (f"class Solution:\n{BODY}return nsmallest(k, Counter(xs).elements())",
                                             "passed"),
    "right as a tuple": (f"class Solution:\n{BODY}return tuple(sorted(xs)[:k])", "passed"),
    "right as a function": ("def pairs(xs, k):\n    return sorted(xs)[:k]", "passed"),
    "wrong": (f"class Solution:\n{BODY}return xs[:k]", "wrong_output"),
    "equal to everything": (f"class Any(list):\n    def __eq__(self, other):\n        return True\n\nclass Solution:\n"
                            f"{BODY}return Any()", "wrong_output"),
    "another name": ("class Solution:\n    def other(self, xs, k):\n        return sorted(xs)[:k]", "exception"),
}  # fmt: skip


def test_methods_are_called(tmp_path):
    task = prepare(tmp_path, [CALL])[0]
    assert CALL["starter_code"].rstrip() in task.instruction
    assert verdicts(task, {name: code for name, (code, _) in CALLS.items()}) == {
        name: verdict for name, (_, verdict) in CALLS.items()
    }


WINDOWS = [
    ({}, {"abc1_a", "100"}),
    ({"start_date": "2023-09-01"}, {"abc1_a"}),
    ({"start_date": "2023-09-10", "end_date": "2023-09-10"}, {"abc1_a"}),
    ({"end_date": "2023-09-09"}, {"100"}),
]


@pytest.mark.parametrize(("options", "ids"), WINDOWS)
def test_a_window_of_dates_holds_both_its_ends(tmp_path, options, ids):
    assert {task.id for task in prepare(tmp_path, [SCRIPT, CALL], **options)} == ids


def test_wrong_options_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no tasks in it; correct the benchmark's options"):
        prepare(tmp_path, [SCRIPT], start_date="2030-01-01")


class Bad:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    "value", ["no base64", base64.b64encode(zlib.compress(pickle.dumps(Bad()))).decode()], ids=["damaged", "hostile"]
)
def test_hidden_tests_are_text_and_nothing_else(value, capsys):
    with pytest.raises(ValueError, match="the hidden tests cannot be read"):
        read_tests(value)
    assert capsys.readouterr().out == ""


SAME = [
    ("1 2\n3", "1 2\n3", True),
    ("  1.50 2 \n", "1.5 2.0", True),
    ("YES", "yes", False),
    ("1\n\n2", "1\n2", False),
    ("0.1", "0.10000000000000001", False),
    ("a 1", "a 1.0", False),
]


@pytest.mark.parametrize(("found", "expected", "same"), SAME)
def test_printed_numbers_are_decimals(found, expected, same):
    assert same_text(found, expected) is same


def test_the_kind_is_registered():
    assert KINDS["livecodebench"].options == {"start_date": None, "end_date": None}

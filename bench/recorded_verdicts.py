"""Run programs that models wrote in the sandbox and compare with the verdicts that others recorded for them.

BENCHDATA is a folder with evalplus_verdicts.jsonl.xz and canitedit_verdicts.jsonl.xz in verdicts/, and with the
problem files that they name: humaneval_plus/ and mbpp_plus/ (EvalPlus releases), canitedit/canitedit.jsonl.gz. Exit
code 1 says that a disagreement is not explained in EXPLAINED, or that a set agrees less than GATE.
"""

import argparse
import base64
import gzip
import hashlib
import importlib.util
import inspect
import json
import lzma
import os
import pickle
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from selfalign.records.commands import run_command
from selfalign.records.files import digest, write_json
from selfalign.records.progress import Progress
from selfalign.records.rows import Verdict
from selfalign.sandbox import Program, Sandbox, SandboxSettings

GATE = 0.995  # share of a set's steady records that the sandbox has to agree with
COUNTS = ("records", "agree_with_record", "reruns", "agree_with_rerun", "steady", "agree_with_steady")
# EvalPlus allows 4 GB and any output. Its limit is on each call (`call_within`), and ours for the whole program is
# there for calls that no signal interrupts: right solutions of Mbpp/599 count to 10**8 sixteen times.
EVALPLUS = SandboxSettings(cpu_s=240.0, memory_mb=4096, output_kb=1 << 16)
CANITEDIT = SandboxSettings(memory_mb=4096)
# Asserts of wall-clock time in CanItEdit; HumanEval/32 is always "fail" in EvalPlus up to 0.3.1.
LEFT_OUT = ("HumanEval/32", "47_merge_sort", "60_unique_number")
# Libraries by the names under which CanItEdit lists them, and under which programs import them.
LIBRARIES = {name: name for name in ("numpy", "scipy", "pandas", "autograd", "z3", "torch", "flask", "vllm")}
LIBRARIES["scikit-learn"] = "sklearn"
REFUSED = {"z3"}  # it works through ctypes, which the sandbox refuses
PARTS = {"scipy": ["scipy.stats"]}  # of packages, that import ctypes and so have to be preloaded

# (set, task, first letters of the model's name or "" for all, our verdict): why it is not the recorded one.
EXPLAINED = {
    ("MBPP+ plus", "Mbpp/566", "meta-llama", "passed"): "the record errs: a right solution of 0.01 CPU seconds, whose "
    "record was never run again; EvalPlus 0.3.1 alone on a machine passes it on all 113 inputs",
    ("MBPP+ plus", "Mbpp/255", "starcoder2", "passed"): "the record errs: this is the reference solution under other "
    "names; it needs 7 CPU seconds, and EvalPlus 0.3.1 passes it alone on a machine but times out on a busy one",
    ("CanItEdit", "8_vector_lib", "", "swallowed_assertion"): "the test errs: a bare `except` catches the `assert "
    "False` that stands before it, so it cannot fail; a false assertion of a test is never a pass here",
    ("CanItEdit", "6_locked_box", "", "swallowed_assertion"): "the test errs: `except Exception` catches the `assert "
    "False` that stands before it, so it cannot fail; a false assertion of a test is never a pass here",
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """A verdict that others recorded.

    Attributes:
        program: Id of the program in the sandbox; equal programs of a set are run once.
        recorded: Whether it passed.
        rerun: Whether it passed when the same judge ran it again, None where it was not.
    """

    set: str
    task: str
    model: str
    program: str
    recorded: bool
    rerun: bool | None

    @property
    def steady(self) -> bool:
        """Tell whether the record does not contradict its own rerun."""
        return self.rerun is None or self.rerun == self.recorded


# --- The oracle of EvalPlus: the source of the functions up to `right_outputs` is sent along with each program ------


def is_close(found, expected, atol: float) -> bool:
    """Compare numbers, and sequences of them, as numpy.allclose does with a relative tolerance of 1e-7."""
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(is_close(a, b, atol) for a, b in zip(found, expected, strict=True))
    if not isinstance(found, int | float | complex) or not isinstance(expected, int | float | complex):
        return False
    return found == expected or abs(found - expected) <= atol + 1e-7 * abs(expected)


def is_floats(value) -> bool:
    """Tell whether an expected output is a float or a sequence of floats, which EvalPlus compares with 1e-6."""
    values = value if isinstance(value, list | tuple) else [value]
    return bool(values) and all(isinstance(item, float) for item in values)


def is_special(entry_point: str, arguments: list, found, expected, atol: float) -> bool | None:
    """Apply EvalPlus's own rules for single tasks of MBPP; None where the task has none."""
    if entry_point == "are_equivalent":  # Mbpp/164: anything that runs
        return True
    if entry_point == "sum_div":  # Mbpp/295: the sum of the proper divisors of 1 may be 0
        return found == expected or found == 0
    if entry_point == "surface_Area":  # Mbpp/581: the height may be that of the pyramid or of its faces
        edge, height = arguments
        area = round(edge**2 + 2 * edge * ((edge / 2) ** 2 + height**2) ** 0.5)
        return found == expected or abs(found - area) <= atol
    if entry_point == "digit_distance_nums":  # Mbpp/558: the digits of both numbers, one by one
        width = max(len(str(number)) for number in arguments)
        first, second = (str(number).zfill(width) for number in arguments)
        return found == expected or found == sum(abs(int(a) - int(b)) for a, b in zip(first, second, strict=True))
    if entry_point in (
        "similar_elements",
        "find_char_long",
        "common_in_nested_lists",
        "extract_singly",
        "larg_nnum",
        "intersection_array",
        "find_dissimilar",
        "Diff",
    ):
        return set(found) == set(expected)
    if entry_point in ("check_str", "text_match_three", "text_starta_endb"):  # a match object is as good as True
        return (found if isinstance(found, bool) else found is not None) == (expected is not None)
    return None


def call_within(seconds: float, function, arguments: list):
    """Call a function with a limit of CPU time; EvalPlus's limit is the same number of wall seconds."""
    import signal

    def stop(*_):
        raise TimeoutError(f"more than {seconds:.2f} CPU seconds for one input")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def right_outputs(solution, payload: str):
    """Yield for each input whether the solution's output is right by the rules of EvalPlus 0.3.1.

    Args:
        payload: Base64 of the pickled inputs, reference solution, name of the function, absolute tolerance and
            whether the task is one of MBPP.
    """
    import base64
    import copy
    import pickle
    import time

    inputs, reference, entry_point, atol, is_mbpp = pickle.loads(base64.b64decode(payload))
    space: dict = {}
    exec(reference, space)
    for arguments in inputs:
        start = time.process_time()
        expected = space[entry_point](*copy.deepcopy(arguments))
        seconds = time.process_time() - start
        own = copy.deepcopy(arguments)
        found = call_within(max(1.0, 4 * seconds), solution, own)
        right = is_special(entry_point, own, found, expected, atol) if is_mbpp else None
        if right is None:
            right = found == expected
        if atol == 0 and is_floats(expected):
            atol = 1e-6  # and it stays so for the inputs that follow, as in EvalPlus
        if not right and atol != 0:
            right = type(found) is type(expected) and is_close(found, expected, atol)
        yield right


ORACLE = "\n\n".join(inspect.getsource(part) for part in (is_close, is_floats, is_special, call_within, right_outputs))


# --- From the files to programs -------------------------------------------------------------------------------------


def deep_tuple(value):
    """Turn lists within lists into tuples."""
    return tuple(map(deep_tuple, value)) if isinstance(value, list) else value


def tuples(values: list) -> list:
    """Turn the lists of a list into tuples."""
    return [tuple(value) for value in values]


# JSON has neither tuples nor sets nor complex numbers: which arguments of which MBPP task were some.
CONVERSIONS: list[tuple[set[int], Callable[[list], list | tuple]]] = [
    (
        {2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809},
        tuples,
    ),
    (
        {63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780},
        lambda arguments: [tuples(argument) for argument in arguments],
    ),
    ({75, 413, 444, 753}, lambda arguments: [tuples(arguments[0]), *arguments[1:]]),
    ({250, 307, 405, 446, 617, 720, 763, 808}, lambda arguments: [tuple(arguments[0]), *arguments[1:]]),
    ({106, 750}, lambda arguments: [arguments[0], tuple(arguments[1])]),
    ({259, 278, 401, 445, 580, 615, 791}, deep_tuple),
    ({722}, lambda arguments: [{key: tuple(value) for key, value in arguments[0].items()}, *arguments[1:]]),
    ({115}, lambda arguments: [[set(item) if isinstance(item, list) and item else {} for item in arguments[0]]]),
    ({124}, lambda arguments: [float(arguments[0]), complex(arguments[1])]),
    ({252}, lambda arguments: [complex(arguments[0])]),
]


def convert(task: str, inputs: list) -> list:
    """Give the inputs of a task the types that JSON lost."""
    dataset, _, number = task.partition("/")
    if dataset == "Mbpp":
        for tasks, conversion in CONVERSIONS:
            if int(number) in tasks:
                return [conversion(arguments) for arguments in inputs]
    return list(inputs)


def build_tests(problem: dict, inputs: list) -> str:
    """Return test code that asserts of a solution's output for every input that it is right."""
    entry_point, is_mbpp = problem["entry_point"], problem["task_id"].startswith("Mbpp/")
    if not inputs:  # EvalPlus passes what loads then
        return f"assert callable({entry_point})\n"
    reference = problem["prompt"] + problem["canonical_solution"]
    payload = pickle.dumps((convert(problem["task_id"], inputs), reference, entry_point, problem["atol"], is_mbpp))
    # The oracle has a namespace and builtins of its own: solutions define functions such as `sum` and `set`.
    return (
        "_oracle = {}\n"
        f'__import__("builtins").exec({ORACLE!r}, _oracle)\n'
        f'for _right in _oracle["right_outputs"]({entry_point}, {base64.b64encode(payload).decode()!r}):\n'
        "    assert _right\n"
    )


def read_rows(path: Path) -> list[dict]:
    """Read JSON lines from a .gz or .xz file.

    Raises:
        ValueError: the file is not there or is not what its name says; names the file and the row.
    """
    opener = {".gz": gzip.open, ".xz": lzma.open}[path.suffix]
    rows: list[dict] = []
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                rows.append(json.loads(line))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; BENCHDATA must be a folder as --help describes it") from None
    except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
        raise ValueError(f"{path}, row {len(rows) + 1}: corrupt ({error}); fetch the file again") from error
    return rows


def read_problems(folder: Path) -> dict[str, dict[str, dict]]:
    """Return the problems of every EvalPlus file by task, under the MD5 digest of the unzipped file."""
    found = {}
    for path in sorted(folder.glob("*_plus/*.jsonl.gz")):
        key = hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest()
        found[key] = {problem["task_id"]: problem for problem in read_rows(path)}
    return found


def evalplus_records(folder: Path, every: int) -> tuple[list[Record], dict[str, Program]]:
    """Return the EvalPlus records, two for each solution, and their programs by id.

    Raises:
        ValueError: a record's problem file is not there.
    """
    path = folder / "verdicts" / "evalplus_verdicts.jsonl.xz"
    problems = read_problems(folder)
    records, programs = [], {}
    for number, row in enumerate(read_rows(path)):
        if number % every or row["task_id"] in LEFT_OUT:
            continue
        problem = problems.get(row["dataset_md5"], {}).get(row["task_id"])
        if problem is None:
            raise ValueError(
                f"{path}, row {number + 1}: no problem file with MD5 {row['dataset_md5']} holds {row['task_id']}; "
                f"put {row['dataset']} beside the others in {folder}"
            )
        for kind in ("base", "plus"):
            tests = build_tests(problem, problem[f"{kind}_input"])
            name = digest(row["solution"], tests)[:16]
            programs[name] = Program(id=name, code=row["solution"], tests=tests)
            rerun = row[f"rerun_{kind}"]
            records.append(
                Record(
                    set=f"{'HumanEval+' if row['task_id'].startswith('HumanEval') else 'MBPP+'} {kind}",
                    task=row["task_id"],
                    model=row["model"],
                    program=name,
                    recorded=row[f"recorded_{kind}"] == "pass",
                    rerun=None if rerun is None else rerun == "pass",
                )
            )
    return records, programs


def needed_packages(problem: dict) -> set[str]:
    """Return the import names of the packages that a problem of CanItEdit names or its code and tests import."""
    named = {LIBRARIES[library] for library in problem["taxonomy"]["libraries"]}
    text = problem["before"] + problem["after"] + problem["tests"]
    return named | {name for name in LIBRARIES.values() if re.search(rf"^\s*(?:import|from) {name}\b", text, re.M)}


def canitedit_records(folder: Path, every: int, packages: list[str]) -> tuple[list[Record], dict[str, Program], dict]:
    """Return the CanItEdit records, their programs by id, and the tasks whose packages are not at hand."""
    problems = {row["full_name"]: row for row in read_rows(folder / "canitedit" / "canitedit.jsonl.gz")}
    records: list[Record] = []
    programs = {}
    not_at_hand = {}
    for number, row in enumerate(read_rows(folder / "verdicts" / "canitedit_verdicts.jsonl.xz")):
        task = row["full_name"]
        if number % every or task in LEFT_OUT:
            continue
        if missing := needed_packages(problems[task]) - set(packages):
            not_at_hand[task] = sorted(missing)
            continue
        code, tests = row["code"], f"\n\n{problems[task]['tests']}"
        name = digest(code, tests)[:16]
        programs[name] = Program(id=name, code=code, tests=tests)
        passed = row["status"] == "OK"
        records.append(
            Record(set="CanItEdit", task=task, model=row["model"], program=name, recorded=passed, rerun=None)
        )
    # Tasks with the same packages one after the other: each change costs a new worker.
    order = sorted(records, key=lambda record: (sorted(needed_packages(problems[record.task])), record.task))
    return records, {record.program: programs[record.program] for record in order}, not_at_hand


# --- The campaign ---------------------------------------------------------------------------------------------------


def explanation(record: Record, verdict: str) -> str | None:
    """Return why the sandbox does not agree with a record, None where nobody knows."""
    reasons = (
        reason
        for (*place, model, ours), reason in EXPLAINED.items()
        if place == [record.set, record.task] and record.model.startswith(model) and ours == verdict
    )
    return next(reasons, None)


def compare(records: list[Record], verdicts: dict[str, Verdict]) -> dict:
    """Count agreements by set and list what differs."""
    sets: dict[str, dict[str, int]] = {}
    disagreements, unsteady = [], []
    for record in records:
        verdict = verdicts[record.program]
        passed = verdict.verdict == "passed"
        count = sets.setdefault(record.set, dict.fromkeys(COUNTS, 0))
        count["records"] += 1
        count["agree_with_record"] += passed == record.recorded
        if record.rerun is not None:
            count["reruns"] += 1
            count["agree_with_rerun"] += passed == record.rerun
        row = {
            "set": record.set,
            "task": record.task,
            "model": record.model,
            "program": record.program,
            "recorded": record.recorded,
            "rerun": record.rerun,
            "verdict": verdict.verdict,
            "detail": verdict.detail,
            "cpu_s": verdict.cpu_s,
        }
        if not record.steady:
            unsteady.append(row)
            continue
        count["steady"] += 1
        if passed == record.recorded:
            count["agree_with_steady"] += 1
        else:
            disagreements.append(row | {"reason": explanation(record, verdict.verdict)})
    summary = {
        name: count | {"agreement": count["agree_with_steady"] / max(count["steady"], 1)}
        for name, count in sets.items()
    }
    return {"sets": summary, "disagreements": disagreements, "unsteady_records": unsteady}


def run_programs(sandbox: Sandbox, programs: dict[str, Program], label: str) -> dict[str, Verdict]:
    """Return the verdicts of programs by id, with progress.

    Raises:
        ValueError: the sandbox itself broke.
    """
    progress = Progress(label, len(programs), unit="programs")
    verdicts = {}
    for verdict in sandbox.run(programs.values()):
        if verdict.verdict == "sandbox_error":
            raise ValueError(f"{label}: the sandbox broke ({verdict.detail}); run check_sandbox.py, then this again")
        verdicts[verdict.id] = verdict
        progress.add()
    return verdicts


def main() -> int:
    """Compare, print a line per set and disagreement, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchdata", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="JSON file: counts by set, every disagreement")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="default: every core")
    parser.add_argument("--core", choices=("c", "python"), help="default: the C core where it was built")
    parser.add_argument("--every", type=int, default=1, help="take every n-th record only (default: all)")
    parser.add_argument("--sets", nargs="+", choices=("evalplus", "canitedit"), default=["evalplus", "canitedit"])
    options = parser.parse_args()
    if options.every < 1:
        raise ValueError(f"--every must be 1 or more, found {options.every}")

    records: list[Record] = []
    verdicts: dict[str, Verdict] = {}
    not_at_hand: dict[str, list[str]] = {}
    if "evalplus" in options.sets:
        found, programs = evalplus_records(options.benchdata, options.every)
        records += found
        verdicts |= run_programs(Sandbox(EVALPLUS, options.workers, options.core), programs, "evalplus")
    if "canitedit" in options.sets:
        packages = sorted(name for name in LIBRARIES.values() if importlib.util.find_spec(name) and name not in REFUSED)
        settings = replace(CANITEDIT, packages=packages + [part for name in packages for part in PARTS.get(name, [])])
        found, programs, not_at_hand = canitedit_records(options.benchdata, options.every, packages)
        records += found
        verdicts |= run_programs(Sandbox(settings, options.workers, options.core), programs, "canitedit")

    result = compare(records, verdicts)
    result["packages_not_at_hand"] = not_at_hand
    result["cpu_s"] = round(sum(verdict.cpu_s for verdict in verdicts.values()), 1)
    result["programs"] = len(verdicts)
    result["cores"] = sorted({verdict.core for verdict in verdicts.values()})
    write_json(options.output, result)
    for row in result["disagreements"]:
        said = "passed" if row["recorded"] else "failed"
        print(
            f"{row['set']} {row['task']} {row['model']} {row['program']}: recorded {said}, "
            f"here {row['verdict']} {row['detail']}: {row['reason'] or 'NOT EXPLAINED'}"
        )
    for name, count in result["sets"].items():
        print(
            f"{name}: {count['agree_with_steady']} of {count['steady']} steady records agree "
            f"({100 * count['agreement']:.2f} %); all records {count['agree_with_record']} of {count['records']}, "
            f"reruns {count['agree_with_rerun']} of {count['reruns']}"
        )
    print(
        f"{len(verdicts):,} programs, {result['cpu_s']:,} CPU seconds; not at hand: {sorted(not_at_hand) or 'nothing'}"
    )
    unexplained = [row for row in result["disagreements"] if row["reason"] is None]
    low = [name for name, count in result["sets"].items() if count["agreement"] < GATE]
    return int(bool(unexplained or low))


if __name__ == "__main__":
    run_command(main)

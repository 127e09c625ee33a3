"""Run programs that models wrote in the sandbox and compare with the verdicts that others recorded for them.

BENCHDATA is a folder with evalplus_verdicts.jsonl.xz and canitedit_verdicts.jsonl.xz in verdicts/, and with the
problem files that they name: humaneval_plus/ and mbpp_plus/ (EvalPlus releases), canitedit/canitedit.jsonl.gz. Those
of EvalPlus are judged by the steps of an evaluation: prepare_benchmark, run_references, verify_completions. Exit code 1
says that a disagreement is not explained in EXPLAINED, that a set agrees less than GATE, or that a reference fails.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import lzma
import os
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from selfalign.benchmarks.completions import answer_id
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.references import program_id, read_references, run_references
from selfalign.benchmarks.verification import verify_completions
from selfalign.records.commands import run_command
from selfalign.records.files import digest, read_jsonl, write_json, write_jsonl
from selfalign.records.progress import Progress
from selfalign.records.rows import Verdict, load_rows
from selfalign.sandbox import Program, Sandbox, SandboxSettings

GATE = 0.995  # share of a set's steady records that the sandbox has to agree with
COUNTS = ("records", "agree_with_record", "reruns", "agree_with_rerun", "steady", "agree_with_steady")
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


# --- EvalPlus: through the product's own steps ------------------------------------------------------------------------


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


def find_problem_files(folder: Path) -> dict[str, Path]:
    """Return every EvalPlus file under the MD5 digest of what is zipped in it."""
    return {
        hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest(): path
        for path in sorted(folder.glob("*_plus/*.jsonl.gz"))
    }


def evalplus_verdicts(
    folder: Path, every: int, workers: int, core: str | None
) -> tuple[list[Record], dict[str, Verdict], dict[str, str]]:
    """Judge the solutions of the EvalPlus records as answers to the benchmark.

    Returns:
        The records, two for each solution, the verdicts by program, and the tasks whose reference fails here.

    Raises:
        ValueError: a record's problem file is not there.
    """
    path = folder / "verdicts" / "evalplus_verdicts.jsonl.xz"
    files = find_problem_files(folder)
    chosen: dict[str, list[dict]] = {}
    for number, row in enumerate(read_rows(path)):
        if number % every or row["task_id"] in LEFT_OUT:
            continue
        if row["dataset_md5"] not in files:
            raise ValueError(
                f"{path}, row {number + 1}: no problem file with MD5 {row['dataset_md5']}; put {row['dataset']} beside "
                f"the others in {folder}"
            )
        chosen.setdefault(row["dataset_md5"], []).append(row)
    records: list[Record] = []
    verdicts: dict[str, Verdict] = {}
    left_out: dict[str, str] = {}
    for key, rows in chosen.items():
        with tempfile.TemporaryDirectory() as work:
            found, missing = judge_answers(files[key], rows, Path(work), workers, core)
        left_out |= missing
        for row, name in zip(rows, answer_names(rows), strict=True):
            if row["task_id"] in missing:
                continue
            for check in ("base", "plus"):
                program = f"{key}/{program_id(name, check)}"
                verdicts[program] = found[program_id(name, check)]
                rerun = row[f"rerun_{check}"]
                records.append(
                    Record(
                        set=f"{'HumanEval+' if row['task_id'].startswith('HumanEval') else 'MBPP+'} {check}",
                        task=row["task_id"],
                        model=row["model"],
                        program=program,
                        recorded=row[f"recorded_{check}"] == "pass",
                        rerun=None if rerun is None else rerun == "pass",
                    )
                )
    return records, verdicts, left_out


def answer_names(rows: list[dict]) -> list[str]:
    """Return an answer's id for every record of one problem file: several models are several samples."""
    seen: Counter[str] = Counter()
    names = []
    for row in rows:
        names.append(answer_id(row["task_id"], seen[row["task_id"]]))
        seen[row["task_id"]] += 1
    return names


def judge_answers(
    problems: Path, rows: list[dict], work: Path, workers: int, core: str | None
) -> tuple[dict[str, Verdict], dict[str, str]]:
    """Return the verdicts on the solutions of records by program, and the tasks that are left out with the reason."""
    wanted = {row["task_id"] for row in rows}
    write_jsonl(work / "problems.jsonl", (row for row in read_rows(problems) if row["task_id"] in wanted))
    benchmark, references = work / "evalplus.jsonl", work / "evalplus.references.jsonl"
    prepare_benchmark("evalplus", work / "problems.jsonl", {}, benchmark, work / "source.json")
    run_references(
        benchmark=benchmark,
        sandbox=SandboxSettings(),
        workers=workers,
        label=f"references/{problems.name}",
        output=references,
        stats=work / "references.json",
        core=core,
    )
    answers = [
        Answer(
            id=name,
            task=row["task_id"],
            k=int(name.rpartition("-s")[2]),
            texts=[row["solution"]],
            finish_reasons=["stop"],
            code=row["solution"],
            drop=None,
        )
        for row, name in zip(rows, answer_names(rows), strict=True)
    ]
    write_jsonl(work / "completions.jsonl", (answer.dump() for answer in answers))
    verify_completions(
        benchmark=benchmark,
        references=references,
        completions=work / "completions.jsonl",
        sandbox=SandboxSettings(),
        workers=workers,
        label=f"verdicts/{problems.name}",
        output=work / "verdicts.jsonl",
        stats=work / "verdicts.json",
        core=core,
    )
    left_out = {name: row.left_out for name, row in read_references(references).items() if row.left_out}
    path = work / "verdicts.jsonl"
    return {verdict.id: verdict for verdict in load_rows(Verdict, read_jsonl(path), str(path))}, left_out


# --- CanItEdit ------------------------------------------------------------------------------------------------------


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
    left_out: dict[str, str] = {}
    if "evalplus" in options.sets:
        records, verdicts, left_out = evalplus_verdicts(options.benchdata, options.every, options.workers, options.core)
    if "canitedit" in options.sets:
        packages = sorted(name for name in LIBRARIES.values() if importlib.util.find_spec(name) and name not in REFUSED)
        settings = replace(CANITEDIT, packages=packages + [part for name in packages for part in PARTS.get(name, [])])
        found, programs, not_at_hand = canitedit_records(options.benchdata, options.every, packages)
        records += found
        verdicts |= run_programs(Sandbox(settings, options.workers, options.core), programs, "canitedit")

    result = compare(records, verdicts)
    result["packages_not_at_hand"] = not_at_hand
    result["references_that_fail"] = left_out
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
    for task, reason in left_out.items():
        print(f"{task} is not judged: {reason}")
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
    return int(bool(unexplained or low or left_out))


if __name__ == "__main__":
    run_command(main)

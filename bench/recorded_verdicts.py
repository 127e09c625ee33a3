"""Run programs that models wrote in the sandbox and compare with the verdicts that others recorded for them.

BENCHDATA is a folder with evalplus_verdicts.jsonl.xz and canitedit_verdicts.jsonl.xz in verdicts/, and with the
problem files that they name: humaneval_plus/ and mbpp_plus/ (EvalPlus releases), canitedit/canitedit.jsonl.gz. They are
judged by the steps of an evaluation: prepare_benchmark, run_references, verify_completions. Exit code 1 says that a
disagreement is not explained in EXPLAINED, that a set agrees less than GATE, or that a reference fails which is not in
UNFIT and lacks no package.
"""

import argparse
import gzip
import hashlib
import json
import lzma
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from selfalign.benchmarks.completions import answer_id
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.references import program_id, read_references, run_references
from selfalign.benchmarks.verification import verify_completions
from selfalign.records.commands import run_command
from selfalign.records.files import read_jsonl, write_json, write_jsonl
from selfalign.records.rows import Verdict, load_rows
from selfalign.sandbox import SandboxSettings

GATE = 0.995  # share of a set's steady records that the sandbox has to agree with
COUNTS = ("records", "agree_with_record", "reruns", "agree_with_rerun", "steady", "agree_with_steady")
# Asserts of wall-clock time in CanItEdit; HumanEval/32 is always "fail" in EvalPlus up to 0.3.1.
LEFT_OUT = ("HumanEval/32", "47_merge_sort", "60_unique_number")
# Tasks whose reference fails here: the solution's own functions are named like tests, and their assertions should fail.
UNFIT = ("67_test_invariants-descriptive", "67_test_invariants-lazy")

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


# --- From records to verdicts, through the product's own steps --------------------------------------------------------


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


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What became of the records of one problem file or more: verdicts by program, tasks left out with the reason."""

    records: list[Record] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def judge_evalplus(folder: Path, every: int, workers: int, core: str | None, judged: Judged) -> None:
    """Judge the solutions of the EvalPlus records as answers to the benchmark; there are two records for each.

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
    for key, rows in chosen.items():
        wanted = {row["task_id"] for row in rows}
        problems = [row for row in read_rows(files[key]) if row["task_id"] in wanted]
        answers = answers_of([(row["task_id"], row["solution"]) for row in rows])
        found, missing = judge_answers("evalplus", problems, answers, workers, core)
        judged.left_out.update(missing)
        for row, answer in zip(rows, answers, strict=True):
            if row["task_id"] in missing:
                continue
            for check in ("base", "plus"):
                program = f"{key}/{program_id(answer.id, check)}"
                judged.verdicts[program] = found[program_id(answer.id, check)]
                rerun = row[f"rerun_{check}"]
                judged.records.append(
                    Record(
                        set=f"{'HumanEval+' if row['task_id'].startswith('HumanEval') else 'MBPP+'} {check}",
                        task=row["task_id"],
                        model=row["model"],
                        program=program,
                        recorded=row[f"recorded_{check}"] == "pass",
                        rerun=None if rerun is None else rerun == "pass",
                    )
                )


def judge_canitedit(folder: Path, every: int, workers: int, core: str | None, judged: Judged) -> None:
    """Judge the programs of the CanItEdit records as answers to the benchmark."""
    rows = [
        row
        for number, row in enumerate(read_rows(folder / "verdicts" / "canitedit_verdicts.jsonl.xz"))
        if number % every == 0 and row["full_name"] not in LEFT_OUT
    ]
    wanted = {row["full_name"] for row in rows}
    problems = [row for row in read_rows(folder / "canitedit" / "canitedit.jsonl.gz") if row["full_name"] in wanted]
    answers = answers_of([(f"{row['full_name']}-{row['instr_kind']}", row["code"]) for row in rows])
    found, missing = judge_answers("canitedit", problems, answers, workers, core)
    judged.left_out.update(missing)
    for row, answer in zip(rows, answers, strict=True):
        if answer.task not in missing:
            program = program_id(answer.id, "tests")
            judged.verdicts[program] = found[program]
            judged.records.append(
                Record(
                    set="CanItEdit",
                    task=row["full_name"],
                    model=row["model"],
                    program=program,
                    recorded=row["status"] == "OK",
                    rerun=None,
                )
            )


def answers_of(solutions: list[tuple[str, str]]) -> list[Answer]:
    """Return an answer for each task and solution: several models are several samples."""
    seen: Counter[str] = Counter()
    answers = []
    for task, code in solutions:
        k = seen[task]
        seen[task] += 1
        name = answer_id(task, k)
        answers.append(Answer(id=name, task=task, k=k, texts=[code], finish_reasons=["stop"], code=code, drop=None))
    return answers


def judge_answers(
    kind: str, problems: list[dict], answers: list[Answer], workers: int, core: str | None
) -> tuple[dict[str, Verdict], dict[str, str]]:
    """Return the verdicts on answers by program, and the tasks that are left out with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        benchmark, references, output = (work / f"{kind}{end}.jsonl" for end in ("", ".references", ".verdicts"))
        write_jsonl(work / "problems.jsonl", problems)
        prepare_benchmark(kind, work / "problems.jsonl", {}, benchmark, work / "source.json")
        run_references(
            benchmark=benchmark,
            sandbox=SandboxSettings(),
            workers=workers,
            label=f"references/{kind}",
            output=references,
            stats=work / "references.json",
            core=core,
        )
        write_jsonl(work / "completions.jsonl", (answer.dump() for answer in answers))
        verify_completions(
            benchmark=benchmark,
            references=references,
            completions=work / "completions.jsonl",
            sandbox=SandboxSettings(),
            workers=workers,
            label=f"verdicts/{kind}",
            output=output,
            stats=work / "verdicts.json",
            core=core,
        )
        left_out = {name: row.left_out for name, row in read_references(references).items() if row.left_out}
        return {row.id: row for row in load_rows(Verdict, read_jsonl(output), str(output))}, left_out


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

    judged = Judged()
    for name, judge in (("evalplus", judge_evalplus), ("canitedit", judge_canitedit)):
        if name in options.sets:
            judge(options.benchdata, options.every, options.workers, options.core, judged)

    verdicts = judged.verdicts
    result = compare(judged.records, verdicts)
    result["references_that_fail"] = judged.left_out
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
    for task, reason in judged.left_out.items():
        print(f"{task} is not judged: {reason}")
    for name, count in result["sets"].items():
        print(
            f"{name}: {count['agree_with_steady']} of {count['steady']} steady records agree "
            f"({100 * count['agreement']:.2f} %); all records {count['agree_with_record']} of {count['records']}, "
            f"reruns {count['agree_with_rerun']} of {count['reruns']}"
        )
    print(f"{len(verdicts):,} programs, {result['cpu_s']:,} CPU seconds")
    unexplained = [row for row in result["disagreements"] if row["reason"] is None]
    low = [name for name, count in result["sets"].items() if count["agreement"] < GATE]
    failed = [
        task for task, reason in judged.left_out.items() if task not in UNFIT and "ModuleNotFoundError" not in reason
    ]
    return int(bool(unexplained or low or failed))


if __name__ == "__main__":
    run_command(main)

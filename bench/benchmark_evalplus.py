"""HumanEval+ and MBPP+ here and by evalplus: the same solutions, the same pass@1? At which CPU time? And mutants.

BENCHDATA is a folder with the problem files humaneval_plus/HumanEvalPlus.jsonl.gz and mbpp_plus/MbppPlus.jsonl.gz, and
with verdicts/evalplus_verdicts.jsonl.xz, from which one model's solutions to both are taken. Per data set it tells:
what the reference solutions cost; pass@1 and CPU time of our commands (verify_completions and score_benchmark) and of
evalplus's own (evalplus.evaluate), which run in turns; and how many of the mutated reference solutions fail.

Both have computed what is expected before. A task on which they do not agree is listed. Exit code 1 says that one of
these is not explained in EXPLAINED, or that a reference solution fails which is not in UNFIT; its task is left out of
all that follows.
"""

import argparse
import ast
import copy
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from measuring import ROOT, describe_machine, spread
from recorded_verdicts import read_rows
from sandbox_speed import CLOCKS, check_peers_python, open_clock

from selfalign.benchmarks.completions import answer_id
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.references import read_references
from selfalign.benchmarks.tasks import Task, read_tasks
from selfalign.records.commands import derive_seed, run_command
from selfalign.records.files import read_json, read_jsonl, write_json, write_jsonl

FILES = {"humaneval": "humaneval_plus/HumanEvalPlus.jsonl.gz", "mbpp": "mbpp_plus/MbppPlus.jsonl.gz"}
METRICS = ("base", "plus")
# Why evalplus fails a task that passes here.
EXPLAINED = {
    "HumanEval/32": "evalplus 0.3.1 counts no input of this task as passed",
    "Mbpp/599": "a loop over many numbers, which evalplus's limit of wall time cuts off on a busy machine",
    "Mbpp/566": "a right solution of 0.01 CPU seconds; evalplus fails it on a busy machine and passes it alone on one",
}
# Tasks whose reference solution fails here
UNFIT = {"Mbpp/255": "its right outputs take more memory than a program has"}


class Commands:
    """Runs commands and tells their CPU time with all that they start."""

    def __init__(self, clock: str | None):
        self.clock_name = clock

    def run(self, command: list, env: dict[str, str] | None = None) -> float:
        """Return the CPU seconds of a command.

        Raises:
            ValueError: it failed.
        """
        clock = open_clock(self.clock_name)
        try:
            before = clock.read()
            process = subprocess.Popen(
                [str(part) for part in command],
                env=os.environ | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            clock.add(process.pid)
            output, _ = process.communicate()
            seconds = clock.read() - before
        finally:
            clock.close()
        if process.returncode != 0:
            raise ValueError(f"{' '.join(map(str, command[:4]))} failed: {output[-1000:]}")
        return seconds


class Evaluation:
    """One data set, its references, and answers to it in a folder."""

    def __init__(self, dataset: str, problems: Path, work: Path, workers: int, commands: Commands):
        self.dataset, self.problems, self.work, self.workers, self.commands = dataset, problems, work, workers, commands
        self.benchmark, self.references = work / f"{dataset}.jsonl", work / f"{dataset}.references.jsonl"
        self.source = work / f"{dataset}.source.json"

    def ours(self, script: str, *options: object) -> float:
        """Return the CPU seconds of one of our commands."""
        return self.commands.run([sys.executable, ROOT / f"scripts/{script}.py", *options])

    def prepare(self) -> dict:
        """Make tasks and references; return what they cost."""
        prepared = self.ours(
            "prepare_benchmark", "--kind", "evalplus", "--path", self.problems,
            "--output", self.benchmark, "--source", self.source,
        )  # fmt: skip
        stats = self.work / f"{self.dataset}.references.json"
        run = self.ours(
            "run_references", "--benchmark", self.benchmark, "--workers", self.workers,
            "--output", self.references, "--stats", stats,
        )  # fmt: skip
        return {
            "prepare_cpu_s": round(prepared, 2),
            "references_cpu_s": round(run, 2),
            "tasks_bytes": self.benchmark.stat().st_size,
            "references_bytes": self.references.stat().st_size,
            "left_out": read_json(stats)["left_out"],
        }

    def tasks(self) -> list[Task]:
        """Return the tasks whose reference solutions pass here."""
        left_out = {key for key, row in read_references(self.references).items() if row.left_out}
        return [task for task in read_tasks(self.benchmark) if task.id not in left_out]

    def judge(self, name: str, answers: list[Answer]) -> tuple[float, dict]:
        """Return the CPU seconds of judging answers, and the scores."""
        folder = self.work / name / self.dataset
        write_jsonl(folder / "completions.jsonl", (answer.dump() for answer in answers))
        shared = ["--benchmark", self.benchmark, "--references", self.references,
                  "--completions", folder / "completions.jsonl"]  # fmt: skip
        seconds = self.ours(
            "verify_completions", *shared, "--sandbox", "{}", "--workers", self.workers,
            "--output", folder / "verdicts.jsonl", "--stats", folder / "verdicts.json",
        )  # fmt: skip
        seconds += self.ours(
            "score_benchmark", *shared, "--source", self.source, "--verdicts", folder / "verdicts.jsonl",
            "--output", folder / "scores.json",
        )  # fmt: skip
        return seconds, read_json(folder / "scores.json")

    def by_evalplus(self, python: str, solutions: dict[str, str]) -> tuple[float, dict[str, dict[str, bool]]]:
        """Return the CPU seconds of evalplus's command, and for each metric the tasks with whether they pass."""
        samples, results = (self.work / f"{self.dataset}.samples{end}" for end in (".jsonl", "_eval_results.json"))
        write_jsonl(samples, ({"task_id": task, "solution": code} for task, code in solutions.items()))
        results.unlink(missing_ok=True)
        env = {
            f"{self.dataset.upper()}_OVERRIDE_PATH": str(self.problems),
            "XDG_CACHE_HOME": str(self.work / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        command = [python, "-m", "evalplus.evaluate", "--dataset", self.dataset, "--samples", samples,
                   "--parallel", self.workers]  # fmt: skip
        seconds = self.commands.run(command, env)
        found = read_json(results)["eval"]
        base = {task: rows[0]["base_status"] == "pass" for task, rows in found.items()}
        plus = {task: base[task] and rows[0]["plus_status"] == "pass" for task, rows in found.items()}
        return seconds, {"base": base, "plus": plus}


def answer(task: str, k: int, code: str) -> Answer:
    """Return a solution as a model's answer."""
    return Answer(id=answer_id(task, k), task=task, k=k, texts=[code], finish_reasons=["stop"], code=code, drop=None)


# --- Mutants ------------------------------------------------------------------------------------------------------


COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}


def mutants(code: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of every program with one small change: a comparison, a number, an operator, what is
    returned, a statement less."""
    tree = ast.parse(code)
    for index, node in enumerate(ast.walk(tree)):
        for kind, change in changes(node):
            changed = copy.deepcopy(tree)
            change(next(one for number, one in enumerate(ast.walk(changed)) if number == index))
            yield kind, ast.unparse(ast.fix_missing_locations(changed))


def changes(node: ast.AST) -> Iterator[tuple[str, callable]]:
    """Yield the changes that fit a node, each with its kind."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield "comparison", lambda one: one.ops.__setitem__(0, COMPARISONS[type(one.ops[0])]())
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield "off by one", lambda one: setattr(one, "value", one.value + 1)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield "operator", lambda one: setattr(one, "op", OPERATORS[type(one.op)]())
    if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield "constant returned", lambda one: setattr(one, "value", ast.Constant(0))
    body = getattr(node, "body", None)
    if isinstance(body, list) and not isinstance(node, ast.Module):
        for place, statement in enumerate(body):
            if isinstance(statement, ast.Assign | ast.AugAssign | ast.If | ast.For | ast.While) or (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            ):
                yield "statement dropped", lambda one, place=place: one.body.__setitem__(place, ast.Pass())


def choose_mutants(tasks: list[Task], count: int) -> tuple[list[Answer], dict[str, str]]:
    """Return up to `count` seeded mutants of each reference solution as answers, and the kind of each by its id."""
    answers, kinds = [], {}
    for task in tasks:
        found = list(mutants(task.canonical_solution))
        chosen = random.Random(derive_seed(0, "mutants", task.id)).sample(found, min(count, len(found)))
        for k, (kind, code) in enumerate(chosen):
            answers.append(answer(task.id, k, code))
            kinds[answers[-1].id] = kind
    return answers, kinds


def judge_mutants(evaluation: Evaluation, count: int) -> dict:
    """Return how many mutants there are and how many fail, by kind and check; equal programs are among them."""
    answers, kinds = choose_mutants(evaluation.tasks(), count)
    folder = evaluation.work / "mutants" / evaluation.dataset
    write_jsonl(folder / "completions.jsonl", (one.dump() for one in answers))
    evaluation.ours(
        "verify_completions", "--benchmark", evaluation.benchmark, "--references", evaluation.references,
        "--completions", folder / "completions.jsonl", "--sandbox", "{}", "--workers", evaluation.workers,
        "--output", folder / "verdicts.jsonl", "--stats", folder / "verdicts.json",
    )  # fmt: skip
    passed = {row["id"]: row["verdict"] == "passed" for row in read_jsonl(folder / "verdicts.jsonl")}
    counts: dict[str, dict[str, int]] = {}
    for one in answers:
        for kind in ("all", kinds[one.id]):
            count = counts.setdefault(kind, {"mutants": 0, "fail_base": 0, "fail_plus": 0})
            base = passed[f"{one.id}/base"]
            count["mutants"] += 1
            count["fail_base"] += not base
            count["fail_plus"] += not (base and passed[f"{one.id}/plus"])
    return counts


# --- The comparison -------------------------------------------------------------------------------------------------


def read_solutions(benchdata: Path, model: str) -> dict[str, dict[str, str]]:
    """Return a model's solutions by data set and task.

    Raises:
        ValueError: there are none of this model.
    """
    path = benchdata / "verdicts" / "evalplus_verdicts.jsonl.xz"
    found: dict[str, dict[str, str]] = {dataset: {} for dataset in FILES}
    models = set()
    for row in read_rows(path):
        models.add(row["model"])
        if row["model"] == model:
            found["humaneval" if row["task_id"].startswith("HumanEval") else "mbpp"][row["task_id"]] = row["solution"]
    if not any(found.values()):
        raise ValueError(f"{path}: no solutions of {model}; there are {', '.join(sorted(models))}")
    return found


def compare(evaluation: Evaluation, solutions: dict[str, str], rounds: int, python: str | None) -> dict:
    """Return pass@1 and CPU seconds of both, which run in turns, and the tasks on which they do not agree."""
    answers = [answer(task.id, 0, solutions[task.id]) for task in read_tasks(evaluation.benchmark)]
    tasks = [task.id for task in evaluation.tasks()]
    times: dict[str, list[float]] = {"ours": [], "evalplus": []}
    if python:
        evaluation.by_evalplus(python, solutions)  # what is expected, computed once
    differ: dict[str, dict] = {}
    result: dict = {}
    for number in range(rounds):
        for turn in ("ours", "evalplus") if number % 2 == 0 else ("evalplus", "ours"):
            if turn == "ours":
                seconds, scores = evaluation.judge(f"round {number}", answers)
                result["ours"] = {name: scores["metrics"][name]["pass@1"] for name in METRICS}
            elif python:
                seconds, theirs = evaluation.by_evalplus(python, solutions)
                result["evalplus"] = {name: sum(theirs[name][task] for task in tasks) / len(tasks) for name in METRICS}
            else:
                continue
            times[turn].append(seconds)
        if python:
            path = evaluation.work / f"round {number}" / evaluation.dataset / "verdicts.jsonl"
            ours = {row["id"]: row for row in read_jsonl(path)}
            for task in tasks:
                for check in METRICS:
                    row = ours[f"{answer_id(task, 0)}/{check}"]
                    passed = row["verdict"] == "passed" and (check == "base" or ours_base(ours, task))
                    if passed != theirs[check][task]:
                        entry = differ.setdefault(f"{task} {check}", {"rounds": 0, "reason": EXPLAINED.get(task)})
                        entry |= {"rounds": entry["rounds"] + 1, "here": f"{row['verdict']} {row['detail']}".strip()}
    ratios = [theirs / ours for ours, theirs in zip(times["ours"], times["evalplus"], strict=False)]
    return {
        "solutions": len(tasks),
        "pass@1": result,
        "cpu_s": {name: spread(seconds) for name, seconds in times.items() if seconds},
        "evalplus_in_times_of_ours": spread(ratios) if ratios else None,
        "differ": differ,
    }


def ours_base(verdicts: dict[str, dict], task: str) -> bool:
    """Tell whether a task's base check passed here."""
    return verdicts[f"{answer_id(task, 0)}/base"]["verdict"] == "passed"


def main() -> int:
    """Measure everything, print it and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchdata", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="JSON file for all figures")
    parser.add_argument("--datasets", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--model", default="meta-llama--Meta-Llama-3-8B", help="whose solutions (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each judge runs (default 3)")
    parser.add_argument("--mutants", type=int, default=3, help="mutants of each reference solution (default 3)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="default: every core")
    parser.add_argument("--peers-python", default=".venv-bench/bin/python", help="interpreter with bench/peers.lock")
    parser.add_argument("--clock", choices=CLOCKS, help="where CPU time is read (default: the best that works)")
    options = parser.parse_args()
    python = options.peers_python if Path(options.peers_python).exists() else None
    if python:
        check_peers_python(python)
    else:
        print(f"evalplus is not measured: {options.peers_python} is not there (see bench/README.md)")
    solutions = read_solutions(options.benchdata, options.model)
    commands = Commands(options.clock)
    clock = open_clock(options.clock)
    clock.close()
    results: dict = {"machine": describe_machine(), "clock": clock.name, "model": options.model, "datasets": {}}
    failed = False
    for dataset in options.datasets:
        problems = options.benchdata / FILES[dataset]
        with tempfile.TemporaryDirectory() as work:
            evaluation = Evaluation(dataset, problems.resolve(), Path(work), options.workers, commands)
            found = {"references": evaluation.prepare()}
            found["compared"] = compare(evaluation, solutions[dataset], options.rounds, python)
            found["mutants"] = judge_mutants(evaluation, options.mutants)
        results["datasets"][dataset] = found
        print(f"{dataset}: {json.dumps(found, indent=2)}")
        unexplained = [entry for entry in found["compared"]["differ"].values() if entry["reason"] is None]
        failed = failed or bool(unexplained or found["references"]["left_out"].keys() - UNFIT.keys())
    write_json(options.output, results)
    return int(failed)


if __name__ == "__main__":
    run_command(main)

"""EvalPerf: how efficient are the functions that a model writes, beside reference solutions of known speed?

Authors: Jiawei Liu and others: Evaluating Language Models for Efficient Code Generation, arXiv 2408.06450 (2024).
Licence: Apache-2.0 (its tasks are of HumanEval and MBPP: MIT, CC-BY-4.0).
Source: hub dataset evalplus/evalperf (118 tasks), and the files of HumanEval+ and MBPP+ (see evalplus), which decide
whether a function is right. The config's path is a folder with all three: EvalPerf*.jsonl[.gz] or *.parquet,
HumanEvalPlus*.jsonl.gz and MbppPlus*.jsonl.gz.

A task has solutions from slow to fast, each with a score: the share of solutions that it is as fast as. A function that
passes is run on one demanding input and gets the score of the fastest reference that it keeps up with, 0 if it is
slower than all. The differential performance score (`dps`) is the mean over a task's passing functions, then over the
tasks with at least `min_correct` of them; `dps_norm` counts places among the references instead. The report adds the
win rate among the models of a run (`reporting.comparisons.win_rates`). As evalplus 0.3.1:
100 samples at temperature 1.0, min_correct 10. Where we differ:
- They count CPU instructions, which takes hardware counters that many machines hide. Here it is CPU time, the least of
  three runs, in units of a fixed piece of work that is timed in the same process: so the load and the clock of the
  machine cancel out. Functions within 5 % of a reference are as fast as it.
- They time, for every passing function of a task, the one that was checked last; here each is timed itself.
- They leave out the largest inputs of HumanEval+ and MBPP+ when they check functions.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import ClassVar

from selfalign.benchmarks.driver import MARK
from selfalign.benchmarks.evalplus import EvalPlus, convert
from selfalign.benchmarks.files import read_json_lines
from selfalign.benchmarks.outputs import DRIVER_IMPORT
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.tasks import Task, text
from selfalign.benchmarks.values import encode

ROUNDS = 3
SLACK = 1.05


class EvalPerf(EvalPlus):
    """Tasks of EvalPlus with references of known speed.

    Options:
        min_correct: Passing samples that a task needs to be scored.
    """

    source = None
    options: ClassVar = {"min_correct": 10}
    measures = True
    measure_s = 60.0 * ROUNDS

    def rows(self, path: Path) -> Iterator[tuple[str, dict]]:
        """Yield the tasks of the folder's EvalPerf file, each with its row of HumanEval+ or MBPP+.

        Raises:
            ValueError: a file is missing, or a task's row is.
        """
        plus = {
            fields["task_id"]: fields
            for pattern in ("HumanEvalPlus*.jsonl*", "MbppPlus*.jsonl*")
            for _, fields in read_json_lines(_find(path, pattern))
        }
        file = _find(path, "[Ee]val[Pp]erf*")
        rows = _read_parquet(file) if file.suffix == ".parquet" else read_json_lines(file)
        for number, fields in rows:
            if fields["task_id"] not in plus:
                raise ValueError(f"{file}, row {number}: {fields['task_id']} is in neither file of EvalPlus in {path}")
            yield f"{file.name}, row {number}", plus[fields["task_id"]] | {"evalperf": fields}

    def read_tasks(self, fields: dict, benchmark: str, *, min_correct: int) -> list[Task]:
        """Build a task from the rows of both files."""
        perf = fields["evalperf"]
        (task,) = super().read_tasks(fields, benchmark, dataset=None)
        given = perf["pe_input"]
        given = json.loads(given) if isinstance(given, str) else given
        references, scores = perf["reference"], [float(score) for score in perf["scores"]]
        if not references or len(references) != len(scores):
            raise ValueError(f"{len(references)} reference solutions and {len(scores)} scores")
        data = {
            "references": [text({"reference": one}, "reference") for one in references],
            "scores": scores,
            "arguments": encode(list(convert(task.id, given)[0])),
            "min_correct": min_correct,
        }
        return [replace(task, kind="evalperf", data=task.data | data, metrics={"pass": [["base", "plus"]]})]

    def baselines(self, task: Task) -> list[str]:
        """Return the reference solutions, slow ones first."""
        return task.data["references"]

    def measure_data(self, task: Task) -> str:
        """Return the arguments of the call that is timed."""
        return json.dumps(task.data["arguments"])

    def measure_program(self, task: Task, code: str) -> tuple[str, str]:
        """Return a function and what times it."""
        tests = f"{DRIVER_IMPORT}assert _driver.time_call({task.entry_point}, _data, {ROUNDS})\n"
        return code, tests

    def read_measurement(self, task: Task, code: str, printed: str) -> dict:
        """Return the least CPU time of a call in units of the fixed work."""
        _, mark, found = printed.rpartition(MARK)
        try:
            seconds, work = (min(map(float, json.loads(found)[name])) for name in ("seconds", "work"))
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError("printed no times") from error
        if not mark or work <= 0 or seconds < 0:
            raise ValueError("printed impossible times")
        return {"time": seconds / work}

    def extra_scores(
        self, tasks: Sequence[Task], answers: Mapping[str, Sequence[Answer]], measurements: Mapping[str, dict]
    ) -> dict[str, dict]:
        """Return the differential performance scores, and those of each task."""
        scores: dict[str, dict[str, float]] = {"dps": {}, "dps_norm": {}}
        for task in tasks:
            times = [measurements[one.id]["time"] for one in answers[task.id] if one.id in measurements]
            if len(times) < task.data["min_correct"]:
                continue
            references = [measurements.get(f"{task.id}#{n}") for n in range(len(task.data["references"]))]
            places = [place(one, references) for one in times]
            scores["dps"][task.id] = mean(task.data["scores"][n] / 100 if n >= 0 else 0.0 for n in places)
            scores["dps_norm"][task.id] = mean((n + 1) / len(references) for n in places)
        return {
            name: {"value": mean(found.values()) if found else None, "tasks": len(found), "per_task": found}
            for name, found in scores.items()
        }


def place(time: float, references: Sequence[dict | None]) -> int:
    """Return the number of the fastest reference that a time keeps up with, -1 if there is none."""
    for number in range(len(references) - 1, -1, -1):
        measured = references[number]
        if measured is not None and time <= SLACK * measured["time"]:
            return number
    return -1


def _find(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if len(found) != 1:
        raise ValueError(
            f"{folder}: {len(found)} files {pattern}; evalperf needs a folder with one of each: EvalPerf*, "
            "HumanEvalPlus*.jsonl.gz and MbppPlus*.jsonl.gz"
        )
    return found[0]


def _read_parquet(path: Path) -> Iterator[tuple[int, dict]]:
    import pyarrow.parquet  # not in every environment in which programs of benchmarks run

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(8):
                for fields in batch.to_pylist():
                    number += 1
                    yield number, fields
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file that can be read ({error}); fetch it again") from error

"""What differs between two runs: settings, versions, counts, scores, files, in this order."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from selfalign.archiving.files import Comparison, compare_entries, folder_entries
from selfalign.archiving.reading import open_run
from selfalign.reporting.artifacts import Run, Score, read_run
from selfalign.reporting.comparisons import compare
from selfalign.reporting.funnels import Stage
from selfalign.reporting.write import read_config

ABSENT = "(not there)"
Change = tuple[str, object, object]  # what, in the first run, in the second


@dataclass(kw_only=True)
class Differences:
    """What differs; a list that is empty means that nothing does.

    Attributes:
        counts: One for each number of a funnel.
        scores: Values, intervals, and where the tasks are the same the paired difference, second minus first.
        files: The files below results/.
    """

    names: tuple[str, str]
    settings: list[Change]
    versions: list[Change]
    counts: list[Change]
    scores: list[dict]
    files: Comparison
    equal_scores: int = 0
    missing: dict[str, list[str]] = field(default_factory=dict)

    @property
    def none(self) -> bool:
        """Whether nothing differs but what differs between any two runs."""
        return not (self.settings or self.counts or self.scores or self.files.added) and self.files.same

    def dump(self) -> dict:
        """Return the differences as plain values."""
        found = dataclasses.asdict(self)
        for name in ("settings", "versions", "counts"):
            found[name] = [{"what": what, "first": first, "second": second} for what, first, second in found[name]]
        return found | {"none": self.none}


def wanted(path: str) -> bool:
    """Tell whether a file of an archive is needed to compare its run."""
    rows = r"corpora/.*\.json|generations/.*|datasets/.*|models/.*\.jsonl?|scores/.*\.json|rounds/.*\.json|logs/.*\.tsv"
    return bool(re.fullmatch(rf"results/(run_config\.yaml|provenance\.json|{rows})", path))


def compare_runs(first: Path, second: Path) -> Differences:
    """Compare two runs, each a results folder or an archive.

    Raises:
        ValueError: one is no run, or has a file that contradicts another.
    """
    with open_run(first, wanted) as (folder_a, manifest_a), open_run(second, wanted) as (folder_b, manifest_b):
        runs = [read_run(folder / "results", read_config(folder / "results/run_config.yaml"))
                for folder in (folder_a, folder_b)]  # fmt: skip
        listed = [manifest and {entry["path"]: entry for entry in manifest["files"]}
                  for manifest in (manifest_a, manifest_b)]  # fmt: skip
        known = [entries.values() for entries in listed if entries]
        entries_a, entries_b = (
            entries or folder_entries(folder / "results", *known)
            for entries, folder in zip(listed, (folder_a, folder_b), strict=True)
        )
        scores, equal = _scores(runs[0], runs[1])
        return Differences(
            names=(str(first), str(second)),
            settings=list(_changes(runs[0].config, runs[1].config)),
            versions=list(_versions(*(run.provenance or {} for run in runs))),
            counts=list(_changes(_counts(runs[0]), _counts(runs[1]))),
            scores=scores,
            equal_scores=equal,
            files=compare_entries(entries_a, entries_b),
            missing={name: list(run.missing) for name, run in zip(("first", "second"), runs, strict=True)},
        )


def _changes(first: object, second: object, way: str = "") -> Iterator[Change]:
    """Yield what differs between two nested values, by dotted path; lists are compared as wholes."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in dict.fromkeys([*first, *second]):
            at = f"{way}.{key}" if way else str(key)
            yield from _changes(first.get(key, ABSENT), second.get(key, ABSENT), at)
    elif first != second:
        yield way, first, second


def _versions(first: Mapping, second: Mapping) -> Iterator[Change]:
    """Yield what differs between two provenances; seed and name are settings."""
    for change in _changes(first, second):
        if change[0] not in ("run", "seed"):
            yield change


def _counts(run: Run) -> dict:
    """Return every number of the funnels: of corpora, generations and datasets."""
    return {
        f"{table}.{name}": {stage.name: _stage(stage) for stage in stages}
        for table, found in (
            ("corpora", run.corpora),
            ("generations", {name: made.stages for name, made in run.generations.items()}),
            ("datasets", {name: made.stages for name, made in run.datasets.items()}),
        )
        for name, stages in found.items()
    }


def _stage(stage: Stage) -> dict:
    return {"input": stage.input, "kept": stage.kept, "dropped": dict(stage.dropped)}


def _scores(first: Run, second: Run) -> tuple[list[dict], int]:
    """Return the scores that differ, and how many do not."""
    found, equal = [], 0
    by_name = [{score.label: score for score in run.scores} for run in (first, second)]
    for label in dict.fromkeys([*by_name[0], *by_name[1]]):
        one, other = (scores.get(label) for scores in by_name)
        if one and other and one.data == other.data:
            equal += 1
            continue
        row = {"score": label, "first": one and _score(one), "second": other and _score(other), "paired": None}
        if one and other and one.per_task.keys() == other.per_task.keys():
            paired = compare(other, one)
            row["paired"] = {"difference": paired.difference, "interval": [paired.low, paired.high], "p": paired.p}
        found.append(row)
    return found, equal


def _score(score: Score) -> dict:
    return {"pass@1": score.pass_at_1, "interval": [score.low, score.high], "tasks": score.tasks}

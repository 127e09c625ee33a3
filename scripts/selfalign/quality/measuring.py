"""Measure what the tests of responses are worth: each response with the tests of others, its own tests with mutants."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from selfalign.prompts.documents import code_blocks
from selfalign.quality.agreement import consensus, redefines
from selfalign.quality.coverage import WholeCoverage, covered, mark_code
from selfalign.quality.mutants import mutants
from selfalign.records.files import digest, file_digest, read_jsonl, write_json, write_jsonl
from selfalign.records.rows import Quality, Response, TestSuite, Verdict, load_rows
from selfalign.sandbox import Program, SandboxSettings, judge

PASSED = "passed"
MARKS_KB = 256  # that marks may take beside what a program prints


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is measured beside the agreement with independent suites, which follows from these being there.

    Attributes:
        cross_execute: Run each response with the tests of the other responses of its instruction.
        mutants: Most mutants of each response that passed.
        coverage: Measure which part of a response that passed its tests run.
    """

    cross_execute: bool = False
    mutants: int = 0
    coverage: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """A verified response."""

    id: str
    code: str
    tests: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Group:
    """The verified responses of an instruction, and the test suites that were written from it alone."""

    cases: tuple[Case, ...]
    suites: tuple[str, ...]


@dataclass(frozen=True)
class Programs:
    """The programs of a shard, made anew each time that they are iterated."""

    groups: Sequence[Group]
    measures: Measures
    run_seed: int
    collect_kb: int

    def __iter__(self) -> Iterator[Program]:
        for group in self.groups:
            yield from (program for _, program in self.of(group))

    def of(self, group: Group) -> Iterator[tuple[tuple, Program]]:
        """Yield the programs of an instruction, each with what it is for: response, kind and number."""
        for case in group.cases:
            if self.measures.cross_execute:
                others = [(number, other.tests) for number, other in enumerate(group.cases) if other is not case]
                yield from self._agreeing(case, "others", others)
            yield from self._agreeing(case, "independent", enumerate(group.suites))
            if not case.passed:
                continue
            for number, mutant in enumerate(mutants(case.code, self.measures.mutants, self.run_seed)):
                program = Program(id=f"{case.id}/mutants/{number}", code=mutant, tests=case.tests)
                yield (case.id, "mutants", number), program
            if self.measures.coverage:
                try:
                    code, marks = mark_code(case.code)
                except ValueError:  # it stays unmeasured
                    continue
                compare = WholeCoverage(marks=marks, collect_kb=self.collect_kb)
                program = Program(id=f"{case.id}/coverage", code=code, tests=case.tests, compare=compare)
                yield (case.id, "coverage", len(marks)), program

    def _agreeing(
        self, case: Case, kind: str, suites: Iterable[tuple[int, str]]
    ) -> Iterator[tuple[tuple[str, str, int], Program]]:
        for number, tests in suites:
            if not redefines(tests, case.code):
                yield (case.id, kind, number), Program(id=f"{case.id}/{kind}/{number}", code=case.code, tests=tests)


def measure_tests(
    *,
    responses: Sequence[Path],
    verdicts: Sequence[Path],
    tests: Path | None,
    truth: Path | None,
    measures: Measures,
    run_seed: int,
    sandbox: SandboxSettings,
    workers: int,
    label: str,
    output: Path,
    stats: Path,
) -> None:
    """Write one `Quality` row for each verified response of a shard, in the order of instructions and samples.

    Args:
        responses: Response rows, a file for each round.
        verdicts: Theirs with their own tests.
        tests: `TestSuite` rows, if there are independent suites.
        truth: Verdict rows of the responses with the checks of a benchmark, if their tasks are of one.
    """
    groups = read_groups(responses, verdicts, tests)
    right = read_truth(truth)
    files = [file_digest(path) for path in (*responses, *verdicts, *(path for path in (tests,) if path))]
    programs = Programs(groups, measures, run_seed, sandbox.output_kb + MARKS_KB)
    key = digest("quality", files, asdict(measures), run_seed)
    with judge(programs, sandbox, workers=workers, output=output, label=label, key=key) as batch:

        def rows() -> Iterator[dict]:
            for group in groups:
                seen: dict[tuple, dict] = {}
                for (what, _), row in zip(programs.of(group), batch.rows, strict=False):
                    seen[what] = row
                yield from (row.dump() for row in assess(group, seen, measures, right))

        count = write_jsonl(output, rows())
        facts = batch.summary("quality")
        write_json(stats, facts | {"rows": count, "programs": facts["rows"]})


def assess(group: Group, seen: dict[tuple, dict], measures: Measures, right: dict[str, bool]) -> list[Quality]:
    """Return the rows of an instruction's responses from the verdicts of their programs."""

    def line(case: Case, kind: str, count: int) -> str:
        rows = [seen.get((case.id, kind, number)) for number in range(count)]
        return "".join("." if row is None else str(int(row["verdict"] == PASSED)) for row in rows)

    cross = len(group.cases) if measures.cross_execute else 0
    others = []
    for place, case in enumerate(group.cases):
        found = line(case, "others", cross)
        others.append(found[:place] + "-" + found[place + 1 :] if cross else "")
    independent = [line(case, "independent", len(group.suites)) for case in group.cases]
    agreed = consensus(
        [
            found.replace("-", str(int(case.passed))) + suites
            for case, found, suites in zip(group.cases, others, independent, strict=True)
        ]
    )
    rows = []
    for case, found, suites, (size, score) in zip(group.cases, others, independent, agreed, strict=True):
        ran = [row for (name, kind, _), row in seen.items() if name == case.id and kind == "mutants"]
        marks = [(number, row) for (name, kind, number), row in seen.items() if name == case.id and kind == "coverage"]
        number, part = (marks[0][0], covered(marks[0][1], marks[0][0])) if marks else (None, None)
        mutated = case.passed and measures.mutants > 0
        rows.append(
            Quality(
                id=case.id,
                passed=case.passed,
                others=found,
                independent=suites,
                consensus=size if found or suites else 0,
                agreement_score=score,
                mutants=len(ran) if mutated else None,
                killed=sum(row["verdict"] != PASSED for row in ran) if mutated else None,
                marks=None if part is None else number,
                covered=part,
                truth=right.get(case.id),
            )
        )
    return rows


def read_groups(responses: Sequence[Path], verdicts: Sequence[Path], tests: Path | None) -> list[Group]:
    """Return the verified responses of a shard by instruction; instructions without any have no group.

    Raises:
        ValueError: a response that was not dropped has no verdict.
    """
    passed = {row.id: row.passed for path in verdicts for row in load_rows(Verdict, read_jsonl(path), str(path))}
    cases: dict[str, list[Case]] = defaultdict(list)
    for path in responses:
        for row in load_rows(Response, read_jsonl(path), str(path)):
            if row.drop:
                continue
            if row.id not in passed:
                raise ValueError(
                    f"{path}: response {row.id} has no verdict in {', '.join(map(str, verdicts))}; give the files of "
                    "the same run and shard"
                )
            code, own = code_blocks(row.response), code_blocks(row.tests)
            cases[row.parent].append(Case(id=row.id, code=code, tests=own, passed=passed[row.id]))
    suites: dict[str, list[str]] = defaultdict(list)
    if tests is not None:
        for suite in load_rows(TestSuite, read_jsonl(tests), str(tests)):
            if not suite.drop:
                suites[suite.parent].append(code_blocks(suite.tests))
    return [Group(cases=tuple(found), suites=tuple(suites[name])) for name, found in cases.items()]


def read_truth(path: Path | None) -> dict[str, bool]:
    """Return which responses pass all checks of their benchmark; without those whose task is left out here."""
    right: dict[str, bool] = {}
    if path is not None:
        for row in load_rows(Verdict, read_jsonl(path), str(path)):
            name = row.id.rpartition("/")[0]
            right[name] = right.get(name, True) and row.passed
    return right

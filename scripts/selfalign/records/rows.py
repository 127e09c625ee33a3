"""The rows of every artifact. A row has an id and its parent's id; a dropped row keeps its place and names a reason."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Self, TypeVar

RowType = TypeVar("RowType", bound="Row")
BANDS = ("none passed", "up to 25 %", "up to 50 %", "up to 75 %", "above 75 %", "all passed")  # of pass rates


@dataclass(frozen=True, kw_only=True)
class Row:
    """Base of all rows: to and from plain dictionaries, with an error that names what is missing."""

    id: str

    @classmethod
    def load(cls, row: dict, where: str = "row") -> Self:
        """Build a row from a dictionary.

        Raises:
            ValueError: a field is missing or unknown; names the field and `where`.
        """
        try:
            return cls(**row)
        except TypeError as error:
            known = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"{where}: not a {cls.__name__} row ({error}); its fields are {known}") from error

    def dump(self) -> dict:
        """Return the row as a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Function(Row):
    """A function found in a corpus, with where it comes from.

    Attributes:
        id: First 16 hex digits of a digest of package, path, line and code.
        code: The function's source text, decorators included, dedented.
        imports: Import statements of its module that the function uses, one per line.
        path: File path inside the package, with forward slashes.
        line: First line of the function in that file, from 1.
        licence: Licence name as the package states it, or "unknown".
        inferred_imports: Those of the imports that its module does not have: a filter added them for undefined names.
    """

    code: str
    name: str
    imports: str
    docstring: str
    package: str
    version: str
    path: str
    line: int
    licence: str
    inferred_imports: str = ""

    def dump(self) -> dict:
        """Return the row as a plain dictionary."""
        return dict(vars(self))  # text and numbers alone; there are millions of them, and asdict copies every value


@dataclass(frozen=True, kw_only=True)
class Concepts(Row):
    """The base model's concepts of one seed. `drop` is None or the reason why the row goes no further."""

    parent: str
    shots: list[str]
    seed: int
    finish_reason: str
    text: str
    concepts: list[str]
    drop: str | None


@dataclass(frozen=True, kw_only=True)
class Instruction(Row):
    """A task that the model wrote: from concepts, category and difficulty, or as another method has it.

    Attributes:
        category: What was asked for; "any" where the method asks for none, as in `difficulty`.
        solution: Code that was written with the task, in one text (OSS-Instruct).
        original: The task that was changed (Evol-Instruct).
        change: The change that was asked for (Evol-Instruct).
    """

    parent: str
    shots: list[str]
    seed: int
    finish_reason: str
    category: str
    difficulty: str
    concepts: list[str]
    instruction: str
    drop: str | None
    solution: str = ""
    original: str = ""
    change: str = ""

    def dump(self) -> dict:
        """Return the row as a plain dictionary, without what its method does not have."""
        row = asdict(self)
        return {name: value for name, value in row.items() if value or name not in ("solution", "original", "change")}


@dataclass(frozen=True, kw_only=True)
class Response(Row):
    """One sampled response with its tests; `text` is the raw completion, kept for dropped rows too."""

    parent: str
    shots: list[str]
    seed: int
    finish_reason: str
    text: str
    response: str
    tests: str
    drop: str | None


@dataclass(frozen=True, kw_only=True)
class TestSuite(Row):
    """Tests that the model wrote from an instruction alone; `text` is the raw completion, kept for dropped rows too."""

    parent: str
    shots: list[str]
    seed: int
    finish_reason: str
    text: str
    tests: str
    drop: str | None


@dataclass(frozen=True, kw_only=True)
class Verdict(Row):
    """What the sandbox saw of one program.

    Attributes:
        verdict: "passed" or the reason why not (see `selfalign.sandbox`).
        detail: Error type, message and line, at most 256 characters.
        assertions: Assertions and test cases that were executed.
        core: What isolated and watched the program: "c", "python" or, for JavaScript, "node".
    """

    verdict: str
    detail: str
    cpu_s: float
    wall_s: float
    max_rss_mb: float
    assertions: int
    core: str

    @property
    def passed(self) -> bool:
        """Return whether the program passed."""
        return self.verdict == "passed"


@dataclass(frozen=True, kw_only=True)
class Quality(Row):
    """How far tests speak for a verified response. The id is that of the response.

    Attributes:
        passed: Whether it passed its own tests.
        others: Its line of the instruction's agreement matrix: for each verified response, in the order of their
            numbers, "1" where it passes that one's tests, "0" where not, "-" for its own, "." where these tests define
            anew what its code defines and so say nothing about it; "" where not measured.
        independent: The same for each suite that was written from the instruction alone.
        consensus: Responses that pass the same suites as it does, itself among them; 0 where nothing was agreed on.
        agreement_score: Square root of `consensus`, times the suites that they pass.
        mutants: Faulty variants of its code that ran with its own tests; None where not measured.
        killed: Those of them that did not pass.
        marks: Statements of its code and outcomes of conditions; None where not measured.
        covered: Those of them that its own tests ran.
        truth: Whether it passes the checks of the benchmark that its instruction is from; None without.
    """

    passed: bool
    others: str = ""
    independent: str = ""
    consensus: int = 0
    agreement_score: float = 0.0
    mutants: int | None = None
    killed: int | None = None
    marks: int | None = None
    covered: int | None = None
    truth: bool | None = None

    @property
    def agreement(self) -> float | None:
        """The share of the suites of others, independent ones among them, that it passes; None where there is none."""
        return _share_of_ones(self.others + self.independent)

    @property
    def independent_agreement(self) -> float | None:
        """The share of the independent suites that it passes; None where there is none."""
        return _share_of_ones(self.independent)

    @property
    def mutation_score(self) -> float | None:
        """The share of the mutants that its tests kill; None where there is none."""
        return self.killed / self.mutants if self.mutants else None

    @property
    def coverage(self) -> float | None:
        """The share of the marks that its tests run; None where there is none."""
        return self.covered / self.marks if self.marks else None


def _share_of_ones(text: str) -> float | None:
    ran = text.count("1") + text.count("0")
    return text.count("1") / ran if ran else None


@dataclass(frozen=True, kw_only=True)
class Pair(Row):
    """One training pair, with all that leads back to its seed. The id is that of the response.

    Attributes:
        pass_rate: Passed share of the instruction's verified responses, from 0 to 1.
        samples: How many these are.
    """

    instruction: str
    response: str
    tests: str
    category: str
    difficulty: str
    concepts: list[str]
    instruction_id: str
    concepts_id: str
    seed_id: str
    verdict: str
    pass_rate: float
    samples: int
    package: str
    path: str
    line: int
    licence: str


@dataclass(frozen=True, kw_only=True)
class Negative(Pair):
    """A response that was run and failed, with what a pair has.

    Attributes:
        detail: What the sandbox saw beside the verdict.
        passes_other_tests: The same code passed with the tests of another sample: here the tests may be what is wrong.
    """

    detail: str
    passes_other_tests: bool


@dataclass(frozen=True, kw_only=True)
class Difficulty(Row):
    """How hard an instruction is for the model that answers it. The id is that of the instruction.

    Attributes:
        samples: Verified responses; those that could not be run are not among them.
        pass_rate: The passed share of them, from 0 to 1. Where sampling stopped at a pass it is too high.
        difficulty: The one that was asked for when the instruction was written.
    """

    samples: int
    passed: int
    pass_rate: float
    category: str
    difficulty: str
    seed_id: str

    @property
    def band(self) -> str:
        """Return which of `BANDS` the pass rate lies in."""
        if self.passed in (0, self.samples):
            return BANDS[-1] if self.passed else BANDS[0]
        return BANDS[1 + sum(self.pass_rate > limit for limit in (0.25, 0.5, 0.75))]


def load_rows(kind: type[RowType], rows: Iterable[dict], where: str) -> Iterator[RowType]:
    """Yield typed rows; an error names the file (`where`) and the row number."""
    for number, row in enumerate(rows, 1):
        yield kind.load(row, f"{where}, row {number}")

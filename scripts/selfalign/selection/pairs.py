"""Select training pairs: a chain of stages, each of which drops rows with a reason (paper, section 2 and its code)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from selfalign.matching.benchmarks import BenchmarkIndex
from selfalign.matching.funnels import Funnel
from selfalign.matching.near_duplicates import near_duplicates
from selfalign.records.commands import derive_seed
from selfalign.records.rows import Difficulty, Negative
from selfalign.selection.candidates import Candidate
from selfalign.selection.checks import Matches, bare_code, format_drop
from selfalign.selection.contrasts import difficulties, negatives, preferences
from selfalign.selection.quality import below, not_in_consensus, outside

FIELDS: dict[str, Callable[[Candidate], str]] = {
    "instruction": lambda row: row.instruction.instruction,
    "response": lambda row: row.response.response,
}
_BY_QUALITY = ("pass_rate", "min_agreement", "min_mutation_score", "min_coverage", "consensus")
_HINTS = {
    "responses": "few responses are well-formed: look at their `drop` reasons, raise max_tokens, or use a prompt file "
    "that suits the model",
    "difficulty": "widen pass_rate, or sample more responses per instruction",
    "verdicts": "the model's responses rarely end as `select` wants: sample more per instruction, or change select",
    "format": "the responses lack assertions or hold placeholders: use other worked examples",
    "instruction_length": "raise max_instruction_words",
    "agreement": "lower min_agreement: where the tests of others are wrong, nothing passes them",
    "mutation_score": "lower min_mutation_score",
    "coverage": "lower min_coverage",
    "consensus": "set consensus: false",
    "one_per_instruction": "raise per_instruction, or add seeds",
    "exact_duplicates": "the model repeats itself: raise the temperature, or add seeds",
    "near_duplicates": "raise near_duplicate_threshold, or shorten near_duplicate_fields",
    "decontamination": "the rejected rows name the benchmark task that each one matches",
    "size": "raise size",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What becomes a pair.

    Attributes:
        select: Responses that passed or failed their tests, or whatever the verdict: all of them, or drawn at random
            (the two differ in name only, unless a size is set).
        size: Most pairs; None keeps all.
        pass_rate: Lowest and highest passed share of an instruction's verified responses; None takes all.
        min_agreement, min_mutation_score, min_coverage: Least values of a response's measured quality; None asks none.
        consensus: Keep of each instruction the best consensus set of those that are left.
        per_instruction: Most responses of one instruction.
        preferences_per_instruction: Most preferences of one instruction; they are no pairs.
        near_duplicate_threshold: Least Jaccard similarity of two near-duplicates (the paper's tools use 0.7).
        near_duplicate_fields: Texts in which near-duplicates are looked for, one after the other.
        decontaminate: Drop what matches a task of one of the run's benchmarks.
    """

    select: Literal["passed", "failed", "random", "all"] = "passed"
    size: int | None = None
    pass_rate: tuple[float, ...] | None = None
    min_agreement: float | None = None
    min_mutation_score: float | None = None
    min_coverage: float | None = None
    consensus: bool = False
    per_instruction: int = 1
    preferences_per_instruction: int = 1
    max_instruction_words: int = 200
    near_duplicate_threshold: float = 0.7
    near_duplicate_fields: tuple[str, ...] = ("instruction", "response")
    decontaminate: bool = True

    def __post_init__(self):
        for name in ("size", "per_instruction", "preferences_per_instruction", "max_instruction_words"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        for name in self.near_duplicate_fields:
            if name not in FIELDS:
                raise ValueError(f"near_duplicate_fields names {name!r}; known are {', '.join(FIELDS)}")
        if self.pass_rate and not (len(self.pass_rate) == 2 and 0 <= self.pass_rate[0] <= self.pass_rate[1] <= 1):
            raise ValueError(
                f"pass_rate is {list(self.pass_rate)}; it must be two shares from 0 to 1, the lower one first"
            )
        if not 0 < self.near_duplicate_threshold <= 1:
            raise ValueError(
                f"near_duplicate_threshold is {self.near_duplicate_threshold}; it must be above 0, at most 1"
            )

    def least_quality(self) -> dict[str, float]:
        """Return the stages that ask for quality, each with its least value."""
        least = {name: getattr(self, f"min_{name}") for name in ("agreement", "mutation_score", "coverage")}
        return {name: value for name, value in least.items() if value is not None}

    def told(self) -> dict:
        """Return the settings for people; without those of difficulty and quality that ask for nothing."""
        unasked = {name for name in _BY_QUALITY if (value := getattr(self, name)) is None or value is False}
        return {name: value for name, value in asdict(self).items() if name not in unasked}


@dataclass(kw_only=True)
class Selection:
    """The outcome.

    Attributes:
        funnel: From all responses to the pairs.
        kept: The pairs.
        rejected: All other responses, with stage, reason and detail.
        contamination: Matches with benchmarks.
        preferences: Passing and failing responses side by side.
        preference_funnel: From the instructions with verified responses to those with preferences.
        negatives: Responses that failed.
        difficulties: Of every instruction with verified responses.
    """

    funnel: Funnel
    kept: list[Candidate]
    rejected: list[dict] = field(default_factory=list)
    contamination: list[dict] = field(default_factory=list)
    preferences: list[dict] = field(default_factory=list)
    preference_funnel: Funnel = field(default_factory=lambda: Funnel(0))
    negatives: list[Negative] = field(default_factory=list)
    difficulties: list[Difficulty] = field(default_factory=list)

    def drop(self, stage: str, drops: dict[str, tuple[str, str]]) -> None:
        """Let the rows through a stage but for the given ids, each with reason and detail."""
        for row in self.kept:
            if row.id in drops:
                reason, detail = drops[row.id]
                self.rejected.append({"id": row.id, "stage": stage, "reason": reason, "detail": detail})
        self.kept = [row for row in self.kept if row.id not in drops]
        self.funnel.add(stage, len(self.kept), [reason for reason, _ in drops.values()])


def _verdict_drop(row: Candidate, select: str) -> tuple[str, str] | None:
    assert row.verdict is not None
    wanted = {"passed": row.passed, "failed": row.failed}.get(select, True)
    return None if wanted else (row.verdict.verdict, row.verdict.detail)


def _each(rows: Sequence[Candidate], check: Callable[[Candidate], tuple[str, str] | None]) -> dict:
    return {row.id: drop for row in rows if (drop := check(row))}


def _not_chosen(rows: Sequence[Candidate], count: int, run_seed: int) -> dict[str, tuple[str, str]]:
    """Return the responses that lose the draw among those of their instruction."""
    groups: dict[str, list[str]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: derive_seed(run_seed, "one per instruction", row.id)):
        groups[row.instruction.id].append(row.id)
    return {key: ("another response chosen", ids[0]) for ids in groups.values() for key in ids[count:]}


def _exact_duplicates(rows: Sequence[Candidate]) -> dict[str, tuple[str, str]]:
    """Return the rows whose instruction is that of another one, or whose code is that of another row."""
    instructions: dict[str, str] = {}
    codes: dict[str, str] = {}
    drops = {}
    for row in sorted(rows, key=lambda row: row.id):
        text = " ".join(row.instruction.instruction.split()).lower()
        original = instructions.setdefault(text, row.instruction.id)
        if original != row.instruction.id:
            drops[row.id] = ("duplicate instruction", original)
            continue
        original = codes.setdefault(bare_code(row), row.id)
        if original != row.id:
            drops[row.id] = ("duplicate response", original)
    return drops


def _near_duplicates(rows: Sequence[Candidate], settings: Settings) -> dict[str, tuple[str, str]]:
    """Return the near-duplicates by each field in turn; responses of one instruction share its text and stay."""
    drops: dict[str, tuple[str, str]] = {}
    for name in settings.near_duplicate_fields:
        rest = [row for row in rows if row.id not in drops]
        owner = {row.id: row.instruction.id if name == "instruction" else row.id for row in rest}
        texts = {owner[row.id]: FIELDS[name](row) for row in rest}
        originals = near_duplicates(texts, settings.near_duplicate_threshold)
        for row in rest:
            if owner[row.id] in originals:
                drops[row.id] = (f"near-duplicate {name}", originals[owner[row.id]])
    return drops


def _drop_contaminated(selection: Selection, matches: Matches) -> None:
    drops = {}
    for row in selection.kept:
        if evidence := matches.of(row):
            drops[row.id] = evidence[0].drop()
            selection.contamination += [{"id": row.id} | found.dump() for found in evidence]
    selection.drop("decontamination", drops)


def _explain_nothing(funnel: Funnel) -> str:
    worst = max(funnel.stages, key=lambda stage: stage["input"] - stage["kept"])
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in worst["dropped"].items())
    return (
        f"no pair is left of {funnel.stages[0]['input']:,} responses; most were dropped by the stage "
        f"{worst['stage']} ({reasons or 'there were no responses'}). To change that: {_HINTS[worst['stage']]}"
    )


def select_pairs(
    candidates: Sequence[Candidate],
    settings: Settings,
    index: BenchmarkIndex,
    run_seed: int,
    *,
    may_be_empty: bool = False,
) -> Selection:
    """Run the chain from all responses to the pairs, and collect what the other responses are of use for.

    Raises:
        ValueError: nothing is left, and that may not be; names the stage that dropped most and what to change.
    """
    selection = Selection(funnel=Funnel(len(candidates)), kept=list(candidates))
    selection.drop("responses", _each(selection.kept, lambda row: row.response.drop and (row.response.drop, "")))
    selection.drop("verdicts", _each(selection.kept, lambda row: _verdict_drop(row, settings.select)))
    if settings.pass_rate:
        low, high = settings.pass_rate
        selection.drop("difficulty", _each(selection.kept, lambda row: outside(row, low, high)))
    selection.drop("format", _each(selection.kept, format_drop))
    limit = settings.max_instruction_words
    long = _each(
        selection.kept,
        lambda row: (f"more than {limit} words", "") if len(row.instruction.instruction.split()) > limit else None,
    )
    selection.drop("instruction_length", long)
    for stage, least in settings.least_quality().items():
        selection.drop(stage, _each(selection.kept, lambda row, stage=stage, least=least: below(row, stage, least)))
    if settings.consensus:
        selection.drop("consensus", not_in_consensus(selection.kept, run_seed))
    selection.drop("one_per_instruction", _not_chosen(selection.kept, settings.per_instruction, run_seed))
    selection.drop("exact_duplicates", _exact_duplicates(selection.kept))
    selection.drop("near_duplicates", _near_duplicates(selection.kept, settings))
    matches = Matches(index if settings.decontaminate else None)
    if settings.decontaminate:
        _drop_contaminated(selection, matches)
    if settings.size is not None:
        drawn = sorted(selection.kept, key=lambda row: derive_seed(run_seed, "size", row.id))
        selection.drop("size", {row.id: ("not drawn", "") for row in drawn[settings.size :]})
    if not selection.kept and not may_be_empty:
        raise ValueError(_explain_nothing(selection.funnel))
    selection.kept.sort(key=lambda row: row.id)
    selection.preferences, selection.preference_funnel = preferences(
        candidates,
        selection.kept,
        matches,
        run_seed,
        each=settings.preferences_per_instruction,
        longest=settings.max_instruction_words,
        threshold=settings.near_duplicate_threshold if "instruction" in settings.near_duplicate_fields else None,
    )
    selection.negatives = negatives(candidates, matches)
    selection.difficulties = difficulties(candidates)
    return selection

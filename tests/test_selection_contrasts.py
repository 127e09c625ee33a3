"""What the responses that are no pairs are of use for: preferences, negatives, difficulty."""

import pytest
from selection_rows import EMPTY, NEAR, TASK, TEXT, candidate, fenced, words

from selfalign.matching.benchmarks import BenchmarkIndex
from selfalign.records.rows import BANDS
from selfalign.selection.candidates import Candidate
from selfalign.selection.pairs import Settings, select_pairs

DEFAULT = Settings()


def test_preferences_are_of_clean_responses_with_opposite_verdicts():
    wrong = [candidate(0, sample=sample, verdict="wrong") for sample in range(1, 5)]
    rows = [
        candidate(0),
        *wrong,
        candidate(0, sample=5, verdict="wrong", code=TASK["canonical_solution"]),
        candidate(0, sample=6, drop="empty"),
        candidate(0, sample=7, verdict="wrong", tests=fenced("f(1)")),
        candidate(1),
        candidate(2, verdict="wrong"),
    ]
    index = BenchmarkIndex([TASK])
    [preference] = select_pairs(rows, Settings(), index, 1).preferences
    assert preference["chosen_id"] == rows[0].id
    assert preference["rejected_id"] in {row.id for row in wrong}
    assert preference == {
        "instruction_id": rows[0].instruction.id,
        "instruction": rows[0].instruction.instruction,
        "chosen": rows[0].response.response,
        "rejected": next(row.response.response for row in wrong if row.id == preference["rejected_id"]),
        "chosen_id": rows[0].id,
        "rejected_id": preference["rejected_id"],
    }
    [preference] = select_pairs(rows, Settings(select="failed"), index, 1).preferences
    assert preference["chosen_id"] == rows[0].id


def preferred(rows: list[Candidate], settings: Settings = DEFAULT, index: BenchmarkIndex = EMPTY) -> list[tuple]:
    """Return what is preferred to what, by id; check that the funnel ends with these instructions."""
    selection = select_pairs(rows, settings, index, 1)
    found = [(row["chosen_id"], row["rejected_id"]) for row in selection.preferences]
    assert selection.preference_funnel.rows == len({row["instruction_id"] for row in selection.preferences})
    return found


def both(seed: int, *, code: str | None = None, **changes) -> list[Candidate]:
    """Return a passing response, with the given code, and a failing one to one instruction."""
    return [candidate(seed, code=code, **changes), candidate(seed, sample=1, verdict="wrong", **changes)]


WITHOUT_A_PAIR = [
    # why the second instruction has no pair, what is different, settings, whether it has a preference
    ("not drawn", {}, Settings(size=1), True),
    ("near-duplicate response", {"code": " ".join(TEXT)}, Settings(), True),
    ("near-duplicate instruction", {"instruction": " ".join([*TEXT[:29], "changed"])}, Settings(), False),
    ("duplicate instruction", {"instruction": " ".join(TEXT[:30]).upper()}, Settings(), False),
    ("more than 30 words", {"instruction": words(1, 31)}, Settings(max_instruction_words=30), False),
    ("bench: instruction", {"instruction": TASK["instruction"]}, Settings(), False),
]


@pytest.mark.parametrize(("reason", "changes", "settings", "expected"), WITHOUT_A_PAIR)
def test_instructions_without_a_pair_have_preferences_unless_they_repeat_one(reason, changes, settings, expected):
    first, second = both(0, instruction=" ".join(TEXT[:30]), code=NEAR), both(1, **changes)
    rows = [*first, *second]
    index = BenchmarkIndex([TASK])
    selection = select_pairs(rows, settings, index, 1)
    (kept,) = [row.id for row in selection.kept]
    lost = next(row for row in selection.rejected if row["id"] in {first[0].id, second[0].id})
    assert lost["reason"] == reason
    pairs = [(first[0].id, first[1].id), (second[0].id, second[1].id)]
    assert preferred(rows, settings, index) == [pair for pair in pairs if expected or kept in pair]


def test_instructions_with_a_pair_stay_where_one_without_joins_them():
    """The second instruction is a near-duplicate of the first and of the third, which are none of each other."""
    first = TEXT
    second = [*TEXT[:54], *words("end", 6).split()]
    third = [*words("begin", 6).split(), *second[6:]]
    same = "def f(x):\n    return x"
    rows = [
        *both(0, instruction=" ".join(first), code=same),
        *both(1, instruction=" ".join(second), code=same),
        *both(2, instruction=" ".join(third)),
    ]
    settings = Settings(max_instruction_words=60)
    assert [row.id for row in select_pairs(rows, settings, EMPTY, 1).kept] == [rows[0].id, rows[4].id]
    assert preferred(rows, settings) == [(rows[0].id, rows[1].id), (rows[4].id, rows[5].id)]


def test_of_near_duplicate_instructions_one_with_a_pair_stays():
    same = "def f(x):\n    return x"
    rows = [
        *both(0, code=same),
        *both(1, instruction=" ".join(TEXT), code=same),  # no pair: its response is that of the first
        *both(2, instruction=NEAR),
    ]
    assert [row.id for row in select_pairs(rows, Settings(), EMPTY, 1).kept] == [rows[0].id, rows[4].id]
    assert preferred(rows) == [(rows[0].id, rows[1].id), (rows[4].id, rows[5].id)]


def test_code_that_passed_other_tests_is_not_rejected_but_marked():
    same = "def f(x):\n    return x"
    rows = [
        candidate(0, code=same),
        candidate(0, sample=1, code=same.replace("    ", "  "), verdict="assertion"),
        candidate(1),
        candidate(1, sample=1, verdict="assertion"),
    ]
    assert preferred(rows) == [(rows[2].id, rows[3].id)]
    failed = select_pairs(rows, Settings(), EMPTY, 1).negatives
    assert [(row.id, row.passes_other_tests) for row in failed] == [(rows[1].id, True), (rows[3].id, False)]


@pytest.mark.parametrize(("passed", "failed", "each", "expected"), [
    (1, 1, 5, [(0, 0)]),
    (2, 3, 1, [(0, 0)]),
    (2, 3, 2, [(0, 0), (1, 1)]),
    (2, 3, 9, [(0, 0), (1, 1), (0, 2)]),
    (2, 0, 9, []),
])  # fmt: skip
def test_preferences_per_instruction(passed, failed, each, expected):
    rows = [candidate(0, sample=number) for number in range(passed)]
    rows += [candidate(0, sample=10 + number, verdict="wrong") for number in range(failed)]
    rows += [
        candidate(0, sample=20 + n, verdict="wrong", code=f"def f(x):\n    # same\n    return {n // 9}")
        for n in range(2)
    ]
    rows = rows if failed else rows[:passed]
    found = preferred(rows, Settings(preferences_per_instruction=each))
    pairs = [row.id for row in select_pairs(rows, Settings(), EMPTY, 1).kept]
    assert found[:1] == [] or found[0][0] == pairs[0]  # the pair's response comes first
    assert len(set(found)) == len(found)
    # Which responses are meant by the numbers is drawn; equal code counts once
    order = [list(dict.fromkeys(pair[side] for pair in found)) for side in (0, 1)]
    numbers = [(order[0].index(chosen), order[1].index(rejected)) for chosen, rejected in found]
    extra = 1 if failed and each > failed else 0  # the code that both of two more responses have
    assert numbers[: len(expected)] == expected
    assert len(numbers) == len(expected) + extra


def test_negatives_are_clean_responses_that_failed():
    rows = [
        candidate(0),
        candidate(0, sample=1, verdict="wrong"),
        candidate(0, sample=2, verdict="timeout"),
        candidate(0, sample=3, drop="empty"),
        candidate(0, sample=4, verdict="wrong", tests=fenced("f(1)")),
        candidate(0, sample=5, verdict="wrong", code=TASK["canonical_solution"]),
        candidate(1, verdict="wrong"),  # an instruction without a pair
    ]
    index = BenchmarkIndex([TASK])
    assert [row.id for row in select_pairs(rows, Settings(), index, 1).negatives] == [rows[n].id for n in (1, 2, 6)]
    dirty = select_pairs(rows, Settings(decontaminate=False), index, 1).negatives
    assert [row.id for row in dirty] == [rows[n].id for n in (1, 2, 5, 6)]
    (first, *_) = dirty
    assert {name: getattr(first, name) for name in ("seed_id", "concepts_id", "instruction_id", "tests")} == {
        "seed_id": rows[1].seed.id,
        "concepts_id": rows[1].concepts.id,
        "instruction_id": rows[1].instruction.id,
        "tests": rows[1].response.tests,
    }


BAND_LIMITS = [(0, 4, 0), (1, 4, 1), (2, 7, 2), (2, 4, 2), (3, 4, 3), (4, 5, 4), (4, 4, 5), (1, 1, 5), (0, 1, 0)]


@pytest.mark.parametrize(("passed", "samples", "band"), BAND_LIMITS)
def test_bands_of_pass_rates(passed, samples, band):
    rows = [
        candidate(0, sample=n, verdict="passed" if n < passed else "wrong", samples=samples, pass_rate=passed / samples)
        for n in range(samples)
    ]
    rows.append(candidate(9))  # so that there is a pair
    difficulty = select_pairs(rows, Settings(), EMPTY, 1).difficulties[0]
    assert (difficulty.passed, difficulty.samples, difficulty.band) == (passed, samples, BANDS[band])

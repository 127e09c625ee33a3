"""What else verification tells than which responses are pairs: difficulty, what failed, and passing beside failing.

All of it is of every instruction of the generation, whether one of its responses became a pair or not: most of what was
sampled and run becomes no pair, and it is here that it is of use.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

from selfalign.matching.funnels import Funnel
from selfalign.matching.near_duplicates import near_duplicates
from selfalign.records.commands import derive_seed
from selfalign.records.rows import Difficulty, Negative
from selfalign.selection.candidates import Candidate
from selfalign.selection.checks import Matches, bare_code, format_drop


def _by_instruction(rows: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        if row.verdict is not None:
            groups[row.instruction.id].append(row)
    return dict(sorted(groups.items()))


def difficulties(candidates: Sequence[Candidate]) -> list[Difficulty]:
    """Return how many of its verified responses passed, for each instruction that has some."""
    return [
        Difficulty(
            id=instruction,
            samples=rows[0].samples,
            passed=sum(row.passed for row in rows),
            pass_rate=rows[0].pass_rate,
            category=rows[0].instruction.category,
            difficulty=rows[0].instruction.difficulty,
            seed_id=rows[0].seed.id,
        )
        for instruction, rows in _by_instruction(candidates).items()
    ]


def negatives(candidates: Sequence[Candidate], matches: Matches) -> list[Negative]:
    """Return every response that was run and failed, is in form, and matches no task of a benchmark."""
    found = []
    for rows in _by_instruction(candidates).values():
        passing = {bare_code(row) for row in rows if row.passed}
        for row in rows:
            if row.failed and not format_drop(row) and not matches.of(row):
                found.append(row.negative(passes_other_tests=bare_code(row) in passing))
    return found


def preferences(
    candidates: Sequence[Candidate],
    kept: Sequence[Candidate],
    matches: Matches,
    run_seed: int,
    *,
    each: int,
    longest: int,
    threshold: float | None,
) -> tuple[list[dict], Funnel]:
    """Return pairs of a passing and a failing response to one instruction, and how many instructions have none.

    Code that passed with other tests of its instruction does not count as failing. A kept response comes first among
    those of its verdict; the others are drawn. Of near-duplicate instructions one is left, one with a pair before
    others.

    Args:
        kept: The responses that are pairs.
        each: Most preferences of one instruction; each response of the rarer verdict can occur in several.
        longest: Most words of an instruction.
        threshold: Least Jaccard similarity of near-duplicate instructions; None keeps them.
    """
    ids = {row.id for row in kept}
    trained = {row.instruction.id for row in kept}
    groups = _by_instruction(candidates)
    sides = {name: _sides(rows, ids, matches, run_seed) for name, rows in groups.items()}
    texts = {name: rows[0].instruction.instruction for name, rows in groups.items()}
    names = sorted(groups, key=lambda name: (name not in trained, name))
    funnel = Funnel(len(names))

    def go_on(stage: str, check: Callable[[str], str | None]) -> None:
        reasons = {name: check(name) for name in names}
        names[:] = [name for name in names if reasons[name] is None]
        funnel.add(stage, len(names), [reason for reason in reasons.values() if reason])

    def lacks(name: str) -> str | None:
        missing = [kind for kind, rows in zip(("passing", "failing"), sides[name], strict=True) if not rows]
        return f"no {' and no '.join(missing)} response" if missing else None

    def repeats(name: str) -> str | None:
        first = originals.setdefault(" ".join(texts[name].split()).lower(), name)
        return None if first == name else "duplicate instruction"

    originals: dict[str, str] = {}
    go_on("both_verdicts", lacks)
    go_on(
        "instruction_length", lambda name: f"more than {longest} words" if len(texts[name].split()) > longest else None
    )
    go_on("exact_duplicates", repeats)
    if threshold is not None:
        order = {f"{place:09}": name for place, name in enumerate(names)}  # a cluster keeps its smallest key
        near = near_duplicates({key: texts[name] for key, name in order.items()}, threshold)
        # What lies between two pairs' instructions can join them in one cluster; both stay.
        repeated = {order[key] for key in near} - trained
        go_on("near_duplicates", lambda name: "near-duplicate instruction" if name in repeated else None)
    rows = []
    for name in sorted(names):
        passing, failing = sides[name]
        for number in range(min(each, max(len(passing), len(failing)))):
            chosen, rejected = passing[number % len(passing)], failing[number % len(failing)]
            rows.append(
                {
                    "instruction_id": name,
                    "instruction": texts[name],
                    "chosen": chosen.response.response,
                    "rejected": rejected.response.response,
                    "chosen_id": chosen.id,
                    "rejected_id": rejected.id,
                }
            )
    return rows, funnel


def _sides(
    rows: Sequence[Candidate], kept: set[str], matches: Matches, run_seed: int
) -> tuple[list[Candidate], list[Candidate]]:
    """Return the passing and the failing responses of one instruction, in the order in which they are taken."""
    ordered = sorted(rows, key=lambda row: (row.id not in kept, derive_seed(run_seed, "preference", row.id)))
    ever_passed = {bare_code(row) for row in rows if row.passed}
    passing: dict[str, Candidate] = {}
    failing: dict[str, Candidate] = {}
    for row in ordered:
        code = bare_code(row)
        if format_drop(row) or matches.of(row) or (row.failed and code in ever_passed):
            continue
        (passing if row.passed else failing).setdefault(code, row)
    return list(passing.values()), list(failing.values())

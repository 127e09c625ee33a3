"""The data card of a dataset: what is in it, under which licences, how it was selected."""

from collections import Counter

from selfalign.matching.funnels import Funnel
from selfalign.prompts.documents import DIFFICULTIES
from selfalign.records.rows import BANDS, Difficulty
from selfalign.selection.pairs import Selection, Settings

_PROVENANCE = (
    ("id", "the response; without the last part the instruction, then the concepts, then the seed"),
    ("instruction_id, concepts_id, seed_id", "the same rows in the generation's and the corpus's files"),
    ("package, path, line, licence", "where the seed was found"),
    ("verdict", "what the sandbox saw of the response with its tests"),
    ("samples, pass_rate", "verified responses to the same instruction, and the passed share of them"),
)


def _table(header: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _counts(name: str, values: list[str], most: int | None = None) -> str:
    """Return the pairs of each value, the commonest first; beyond `most` values, the others together."""
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    shown, others = counts[:most], counts[len(counts[:most]) :]
    rows = [(value, f"{count:,}") for value, count in shown]
    if others:
        rows.append((f"{len(others):,} others", f"{sum(count for _, count in others):,}"))
    return _table((name, "pairs"), rows)


def _stages(funnel: Funnel) -> str:
    rows = [
        (
            stage["stage"],
            f"{stage['input']:,}",
            f"{stage['kept']:,}",
            ", ".join(f"{reason} {count:,}" for reason, count in stage["dropped"].items()),
        )
        for stage in funnel.stages
    ]
    return _table(("stage", "in", "kept", "dropped"), rows)


def _bands(rows: list[Difficulty]) -> str:
    """Return how many instructions lie in each band of pass rates, by the difficulty that was asked for."""
    counts = Counter((row.band, row.difficulty) for row in rows)
    lines = [(band, *(f"{counts[band, asked]:,}" for asked in DIFFICULTIES)) for band in BANDS]
    return _table(("pass rate", *(f"asked to be {asked}" for asked in DIFFICULTIES)), lines)


def data_card(name: str, selection: Selection, settings: Settings, benchmarks: int) -> str:
    """Return the card as Markdown.

    Args:
        benchmarks: Benchmark tasks against which the pairs were matched.
    """
    pairs = [row.pair() for row in selection.kept]
    clean = f"matched against {benchmarks:,} benchmark tasks" if settings.decontaminate else "not decontaminated"
    parts = [
        f"# Dataset {name}",
        f"{len(pairs):,} pairs of instruction and response from {len({pair.seed_id for pair in pairs}):,} seeds, "
        f"{sum(pair.verdict == 'passed' for pair in pairs):,} of them passed their own tests; "
        f"{clean}. "
        "The texts were written by a model: the tests are its own, too, and a passing pair can still be wrong.",
        "## Files",
        _table(
            ("file", "rows", "what"),
            [
                ("pairs.jsonl", f"{len(pairs):,}", "what a model is trained on"),
                (
                    "preferences.jsonl",
                    f"{len(selection.preferences):,}",
                    "a passing and a failing response to one instruction",
                ),
                (
                    "negatives.jsonl",
                    f"{len(selection.negatives):,}",
                    "responses that failed, with verdict and detail; "
                    f"{sum(row.passes_other_tests for row in selection.negatives):,} hold code that passed other tests",
                ),
                ("difficulty.jsonl", f"{len(selection.difficulties):,}", "instructions with their pass rates"),
                ("rejected.jsonl", f"{len(selection.rejected):,}", "responses that are no pairs, with the reason"),
            ],
        ),
        "Preferences, negatives and difficulty are of all instructions of the generation, not only of those of a pair.",
        "## Pairs",
        _counts("category", [pair.category for pair in pairs]),
        _counts("difficulty", [pair.difficulty for pair in pairs]),
        _counts("verdict", [pair.verdict for pair in pairs]),
        "## Difficulty",
        "Instructions by the passed share of their verified responses.",
        _bands(selection.difficulties),
        "## Licences of the seeds",
        "The model saw a seed's code when it wrote the concepts from which the pair was made.",
        _counts("licence", [pair.licence for pair in pairs]),
        _counts("package", [pair.package for pair in pairs], most=50),  # a corpus can have 100,000 repositories
        "## Settings",
        _table(("setting", "value"), [(key, f"`{value}`") for key, value in settings.told().items()]),
        "## Funnel",
        _stages(selection.funnel),
        "Every dropped row is in rejected.jsonl, with stage, reason and detail.",
        "From the instructions with verified responses to those with preferences:",
        _stages(selection.preference_funnel),
        "## Fields that lead back to the source",
        _table(("field", "meaning"), list(_PROVENANCE)),
    ]
    return "\n\n".join(parts) + "\n"

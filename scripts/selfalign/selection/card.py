"""The data card of a dataset: what is in it, under which licences, how it was selected."""

from collections import Counter
from dataclasses import asdict

from selfalign.selection.pairs import Selection, Settings

_PROVENANCE = (
    ("id", "the response; without the last part the instruction, then the concepts, then the seed"),
    ("instruction_id, concepts_id, seed_id", "the same rows in the generation's and the corpus's files"),
    ("package, path, line, licence", "where the seed was found"),
    ("verdict", "what the sandbox saw of the response with its tests"),
    ("pass_rate", "passed share of the verified responses to the same instruction"),
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


def data_card(name: str, selection: Selection, settings: Settings, benchmarks: int) -> str:
    """Return the card as Markdown.

    Args:
        benchmarks: Benchmark tasks against which the pairs were matched.
    """
    pairs = [row.pair() for row in selection.kept]
    funnel = [
        (
            stage["stage"],
            f"{stage['input']:,}",
            f"{stage['kept']:,}",
            ", ".join(f"{reason} {count:,}" for reason, count in stage["dropped"].items()),
        )
        for stage in selection.funnel.stages
    ]
    clean = f"matched against {benchmarks:,} benchmark tasks" if settings.decontaminate else "not decontaminated"
    parts = [
        f"# Dataset {name}",
        f"{len(pairs):,} pairs of instruction and response from {len({pair.seed_id for pair in pairs}):,} seeds, "
        f"{sum(pair.verdict == 'passed' for pair in pairs):,} of them passed their own tests; "
        f"{len(selection.preferences):,} preferences (a passing and a failing response to one instruction); {clean}. "
        "The texts were written by a model: the tests are its own, too, and a passing pair can still be wrong.",
        "## Pairs",
        _counts("category", [pair.category for pair in pairs]),
        _counts("difficulty", [pair.difficulty for pair in pairs]),
        _counts("verdict", [pair.verdict for pair in pairs]),
        "## Licences of the seeds",
        "The model saw a seed's code when it wrote the concepts from which the pair was made.",
        _counts("licence", [pair.licence for pair in pairs]),
        _counts("package", [pair.package for pair in pairs], most=50),  # a corpus can have 100,000 repositories
        "## Settings",
        _table(("setting", "value"), [(key, f"`{value}`") for key, value in asdict(settings).items()]),
        "## Funnel",
        _table(("stage", "in", "kept", "dropped"), funnel),
        "Every dropped row is in rejected.jsonl, with stage, reason and detail.",
        "## Fields that lead back to the source",
        _table(("field", "meaning"), list(_PROVENANCE)),
    ]
    return "\n\n".join(parts) + "\n"

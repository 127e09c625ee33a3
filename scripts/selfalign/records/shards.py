"""Parts and shards: how their files are named, of samples one for each of their rounds, and which rows are whose."""

from collections.abc import Mapping, Sequence

from selfalign.records.commands import derive_seed

KINDS = ("concepts", "instructions", "responses", "verdicts")  # folders of a generation, in the order of the stages
SAMPLED = ("responses", "verdicts")  # those that have rounds


def benchmark_of(settings: Mapping) -> str | None:
    """Return the benchmark whose tasks a generation answers, given its entry in the config; None for other ones."""
    table, _, name = (settings.get("instructions") or "").partition(":")
    return name if table == "benchmark" else None


def is_measured(settings: Mapping) -> bool:
    """Tell whether the quality of a generation's tests is measured."""
    return benchmark_of(settings) is not None or any(settings.get("tests", {}).values())


def kinds_of(settings: Mapping) -> tuple[str, ...]:
    """Return the folders of a generation with the given entry in the config, in the order of the stages."""
    given = benchmark_of(settings) is not None
    more = {
        "tests": settings.get("tests", {}).get("independent"),
        "truth": given,
        "quality": is_measured(settings),
    }
    return (*(KINDS[1:] if given else KINDS), *(kind for kind, there in more.items() if there))


def numbered(count: int) -> list[str]:
    """Return the names of so many parts or shards."""
    return [f"{number:05}" for number in range(count)]


def round_names(shard: str, rounds: int) -> list[str]:
    """Return the names of a shard's first rounds: 00000, 00000.1, 00000.2 and so on."""
    return [f"{shard}.{number}" if number else shard for number in range(rounds)]


def number_of_rounds(settings: Mapping) -> int:
    """Return in how many rounds responses are drawn, given a generation's entry in the config."""
    return 1 + len(settings["adaptive"]["samples"])


def file_names(kind: str, shard: str, rounds: int) -> list[str]:
    """Return the names of one kind of file of a shard, without suffix, in the order of the rounds."""
    return round_names(shard, rounds if kind in SAMPLED else 1)


def maker(generations: Mapping[str, Mapping], name: str, kind: str) -> str:
    """Return the generation whose model wrote a kind of rows that a generation has: its own, or one it takes them from.

    Args:
        generations: The config's table.
    """
    settings = generations[name]
    answers = settings["method"] == "answers" and kind == "instructions"
    taken = settings["instructions"] and not benchmark_of(settings) and (kind == "concepts" or answers)
    return maker(generations, settings["instructions"], kind) if taken else name


def rows_of_shard(ids: Sequence[str], shard: int, shards: int, draw: int | None, run_seed: int) -> list[str]:
    """Return the ids of the rows of one shard, in the order that they are given in.

    Shard I holds those at positions I, I + N, I + 2N ..., so that all shards are of one size and mix what is next to
    each other.

    Args:
        shard: I, from 0.
        shards: N.
        draw: How many rows all shards share, drawn by the run's seed; None takes all. Fewer are among those of more.
    """
    if not 0 <= shard < shards:
        raise ValueError(f"--shard is {shard}; with --shards {shards} it must lie between 0 and {shards - 1}")
    if draw is not None and draw < 1:
        raise ValueError(f"--draw is {draw}; it must be at least 1")
    if draw is not None:
        drawn = set(sorted(ids, key=lambda row_id: derive_seed(run_seed, "seeds", row_id))[:draw])
        ids = [row_id for row_id in ids if row_id in drawn]
    return list(ids[shard::shards])

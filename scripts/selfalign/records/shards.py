"""How files of parts and shards are named: one for each, and of what is sampled one for each of its rounds."""

from collections.abc import Mapping

KINDS = ("concepts", "instructions", "responses", "verdicts")  # folders of a generation, in the order of the stages
SAMPLED = ("responses", "verdicts")  # those that have rounds


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
    taken = settings["instructions"] and (kind == "concepts" or answers)
    return maker(generations, settings["instructions"], kind) if taken else name

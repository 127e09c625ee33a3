"""How the files of a generation are named: one for each shard, and of what is sampled one for each of its rounds."""

from collections.abc import Mapping

SAMPLED = ("responses", "verdicts")  # kinds of files that have rounds


def shard_names(settings: Mapping) -> list[str]:
    """Return the names of the shards of a generation, given its entry in the config."""
    return [f"{number:05}" for number in range(settings["shards"])]


def round_names(shard: str, rounds: int) -> list[str]:
    """Return the names of a shard's first rounds: 00000, 00000.1, 00000.2 and so on."""
    return [f"{shard}.{number}" if number else shard for number in range(rounds)]


def file_names(kind: str, shard: str, settings: Mapping) -> list[str]:
    """Return the names of one kind of file of a shard, without suffix, in the order of the rounds."""
    return round_names(shard, 1 + len(settings["adaptive"]["samples"]) if kind in SAMPLED else 1)

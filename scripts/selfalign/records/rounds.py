"""Rounds: how the entries of further ones are called, and how far they went, as the files of their judgements tell.

A round is a generation, a dataset selected from it, and a model trained on that. Round 1 are entries of the config; in
each further one the model of the round before generates. A round that is judged "stop" is the last one.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from selfalign.records.files import read_json

TABLES = {"generation": "generations", "dataset": "datasets", "model": "models"}  # keys of a rounds entry
GO, STOP = "go", "stop"


def round_name(name: str, number: int) -> str:
    """Return the name of an entry's successor in a round, the first of which is the entry itself."""
    return name if number == 1 else f"{name}-round{number}"


def round_entries(config: Mapping, name: str, number: int) -> dict[str, str]:
    """Return the generation, dataset and model of a round.

    Args:
        name: In the config's table of rounds; of a replicate, all that it is made of has its number, too.
    """
    original = config["rounds"][name].get("replicate_of", name)
    first, replicate = config["rounds"][original], name.removeprefix(original)
    return {key: round_name(first[key], number) + replicate for key in TABLES}


def judgement_path(name: str, number: int) -> str:
    """Return where the judgement of a round is, from the results folder."""
    return f"rounds/{name}/{number}.json"


def read_judgement(path: Path) -> Mapping:
    """Read the judgement of a round.

    Raises:
        ValueError: it is none.
    """
    found = read_json(path)
    if not isinstance(found, dict) or found.get("verdict") not in (GO, STOP):
        raise ValueError(f"{path}: not the judgement of a round; delete it and run again to remake it")
    return found


def read_judgements(results: Path, config: Mapping, name: str) -> list[Mapping]:
    """Return the judgements of all rounds in turn that were made, to the one that stopped, if one did."""
    found = []
    for number in range(1, config["rounds"][name]["rounds"] + 1):
        path = results / judgement_path(name, number)
        if (found and found[-1]["verdict"] == STOP) or not path.is_file():
            break
        found.append(read_judgement(path))
    return found


def reached(results: Path, config: Mapping) -> dict:
    """Return a config without the entries that a stopped round leaves unmade; files of earlier tries may be there.

    The table of rounds stays, with the number of rounds that there were.
    """
    found = dict(config)
    for name, entry in config.get("rounds", {}).items():
        judged = read_judgements(results, config, name)
        if not judged or judged[-1]["verdict"] != STOP:
            continue
        last = len(judged)
        found["rounds"] = {**found["rounds"], name: {**entry, "rounds": last}}
        for number in range(2, entry["rounds"] + 1):
            for key, other in round_entries(config, name, number).items():
                if number > last or (number == last and key == "model"):
                    found[TABLES[key]] = {one: of for one, of in found[TABLES[key]].items() if one != other}
    return found


def is_further(entry: Mapping) -> bool:
    """Return whether an entry of the config is of a further round."""
    return "round_of" in entry


def is_made_of(name: str, original: object, ending: str) -> bool:
    """Return whether an entry has the name that one made of another has, an `ending` (a pattern) after the other's."""
    return isinstance(original, str) and re.fullmatch(re.escape(original) + ending, name) is not None

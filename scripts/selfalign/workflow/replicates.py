"""Replicates: every generation, dataset and trained model several times, each time with a seed of its own.

The entry of the config is the first one; `aligned.2`, `aligned.3` and so on are copies of it, and what an entry is
made from is, for a copy, the copy of the same number. Corpora, benchmarks and given models are there once.
"""

from collections.abc import Iterator, Mapping

from selfalign.records.commands import derive_seed
from selfalign.records.rounds import is_made_of

COPIED = {  # table to its keys that name other entries, and the table of these
    "generations": {"generator": "models", "instructions": "generations"},
    "datasets": {"generation": "generations"},
    "models": {"base": "models", "dataset": "datasets"},
    "rounds": {"generation": "generations", "dataset": "datasets", "model": "models"},
}
ENDING = r"\.\d+"
LIKE = "like:"


def copy_name(name: str, number: int) -> str:
    """Return the name of an entry's replicate, the first of which is the entry itself."""
    return name if number == 1 else f"{name}.{number}"


def is_copied(config: Mapping, table: str, name: str) -> bool:
    """Return whether an entry is made once for each replicate."""
    return table in COPIED and "pretrained" not in config[table][name]


def without_made(config: dict, mark: str, ending: str) -> dict:
    """Return a config without the entries that a merged one has, and that are made anew from their originals.

    Args:
        mark: The key in which such an entry names its original.
        ending: What its name has after that of the original, as a pattern.
    """
    found = dict(config)
    made = set()
    for table in COPIED:
        entries = config.get(table)
        if isinstance(entries, dict):
            dropped = {
                name
                for name, entry in entries.items()
                if isinstance(entry, dict) and is_made_of(str(name), entry.get(mark), ending)
            }
            found[table] = {name: entry for name, entry in entries.items() if name not in dropped}
            made |= dropped if table == "models" else set()
    if made and isinstance(config.get("evaluate"), list):
        found["evaluate"] = [
            cross | {"models": [name for name in cross["models"] if name not in made]}
            if isinstance(cross, dict) and isinstance(cross.get("models"), list)
            else cross
            for cross in config["evaluate"]
        ]
    return found


def clashes(config: Mapping) -> Iterator[str]:
    """Yield each entry that has the name of a copy."""
    for table in COPIED:
        for name in config[table]:
            for number in range(2, config["replicates"] + 1) if is_copied(config, table, name) else ():
                if (copy := copy_name(name, number)) in config[table]:
                    yield (
                        f"{table}.{copy}: replicates: {config['replicates']} makes a copy of {table}.{name} with this "
                        "name; rename one of the two"
                    )


def expand_replicates(config: Mapping) -> dict:
    """Return the config with the copies after the originals, and with what `evaluate` asks of these asked of them."""

    def lead(table: str, name: str, number: int) -> str:
        known = name in config[table]  # not a benchmark's name, which a generation may have
        return copy_name(name, number) if known and is_copied(config, table, name) else name

    expanded = dict(config)
    for table, keys in COPIED.items():
        expanded[table] = dict(config[table])
        for number in range(2, config["replicates"] + 1):
            for name, entry in config[table].items():
                if not is_copied(config, table, name):
                    continue
                copy = entry | {key: lead(of, entry[key], number) for key, of in keys.items() if entry.get(key)}
                if isinstance(entry.get("size"), str):
                    copy["size"] = LIKE + lead("datasets", entry["size"].removeprefix(LIKE), number)
                if table != "rounds":
                    copy["seed"] = derive_seed(entry.get("seed", config["seed"]), "replicate", number)
                expanded[table][copy_name(name, number)] = copy | {"replicate_of": name}
    numbers = range(1, config["replicates"] + 1)
    expanded["evaluate"] = [
        cross | {"models": list(dict.fromkeys(lead("models", name, k) for k in numbers for name in cross["models"]))}
        for cross in config["evaluate"]
    ]
    return expanded

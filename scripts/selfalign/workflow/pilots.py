"""The pilot's entries: each generation of the config once more, small, for each style of tags; a dataset for each.

They are ordinary entries, made by the ordinary rules, but no part of the config: no run makes or reports them unless
`snakemake pilot` asks for it.
"""

from collections.abc import Mapping

from selfalign.records.shards import benchmark_of, maker


def _tried(config: Mapping) -> dict[str, Mapping]:
    """Return the generations of which there are pilots: those that begin with seeds."""
    return {name: entry for name, entry in config["generations"].items() if not benchmark_of(entry)}


def _tried(config: Mapping) -> dict[str, dict]:
    """Return the generations that are tried: of replicates, which differ in their seed alone, and rounds, the first."""
    further = ("replicate_of", "round_of")
    return {name: entry for name, entry in config["generations"].items() if not any(key in entry for key in further)}


def pilot_name(generation: str, tags: str) -> str:
    """Return the name of a pilot's generation and dataset; no entry of a config can begin like this."""
    return f"_pilot-{generation}-{tags}"


def pilot_generations(config: Mapping) -> dict[str, dict]:
    """Return the pilot's generations: few seeds, one shard, and one style of tags each; else as configured."""
    pilot = config["pilot"]
    return {
        pilot_name(name, tags): generation
        | {
            "seeds": min(pilot["seeds"], generation["seeds"] or pilot["seeds"]),
            "shards": 1,
            "tags": tags,
            "instructions": generation["instructions"] and pilot_name(generation["instructions"], tags),
        }
        for name, generation in _tried(config).items()
        for tags in pilot["tags"]
    }


def pilot_datasets(config: Mapping) -> dict[str, dict]:
    """Return the pilot's datasets: all passing responses, with the other settings of the generation's first dataset.

    The first one that selects by passing comes before others; a generation without a dataset has the defaults.
    """
    found = {}
    for name in _tried(config):
        datasets = [entry for entry in config["datasets"].values() if entry["generation"] == name]
        datasets.sort(key=lambda entry: entry["select"] != "passed")
        settings = datasets[0] if datasets else {}
        for tags in config["pilot"]["tags"]:
            own = {"generation": pilot_name(name, tags), "select": "passed", "size": None}
            found[pilot_name(name, tags)] = settings | own
    return found


def pilot_targets(config: Mapping) -> tuple[list[str], dict[str, str]]:
    """Return the generations that a pilot is for, and the trained model of each other one.

    A pilot comes before a long run; what first has to train a model is none.
    """
    generations = config["generations"]
    trained = {}
    for name in _tried(config):
        makers = dict.fromkeys(maker(generations, name, kind) for kind in ("concepts", "instructions", "responses"))
        models = [generations[other]["generator"] for other in makers]
        if own := [model for model in models if "pretrained" not in config["models"][model]]:
            trained[name] = own[0]
    return [name for name in _tried(config) if name not in trained], trained

"""The table of experiments: which models are compared on which benchmarks, and to answer what question."""

from collections.abc import Callable, Iterator, Mapping

from selfalign.workflow.rounds import first_models

Known = Callable[[str, str, str], Iterator[str]]  # table, name and key to what is wrong with the reference


def experiment_mistakes(config: Mapping, known: Known) -> Iterator[str]:
    """Yield what the schema cannot see of experiments."""
    for name, experiment in config["experiments"].items():
        at = f"experiments.{name}"
        for key in ("models", "benchmarks"):
            for entry in experiment[key]:
                yield from known(key, entry, f"{at}.{key}")
        if experiment["reference"] not in experiment["models"]:
            yield (
                f"{at}.reference: {experiment['reference']!r} is none of the experiment's models; "
                f"Models: {', '.join(experiment['models'])}"
            )
        yield from _published(experiment, f"{at}.published")


def _published(experiment: Mapping, at: str) -> Iterator[str]:
    published = experiment.get("published", {})
    if published and "source" not in experiment:
        yield f"{at}: needs the key 'source' beside it, which says where the numbers are published"
    for model, value in published.items():
        if model not in experiment["models"]:
            yield f"{at}: {model!r} is none of the experiment's models; Models: {', '.join(experiment['models'])}"
        values = value if isinstance(value, dict) else dict.fromkeys(experiment["benchmarks"], value)
        for benchmark, number in values.items():
            if benchmark not in experiment["benchmarks"]:
                yield f"{at}.{model}: {benchmark!r} is none of the experiment's benchmarks"
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 100:
                yield f"{at}.{model}: expected a number in percent, or benchmarks with one each, found {number!r}"
        if not isinstance(value, dict) and len(experiment["benchmarks"]) > 1:
            yield f"{at}.{model}: the experiment has several benchmarks; say of which one this is: {{NAME: {value}}}"


def crosses_of_experiments(config: Mapping) -> list[dict]:
    """Return what experiments need evaluated beyond the config's evaluate list, in its form.

    For the model of a further round it is that of the first, with which all rounds are evaluated.
    """
    first = first_models(config)
    asked = {(model, name) for cross in config["evaluate"] for model in cross["models"] for name in cross["benchmarks"]}
    found = []
    for experiment in config["experiments"].values():
        named = dict.fromkeys(first.get(model, model) for model in experiment["models"])
        for benchmark in experiment["benchmarks"]:
            models = [model for model in named if (model, benchmark) not in asked]
            if models:
                found.append({"models": models, "benchmarks": [benchmark]})
                asked |= {(model, benchmark) for model in models}
    return found

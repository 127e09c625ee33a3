"""What a pilot tells: yields of each style of tags, which one works better, and what the full run costs and yields.

Everything is counted by seed, so that intervals are over seeds: what another draw of seeds would have given.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.benchmarks.statistics import interval_of_mean
from selfalign.records.files import read_json, read_jsonl
from selfalign.records.rows import Concepts, Instruction, Negative, Pair, Response, Verdict, load_rows
from selfalign.reporting.generations import Generation, read_generation, shard_files

ENGINE_STAGES = ("concepts", "instructions", "responses")
MOST_SOLVED = (
    0.9  # share of the instructions that all samples solve, for which a smaller number of samples is looked for
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one stage took.

    Attributes:
        generated: Rows that were made while this was measured: after a kill not all of them.
        wall_s: With `load_s`, which is the loading of the model.
    """

    rows: int
    generated: int
    wall_s: float
    load_s: float
    cpu_s: float
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int | None

    @property
    def all_rows(self) -> float:
        """Return by how much what was measured is to be multiplied to be that of all rows."""
        return self.rows / self.generated if self.generated else 1.0

    @property
    def busy_s(self) -> float:
        """Return the wall time of all rows without loading."""
        return (self.wall_s - self.load_s) * self.all_rows


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """The pilot of one style of tags.

    Attributes:
        seeds: Ids of the seeds that were drawn.
        rows: Stage to how many rows each seed has there.
        characters: Stage to how many characters a model wrote there for each seed.
        sandbox_s: CPU time of each seed's responses in the sandbox, each counted, also where programs are the same.
        solved_at: For each instruction the number of the first sample that passed, from 1; 0 where none did.
        yields: pairs, preferences, negatives: how many each seed has.
        pair_characters: Of all pairs' instructions and responses together.
    """

    made: Generation
    seeds: tuple[str, ...]
    rows: Mapping[str, Counter]
    characters: Mapping[str, Counter]
    passed: Counter
    sandbox_s: Counter
    solved_at: tuple[int, ...]
    yields: Mapping[str, Counter]
    pair_characters: int
    costs: Mapping[str, Cost]

    def per_seed(self, counts: Mapping[str, float]) -> list[float]:
        """Return what each seed has."""
        return [counts.get(seed, 0) for seed in self.seeds]

    def split(self, total: float, by: Counter) -> list[float]:
        """Return a total, split over the seeds by what each has of something."""
        whole = by.total()
        return [total * by[seed] / whole if whole else 0.0 for seed in self.seeds]


def _seed(row_id: str) -> str:
    return row_id.partition("-")[0]


def _read_cost(paths: Sequence[Path], engine: bool) -> Cost:
    found = []
    for path in paths:
        stats = read_json(path)
        try:
            engine = engine and stats.get("engine") != "none"  # rows that no model was asked for
            found.append(
                Cost(
                    rows=stats["rows"],
                    generated=stats["generated"] if engine else stats["rows"],
                    wall_s=stats["wall_s"],
                    load_s=stats["load_s"] if engine else 0.0,
                    cpu_s=stats["cpu_s"],
                    prompt_tokens=stats["prompt_tokens"] if engine else 0,
                    completion_tokens=stats["completion_tokens"] if engine else 0,
                    cached_prompt_tokens=stats["cached_prompt_tokens"] if engine else None,
                )
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not stats ({error!r}); delete it and run again to remake it") from error
        if found[-1].rows and not found[-1].generated:
            raise ValueError(
                f"{path}: all rows were made before a kill, and their times and tokens with it; delete it and "
                f"{path.name}l beside it, and run again"
            )
    cached = [cost.cached_prompt_tokens for cost in found if cost.cached_prompt_tokens is not None]
    names = ("rows", "generated", "wall_s", "load_s", "cpu_s", "prompt_tokens", "completion_tokens")
    sums = {name: sum(getattr(cost, name) for cost in found) for name in names}
    return Cost(**sums, cached_prompt_tokens=sum(cached) if cached else None)


def read_pilot(results: Path, name: str, settings: Mapping) -> Pilot:
    """Read a pilot's generation and dataset.

    Args:
        name: Of both.
        settings: The entry of its generation.

    Raises:
        ValueError: an artifact is missing or corrupt; names the file.
    """
    folder = results / "generations" / name
    made = read_generation(folder, name, settings)
    if made is None:
        raise ValueError(f"{folder}: not all stages of the pilot are there; run `snakemake pilot`")
    (files,) = shard_files(folder, settings)
    rows = {stage: Counter() for stage in ENGINE_STAGES}
    characters = {stage: Counter() for stage in ENGINE_STAGES}
    passed, sandbox_s, seeds = Counter(), Counter(), {}
    for path in files["concepts"]:
        for row in load_rows(Concepts, read_jsonl(path), str(path)):
            seeds[row.parent] = None
            _count(rows, characters, "concepts", row.id, row.text)
    first: dict[str, int] = {}
    for path in files["instructions"]:
        for row in load_rows(Instruction, read_jsonl(path), str(path)):
            _count(rows, characters, "instructions", row.id, row.instruction)
            if row.drop is None:
                first[row.id] = 0
    parents = {}
    for path in files["responses"]:
        for row in load_rows(Response, read_jsonl(path), str(path)):
            _count(rows, characters, "responses", row.id, row.text)
            parents[row.id] = row.parent
    for path in files["verdicts"]:
        for row in load_rows(Verdict, read_jsonl(path), str(path)):
            sandbox_s[_seed(row.id)] += row.cpu_s
            if row.passed:
                passed[_seed(row.id)] += 1
                number = 1 + int(row.id.rpartition("-r")[2])
                first[parents[row.id]] = min(number, first[parents[row.id]] or number)
    dataset = results / "datasets" / name
    pairs = list(load_rows(Pair, read_jsonl(dataset / "pairs.jsonl"), str(dataset / "pairs.jsonl")))
    negatives = load_rows(Negative, read_jsonl(dataset / "negatives.jsonl"), str(dataset / "negatives.jsonl"))
    preferences = read_jsonl(dataset / "preferences.jsonl")
    stats = shard_files(folder, settings, ".json")[0]
    return Pilot(
        made=made,
        seeds=tuple(seeds),
        rows=rows,
        characters=characters,
        passed=passed,
        sandbox_s=sandbox_s,
        solved_at=tuple(first.values()),
        yields={
            "pairs": Counter(row.seed_id for row in pairs),
            "preferences": Counter(_seed(row["instruction_id"]) for row in preferences),
            "negatives": Counter(row.seed_id for row in negatives),
        },
        pair_characters=sum(len(row.instruction) + len(row.response) for row in pairs),
        costs={kind: _read_cost(paths, kind in ENGINE_STAGES) for kind, paths in stats.items()},
    )


def _count(rows: Mapping, characters: Mapping, stage: str, row_id: str, text: str) -> None:
    rows[stage][_seed(row_id)] += 1
    characters[stage][_seed(row_id)] += len(text)


def _estimate(values: Sequence[float], times: float = 1.0, plus: float = 0.0) -> dict:
    """Return a mean over seeds with its 95 % interval, each times a factor plus what is the same for any seeds."""
    low, high = interval_of_mean(values)
    mean = sum(values) / len(values)
    return {"value": plus + times * mean, "interval": [plus + times * low, plus + times * high]}


def _pass_rate(pilot: Pilot) -> dict | None:
    """Return the passed share of all sampled responses; None where there are none."""
    counts = [(pilot.passed[seed], count) for seed, count in pilot.rows["responses"].items()]
    if not counts:
        return None
    low, high = interval_of_mean(
        [passed / count for passed, count in counts], [count for _, count in counts], bounds=(0, 1)
    )
    return {"value": pilot.passed.total() / pilot.rows["responses"].total(), "interval": [low, high]}


def suggest_samples(solved_at: Sequence[int], most: int) -> dict | None:
    """Say how many samples solve most of the instructions that all samples solve; None where none is solved.

    The first passing sample is known of every instruction, also where further rounds left out what had passed.

    Args:
        most: Samples of an instruction that never passed.

    Returns:
        `solved_by` (instructions with a pass among the first 1, 2, ... samples), `samples` (the number suggested),
        `is_limit` (it is all that were drawn: more may be needed), `until_passed` (responses that would have been
        drawn one at a time until the first pass, as a share of all).
    """
    solved_by = [sum(0 < at <= number for at in solved_at) for number in range(1, most + 1)]
    if not solved_by[-1]:
        return None
    samples = next(n for n, count in enumerate(solved_by, 1) if count >= MOST_SOLVED * solved_by[-1])
    return {
        "solved_by": solved_by,
        "samples": samples,
        "is_limit": samples == most,
        "until_passed": sum(at or most for at in solved_at) / (most * len(solved_at)),
    }


def project(pilot: Pilot, settings: Mapping, seeds: int, gpus: int) -> dict:
    """Return what the full run costs and yields, each with its interval.

    Yields grow with the number of seeds here; near-duplicates grow faster, so that pairs are an upper limit. The model
    is loaded once for each job.
    """
    found = {}
    for name, count in (("responses", pilot.rows["responses"]), ("passed responses", pilot.passed)):
        found[name] = _estimate(pilot.per_seed(count), seeds)
    tokens = {"prompt tokens": [], "completion tokens": [], "engine hours": []}
    loading = 0.0
    for stage in ENGINE_STAGES:
        cost = pilot.costs[stage]
        rows, characters = pilot.rows[stage], pilot.characters[stage]
        tokens["prompt tokens"].append(pilot.split(cost.prompt_tokens * cost.all_rows, rows))
        tokens["completion tokens"].append(pilot.split(cost.completion_tokens * cost.all_rows, characters))
        tokens["engine hours"].append(pilot.split(cost.busy_s * (gpus or 1) / 3600, characters))
        loading += cost.load_s * (gpus or 1) / 3600 * settings["shards"]
    for name, stages in tokens.items():
        values = [sum(parts) for parts in zip(*stages, strict=True)]
        found[name] = _estimate(values, seeds, loading if name == "engine hours" else 0.0)
    sandbox = pilot.split(pilot.costs["verdicts"].cpu_s / 3600, pilot.sandbox_s)
    found["sandbox CPU hours"] = _estimate(sandbox, seeds)
    for name in pilot.yields:
        found[name] = _estimate(pilot.per_seed(pilot.yields[name]), seeds)
    if pairs := pilot.yields["pairs"].total():
        cost = pilot.costs["responses"]
        density = cost.completion_tokens * cost.all_rows / pilot.characters["responses"].total()
        each = pilot.pair_characters / pairs * density
        found["training tokens per epoch"] = _estimate(pilot.per_seed(pilot.yields["pairs"]), seeds * each)
    return found


def _share(pilot: Pilot, seed: str) -> float:
    """Return the passed share of a seed's responses; 0 for a seed without any."""
    return pilot.passed[seed] / (pilot.rows["responses"][seed] or 1)


def compare(first: Pilot, second: Pilot) -> dict:
    """Return by how much more of its responses pass with the first style than with the second, over the same seeds.

    Seeds that got as far as responses in either count, each as much as it has responses: so the difference is that of
    the pass rates.
    """
    counts = first.rows["responses"] + second.rows["responses"]
    seeds = [seed for seed in first.seeds if counts[seed]]
    differences = [_share(first, seed) - _share(second, seed) for seed in seeds]
    weights = [counts[seed] for seed in seeds]
    low, high = interval_of_mean(differences, weights, bounds=(-1, 1)) if seeds else (0.0, 0.0)
    total = sum(one * weight for one, weight in zip(differences, weights, strict=True))
    return {
        "better": first.made.tags,
        "other": second.made.tags,
        "difference": total / sum(weights) if seeds else 0.0,
        "interval": [low, high],
        "decided": low > 0,
    }


def _told(pilot: Pilot) -> dict:
    """Return what one pilot yielded and took."""
    pairs = pilot.per_seed(pilot.yields["pairs"])
    return {
        "seeds": len(pilot.seeds),
        "stages": {
            stage.name: {"completions": stage.input, "in form": stage.kept, "format failures": dict(stage.dropped)}
            for stage in pilot.made.stages
            if stage.name in ENGINE_STAGES
        },
        "pass rate": _pass_rate(pilot),
        "outcomes": dict(pilot.made.outcomes),
        "instructions": len(pilot.solved_at),
        "instructions with a pass": sum(at > 0 for at in pilot.solved_at),
        "samples": suggest_samples(pilot.solved_at, pilot.made.samples[-1]),
        "yields": {name: counts.total() for name, counts in pilot.yields.items()},
        "pairs per seed": _estimate(pairs),
        "costs": {stage: vars(cost) for stage, cost in pilot.costs.items()},
    }


def report_pilots(
    pilots: Sequence[Pilot],
    *,
    generation: str,
    settings: Mapping,
    corpus_seeds: int,
    gpus: int,
    run_seed: int,
) -> dict:
    """Return all that the pilots of a generation tell, as JSON holds it.

    Args:
        pilots: One for each style of tags.
        settings: The generation's entry in the config.
        corpus_seeds: Seeds of its corpus.
        gpus: GPUs of one job of the engine; 0 where it runs elsewhere, and its hours are those of waiting for it.

    Raises:
        ValueError: there are no seeds.
    """
    if not corpus_seeds or not pilots[0].seeds:
        raise ValueError(f"corpus {settings['corpus']} has no seeds; there is nothing to project")
    full = min(settings["seeds"] or corpus_seeds, corpus_seeds)
    rates = {pilot.made.tags: (_pass_rate(pilot) or {"value": 0.0})["value"] for pilot in pilots}
    order = sorted(pilots, key=lambda pilot: (-rates[pilot.made.tags], pilot.made.tags != settings["tags"]))
    comparisons = [compare(order[0], other) for other in order[1:]]
    return {
        "generation": generation,
        "corpus": settings["corpus"],
        "corpus seeds": corpus_seeds,
        "generator": settings["generator"],
        "run seed": run_seed,
        "gpus": gpus,
        "configured": {name: settings[name] for name in ("tags", "samples", "adaptive", "shards")},
        "pilots": {pilot.made.tags: _told(pilot) for pilot in pilots},
        "full run": {
            "seeds": full,
            **{pilot.made.tags: project(pilot, settings, full, gpus) for pilot in pilots},
        },
        "comparisons": comparisons,
    }

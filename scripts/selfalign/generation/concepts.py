"""Seed functions to concepts (first step of the paper's section 2.1)."""

from collections.abc import Iterable
from pathlib import Path

from selfalign.engines.resumable import Clock
from selfalign.generation.stages import Job, Settings, run_stage, stats_without_engine
from selfalign.prompts.documents import concepts_example, parse_concepts
from selfalign.records.commands import derive_seed
from selfalign.records.files import file_digest, read_table, write_json, write_jsonl
from selfalign.records.rows import Concepts


def seeds_of_shard(seeds: Path, shard: int, shards: int, draw: int | None, run_seed: int) -> list[dict]:
    """Return one shard's seeds, in the order of their ids.

    Shard I holds the seeds at positions I, I + N, I + 2N ... in that order, so that all shards are of one size and mix
    all packages.

    Args:
        seeds: Parquet of `Function` rows.
        shard: I, from 0.
        shards: N.
        draw: How many seeds all shards share, drawn by the run's seed; None takes all. Fewer are among those of more.
    """
    if not 0 <= shard < shards:
        raise ValueError(f"--shard is {shard}; with --shards {shards} it must lie between 0 and {shards - 1}")
    if draw is not None and draw < 1:
        raise ValueError(f"--draw is {draw}; it must be at least 1")
    rows = read_table(seeds)
    if draw is not None:
        rows = sorted(rows, key=lambda row: derive_seed(run_seed, "seeds", row["id"]))[:draw]
    return sorted(rows, key=lambda row: row["id"])[shard::shards]


def generate_concepts(seeds: Path, shard: int, shards: int, settings: Settings, draw: int | None = None) -> None:
    """Write the concepts of one shard's seeds; the arguments are those of `seeds_of_shard`."""
    rows = seeds_of_shard(seeds, shard, shards, draw, settings.run_seed)
    jobs = [concepts_job(row["id"], row["code"], range(settings.samples), settings.language) for row in rows]
    run_stage("concepts", "concepts", jobs, [file_digest(seeds), shard, shards, draw], settings)


def list_seeds(
    seeds: Path, shard: int, shards: int, draw: int | None, *, samples: int, run_seed: int, output: Path, stats: Path
) -> None:
    """Write the rows of one shard's seeds for a method that asks for no concepts: as many as with them, but empty."""
    clock = Clock.start()
    rows = [
        Concepts(
            id=f"{row['id']}-c{number}",
            parent=row["id"],
            shots=[],
            seed=0,
            finish_reason="not asked",
            text="",
            concepts=[],
            drop=None,
        ).dump()
        for row in seeds_of_shard(seeds, shard, shards, draw, run_seed)
        for number in range(samples)
    ]
    write_jsonl(output, rows)
    write_json(stats, stats_without_engine("concepts", len(rows), clock))


def concepts_job(seed: str, code: str, samples: Iterable[int], language: str = "python") -> Job:
    """Return the job that asks for the concepts of a seed function, samples by their numbers."""
    example = concepts_example(code, language=language)
    return Job(parent=seed, ids=[f"{seed}-c{k}" for k in samples], example=example, make=_make)


def _make(common: dict, text: str, drop: str | None) -> Concepts:
    concepts, malformed = parse_concepts(text)
    return Concepts(**common, text=text, concepts=concepts, drop=drop or malformed)

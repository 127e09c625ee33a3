"""Seed functions to concepts (first step of the paper's section 2.1)."""

from collections.abc import Iterable
from pathlib import Path

from selfalign.engines.resumable import Clock, stats_without_engine
from selfalign.generation.stages import Job, Settings, run_stage
from selfalign.prompts.documents import concepts_example, parse_concepts
from selfalign.records.files import file_digest, read_table, write_json, write_jsonl
from selfalign.records.rows import Concepts
from selfalign.records.shards import rows_of_shard


def seeds_of_shard(seeds: Path, shard: int, shards: int, draw: int | None, run_seed: int) -> list[dict]:
    """Return one shard's seeds, in the order of their ids; which these are, `rows_of_shard` says.

    Args:
        seeds: Parquet of `Function` rows.
    """
    rows = {row["id"]: row for row in read_table(seeds)}
    return [rows[row_id] for row_id in rows_of_shard(sorted(rows), shard, shards, draw, run_seed)]


def generate_concepts(seeds: Path, shard: int, shards: int, settings: Settings, draw: int | None = None) -> None:
    """Write the concepts of one shard's seeds; the arguments are those of `seeds_of_shard`."""
    rows = seeds_of_shard(seeds, shard, shards, draw, settings.run_seed)
    jobs = [concepts_job(row["id"], row["code"], range(settings.samples), settings.prompt_set.language) for row in rows]
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

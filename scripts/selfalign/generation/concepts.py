"""Seed functions to concepts (first step of the paper's section 2.1)."""

from pathlib import Path

from selfalign.generation.stages import Job, Settings, run_stage
from selfalign.prompts.documents import concepts_example, parse_concepts
from selfalign.records.files import file_digest, read_table
from selfalign.records.rows import Concepts


def generate_concepts(seeds: Path, shard: int, shards: int, settings: Settings) -> None:
    """Write the concepts of one shard's seeds.

    Shard I holds the seeds at positions I, I + N, I + 2N ... in the order of their ids, so that all shards are of one
    size and mix all packages.

    Args:
        seeds: Parquet of `Function` rows.
        shard: I, from 0.
        shards: N.
        settings: Options shared by the stages.
    """
    if not 0 <= shard < shards:
        raise ValueError(f"--shard is {shard}; with --shards {shards} it must lie between 0 and {shards - 1}")
    rows = sorted(read_table(seeds), key=lambda row: row["id"])[shard::shards]

    def make(common: dict, text: str, drop: str | None) -> Concepts:
        concepts, malformed = parse_concepts(text)
        return Concepts(**common, text=text, concepts=concepts, drop=drop or malformed)

    jobs = [
        Job(
            parent=row["id"],
            ids=[f"{row['id']}-c{k}" for k in range(settings.samples)],
            example=concepts_example(row["code"]),
            make=make,
        )
        for row in rows
    ]
    run_stage("concepts", "concepts", jobs, [file_digest(seeds), shard, shards], settings)

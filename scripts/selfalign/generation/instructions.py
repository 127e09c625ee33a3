"""Instructions (second step of the paper's section 2.1), by any of the methods."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from selfalign.generation.methods import evol_instruct, oss_instruct, seed_instruct, self_oss_instruct
from selfalign.generation.methods.method import Asked, Parent
from selfalign.generation.stages import Settings, run_stage
from selfalign.records.files import file_digest, read_jsonl, read_table
from selfalign.records.rows import Concepts, Function, Instruction, load_rows

METHODS = {
    "self-oss-instruct": self_oss_instruct.METHOD,
    "seed-instruct": seed_instruct.METHOD,
    "oss-instruct": oss_instruct.METHOD,
    "evol-instruct": evol_instruct.METHOD,
}


def generate_instructions(
    concepts: Path,
    category_weights: Mapping[str, float],
    settings: Settings,
    *,
    method: str = "self-oss-instruct",
    seeds: Path | None = None,
    instructions: Path | None = None,
) -> None:
    """Write the instructions of one shard's concepts; rows that were dropped go no further.

    Args:
        concepts: JSON lines of `Concepts` rows.
        category_weights: Category to weight, from `load_weights`.
        settings: Options shared by the stages.
        method: Of `METHODS`.
        seeds: Parquet of `Function` rows, for methods that show the seeds' code.
        instructions: JSON lines of the instructions to change, for methods that change some.

    Raises:
        ValueError: a file that the method needs was not given, or a row's parent is not in it.
    """
    chosen = METHODS[method]
    given = {"seeds": seeds, "instructions": instructions}
    for name, path in given.items():
        if (path is not None) != (chosen.reads == name):
            raise ValueError(f"--method {method}: --{name} is {'needed' if path is None else 'of no use'}")
    asked = Asked(
        categories=category_weights,
        changes=settings.prompt_set.changes,
        run_seed=settings.run_seed,
        language=settings.prompt_set.language,
    )
    jobs, not_asked = [], []
    for parent in _parents(concepts, seeds, instructions):
        if parent.instruction is None:
            jobs += [chosen.job(parent, number, asked) for number in range(settings.samples)]
        elif parent.instruction.drop:
            not_asked.append(replace(parent.instruction, drop=f"original: {parent.instruction.drop}"))
        else:
            jobs.append(chosen.job(parent, sample_number(parent.instruction), asked))
    inputs = [file_digest(concepts), dict(category_weights)]
    if method != "self-oss-instruct":
        inputs += [method, *(file_digest(path) for path in (seeds, instructions) if path)]
    run_stage("instructions", chosen.kind, jobs, inputs, settings, not_asked=not_asked)


def sample_number(row: Instruction) -> int:
    """Return the number of a row among those of its concepts; a changed instruction has that of the original."""
    return int(row.id.rpartition("-i")[2])


def _parents(concepts: Path, seeds: Path | None, instructions: Path | None) -> Iterator[Parent]:
    """Yield what instructions are made from, in the order of their rows."""
    rows = [row for row in load_rows(Concepts, read_jsonl(concepts), str(concepts)) if not row.drop]
    if instructions is not None:
        by_id = {row.id: row for row in rows}
        for row in load_rows(Instruction, read_jsonl(instructions), str(instructions)):
            yield Parent(concepts=_parent(by_id, row, concepts), instruction=row)
        return
    wanted = {row.parent for row in rows}
    functions = {} if seeds is None else {row["id"]: row for row in read_table(seeds) if row["id"] in wanted}
    for row in rows:
        yield Parent(concepts=row, seed=None if seeds is None else Function.load(_parent(functions, row, seeds)))


def _parent(rows: Mapping, row: Concepts | Instruction, path: Path):
    if row.parent not in rows:
        raise ValueError(f"row {row.id}: its parent {row.parent} is not in {path}; give the file of the same run")
    return rows[row.parent]

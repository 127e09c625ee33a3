"""From the report to rows: whole examples of kept pairs, and of dropped rows with where they come from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pyarrow
import pyarrow.parquet

from selfalign.records import digests
from selfalign.records.files import read_jsonl
from selfalign.records.rows import Function, Instruction, Pair, Response, RowType, load_rows
from selfalign.records.shards import benchmark_of
from selfalign.reporting.artifacts import Run
from selfalign.reporting.examples import Block, Example, Sample, smallest_hashes
from selfalign.reporting.funnels import REASONS_SHOWN, Stage
from selfalign.reporting.generations import shard_files

KEPT_EXAMPLES = 4


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    digests.check(path)
    try:
        yield
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise ValueError(f"{path}: not readable as Parquet ({error}); delete it and run again to remake it") from error


def _table(path: Path, **options) -> list[dict]:
    with _readable(path):
        return pyarrow.parquet.read_table(path, **options).to_pylist()


def _rows(path: Path, columns: list[str]) -> Iterator[dict]:
    """Yield some columns of the rows of a Parquet file, a part of the file at a time."""
    with _readable(path), pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()


def functions_by_id(path: Path, ids: Iterable[str]) -> dict[str, Function]:
    """Return the functions with the given ids; only their rows are read into memory."""
    wanted = sorted(set(ids))
    names = [item.name for item in fields(Function)]
    rows = _table(path, columns=names, filters=[("id", "in", wanted)]) if wanted else []
    return {row.id: row for row in load_rows(Function, rows, str(path))}


def _origin(seed: Function) -> str:
    package = f"{seed.package} {seed.version}".strip()
    return f"{package}, {seed.path}:{seed.line} ({seed.licence})"


def _seed_block(seed: Function) -> Block:
    return Block(label=f"Seed: {_origin(seed)}", text=seed.code)


def _seeds_file(run: Run, generation: str) -> Path:
    return run.results / "corpora" / run.config["generations"][generation]["corpus"] / "seeds.parquet"


def kept_examples(run: Run) -> list[Example]:
    """Return a few pairs of the first dataset, each from its seed's code to its verdict."""
    for name, dataset in run.datasets.items():
        path = run.results / "datasets" / name / "pairs.jsonl"
        chosen = smallest_hashes([row["id"] for row in read_jsonl(path)], KEPT_EXAMPLES)
        pairs = {row.id: row for row in load_rows(Pair, read_jsonl(path), str(path)) if row.id in chosen}
        seeds = functions_by_id(_seeds_file(run, dataset.generation), (pair.seed_id for pair in pairs.values()))
        found = []
        for row_id in chosen:
            pair = pairs[row_id]
            if pair.seed_id not in seeds:
                raise ValueError(f"{path}: pair {row_id} comes from the seed {pair.seed_id}, which seeds.parquet lacks")
            found.append(_kept(pair, seeds[pair.seed_id], name))
        return found
    return []


def _kept(pair: Pair, seed: Function, dataset: str) -> Example:
    return Example(
        id=pair.id,
        stage=dataset,
        reason=None,
        origin=f"{pair.package}, {pair.path}:{pair.line} ({pair.licence})",
        blocks=(
            _seed_block(seed),
            Block(label="Concepts", text=", ".join(pair.concepts), code=False),
            Block(label=f"Instruction ({pair.category}, {pair.difficulty})", text=pair.instruction, code=False),
            Block(label="Response", text=pair.response),
            Block(label="Tests", text=pair.tests),
            Block(
                label="Verdict",
                text=f"{pair.verdict}; {pair.pass_rate:.0%} of the samples for this task pass",
                code=False,
            ),
        ),
    )


def dropped_examples(run: Run) -> list[Example]:
    """Return one dropped row for each reason of each stage, in the order in which rows flow."""
    found = []
    for name in run.corpora:
        found += _dropped_functions(run, name)
    for name, generation in run.generations.items():
        seeds = {}
        if not benchmark_of(run.config["generations"][name]):
            seeds = functions_by_id(_seeds_file(run, name), (example.origin for example in generation.dropped))
        for example in generation.dropped:
            seed = seeds.get(example.origin)
            first = (_seed_block(seed),) if seed and example.stage == "concepts" else ()
            origin = _origin(seed) if seed else f"{'seed' if seeds else 'task'} {example.origin}"
            found.append(
                replace(example, stage=f"{example.stage} of {name}", origin=origin, blocks=first + example.blocks)
            )
    for name in run.datasets:
        found += _dropped_pairs(run, name)
    return found


def _in_order(stages: Sequence[Stage], chosen: Mapping[str, dict]) -> list[dict]:
    """Return the chosen rows in the order of their stages."""
    names = [stage.name for stage in stages]
    rows = chosen.values()
    return sorted(rows, key=lambda row: (names.index(row["stage"]) if row["stage"] in names else -1, row["reason"]))


def _dropped_functions(run: Run, name: str) -> list[Example]:
    path = run.results / "corpora" / name / "rejected.parquet"
    if not path.is_file():
        return []
    sample = Sample()
    shown = {(stage.name, reason) for stage in run.corpora[name] for reason in stage.commonest_reasons(REASONS_SHOWN)}
    for row in _rows(path, ["id", "stage", "reason", "detail"]):
        if (row["stage"], row["reason"]) in shown:
            sample.offer(f"{row['stage']}: {row['reason']}", row["id"], lambda row=row: row)
    chosen = _in_order(run.corpora[name], sample.chosen())
    functions = functions_by_id(path, (row["id"] for row in chosen))
    found = []
    for row in chosen:
        function = functions[row["id"]]
        blocks = (Block(label="Function", text=function.code),)
        if row["detail"]:
            blocks += (Block(label="Because of", text=row["detail"], code=False),)
        reason = f"{row['stage']}: {row['reason']}"
        stage = f"functions of {name}"
        found.append(Example(id=row["id"], stage=stage, reason=reason, origin=_origin(function), blocks=blocks))
    return found


def _dropped_pairs(run: Run, name: str) -> list[Example]:
    """Return one response for each reason of a dataset's own stages; those of its generation are told there."""
    path = run.results / "datasets" / name / "rejected.jsonl"
    generation = run.datasets[name].generation
    told = {stage.name for stage in run.generations[generation].stages} if generation in run.generations else set()
    sample = Sample()
    for row in read_jsonl(path) if path.is_file() else ():
        if row["stage"] not in told:
            sample.offer(f"{row['stage']}: {row['reason']}", row["id"], lambda row=row: row)
    chosen = _in_order(run.datasets[name].stages, sample.chosen())
    folder = run.results / "generations" / generation
    ids = {row["id"] for row in chosen}
    shards = shard_files(folder, run.config["generations"][generation])
    responses = _generated(Response, [path for shard in shards for path in shard["responses"]], ids)
    asked = {row.parent for row in responses.values()}
    instructions = _generated(Instruction, [path for shard in shards for path in shard["instructions"]], asked)
    seeds = functions_by_id(_seeds_file(run, generation), (row_id.partition("-")[0] for row_id in ids))
    found = []
    for row in chosen:
        if row["id"] not in responses:
            raise ValueError(f"{path}: row {row['id']} is no response of {generation}; delete it and run again")
        response = responses[row["id"]]
        blocks = [
            Block(label="Because of", text=row["detail"], code=False),
            Block(label="Instruction", text=instructions[response.parent].instruction, code=False),
            Block(label="Response", text=response.response),
            Block(label="Tests", text=response.tests),
        ]
        seed = seeds[row["id"].partition("-")[0]]
        example = Example(
            id=row["id"],
            stage=f"pairs of {name}",
            reason=f"{row['stage']}: {row['reason']}",
            origin=_origin(seed),
            blocks=tuple(block for block in blocks if block.text),
        )
        found.append(example)
    return found


def _generated(kind: type[RowType], paths: Iterable[Path], ids: set[str]) -> dict[str, RowType]:
    """Return the rows with the given ids."""
    found = {}
    for path in paths if ids else ():
        wanted = (row for row in read_jsonl(path) if row.get("id") in ids)
        found.update((row.id, row) for row in load_rows(kind, wanted, str(path)))
    return found

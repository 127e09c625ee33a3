"""Join the filtered parts of a corpus into seeds.

A corpus may be larger than memory, so no stage holds its rows: the parts are read in batches, once for each stage,
and what stays in memory of a function is its id, a digest of its code, and the reason why it is dropped, if it is.
The outputs are sorted by id through files of one range of ids each.
"""

import gc
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from selfalign.matching.benchmarks import BenchmarkIndex, Evidence, load_benchmarks
from selfalign.matching.funnels import Funnel, sum_funnels
from selfalign.matching.near_duplicates import Sketch, Sketches, sketch
from selfalign.records.files import publish, temporary_path, write_jsonl
from selfalign.records.progress import Progress
from selfalign.seeds.filters import Benchmarks, NearDuplicates
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS

BATCH = 4096  # rows that are read together
RANGE = 1 << 15  # rows that are sorted together, and a row group of the outputs: about 50 MB
Drops = dict[int, tuple[str, str]]  # number of a function in the corpus to reason and detail

_index: BenchmarkIndex | None = None  # of a worker process


def _load_index(benchmarks: Sequence[str]) -> None:
    global _index  # noqa: PLW0603
    _index = load_benchmarks(benchmarks)
    gc.freeze()  # the collector, which every syntax tree wakes, need not walk the tables: a third of the time


def _batches(path: str, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows of a part.

    Raises:
        ValueError: it lacks a column, or has one that no function has.
    """
    with pyarrow.parquet.ParquetFile(path) as file:
        wrong = set(FUNCTION_COLUMNS) ^ set(file.schema_arrow.names)
        if wrong - (REJECTED_COLUMNS.keys() - FUNCTION_COLUMNS.keys()):
            raise ValueError(
                f"{path}: not a part of a corpus (missing or unknown columns: {', '.join(sorted(wrong))}); "
                "delete it and run again to remake it"
            )
        yield from file.iter_batches(BATCH, columns=list(columns))


def _codes(path: str, alive: np.ndarray) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Yield the numbers in the part and the code of the functions that are left of it, a batch at a time."""
    start = 0
    for batch in _batches(path, ["code"]):
        numbers = start + np.flatnonzero(alive[start : start + len(batch)])
        yield numbers, batch.column(0).take(pyarrow.array(numbers - start)).to_pylist()
        start += len(batch)


def _read_keys(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and 128-bit digests of the codes, whitespace left out."""
    ids, digests = [], []
    for batch in _batches(path, ["id", "code"]):
        ids += batch.column(0).to_pylist()
        codes = ("".join(code.split()).encode("utf-8", "surrogatepass") for code in batch.column(1).to_pylist())
        digests += [blake2b(code, digest_size=16).digest() for code in codes]
    return np.array(ids, dtype="S"), np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


def _find_evidence(path: str, alive: np.ndarray) -> dict[int, list[Evidence]]:
    """Return the functions of a part that match a benchmark task: number in the part to evidence."""
    found = {}
    for numbers, codes in _codes(path, alive):
        for number, code in zip(numbers.tolist(), codes, strict=True):
            if evidence := _index.find(code):
                found[number] = evidence
    return found


def _sketch_part(path: str, alive: np.ndarray) -> list[Sketch]:
    return [sketch(codes) for _, codes in _codes(path, alive) if codes]


class Corpus:
    """All functions that the filters of the parts kept, numbered from the first one of the first part.

    Args:
        paths: The kept functions of all parts (Parquet).
        pool: Reads several parts at the same time; None reads one after the other.
    """

    def __init__(self, paths: Sequence[str], pool: ProcessPoolExecutor | None = None):
        self.paths = paths
        self._pool = pool
        keys = list(self._map("exact duplicates", _read_keys))
        self.bounds = np.cumsum([0, *(len(ids) for ids, _ in keys)])
        self.ids = np.concatenate([ids for ids, _ in keys])
        self._digests = np.concatenate([digests for _, digests in keys])
        self.alive = np.ones(len(self.ids), dtype=bool)
        self.dropped: dict[int, tuple[str, str, str]] = {}  # number to stage, reason and detail
        self.evidence: dict[int, list[Evidence]] = {}
        if len(np.unique(self.ids)) != len(self.ids):
            raise ValueError("two functions have the same id: a part was given twice")

    def _map(self, label: str, function: Callable, *arguments: Iterable) -> Iterator:
        progress = Progress(f"select_seeds: {label}", len(self.paths), unit="parts")
        for result in (self._pool.map if self._pool else map)(function, self.paths, *arguments):
            progress.add()
            yield result

    def _alive_parts(self) -> list[np.ndarray]:
        return [self.alive[start:end] for start, end in zip(self.bounds[:-1], self.bounds[1:], strict=True)]

    def drop(self, stage: str, drops: Drops) -> None:
        """Take functions out of the corpus."""
        for number, (reason, detail) in drops.items():
            self.dropped[number] = (stage, reason, detail)
        self.alive[list(drops)] = False

    def _clusters_drop(self, numbers: np.ndarray, clusters: np.ndarray, reason: str) -> Drops:
        """Return what to drop so that of each cluster the function with the smallest id stays.

        Args:
            numbers: The functions.
            clusters: For each a row that names its cluster.
        """
        if not len(numbers):
            return {}
        order = np.lexsort((self.ids[numbers], *clusters.T))
        numbers, clusters = numbers[order], clusters[order]
        new = np.append(True, (clusters[1:] != clusters[:-1]).any(axis=1))
        first = numbers[np.flatnonzero(new)[np.cumsum(new) - 1]]
        return {
            int(number): (reason, self.ids[kept].decode())
            for number, kept in zip(numbers[~new], first[~new], strict=True)
        }

    def exact_duplicates(self) -> Drops:
        """Return the functions whose code, apart from whitespace, is that of one with a smaller id."""
        numbers = np.flatnonzero(self.alive)
        return self._clusters_drop(numbers, self._digests[numbers], "exact duplicate")

    def near_duplicates(self, threshold: float, folder: Path) -> Drops:
        """Return the near-duplicates; the shingles are kept in a file without a name in the folder meanwhile."""
        sketches = Sketches(folder)
        for parts in self._map("near-duplicates", _sketch_part, self._alive_parts()):
            for part in parts:
                sketches.add(part)
        numbers = np.flatnonzero(self.alive)
        return self._clusters_drop(numbers, sketches.clusters(threshold)[:, None], "near-duplicate")

    def benchmark_tasks(self) -> Drops:
        """Return the functions that match a benchmark task, and remember all evidence."""
        drops = {}
        for start, found in zip(
            self.bounds[:-1].tolist(), self._map("benchmarks", _find_evidence, self._alive_parts()), strict=True
        ):
            for number, evidence in found.items():
                self.evidence[start + number] = evidence
                drops[start + number] = evidence[0].drop()
        return drops

    def kept_rows(self) -> Iterator[pyarrow.Table]:
        """Yield the functions that are left."""
        for start, batch in self._rows():
            alive = self.alive[start : start + len(batch)]
            yield pyarrow.Table.from_batches([batch]).filter(pyarrow.array(alive))

    def dropped_rows(self) -> Iterator[pyarrow.Table]:
        """Yield the functions that were dropped, with stage, reason and detail."""
        for start, batch in self._rows():
            numbers = np.flatnonzero(~self.alive[start : start + len(batch)])
            table = pyarrow.Table.from_batches([batch]).take(pyarrow.array(numbers))
            whys = [self.dropped[start + number] for number in numbers.tolist()]
            for place, name in enumerate(("stage", "reason", "detail")):
                table = table.append_column(name, pyarrow.array([why[place] for why in whys], pyarrow.string()))
            yield table

    def _rows(self) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
        start = 0
        for path in self.paths:
            for batch in _batches(path, FUNCTION_COLUMNS):
                yield start, batch
                start += len(batch)


def write_sorted(path: str | Path, tables: Callable[[], Iterable[pyarrow.Table]], columns: Mapping[str, str]) -> None:
    """Write rows as a Parquet file sorted by id, whole or not at all, with `RANGE` rows in memory.

    Args:
        tables: Returns the rows, and is called twice: for the ids, then for all.
        columns: Name to pyarrow type name.
    """
    path = Path(path)
    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()])
    ids = [np.array(table.column("id").to_pylist(), dtype="S") for table in tables()]
    firsts = np.sort(np.concatenate(ids))[RANGE::RANGE] if ids else np.empty(0, dtype="S1")  # of all ranges but one
    folder = path.with_name(f".{path.name}.ranges")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    temporary = temporary_path(path)
    try:
        names = [folder / f"{number}.arrow" for number in range(len(firsts) + 1)]
        with ExitStack() as stack:
            writers = [stack.enter_context(pyarrow.ipc.new_stream(str(name), schema)) for name in names]
            for table, table_ids in zip(tables(), ids, strict=True):
                table, ranges = table.select(schema.names).cast(schema), np.searchsorted(firsts, table_ids, "right")
                for number in np.unique(ranges).tolist():
                    writers[number].write_table(table.take(pyarrow.array(np.flatnonzero(ranges == number))))
        with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for name in names:
                with pyarrow.ipc.open_stream(str(name)) as reader:
                    table = reader.read_all().sort_by("id").combine_chunks()
                writer.write_table(table, row_group_size=RANGE)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def select_seeds(
    *,
    kept: Sequence[str],
    rejected: Sequence[str],
    funnels: Mapping[str, dict],
    filters: Sequence[tuple[str, object]],
    benchmarks: Sequence[str],
    seeds: Path,
    rejects: Path,
    contamination: Path,
    processes: int = 1,
) -> Funnel:
    """Join the parts: exact duplicates out, then the corpus filters in their order; write the outcome.

    Args:
        kept: Files of the functions that the parts kept.
        rejected: Files of those that they rejected.
        funnels: File name to funnel, of all parts, those of the extraction first.
        benchmarks: Files of the benchmarks whose tasks must not be seeds.
        seeds: Where the seeds go, sorted by id.
        rejects: Where the rejected functions go, of the parts, too, sorted by id.
        contamination: Where the evidence goes: a line for each function and task that match.
        processes: Processes that read parts at the same time.

    Returns:
        The funnel from the first function to the last seed.

    Raises:
        ValueError: funnels and rows are not of the same parts, or nothing is left.
    """
    funnel = sum_funnels(funnels)
    with ExitStack() as stack:
        if processes > 1:
            pool = stack.enter_context(
                ProcessPoolExecutor(processes, get_context("spawn"), initializer=_load_index, initargs=(benchmarks,))
            )
        else:
            pool = None
            _load_index(benchmarks)
        corpus = Corpus(kept, pool)
        if funnel.rows != len(corpus.ids):
            raise ValueError(
                f"the funnels end with {funnel.rows:,} functions, but the parts hold {len(corpus.ids):,}; "
                "give the kept functions and the funnels of the same parts"
            )
        for name, corpus_filter in [("exact_duplicates", None), *filters]:
            if corpus_filter is None:
                drops = corpus.exact_duplicates()
            elif isinstance(corpus_filter, NearDuplicates):
                drops = corpus.near_duplicates(corpus_filter.threshold, seeds.parent)
            else:
                assert isinstance(corpus_filter, Benchmarks)
                drops = corpus.benchmark_tasks()
            corpus.drop(name, drops)
            funnel.add(name, int(corpus.alive.sum()), [reason for reason, _ in drops.values()])
    if not corpus.alive.any():
        worst = max(funnel.stages, key=lambda stage: stage["input"] - stage["kept"])
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in worst["dropped"].items())
        raise ValueError(
            f"no seed is left of {funnel.stages[0]['input']:,} functions; most were dropped by {worst['stage']} "
            f"({reasons or 'no rows at all'}): loosen that filter or add source code"
        )

    def all_rejected() -> Iterator[pyarrow.Table]:
        yield from corpus.dropped_rows()
        for path in rejected:
            for batch in _batches(path, REJECTED_COLUMNS):
                yield pyarrow.Table.from_batches([batch])

    evidence = sorted((corpus.ids[number].decode(), found) for number, found in corpus.evidence.items())
    write_jsonl(contamination, ({"id": key} | one.dump() for key, found in evidence for one in found))
    write_sorted(rejects, all_rejected, REJECTED_COLUMNS)
    write_sorted(seeds, corpus.kept_rows, FUNCTION_COLUMNS)
    return funnel

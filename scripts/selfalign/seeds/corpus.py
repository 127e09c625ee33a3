"""Join the filtered parts of a corpus into seeds.

A corpus may be larger than memory, so no stage holds its rows: the parts are read a row group at a time, once for each
stage. What stays in memory of a function is its id and, in six bytes, why it is dropped and which function stands for
it; while copies are looked for, also a digest of its code or its sketch. Only what matches a benchmark, which is rare,
keeps more. The outputs are sorted by id through files of one range of ids each.
"""

import gc
import itertools
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from selfalign.matching.benchmarks import BenchmarkIndex, Evidence, load_benchmarks
from selfalign.matching.funnels import Funnel, sum_funnels
from selfalign.matching.near_duplicates import Sketch, Sketches, sketch
from selfalign.records import digests
from selfalign.records.files import publish, temporary_path, write_jsonl
from selfalign.records.progress import Progress
from selfalign.seeds.filters import Benchmarks, NearDuplicates
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS

RANGE = 1 << 15  # rows that are sorted together, and a row group of the outputs: about 50 MB

_index: BenchmarkIndex | None = None  # of a worker process


def _load_index(benchmarks: Sequence[str]) -> None:
    global _index  # noqa: PLW0603
    _index = load_benchmarks(benchmarks)
    gc.freeze()  # the collector, which every syntax tree wakes, need not walk the tables: a third of the time


@dataclass(frozen=True)
class _Group:
    """A row group of a part: what is read at once, and one task of a worker.

    Attributes:
        number: In the file.
        row: Its first row, in the file.
        start: Its first row, in all files.
        size: Rows.
    """

    path: str
    number: int
    row: int
    start: int
    size: int

    def read(self, columns: Iterable[str]) -> pyarrow.Table:
        """Return some columns."""
        with pyarrow.parquet.ParquetFile(self.path) as file:
            return file.read_row_group(self.number, columns=list(columns))

    def ids(self) -> np.ndarray:
        """Return the ids."""
        return np.array(self.read(["id"]).column(0).to_pylist(), dtype="S")

    def codes(self, rows: np.ndarray) -> list[str]:
        """Return the code of some rows."""
        return self.read(["code"]).column(0).take(pyarrow.array(rows)).to_pylist()


def _groups(paths: Iterable[str], columns: Iterable[str]) -> list[_Group]:
    """Return the row groups of some parts.

    Raises:
        ValueError: a part is no Parquet file, has other columns, or is not what was written.
    """
    groups, start = [], 0
    for path in paths:
        digests.check(path)
        try:
            opened = pyarrow.parquet.ParquetFile(path)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{path}: not a Parquet file ({error}); delete it and run again to remake it") from error
        with opened as file:
            if wrong := set(columns) ^ set(file.schema_arrow.names):
                raise ValueError(
                    f"{path}: not a part of a corpus (missing or unknown columns: {', '.join(sorted(wrong))}); "
                    "delete it and run again to remake it"
                )
            row = 0
            for number in range(file.num_row_groups):
                size = file.metadata.row_group(number).num_rows
                groups.append(_Group(path, number, row, start, size))
                row, start = row + size, start + size
    return groups


def _all_ids(groups: Iterable[_Group]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype="S1"), *(group.ids() for group in groups)])


def _digest_group(group: _Group, rows: np.ndarray) -> np.ndarray:
    """Return 128-bit digests of the codes, whitespace left out."""
    codes = ("".join(code.split()).encode("utf-8", "surrogatepass") for code in group.codes(rows))
    return np.frombuffer(b"".join(blake2b(code, digest_size=16).digest() for code in codes), np.uint64).reshape(-1, 2)


def _find_evidence(group: _Group, rows: np.ndarray) -> dict[int, list[Evidence]]:
    """Return the rows that match a benchmark task: row in the group to evidence."""
    found = zip(rows.tolist(), _index.find_all(group.codes(rows)), strict=True)
    return {row: evidence for row, evidence in found if evidence}


def _sketch_group(group: _Group, rows: np.ndarray) -> Sketch:
    return sketch(group.codes(rows))


class Corpus:
    """All functions that the filters of the parts kept, numbered from the first one of the first part.

    Args:
        paths: The kept functions of all parts (Parquet).
        processes: Processes that read at the same time.
        pool: Their pool; None where this process reads.

    Attributes:
        ids: The id of each function.
        evidence: What the functions that match a benchmark task match: number to evidence.

    Raises:
        ValueError: a file is no part of a corpus, or two functions have the same id.
    """

    def __init__(self, paths: Sequence[str], processes: int = 1, pool: ProcessPoolExecutor | None = None):
        self._groups = _groups(paths, FUNCTION_COLUMNS)
        self._processes, self._pool = processes, pool
        self.ids = _all_ids(self._groups)
        self._refuse_same_ids()
        self._reasons = [("", "not dropped")]  # stages and reasons
        self._why = np.zeros(len(self.ids), dtype=np.uint16)  # place in the reasons
        self._instead = np.zeros(len(self.ids), dtype=np.int32)  # number of the function that stays for a duplicate
        self.evidence: dict[int, list[Evidence]] = {}

    def _refuse_same_ids(self) -> None:
        ids = np.sort(self.ids)
        same = np.flatnonzero(ids[1:] == ids[:-1])
        if not len(same):
            return
        places = [
            f"{group.path}, row {group.row + number - group.start + 1}"
            for number in np.flatnonzero(self.ids == ids[same[0]])[:2].tolist()
            for group in self._groups
            if group.start <= number < group.start + group.size
        ]
        raise ValueError(
            f"{' and '.join(places)}: two functions have the same id {ids[same[0]].decode()}; give each part once"
        )

    @property
    def alive(self) -> np.ndarray:
        """Whether each function is left."""
        return self._why == 0

    def dropped(self, stage: str) -> Counter[str]:
        """Return how many functions a stage has dropped, by reason."""
        counts = np.bincount(self._why, minlength=len(self._reasons)).tolist()
        return Counter({reason: counts[code] for code, (name, reason) in enumerate(self._reasons) if name == stage})

    def _code(self, stage: str, reason: str) -> int:
        if (stage, reason) not in self._reasons:
            self._reasons.append((stage, reason))
        return self._reasons.index((stage, reason))

    def _map(self, stage: str, function: Callable) -> Iterator[tuple[_Group, object]]:
        """Yield what a function returns for each row group and the rows that are left of it, in order.

        No more results than twice the processes wait, so that memory does not grow where one group takes long.
        """
        alive = self.alive
        tasks = (
            (group, rows)
            for group in self._groups
            if len(rows := np.flatnonzero(alive[group.start : group.start + group.size]))
        )
        progress = Progress(f"select_seeds: {stage}", int(alive.sum()), unit="functions")
        waiting: deque = deque()

        def results() -> Iterator[tuple[_Group, np.ndarray, object]]:
            for group, rows in tasks:
                if self._pool is None:
                    yield group, rows, function(group, rows)
                    continue
                waiting.append((group, rows, self._pool.submit(function, group, rows)))
                if len(waiting) > 2 * self._processes:
                    group, rows, future = waiting.popleft()
                    yield group, rows, future.result()
            for group, rows, future in waiting:
                yield group, rows, future.result()

        for group, rows, result in results():
            progress.add(len(rows))
            yield group, result

    def _drop_clusters(self, stage: str, reason: str, numbers: np.ndarray, clusters: np.ndarray) -> None:
        """Drop all functions of each cluster but the one with the smallest id.

        Args:
            numbers: The functions.
            clusters: For each a row that names its cluster.
        """
        # Most functions are alone, and numbers are sorted several times faster than rows with ids
        order = np.argsort(clusters[:, 0], kind="stable")
        same = clusters[order[1:], 0] == clusters[order[:-1], 0]
        several = np.zeros(len(order), dtype=bool)
        several[order[1:][same]] = several[order[:-1][same]] = True
        numbers, clusters = numbers[several], clusters[several]
        order = np.lexsort((self.ids[numbers], *clusters.T))
        numbers, clusters = numbers[order], clusters[order]
        copies = np.flatnonzero((clusters[1:] == clusters[:-1]).all(axis=1)) + 1
        # Where there is a copy, the first of its cluster is the last place before it that is none
        first = np.arange(len(numbers))
        first[copies] = 0
        first = np.maximum.accumulate(first)
        self._why[numbers[copies]] = self._code(stage, reason)
        self._instead[numbers[copies]] = numbers[first[copies]]

    def drop_exact_duplicates(self, stage: str) -> None:
        """Drop the functions whose code, apart from whitespace, is that of one with a smaller id."""
        digests = [np.empty((0, 2), dtype=np.uint64), *(found for _, found in self._map(stage, _digest_group))]
        self._drop_clusters(stage, "exact duplicate", np.flatnonzero(self.alive), np.concatenate(digests))

    def drop_near_duplicates(self, stage: str, threshold: float, folder: Path) -> None:
        """Drop the near-duplicates; the shingles are kept in a file without a name in the folder meanwhile."""
        sketches = Sketches(folder)
        for _, found in self._map(stage, _sketch_group):
            sketches.add(found)
        clusters = sketches.clusters(threshold)
        del sketches  # the largest thing in memory
        self._drop_clusters(stage, "near-duplicate", np.flatnonzero(self.alive), clusters[:, None])

    def drop_benchmark_tasks(self, stage: str) -> None:
        """Drop the functions that match a benchmark task, and remember all evidence."""
        for group, found in self._map(stage, _find_evidence):
            for row, evidence in found.items():
                self.evidence[group.start + row] = evidence
                self._why[group.start + row] = self._code(stage, evidence[0].reason)

    def kept_rows(self) -> Iterator[pyarrow.Table]:
        """Yield the functions that are left."""
        alive = self.alive
        for group in self._groups:
            yield group.read(FUNCTION_COLUMNS).filter(pyarrow.array(alive[group.start : group.start + group.size]))

    def dropped_rows(self) -> Iterator[pyarrow.Table]:
        """Yield the functions that were dropped, with stage, reason and detail."""
        for group in self._groups:
            rows = np.flatnonzero(self._why[group.start : group.start + group.size])
            if not len(rows):
                continue
            numbers = (group.start + rows).tolist()
            stages, reasons = zip(*(self._reasons[self._why[number]] for number in numbers), strict=True)
            details = [
                self.evidence[number][0].drop()[1]
                if number in self.evidence
                else self.ids[self._instead[number]].decode()
                for number in numbers
            ]
            table = group.read(FUNCTION_COLUMNS).take(pyarrow.array(rows))
            for name, values in (("stage", stages), ("reason", reasons), ("detail", details)):
                table = table.append_column(name, pyarrow.array(values, pyarrow.string()))
            yield table


def write_sorted(
    path: str | Path, ids: np.ndarray, tables: Iterable[pyarrow.Table], columns: Mapping[str, str]
) -> None:
    """Write rows as a Parquet file sorted by id, whole or not at all, with `RANGE` rows in memory.

    The rows wait in a folder beside the file meanwhile, uncompressed.

    Args:
        ids: Those of all rows (bytes), in any order.
        tables: The rows.
        columns: Name to pyarrow type name.
    """
    path = Path(path)
    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()])
    firsts = np.sort(ids)[RANGE::RANGE].copy()  # of all ranges but one
    folder = path.with_name(f".{path.name}.ranges")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    temporary = temporary_path(path)
    try:
        names = [folder / f"{number}.arrow" for number in range(len(firsts) + 1)]
        with ExitStack() as stack:
            writers = [stack.enter_context(pyarrow.ipc.new_stream(str(name), schema)) for name in names]
            for table in tables:
                keys = np.array(table.column("id").to_pylist(), dtype="S")
                ranges = np.searchsorted(firsts, keys, "right")
                order = np.argsort(ranges, kind="stable")
                table = table.select(schema.names).cast(schema).take(pyarrow.array(order))
                ends = np.cumsum(np.bincount(ranges, minlength=len(names))).tolist()
                for writer, start, end in zip(writers, [0, *ends], ends, strict=False):
                    if end > start:
                        writer.write_table(table.slice(start, end - start))
        with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for name in names:
                with pyarrow.ipc.open_stream(str(name)) as reader:
                    table = reader.read_all().sort_by("id").combine_chunks()
                writer.write_table(table, row_group_size=RANGE)
                name.unlink()
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
        ValueError: a file is no part of a corpus, two functions have the same id, funnels and rows are not of the same
            parts, or nothing is left.
    """
    funnel = sum_funnels(funnels)
    others = _groups(rejected, REJECTED_COLUMNS)
    seeds.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if processes > 1:
            pool = stack.enter_context(
                ProcessPoolExecutor(processes, get_context("spawn"), initializer=_load_index, initargs=(benchmarks,))
            )
        else:
            pool = None
            _load_index(benchmarks)
        corpus = Corpus(kept, processes, pool)
        if funnel.rows != len(corpus.ids):
            raise ValueError(
                f"the funnels end with {funnel.rows:,} functions, but the parts hold {len(corpus.ids):,}; "
                "give the kept functions and the funnels of the same parts"
            )
        for name, corpus_filter in [("exact_duplicates", None), *filters]:
            if corpus_filter is None:
                corpus.drop_exact_duplicates(name)
            elif isinstance(corpus_filter, NearDuplicates):
                corpus.drop_near_duplicates(name, corpus_filter.threshold, seeds.parent)
            else:
                assert isinstance(corpus_filter, Benchmarks)
                corpus.drop_benchmark_tasks(name)
            funnel.add(name, int(corpus.alive.sum()), corpus.dropped(name).elements())
    if not corpus.alive.any():
        worst = max(funnel.stages, key=lambda stage: stage["input"] - stage["kept"])
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in worst["dropped"].items())
        raise ValueError(
            f"no seed is left of {funnel.stages[0]['input']:,} functions; most were dropped by {worst['stage']} "
            f"({reasons or 'no rows at all'}): loosen that filter or add source code"
        )

    evidence = sorted((corpus.ids[number].decode(), found) for number, found in corpus.evidence.items())
    write_jsonl(contamination, ({"id": key} | one.dump() for key, found in evidence for one in found))
    ids, rows = [corpus.ids[~corpus.alive], _all_ids(others)], (group.read(REJECTED_COLUMNS) for group in others)
    write_sorted(rejects, np.concatenate(ids), itertools.chain(corpus.dropped_rows(), rows), REJECTED_COLUMNS)
    write_sorted(seeds, corpus.ids[corpus.alive], corpus.kept_rows(), FUNCTION_COLUMNS)
    return funnel

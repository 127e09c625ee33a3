"""Lead a row back to the code that it came from, and forward to the datasets and models that it went into."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from selfalign.archiving.inputs import edited_since, find_input
from selfalign.generation.rebuilding import rebuild_request
from selfalign.records.files import file_digest, read_json
from selfalign.records.rounds import reached
from selfalign.records.rows import Concepts, Function, Instruction, Response, Row, RowType, Verdict
from selfalign.records.shards import benchmark_of, maker
from selfalign.reporting.artifacts import read_provenance
from selfalign.reporting.generations import shard_files
from selfalign.reporting.write import read_config

ID = re.compile(r"([0-9a-f]{16})(-c\d+)?(-i\d+)?(-r\d+)?")
KINDS = ("seed", "concepts", "instruction", "response")
FILES = {"concepts": ("concepts", Concepts), "instruction": ("instructions", Instruction),
         "response": ("responses", Response)}  # fmt: skip


@dataclass(kw_only=True)
class Step:
    """One generated row and how it came about.

    Attributes:
        prompt: What the engine got, rebuilt; None where the prompt file is gone or was edited since.
        doubt: Why the rebuilt prompt may not be the one that the engine got; None where all fits.
    """

    kind: str
    row: Row
    file: str
    sampling: dict
    prompt: str | None
    doubt: str | None


@dataclass(kw_only=True)
class Trace:
    """All that is known of one id.

    Attributes:
        also_in: Other generations with a row of this id.
        children: Ids of the rows that were made from it.
        datasets: What became of a response in each dataset of its generation.
    """

    id: str
    kind: str
    corpus: str
    seed: Function
    corpus_source: dict
    filters: list[dict]
    generation: str | None = None
    also_in: list[str] = field(default_factory=list)
    model: dict = field(default_factory=dict)
    prompts: dict = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    verdict: Verdict | None = None
    sandbox: dict = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    datasets: dict[str, dict] = field(default_factory=dict)

    def dump(self) -> dict:
        """Return the trace as plain values."""
        return asdict(self)


def wanted(path: str) -> bool:
    """Tell whether a file of an archive is needed to trace a row."""
    kinds = r"corpora/[^/]+/seeds\.parquet|(generations|datasets)/.*\.jsonl|models/[^/]+/model\.json|rounds/.*\.json"
    return path.startswith("inputs/") or bool(
        re.fullmatch(rf"results/(run_config\.yaml|provenance\.json|{kinds})", path)
    )


def trace(folder: Path, row_id: str, *, root: Path, inputs: Mapping[str, str], dataset: str | None = None) -> Trace:
    """Follow an id of a seed, concepts, instruction, response or pair.

    Args:
        folder: That holds results/.
        root: The repository, to which paths of the config may be relative.
        inputs: Of an archive: path of the config to the file that is it, from the folder.
        dataset: Look into this dataset and its generation only.

    Raises:
        ValueError: no such id in the run, or no such dataset; the text tells how far the way was known.
    """
    results = folder / "results"
    config = reached(results, read_config(results / "run_config.yaml"))
    match = ID.fullmatch(row_id)
    if not match or None in match.groups()[: sum(group is not None for group in match.groups())]:
        raise ValueError(
            f"{row_id!r} is no id of a row; ids look like 0123456789abcdef (a seed), and with -c0, -c0-i0 or -c0-i0-r3 "
            "after it (concepts, instruction, response or pair); `head -n 1` of a file of the run shows some"
        )
    if dataset is not None and dataset not in config["datasets"]:
        raise ValueError(f"the run has no dataset {dataset!r}; it has {', '.join(config['datasets']) or 'none'}")
    parts = [part for part in match.groups() if part]
    ids = ["".join(parts[: number + 1]) for number in range(len(parts))]
    only = None if dataset is None else config["datasets"][dataset]["generation"]

    matches = []
    for generation, entry in config["generations"].items():
        if benchmark_of(entry):  # whose rows lead to no seed
            continue
        if only in (None, generation) and (seed := _seed(results, entry["corpus"], ids[0])):
            found = _generated(results, generation, entry, ids)
            if len(found) == len(ids) - 1:
                matches.append((generation, seed, found))
    if matches:
        traced = _in_generation(folder, config, *matches[0], root, inputs, dataset)
        traced.also_in = [generation for generation, _, _ in matches[1:]]
        return traced
    for corpus in config["corpora"]:
        if len(ids) == 1 and (seed := _seed(results, corpus, ids[0])):
            return _trace(config, corpus, seed, ids[0])
    raise ValueError(_unknown(results, config, ids, only))


def _seed(results: Path, corpus: str, seed: str) -> Function | None:
    import pyarrow.parquet

    path = results / "corpora" / corpus / "seeds.parquet"
    if not path.is_file():
        return None
    rows = pyarrow.parquet.read_table(path, filters=[("id", "==", seed)]).to_pylist()
    return Function.load(rows[0], str(path)) if rows else None


def _find(path: Path, row_id: str) -> Iterator[dict]:
    """Yield the rows of a file with an id; lines without its text are not parsed."""
    text = f'"{row_id}"'.encode()
    with open(path, "rb") as file:
        for line in file:
            if text in line:
                row = json.loads(line)
                if row["id"] == row_id:
                    yield row


def _files(results: Path, generation: str, entry: Mapping, kind: str) -> Iterator[Path]:
    for files in shard_files(results / "generations" / generation, entry):
        yield from (path for path in files[kind] if path.is_file())


def _first(
    results: Path, generation: str, entry: Mapping, kind: str, row_type: type[RowType], row_id: str
) -> tuple[RowType, Path] | None:
    """Return the row of a generation with an id, and its file."""
    for path in _files(results, generation, entry, kind):
        for row in _find(path, row_id):
            return row_type.load(row, str(path)), path
    return None


def _generated(results: Path, generation: str, entry: Mapping, ids: list[str]) -> list[tuple[Row, Path]]:
    """Return the rows of the ids after the seed's, as far as there are some."""
    found: list[tuple[Row, Path]] = []
    for kind, row_id in zip(KINDS[1:], ids[1:], strict=False):
        one = _first(results, generation, entry, *FILES[kind], row_id)
        if one is None:
            break
        found.append(one)
    return found


def _trace(config: Mapping, corpus: str, seed: Function, row_id: str) -> Trace:
    entry = config["corpora"][corpus]
    kind = KINDS[row_id.count("-")]
    return Trace(
        id=row_id, kind=kind, corpus=corpus, seed=seed, corpus_source=entry["source"], filters=entry.get("filters", [])
    )


def _in_generation(
    folder: Path,
    config: Mapping,
    generation: str,
    seed: Function,
    found: list[tuple[Row, Path]],
    root: Path,
    inputs: Mapping[str, str],
    dataset: str | None,
) -> Trace:
    results, entry = folder / "results", config["generations"][generation]
    row_id = found[-1][0].id if found else seed.id
    traced = _trace(config, entry["corpus"], seed, row_id)
    traced.generation = generation
    traced.model = {"entry": entry["generator"], **_model(results, entry["generator"]), "engine": config["engine"]}
    traced.prompts, _, _ = _prompts(folder, entry["prompts"], root, inputs)
    before: list[Row] = [seed]
    for kind, (row, path) in zip(KINDS[1:], found, strict=False):
        wrote = config["generations"][maker(config["generations"], generation, FILES[kind][0])]
        _, prompts, edited = _prompts(folder, wrote["prompts"], root, inputs)
        sampling, prompt, doubt = _asked(row, before, wrote, prompts, edited, wrote.get("seed", config["seed"]))
        where = path.relative_to(folder).as_posix()
        traced.steps.append(Step(kind=kind, row=row, file=where, sampling=sampling, prompt=prompt, doubt=doubt))
        before.append(row)
    if traced.kind == "response":
        one = _first(results, generation, entry, "verdicts", Verdict, row_id)
        if one:
            traced.verdict, traced.sandbox = one[0], config.get("sandbox", {})
        for name, settings in config["datasets"].items():
            if settings["generation"] == generation and dataset in (None, name):
                traced.datasets[name] = _in_dataset(results, config, name, row_id)
    else:
        kind, _ = FILES[KINDS[KINDS.index(traced.kind) + 1]]
        text = f'"parent": "{row_id}"'.encode()
        for path in _files(results, generation, entry, kind):
            with open(path, "rb") as file:
                traced.children += [json.loads(line)["id"] for line in file if text in line]
    return traced


def _prompts(
    folder: Path, named: str, root: Path, inputs: Mapping[str, str]
) -> tuple[dict[str, str | None], Path | None, str | None]:
    """Return what a prompt file is called with its digest, where it is, and whether it was edited since the run."""
    path = folder / inputs[named] if named in inputs else find_input(named, (folder, root))
    if not path or not path.is_file():
        return {"path": named, "sha256": None}, None, None
    edited = edited_since(named, path, read_provenance(folder / "results" / "provenance.json") or {})
    return {"path": named, "sha256": file_digest(path)}, path, edited


def _model(results: Path, name: str) -> dict:
    path = results / "models" / name / "model.json"
    known = read_json(path) if path.is_file() else {}
    return {key: known.get(key) for key in ("name_or_path", "revision", "digest")}


def _asked(
    row: Row, before: list[Row], entry: Mapping, prompts: Path | None, edited: str | None, run_seed: int
) -> tuple[dict, str | None, str | None]:
    """Return sampling settings, prompt, and doubts of a row."""
    if row.finish_reason == "not asked":
        return {}, None, "the method asks for no concepts"
    if prompts is None:
        return {"seed": row.seed}, None, f"the prompt file {entry['prompts']} is not there"
    if edited:
        return {"seed": row.seed}, None, f"{edited}, so what the model got is not known"
    request, shots = rebuild_request(row, before, entry, prompts, run_seed)
    sampling = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "stop": list(request.stop),
        "seed": request.seeds[0],
    }
    doubts = []
    if request.seeds[0] != row.seed:
        doubts.append(f"its row has the seed {row.seed}")
    if shots != row.shots:
        doubts.append(f"its row was shown the examples {', '.join(row.shots)}, and not {', '.join(shots)}")
    doubt = f"config or prompt file are not those that it was made with: {'; '.join(doubts)}" if doubts else None
    return sampling, request.prompt, doubt


def _in_dataset(results: Path, config: Mapping, name: str, row_id: str) -> dict:
    """Return what a dataset did with a response, and the models that learnt from it, themselves or through a base."""
    folder = results / "datasets" / name
    found: dict = {"pair": False, "rejected": None, "negative": False, "preferences": [], "models": [], "through": []}
    if (folder / "pairs.jsonl").is_file():
        found["pair"] = any(True for _ in _find(folder / "pairs.jsonl", row_id))
    if (folder / "rejected.jsonl").is_file():
        found["rejected"] = next(_find(folder / "rejected.jsonl", row_id), None)
    if (folder / "negatives.jsonl").is_file():
        found["negative"] = any(True for _ in _find(folder / "negatives.jsonl", row_id))
    if (folder / "preferences.jsonl").is_file():
        text = f'"{row_id}"'.encode()
        with open(folder / "preferences.jsonl", "rb") as file:
            rows = [json.loads(line) for line in file if text in line]
        found["preferences"] = [role for row in rows for role in ("chosen", "rejected") if row[f"{role}_id"] == row_id]
    for model, entry in config["models"].items():
        if entry.get("dataset") == name:
            dpo = entry.get("train", {}).get("objective") == "dpo"
            if found["preferences"] if dpo else found["pair"]:
                found["models"].append({"entry": model, **_model(results, model)})
    learnt = {model["entry"] for model in found["models"]}
    while more := {m for m, entry in config["models"].items() if entry.get("base") in learnt and m not in learnt}:
        found["through"] += sorted(more)
        learnt |= more
    return found


def _unknown(results: Path, config: Mapping, ids: list[str], only: str | None) -> str:
    """Return how far the way to an id is known."""
    told = f"the run {config['run']} has no {KINDS[len(ids) - 1]} {ids[-1]}"
    corpora = [corpus for corpus in config["corpora"] if _seed(results, corpus, ids[0])]
    if not corpora:
        told += f", and no seed {ids[0]}" if ids[1:] else ""
        return f"{told}; the id is of another run, or of a function that became no seed"
    best = max(
        (
            (len(_generated(results, name, entry, ids)), name)
            for name, entry in config["generations"].items()
            if not benchmark_of(entry) and entry["corpus"] in corpora and only in (None, name)
        ),
        default=(0, None),
    )
    if best[1] is None:
        return f"{told}: the seed {ids[0]} is in corpus {corpora[0]}, of which no generation is made"
    last = ids[best[0]]
    return (
        f"{told}: the last row on the way to it is {last}, of generation {best[1]}; trace that one to see what it has"
    )

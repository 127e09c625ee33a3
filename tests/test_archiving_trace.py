"""A row leads back to its source: from every kind of id, with the prompt that the engine got."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from commands import run
from traced_run import ROOT, Recorder, config, make_run

from selfalign.archiving.archive import archive_run
from selfalign.archiving.inputs import prompt_digests
from selfalign.archiving.trace import trace
from selfalign.records.commands import derive_seed
from selfalign.records.files import read_jsonl, write_json, write_jsonl, write_text

SEED = "0000000000000001"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Recorder]:
    """Return the folder of a run and the engine that made it; tests do not change them."""
    folder = tmp_path_factory.mktemp("traced")
    with pytest.MonkeyPatch.context() as patch:
        return folder, make_run(folder, patch)


def rows(folder: Path, kind: str) -> dict[str, dict]:
    """Return the rows of all shards and rounds by id."""
    paths = sorted((folder / f"results/generations/self/{kind}").glob("*.jsonl"))
    return {row["id"]: row for path in paths for row in read_jsonl(path)}


def test_every_prompt_is_the_one_that_the_engine_got(made: tuple[Path, Recorder]) -> None:
    folder, engine = made
    asked = {}
    for request in engine.requests:
        stem, letter = request.id.rsplit("-", 1)[0], request.id.rsplit("-", 1)[1][0]
        first = int(request.id.rsplit("-", 1)[1][1:])
        asked |= {f"{stem}-{letter}{first + k}": (request, k) for k in range(request.n)}
    found = {kind: rows(folder, kind) for kind in ("concepts", "instructions", "responses")}
    assert set(asked) == {row_id for by_id in found.values() for row_id in by_id}
    assert any(row_id.endswith("-r3") for row_id in asked), "a further round was asked for"
    for row_id in (*sorted(found["responses"])[::2], *(row["id"] for row in found["concepts"].values() if row["drop"])):
        for step in trace(folder, row_id, root=ROOT, inputs={}).steps:
            request, k = asked[step.row.id]
            assert step.prompt == request.prompt
            assert step.doubt is None
            assert step.sampling == {
                "temperature": request.temperature,
                "top_p": request.top_p,
                "max_tokens": request.max_tokens,
                "stop": list(request.stop),
                "seed": request.seeds[k],
            }
            stage = {"concepts": "concepts", "instruction": "instructions", "response": "responses"}[step.kind]
            assert step.sampling["seed"] == derive_seed(8, stage, step.row.id) == step.row.seed


def test_a_pair_from_its_source_to_the_models(made: tuple[Path, Recorder]) -> None:
    folder, _ = made
    pair = next(read_jsonl(folder / "results/datasets/verified/pairs.jsonl"))
    number = int(pair["seed_id"], 16)
    done = run("trace_pair", pair["id"], "--results", folder / "results", "--prompts")
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout
    for line in (
        f"response {pair['id']}",
        f"Source: sums 1.2, sums/more.py, line {10 * number + 1} (add_{number}); licence: MIT",
        "  filters passed: returns_value, has_argument, size, bad_words, type_check, benchmarks, near_duplicates",
        f"    | def add_{number}(x):",
        "Generation self: model base (owner/base, revision abc), digest " + "base" * 8,
        f"Instruction {pair['instruction_id']}, in results/generations/self/instructions/0000{number % 2}.jsonl",
        f"    | {pair['instruction']}",
        "    | Python tasks with solution and tests.",
        "Verdict: passed, 1 assertions, 0.01 s of CPU time, 9.5 MB, core c",
        "  trained on it: aligned, digest " + "aligned" * 8,
    ):
        assert line in told.splitlines(), line
    seed = rows(folder, "responses")[pair["id"]]["seed"]
    wanted = f'sampled with: temperature 0.6, top_p 0.9, max_tokens 256, stop ["## Example", "</tests>"], seed {seed}'
    assert f"  {wanted}" in told.splitlines()
    assert "sandbox: cpu_s 4, wall_factor 3, memory_mb 1024, disk_mb 16" in told
    assert "Dataset verified: a training pair" in told
    assert "trained from these: later" in told
    assert "doubtful" not in told


def test_what_became_of_each_response(made: tuple[Path, Recorder]) -> None:
    folder, _ = made
    datasets = {}
    for name in ("verified", "random"):
        where = folder / "results/datasets" / name
        datasets[name] = {
            "pairs": {row["id"] for row in read_jsonl(where / "pairs.jsonl")},
            "rejected": {row["id"]: row["reason"] for row in read_jsonl(where / "rejected.jsonl")},
            "negatives": {row["id"] for row in read_jsonl(where / "negatives.jsonl")},
        }
        wishes = list(read_jsonl(where / "preferences.jsonl"))
        datasets[name]["chosen"] = {row["chosen_id"] for row in wishes}
        datasets[name]["lost"] = {row["rejected_id"] for row in wishes}
    assert len(datasets["verified"]["pairs"]) == 4
    assert datasets["verified"]["chosen"]
    for row_id in sorted(rows(folder, "responses"))[::3]:
        found = trace(folder, row_id, root=ROOT, inputs={}).datasets
        for name, known in datasets.items():
            assert found[name]["pair"] == (row_id in known["pairs"])
            assert (found[name]["rejected"] or {}).get("reason") == known["rejected"].get(row_id)
            assert found[name]["negative"] == (row_id in known["negatives"])
            assert ("chosen" in found[name]["preferences"]) == (row_id in known["chosen"])
            assert ("rejected" in found[name]["preferences"]) == (row_id in known["lost"])
        learnt = {model["entry"] for model in found["verified"]["models"]}
        wished = datasets["verified"]["chosen"] | datasets["verified"]["lost"]
        assert ("aligned" in learnt, "preferred" in learnt) == (
            row_id in datasets["verified"]["pairs"],
            row_id in wished,
        )
        alone = trace(folder, row_id, root=ROOT, inputs={}, dataset="random").datasets
        assert alone == {"random": found["random"]}


KINDS = [
    # part of the id after the seed's, steps, what is told last
    ("", 0, "Made from it: 1 rows (0000000000000001-c0)"),
    ("-c0", 1, "Made from it: 2 rows (0000000000000001-c0-i0, 0000000000000001-c0-i1)"),
    ("-c0-i1", 2, "Made from it: "),
]


@pytest.mark.parametrize(("rest", "steps", "last"), KINDS)
def test_ids_of_each_kind(made: tuple[Path, Recorder], rest: str, steps: int, last: str) -> None:
    folder, _ = made
    done = run("trace_pair", SEED + rest, "--results", folder)
    assert done.returncode == 0, done.stderr
    assert "sums/more.py, line 11 (add_1)" in done.stdout
    assert done.stdout.count("sampled with") == steps
    assert done.stdout.splitlines()[-1].startswith(last)
    assert "prompt, " not in done.stdout
    assert "Verdict" not in done.stdout


def test_a_dropped_row_tells_why(made: tuple[Path, Recorder]) -> None:
    folder, _ = made
    dropped = [row_id for row_id, row in rows(folder, "concepts").items() if row["drop"]]
    assert dropped
    done = run("trace_pair", dropped[0], "--results", folder / "results")
    assert "ended by: length; dropped: length" in done.stdout
    assert done.stdout.splitlines()[-1] == "Made from it: 0 rows"


UNKNOWN = [
    ("x", "'x' is no id of a row; ids look like 0123456789abcdef"),
    (f"{SEED}-i0", "is no id of a row"),
    ("f" * 16, f"error: the run small has no seed {'f' * 16}; the id is of another run"),
    (f"{'f' * 16}-c0-i0-r0", "the id is of another run, or of a function that became no seed"),
    (f"{'f' * 16}-c0", f"has no concepts {'f' * 16}-c0, and no seed {'f' * 16}; the id is of another run"),
    (f"{SEED}-c7", f"has no concepts {SEED}-c7: the last row on the way to it is {SEED}, of generation self"),
    (f"{SEED}-c0-i1-r99", f"the last row on the way to it is {SEED}-c0-i1, of generation self"),
]


@pytest.mark.parametrize(("row_id", "told"), UNKNOWN)
def test_an_unknown_id_is_one_clear_error(made: tuple[Path, Recorder], row_id: str, told: str) -> None:
    done = run("trace_pair", row_id, "--results", made[0] / "results")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert told in done.stderr


def test_other_mistakes(made: tuple[Path, Recorder], tmp_path: Path) -> None:
    done = run("trace_pair", SEED, "--results", made[0], "--dataset", "verifed")
    assert "the run has no dataset 'verifed'; it has verified, random" in done.stderr
    done = run("trace_pair", SEED, "--results", tmp_path)
    assert f"{tmp_path}: no run in it" in done.stderr
    done = run("trace_pair", SEED, "--results", tmp_path / "none.tar.zst")
    assert (
        done.stderr
        == f"error: {tmp_path / 'none.tar.zst'} does not exist; check the path, or run the step that makes it\n"
    )


OLD = ["corpus", "generator", "prompts", "shards", "shots", "shot_sets", "adaptive", "temperature", "max_tokens"]


@pytest.mark.parametrize("key", OLD)
def test_a_config_of_another_version_is_one_clear_error(made: tuple[Path, Recorder], tmp_path: Path, key: str) -> None:
    shutil.copytree(made[0], tmp_path / "run")
    changed = config()
    del changed["generations"]["self"][key]
    write_text(tmp_path / "run/results/run_config.yaml", yaml.safe_dump(changed, sort_keys=False))
    done = run("trace_pair", f"{SEED}-c0", "--results", tmp_path / "run")
    assert done.returncode == 1
    assert f"run_config.yaml: config.generations.self has no key '{key}', so the run is of another" in done.stderr


def test_from_an_archive_alone(made: tuple[Path, Recorder], tmp_path: Path) -> None:
    """The archive has the prompt file: no repository is needed."""
    folder, engine = made
    archive_run(folder / "results", tmp_path / "run.tar.zst", root=ROOT, locks=[])
    pair = next(read_jsonl(folder / "results/datasets/verified/pairs.jsonl"))
    output = tmp_path / "trace.json"
    arguments = (pair["id"], "--results", tmp_path / "run.tar.zst", "--root", tmp_path, "--output", output, "--prompts")
    done = run("trace_pair", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run("trace_pair", pair["id"], "--results", folder / "results", "--prompts").stdout
    told = json.loads(output.read_text())
    prompts = {request.prompt for request in engine.requests}
    assert [step["prompt"] in prompts for step in told["steps"]] == [True, True, True]
    assert told["verdict"]["verdict"] == "passed"


def test_a_prompt_that_cannot_be_the_one_is_told(made: tuple[Path, Recorder], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made[0], folder)
    pair = next(read_jsonl(folder / "results/datasets/verified/pairs.jsonl"))["id"]
    changed = config()
    changed["generations"]["self"]["seed"] = 9
    write_text(folder / "results/run_config.yaml", yaml.safe_dump(changed, sort_keys=False))
    told = run("trace_pair", pair, "--results", folder).stdout
    assert told.count("doubtful: config or prompt file are not those that it was made with: its row has the seed") == 3
    changed["generations"]["self"]["seed"] = 8
    prompts = yaml.safe_load((ROOT / "resources/prompts/demo.yaml").read_text())
    prompts["shots"] = prompts["shots"][:4]
    changed["generations"]["self"]["prompts"] = "own.yaml"
    write_text(folder / "own.yaml", yaml.safe_dump(prompts))
    write_text(folder / "results/run_config.yaml", yaml.safe_dump(changed, sort_keys=False))
    assert "its row was shown the examples" in run("trace_pair", pair, "--results", folder).stdout
    (folder / "own.yaml").unlink()
    told = run("trace_pair", pair, "--results", folder).stdout
    assert told.count("doubtful: the prompt file own.yaml is not there") == 3
    assert "prompt file own.yaml, digest unknown: it is not there" in told


def test_an_edited_prompt_file_is_no_prompt_of_the_run(made: tuple[Path, Recorder], tmp_path: Path) -> None:
    """Seeds and examples still fit: only the file's digest tells."""
    folder = tmp_path / "run"
    shutil.copytree(made[0], folder)
    text = (ROOT / "resources/prompts/demo.yaml").read_text()
    changed = config()
    changed["generations"]["self"]["prompts"] = "own.yaml"
    write_text(folder / "results/run_config.yaml", yaml.safe_dump(changed, sort_keys=False))
    write_text(folder / "own.yaml", text)
    digests = prompt_digests(changed, (folder, ROOT))
    write_json(folder / "results/provenance.json", {"prompts": digests})
    pair = next(read_jsonl(folder / "results/datasets/verified/pairs.jsonl"))["id"]
    archive_run(folder / "results", tmp_path / "run.tar.zst", root=ROOT, locks=[])
    for run_of_it in (folder, tmp_path / "run.tar.zst"):
        told = run("trace_pair", pair, "--results", run_of_it, "--prompts").stdout
        assert (told.count("prompt, "), told.count("doubtful")) == (3, 0)
    write_text(folder / "own.yaml", text.replace("Python tasks", "Perl tasks"))
    told = run("trace_pair", pair, "--results", folder, "--prompts").stdout
    edited = "the prompt file own.yaml was edited after the run (SHA-256 "
    assert (told.count("prompt, "), told.count(f"doubtful: {edited}")) == (0, 3)
    assert "Perl" not in told
    with pytest.raises(ValueError, match=r"own\.yaml was edited after the run .*; put the old text back"):
        archive_run(folder / "results", tmp_path / "edited.tar.zst", root=ROOT, locks=[])
    assert not (tmp_path / "edited.tar.zst").exists()


STEERING = [
    # file below results/generations/self, field, its text, how it is told
    ("concepts", "text", "größer \x1b[2J\x07\u202e\r\tend", "    | größer \\x1b[2J\\x07\\u202e\\r\tend\n"),
    ("concepts", "text", "\x9b2Jone\ntwo", "    | \\x9b2Jone\n    | two\n"),
    ("concepts", "finish_reason", "\x1b[2J\nVerdict: passed", "  ended by: \\x1b[2J\\nVerdict: passed; dropped"),
    ("concepts", "drop", "\x9b2J", "; dropped: \\x9b2J\n"),
    ("concepts", "shots", ["\x9b2J"], "  examples shown: \\x9b2J\n"),
]


@pytest.mark.parametrize(("kind", "name", "text", "shown"), STEERING)
def test_a_row_cannot_steer_the_terminal(made: tuple[Path, Recorder], tmp_path: Path, kind, name, text, shown) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made[0], folder)
    path = folder / f"results/generations/self/{kind}/00001.jsonl"
    write_jsonl(path, [row | {"drop": "none", name: text} for row in list(read_jsonl(path))])
    told = run("trace_pair", f"{SEED}-c0", "--results", folder).stdout
    assert shown in told
    assert not {"\x1b", "\x9b"} & set(told)


def test_a_row_of_two_generations_names_the_other(made: tuple[Path, Recorder], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made[0], folder)
    changed = config()
    changed["generations"]["teacher"] = changed["generations"]["self"] | {"generator": "aligned"}
    changed["datasets"]["taught"] = changed["datasets"]["verified"] | {"generation": "teacher"}
    write_text(folder / "results/run_config.yaml", yaml.safe_dump(changed, sort_keys=False))
    shutil.copytree(folder / "results/generations/self", folder / "results/generations/teacher")
    told = run("trace_pair", f"{SEED}-c0", "--results", folder).stdout
    assert "Generation self: model base" in told
    assert "also in teacher: choose with --dataset" in told
    told = run("trace_pair", f"{SEED}-c0", "--results", folder, "--dataset", "taught").stdout
    assert "Generation teacher: model aligned" in told
    assert "also in" not in told

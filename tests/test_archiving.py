"""A run as one file: what is in it and what is not, and how a repeated run is compared with it."""

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml
from archive_files import PAIRS, ROOT, VERDICTS, complete, members, pack
from commands import run
from reporting_run import CONFIG, make_run

from selfalign.archiving.archive import MANIFEST, _member, archive_run
from selfalign.archiving.digests import leave_out, read_digests
from selfalign.archiving.jobs import read_jobs
from selfalign.archiving.reading import read_archive, unpack
from selfalign.archiving.repeating import describe_repetition
from selfalign.records.files import read_json, read_jsonl, write_json, write_jsonl, write_text


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Return the results of a run; tests do not change them."""
    return complete(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def archive(results: Path, tmp_path_factory) -> Path:
    """Return the archive of the run; tests do not change it."""
    path = tmp_path_factory.mktemp("archive") / "tiny.tar.zst"
    pack(results, path)
    return path


def test_what_is_in_it(results: Path, archive: Path) -> None:
    found = {member.name: content for member, content in members(archive)}
    for name in (VERDICTS, PAIRS, "results/corpora/stdlib/seeds.parquet", "results/run_config.yaml"):
        assert found[name] == (results.parent / name).read_bytes()
    assert found["envs/core.lock"] == (ROOT / "envs/core.lock").read_bytes()
    manifest = json.loads(found.pop(MANIFEST))
    entries = {entry["path"]: entry for entry in manifest["files"]}
    assert {path for path, entry in entries.items() if entry["included"]} == set(found)
    for name, content in found.items():
        assert (entries[name]["size"], entries[name]["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    left_out = {path for path, entry in entries.items() if not entry["included"]}
    assert left_out == {"results/models/aligned/model.safetensors", "results/corpora/stdlib/functions/00000.parquet"}
    assert entries["results/models/aligned/model.safetensors"]["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert manifest["models"]["aligned"]["digest"] == "aligned" * 16
    assert [member.name for member, _ in members(archive)][-1] == MANIFEST
    listed = subprocess.run(["tar", "--zstd", "-tf", archive], capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) == {*found, MANIFEST}


def test_two_archives_of_a_run_are_the_same_bytes(results: Path, archive: Path, tmp_path: Path) -> None:
    pack(results, tmp_path / "again.tar.zst")
    assert (tmp_path / "again.tar.zst").read_bytes() == archive.read_bytes()


def test_weights_are_in_it_where_they_are_wanted(results: Path, tmp_path: Path) -> None:
    pack(results, tmp_path / "all.tar.zst", include_models=True)
    found = {member.name: content for member, content in members(tmp_path / "all.tar.zst")}
    assert found["results/models/aligned/model.safetensors"] == b"weights"


def test_a_run_of_seeds_alone(tmp_path: Path) -> None:
    results = make_run(tmp_path)
    for name in ("generations", "datasets", "models", "scores", "provenance.json"):
        (results / name).rename(tmp_path / name)
    empty = {key: {} for key in ("generations", "datasets", "models", "benchmarks")}
    write_text(results / "run_config.yaml", yaml.safe_dump(CONFIG | empty | {"evaluate": []}))
    entries = pack(results, tmp_path / "seeds.tar.zst")
    done = run("verify_archive", tmp_path / "seeds.tar.zst", "--unpack", tmp_path / "unpacked")
    assert "Code: no commit is recorded" in done.stdout
    assert "take the code from whoever made the run" in done.stdout
    assert "results/corpora/stdlib/seeds.parquet" in entries
    assert read_archive(tmp_path / "seeds.tar.zst").faults == []
    done = run("compare_runs", tmp_path / "seeds.tar.zst", results)
    assert (done.returncode, "Nothing differs." in done.stdout) == (0, True), done.stderr


def test_a_judge_has_its_prompts_in_it(tmp_path: Path) -> None:
    results = make_run(tmp_path / "run")
    config = json.loads(json.dumps(CONFIG))
    config["corpora"]["stdlib"]["filters"] = [{"name": "size"}, {"name": "docstring_judge", "model": "base"}]
    write_text(results / "run_config.yaml", yaml.safe_dump(config))
    assert "inputs/resources/prompts/seed_judge.yaml" in pack(results, tmp_path / "tiny.tar.zst")


def test_prompts_are_in_it_wherever_they_lie(tmp_path: Path) -> None:
    results = make_run(tmp_path / "run")
    outside = tmp_path / "mine.yaml"
    write_text(outside, "mine")
    write_text(tmp_path / "run/prompts/own.yaml", "own")
    config = json.loads(json.dumps(CONFIG))
    config["generations"]["self"]["prompts"] = str(outside)
    config["benchmarks"]["demo"]["prompts"] = "prompts/own.yaml"  # beside results/
    config["benchmarks"]["demo-few-shot"]["prompts"] = "resources/prompts/demo.yaml"  # of the repository
    write_text(results / "run_config.yaml", yaml.safe_dump(config))
    manifest, _ = archive_run(results, tmp_path / "tiny.tar.zst", root=ROOT, locks=[])
    unpack(tmp_path / "tiny.tar.zst", tmp_path / "unpacked")
    texts = {name: (tmp_path / "unpacked" / path).read_text() for name, path in manifest["inputs"].items()}
    assert texts == {
        str(outside): "mine",
        "prompts/own.yaml": "own",
        "resources/prompts/demo.yaml": (ROOT / "resources/prompts/demo.yaml").read_text(),
    }
    assert manifest["inputs"]["prompts/own.yaml"] == "inputs/prompts/own.yaml"
    told = describe_repetition(tmp_path / "unpacked", manifest)
    assert f"Prompts: copy what is in {tmp_path}/unpacked/inputs into the folder of the new run" in told
    assert [line.endswith(f"to {outside}, where the config names it") for line in told].count(True) == 1
    outside.unlink()
    with pytest.raises(ValueError, match=r"mine\.yaml: this prompt file of the config is gone"):
        archive_run(results, tmp_path / "new.tar.zst", root=ROOT, locks=[])
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize("change", [b"# more\n", None], ids=["longer", "shorter"])
def test_a_file_that_changes_is_an_error_and_the_earlier_archive_stays(tmp_path: Path, monkeypatch, change) -> None:
    results = complete(tmp_path)
    pack(results, tmp_path / "tiny.tar.zst")
    before = (tmp_path / "tiny.tar.zst").read_bytes()
    config = results / "run_config.yaml"

    def while_it_is_open(name: str, size: int, modified: float) -> tarfile.TarInfo:
        if name.endswith("run_config.yaml"):
            config.write_bytes(config.read_bytes() + change if change else b"")
        return _member(name, size, modified)

    monkeypatch.setattr("selfalign.archiving.archive._member", while_it_is_open)
    with pytest.raises(ValueError, match=r"run_config\.yaml: changed while it was archived"):
        pack(results, tmp_path / "tiny.tar.zst")
    assert (tmp_path / "tiny.tar.zst").read_bytes() == before
    assert not list(tmp_path.glob(".tiny*"))


def test_unpacked_it_is_the_run(results: Path, archive: Path, tmp_path: Path) -> None:
    done = run("verify_archive", archive, "--unpack", tmp_path / "new/run", "--results", results)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("The same results.\n")
    assert "Code: commit 0123456789abcdef0123456789abcdef01234567\n" in done.stdout
    assert "yours to bring:\n  resources/demo-base\n" in done.stdout
    assert (tmp_path / "new/run" / PAIRS).read_bytes() == (results.parent / PAIRS).read_bytes()
    assert json.loads((tmp_path / "new/run" / MANIFEST).read_text())["run"] == "tiny"
    assert os.listdir(tmp_path / "new") == ["run"]
    again = run("verify_archive", archive, "--unpack", tmp_path / "new/run")
    assert (again.returncode, "is there already" in again.stderr) == (1, True)


def test_an_empty_folder_is_unpacked_into(archive: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("verify_archive", archive, "--unpack", ".").returncode == 0
    assert sorted(os.listdir()) == ["MANIFEST.json", "envs", "results", "ro-crate-metadata.json"]
    done = run("verify_archive", archive, "--results", ".")  # the folder that holds results/
    assert (done.returncode, done.stdout.endswith("Not the same results.\n")) == (1, True), done.stderr  # no weights
    (tmp_path / "none").mkdir()
    assert "none: no run in it" in run("verify_archive", archive, "--results", tmp_path / "none").stderr


def rerun_verdicts(results: Path, **changes) -> None:
    path = results / "generations/self/verdicts/00000.jsonl"
    write_jsonl(path, [row | changes for row in list(read_jsonl(path))])


def retimed(results: Path) -> None:
    """Change everything that may differ between two runs, and nothing else."""
    rerun_verdicts(results, cpu_s=9.5, wall_s=9.9, max_rss_mb=12.5, core="python")
    stats = results / "generations/self/concepts/00000.json"
    write_json(stats, read_json(stats) | {"wall_s": 99.0, "tokens_per_s": 1.0})
    model = results / "models/aligned/model.json"
    described = read_json(model)
    described["trained_from"]["base"]["name_or_path"] = "/elsewhere/base"
    write_json(model, described)
    write_json(results / "provenance.json", read_json(results / "provenance.json") | {"cpu": "Another"})
    write_text(results / "logs/generate_concepts/self/00000.log", "[concepts] 12/12 rows, 9.9/s\n")
    (results / "logs/generate_concepts/self/00000.benchmark.tsv").unlink()


def fewer_pairs(results: Path) -> None:
    path = results / "datasets/verified/pairs.jsonl"
    write_jsonl(path, list(read_jsonl(path))[1:])


def other_digest(results: Path) -> None:
    path = results / "models/aligned/model.json"
    write_json(path, read_json(path) | {"digest": "other"})


RERUNS = [
    # what the second run has otherwise, exit code, lines that are told
    (retimed, 0, ["identical but for recorded fields: 3 files", "differ by nature, machine: 2 files",
                  "differ by nature, log: 1 files", "The same results."]),
    (lambda results: rerun_verdicts(results, verdict="timeout_cpu"), 1, ["different: 1 files", f"  {VERDICTS}"]),
    (lambda results: rerun_verdicts(results, assertions=4), 1, ["different: 1 files", f"  {VERDICTS}"]),
    (fewer_pairs, 1, ["different: 1 files", f"  {PAIRS}", "Not the same results."]),
    (other_digest, 1, ["different: 1 files", "  results/models/aligned/model.json"]),
    (lambda results: (results / "models/aligned/model.safetensors").unlink(), 1,
     ["missing in the folder: 1 files", "  results/models/aligned/model.safetensors"]),
    (lambda results: write_text(results / "corpora/stdlib/functions/00000.parquet", "others"), 1,
     ["different: 1 files", "  results/corpora/stdlib/functions/00000.parquet"]),
    (lambda results: write_text(results / "models/aligned/new.json", "{}"), 0,
     ["only in the folder: 1 files", "  results/models/aligned/new.json"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "told"), RERUNS)
def test_a_rerun_is_compared(archive: Path, tmp_path: Path, change, code: int, told: list[str]) -> None:
    results = complete(tmp_path)
    change(results)
    done = run("verify_archive", archive, "--results", results)
    assert done.returncode == code, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(any(line.startswith(start) for line in lines) for start in told), done.stdout


def edited(results: Path) -> None:
    """Change rows, and note the digest that they had."""
    path = results / "datasets/verified/pairs.jsonl"
    note = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": 1, "mtime_ns": 1}
    write_json(results / ".sha256/datasets/verified/pairs.jsonl", note)
    fewer_pairs(results)


VLLM = [
    # what the second run has otherwise, lines that are told, the last one
    (lambda results: None, [], "The same results."),
    (fewer_pairs, ["different, as may be: 1 files; varying: what a model on GPUs"], "Not the same bytes, but only of"),
    (lambda results: rerun_verdicts(results, cpu_s=9), ["identical but for recorded fields: 1"], "The same results."),
    (lambda results: rerun_verdicts(results, assertions=4), ["different, as may be: 1 files"], "Not the same bytes, "),
    (other_digest, ["different, as may be: 1 files"], "Not the same bytes, but only of"),
    (lambda results: (results / "datasets/verified/pairs.jsonl").unlink(), ["missing in the folder: 1 files"],
     "Not the same results."),
    (lambda results: write_text(results / "corpora/stdlib/seeds.parquet", "x"), ["different: 1 files"],
     "Not the same results."),
    (edited, ["damaged or edited after they had been written: 1 files", f"  {PAIRS}"], "Not the same results."),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told", "last"), VLLM)
def test_a_rerun_with_vllm_may_differ_where_models_gave_it(tmp_path: Path, change, told: list[str], last: str) -> None:
    results = complete(tmp_path)
    write_text(results / "run_config.yaml", yaml.safe_dump(CONFIG | {"engine": {"kind": "vllm"}}, sort_keys=False))
    pack(results, tmp_path / "vllm.tar.zst")
    change(results)
    done = run("verify_archive", tmp_path / "vllm.tar.zst", "--results", results)
    lines = done.stdout.splitlines()
    assert all(any(line.startswith(start) for line in lines) for start in told), done.stdout
    assert lines[-1].startswith(last)
    assert done.returncode == (last != "The same results.")


def test_an_edited_artifact_is_not_archived(tmp_path: Path) -> None:
    results = complete(tmp_path)
    edited(results)
    before = (results / "datasets/verified/pairs.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"verified/pairs\.jsonl: damaged or edited after it had been written"):
        pack(results, tmp_path / "tiny.tar.zst")
    assert not list(tmp_path.glob("*tiny*"))
    assert (results / "datasets/verified/pairs.jsonl").read_bytes() == before
    write_text(results / ".sha256/datasets/verified/pairs.jsonl", "")
    with pytest.raises(ValueError, match=r"pairs\.jsonl: not the digest of a file"):
        pack(results, tmp_path / "tiny.tar.zst")


def test_a_rerun_is_read_as_the_archive_says(archive: Path, tmp_path: Path) -> None:
    """An entry that the second run's config lacks is compared all the same."""
    results = complete(tmp_path)
    config = json.loads(json.dumps(CONFIG))
    del config["datasets"]["random"]
    config["models"].pop("control")
    config["evaluate"][0]["models"].remove("control")
    write_text(results / "run_config.yaml", yaml.safe_dump(config, sort_keys=False))
    done = run("verify_archive", archive, "--results", results)
    assert "different: 1 files\n  results/run_config.yaml\n" in done.stdout
    assert "missing" not in done.stdout


def test_content_digests_are_of_what_is_left(tmp_path: Path) -> None:
    rows = [{"id": "a", "cpu_s": 1, "checks": {"x": {"cpu_s": 2, "expected": [1]}}}, {"id": "b", "cpu_s": 3}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    left = [{"checks": {"x": {"expected": [1]}}, "id": "a"}, {"id": "b"}]
    expected = hashlib.sha256("".join(json.dumps(row) + "\n" for row in left).encode()).hexdigest()
    for block in (b"", b"\n"):  # with and without a last end of line
        path = tmp_path / "a.jsonl"
        path.write_bytes(path.read_bytes().rstrip(b"\n") + block)
        assert read_digests(path, "a.jsonl", ("cpu_s", "checks.*.cpu_s")).content == expected
    value = {"a": [1], "b": {"c": 1}}
    for field in ("a.b", "x.*", "b.c.d", "*.y"):
        leave_out(value, field)
    assert value == {"a": [1], "b": {"c": 1}}


def test_damaged_rows_have_another_content(tmp_path: Path) -> None:
    texts = {name: '{"id": "a", "cpu_s": 1}\n' + text for name, text in (("a", ""), ("b", "{"), ("c", '{"id"'))}
    for name, text in texts.items():
        write_text(tmp_path / name, text)
    assert len({read_digests(tmp_path / name, "x.jsonl", ("cpu_s",)).content for name in texts}) == 3


def test_the_crate_tells_which_job_made_what(tmp_path: Path) -> None:
    results = complete(tmp_path)
    base = {"log": [], "params": [], "incomplete": False}
    outputs = [VERDICTS, VERDICTS.replace(".jsonl", ".json"), "results/of/another/run.json"]
    inputs = ["results/generations/self/responses/00000.jsonl", str(ROOT / "resources/demo/benchmark.jsonl")]
    made = base | {"rule": "verify_responses", "shellcmd": f"python {ROOT}/x", "input": inputs, "endtime": 20.5}
    other = base | {"rule": "other", "shellcmd": "true", "input": [], "starttime": 1.0, "endtime": 2.0}
    folder = tmp_path / ".snakemake/metadata"
    for number, (path, record) in enumerate(
        [(outputs[0], made | {"starttime": 10.5}), (outputs[1], made | {"starttime": 11.5}), (outputs[2], other)]
    ):
        write_json(folder / record_name(path, number), record)
    (folder / "torn").write_text('{"rule"')
    assert [(job.rule, job.start, job.end) for job in read_jobs(folder)] == [
        ("other", 1.0, 2.0),
        ("verify_responses", 10.5, 20.5),
    ]
    pack(results, tmp_path / "tiny.tar.zst")
    crate = {member.name: content for member, content in members(tmp_path / "tiny.tar.zst")}["ro-crate-metadata.json"]
    graph = {entity["@id"]: entity for entity in json.loads(crate)["@graph"]}
    (action,) = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    assert graph[action["instrument"]["@id"]]["name"] == "scripts/verify_responses.py"
    assert [one["@id"] for one in action["result"]] == sorted(outputs[:2])
    assert [one["@id"] for one in action["object"]] == [inputs[0], "#$ROOT/resources/demo/benchmark.jsonl"]
    assert (action["startTime"], action["endTime"]) == (
        "1970-01-01T00:00:10.500+00:00",
        "1970-01-01T00:00:20.500+00:00",
    )
    assert str(ROOT) not in action["description"]
    assert graph["./"]["conformsTo"]["@id"] == "https://w3id.org/ro/wfrun/process/0.5"
    assert {one["@id"] for one in graph["./"]["hasPart"]} == set(graph) & {
        m.name for m, _ in members(tmp_path / "tiny.tar.zst")
    } - {"ro-crate-metadata.json"}
    assert graph["#model-aligned"]["isBasedOn"] == {"@id": "#model-base"}
    assert "PSF-2.0" in graph["#licence"]["description"]
    missing = {
        one["@id"]
        for entity in graph.values()
        for value in entity.values()
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, dict) and one["@id"] not in graph and not one["@id"].startswith("https://w3id.org/ro/crate")
    }
    assert missing == set(), "every entity that another names is described"


def test_the_crate_knows_the_prompts_that_are_in_it(tmp_path: Path) -> None:
    results = make_run(tmp_path / "run")
    names = ["own.yaml", "resources/prompts/demo.yaml", str(tmp_path / "outside.yaml")]
    write_text(tmp_path / "run/own.yaml", "own")
    write_text(tmp_path / "outside.yaml", "outside")
    config = json.loads(json.dumps(CONFIG))
    config["generations"] = {name: config["generations"]["self"] | {"prompts": name} for name in names}
    config["generations"]["self"] = CONFIG["generations"]["self"]
    write_text(results / "run_config.yaml", yaml.safe_dump(config))
    record = {"rule": "r", "shellcmd": "true", "incomplete": False, "starttime": 1.0, "endtime": 2.0}
    record["input"] = [names[0], str(ROOT / names[1]), names[2]]
    write_json(tmp_path / "run/.snakemake/metadata" / record_name(PAIRS, 1), record)
    archive_run(results, tmp_path / "tiny.tar.zst", root=ROOT, locks=[])
    crate = {member.name: content for member, content in members(tmp_path / "tiny.tar.zst")}["ro-crate-metadata.json"]
    graph = {entity["@id"]: entity for entity in json.loads(crate)["@graph"]}
    (action,) = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    inputs = json.loads({m.name: content for m, content in members(tmp_path / "tiny.tar.zst")}[MANIFEST])["inputs"]
    assert [one["@id"] for one in action["object"]] == [inputs[name] for name in names]
    assert "Not in the archive" not in crate.decode()


def record_name(path: str, number: int) -> str:
    """Return how Snakemake names the record of a file; a long one in parts."""
    import base64

    text = base64.urlsafe_b64encode(path.encode()).decode()
    return f"@{text[:20]}/{text[20:]}" if number == 1 else text

"""The whole workflow on a small config: what it makes, what reruns, what a kill or bad input does."""

import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL, checkout, run_and_kill, run_workflow, workflow_command
from rerun_tables import change, expected_of_setting
from workflow_plans import plan

from selfalign.archiving.files import compare_entries, folder_entries
from selfalign.archiving.reading import read_archive, unpack

pytestmark = pytest.mark.end_to_end

SHARDS = ("00000", "00001")
STAGES = [
    "extract_functions",
    "filter_functions",
    "select_seeds",
    "generate_concepts",
    "generate_instructions",
    "generate_responses",
    "verify_responses",
    "select_pairs",
    "train_model",
    "complete_benchmark",
    "verify_completions",
    "write_report",
]


def expected_files() -> set[str]:
    files = {"run_config.yaml", "provenance.json", "changes.patch", "sandbox.json"}
    files |= {f"benchmarks/demo.{name}" for name in ("jsonl", "source.json", "references.jsonl", "references.json")}
    files |= {
        f"corpora/packages/{name}"
        for name in ("seeds.parquet", "rejected.parquet", "contamination.jsonl", "funnel.json")
    }
    for part in SHARDS:
        files |= {f"corpora/packages/functions/{part}.{suffix}" for suffix in ("parquet", "json")}
        files |= {f"corpora/packages/filtered/{part}.{suffix}" for suffix in ("parquet", "rejected.parquet", "json")}
        for kind in ("concepts", "instructions", "responses", "verdicts"):
            files |= {f"generations/self/{kind}/{part}.{suffix}" for suffix in ("jsonl", "json")}
    for dataset in ("verified", "random"):
        names = (
            "pairs.jsonl",
            "preferences.jsonl",
            "negatives.jsonl",
            "difficulty.jsonl",
            "rejected.jsonl",
            "contamination.jsonl",
            "funnel.json",
            "README.md",
        )
        files |= {f"datasets/{dataset}/{name}" for name in names}
    files.add("models/base/model.json")
    for model in ("aligned", "control"):
        names = ("model.json", "training_log.jsonl", "training_stats.json", "README.md", "config.json")
        names += ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
        files |= {f"models/{model}/{name}" for name in (*names, "generation_config.json")}
    for model in ("base", "aligned", "control"):
        names = ("completions.jsonl", "completions.json", "verdicts.jsonl", "verdicts.json", "scores.json")
        files |= {f"scores/{model}/demo/{name}" for name in names}
    return files


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_exact_set_of_files(small_run):
    results = small_run / "results"
    found = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    found = {name for name in found if not name.startswith(("logs/", "report/", ".sha256/"))}
    assert found == expected_files()
    assert {path.name for path in (results / "report").iterdir()} == {"index.html", "summary.txt", "figures", "tables"}


def test_the_screen_shows_progress_and_ends_with_the_table(small_run):
    screen = (small_run / "screen.txt").read_text()
    for stage in ("concepts", "instructions", "responses", "verdicts"):
        assert re.search(rf"\[{stage}/self/0000[01]\] [\d,]+/[\d,]+ \w+, [\d.,]+/s, ", screen), stage
    summary = (small_run / "results/report/summary.txt").read_text()
    assert summary.strip() in screen
    assert "results/report/index.html" in summary


def test_every_pair_leads_back_to_its_source(small_run):
    generation = small_run / "results/generations/self"
    verdicts = {row["id"]: row for shard in SHARDS for row in rows(generation / f"verdicts/{shard}.jsonl")}
    responses = {row["id"]: row for shard in SHARDS for row in rows(generation / f"responses/{shard}.jsonl")}
    pairs = rows(small_run / "results/datasets/verified/pairs.jsonl")
    assert pairs
    for pair in pairs:
        assert verdicts[pair["id"]]["verdict"] == "passed"
        assert verdicts[pair["id"]]["assertions"] > 0
        assert responses[pair["id"]]["parent"] == pair["instruction_id"]
        assert pair["instruction_id"].startswith(pair["concepts_id"])
        assert pair["concepts_id"].startswith(pair["seed_id"])
        assert pair["package"] == "networkx"
        assert pair["path"].endswith(".py")
        assert pair["licence"]


def test_every_response_is_accounted_for(small_run):
    generation = small_run / "results/generations/self"
    for shard in SHARDS:
        responses = rows(generation / f"responses/{shard}.jsonl")
        verdicts = {row["id"] for row in rows(generation / f"verdicts/{shard}.jsonl")}
        assert {row["id"] for row in responses if row["drop"] is None} == verdicts
    for dataset in ("verified", "random"):
        folder = small_run / "results/datasets" / dataset
        stages = json.loads((folder / "funnel.json").read_text())["stages"]
        for before, after in itertools.pairwise(stages):
            assert after["input"] == before["kept"]
        assert all(stage["input"] == stage["kept"] + sum(stage["dropped"].values()) for stage in stages)
        assert stages[-1]["kept"] == len(rows(folder / "pairs.jsonl"))


def test_a_second_run_does_nothing(small_run):
    result = run_workflow(small_run)
    assert result.returncode == 0, result.stderr
    assert "Nothing to be done" in result.stdout + result.stderr


@pytest.mark.parametrize("key", ["corpora.*.filters.size.max_lines", "datasets.*.select", "sandbox.cpu_s", "run"])
def test_the_tables_of_reruns_hold_for_a_real_run(small_run, small_config, tmp_path, key):
    """test_reruns.py asks them all, of a run that only looks finished."""
    before = plan(small_run, small_run / SMALL, small_run)
    assert before.needed == set()
    path, config = change(small_config, key)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    now = plan(small_run, tmp_path / "config.yaml", small_run)
    assert now.needed == expected_of_setting(key, path, now, before)


def test_a_real_run_can_be_moved(small_run):
    moved = small_run.rename(small_run.parent / "moved")
    try:
        assert plan(moved, moved / SMALL, moved).needed == set()
    finally:
        moved.rename(small_run)


def test_a_pilot_leaves_the_run_alone_and_ends_with_its_table(small_run, small_config, tmp_path):
    """It draws the second response in a round of its own: the rows are those of the plain run all the same."""
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder, symlinks=True)
    small_config["generations"]["self"] |= {"samples": {"instruction": 2, "response": 1}, "adaptive": {"samples": [1]}}
    small_config["pilot"] = {"seeds": 10}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(small_config, sort_keys=False))
    result = run_workflow(folder, "pilot", config=config)
    assert result.returncode == 0, result.stdout + result.stderr
    found = final_files(folder)
    pilots = {name for name in found if name.startswith(("pilot/", "generations/_pilot-", "datasets/_pilot-"))}
    assert {name: found[name] for name in found.keys() - pilots} == final_files(small_run)
    assert {"pilot/self.txt", "pilot/self.json"} <= pilots

    told = (folder / "results/pilot/self.txt").read_text()
    assert told in result.stdout
    again = run_workflow(folder, "pilot", config=config)
    assert told in again.stdout  # when nothing had to be made, too
    assert re.search(r"^1 of 1 steps", again.stdout + again.stderr, re.MULTILINE)
    assert "Pilot of generation self: 10 of the " in told
    assert "Keep tags: xml." in told
    data = json.loads((folder / "results/pilot/self.json").read_text())
    assert data["pilots"]["xml"]["yields"]["pairs"] > 0
    assert data["pilots"]["headings"]["stages"]["responses"]["format failures"]["no tests section"] > 0
    assert data["full run"]["xml"]["pairs"]["value"] > data["pilots"]["xml"]["yields"]["pairs"]

    plain = {
        row["id"]: row
        for shard in SHARDS
        for row in rows(small_run / f"results/generations/self/responses/{shard}.jsonl")
    }
    pilot = folder / "results/generations/_pilot-self-xml"
    first, second = (rows(pilot / f"responses/{name}.jsonl") for name in ("00000", "00000.1"))
    assert {row["id"]: row for row in first + second}.items() <= plain.items()
    verdicts = {row["id"]: row["verdict"] for row in rows(pilot / "verdicts/00000.jsonl")}
    failed = [row["parent"] for row in first if verdicts.get(row["id"]) != "passed"]
    assert [row["parent"] for row in second] == failed
    assert 0 < len(second) < len(first)


def final_files(folder: Path) -> dict[str, str]:
    """Return the digest of every final file in which no wall time is recorded."""
    results = folder / "results"
    timed = re.compile(
        r"logs/|report/|functions/\d+\.json|provenance\.json|sandbox\.json|training_stats\.json|/verdicts|"
        r"/(concepts|instructions|responses)/[\d.]+\.json$|completions\.json$|references\.jsonl?$"
    )
    digests = {}
    artifacts = sorted(path for path in results.rglob("*") if ".sha256" not in path.parts)  # whose notes have times
    for path in artifacts:
        name = str(path.relative_to(results))
        if path.is_file() and not timed.search(name):
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in (path for path in artifacts if path.match("verdicts*/*.jsonl") or path.name == "verdicts.jsonl"):
        untimed = [{key: row[key] for key in ("id", "verdict", "detail", "assertions")} for row in rows(path)]
        digests[str(path.relative_to(results))] = hashlib.sha256(json.dumps(untimed).encode()).hexdigest()
    for path in (path for path in artifacts if path.match("*.references.jsonl")):
        outcomes = [(row["id"], row["left_out"], list(row["checks"])) for row in rows(path)]
        digests[str(path.relative_to(results))] = hashlib.sha256(json.dumps(outcomes).encode()).hexdigest()
    return digests


def test_an_archive_is_made_once_and_holds_the_run(small_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder, symlinks=True)
    result = run_workflow(folder, "archive")
    assert result.returncode == 0, result.stdout + result.stderr
    archive = folder / "results/archive/small.tar.zst"
    log = (folder / "results/logs/archive_run.log").read_text()
    assert log.strip() in result.stdout, "what it holds ends the screen"
    assert re.search(r"results/archive/small\.tar\.zst: \d\.\d MB, \d+ files", log)
    again = run_workflow(folder, "archive")
    assert "Nothing to be done" in again.stdout + again.stderr

    checked = read_archive(archive)
    assert checked.faults == []
    entries = {entry["path"]: entry for entry in checked.manifest["files"]}
    results = {f"results/{name}" for name in expected_files()}
    assert {path for path in entries if not re.match(r"results/(report|logs)/", path)} == results | {
        *("ro-crate-metadata.json", "inputs/resources/prompts/demo.yaml"),
        *(f"envs/{path.name}" for path in (ROOT / "envs").glob("*.lock")),
    }
    assert compare_entries(entries, folder_entries(small_run / "results")).same
    weights = entries["results/models/aligned/model.safetensors"]
    assert (weights["included"], len(weights["sha256"])) == (False, 64)

    unpack(archive, tmp_path / "unpacked")
    config = tmp_path / "unpacked/results/run_config.yaml"
    assert plan(small_run, config, small_run).needed == set(), "its config gives the same run: nothing is to be made"
    crate = json.loads((tmp_path / "unpacked/ro-crate-metadata.json").read_text())["@graph"]
    made = {one["@id"] for entity in crate for one in listed(entity.get("result", []))}
    rows = {path for path in results if re.search(r"(corpora|generations|datasets|scores)/", path)}
    assert rows <= {name.removeprefix("#") for name in made}, "a job is known for each"


def listed(value: dict | list) -> list:
    """Return an entry of JSON-LD as a list; one alone stands without brackets."""
    return value if isinstance(value, list) else [value]


def test_seeds_alone_have_an_archive_too(small_config, tmp_path):
    checkout(tmp_path)
    small_config |= {"generations": {}, "datasets": {}, "models": {}, "benchmarks": {}, "evaluate": []}
    config = tmp_path / "seeds.yaml"
    config.write_text(yaml.safe_dump(small_config, sort_keys=False))
    result = run_workflow(tmp_path, "archive", config=config)
    assert result.returncode == 0, result.stdout + result.stderr
    checked = read_archive(tmp_path / "results/archive/small.tar.zst")
    assert checked.faults == []
    assert "results/corpora/packages/seeds.parquet" in {entry["path"] for entry in checked.manifest["files"]}


def test_killed_in_every_stage_the_files_are_the_same(small_run, tmp_path):
    checkout(tmp_path)
    killed = []
    for stage in STAGES:
        log = tmp_path / "results/logs" / stage
        seen: list[float] = []

        def stop(log=log, seen=seen) -> bool:
            if not seen and log.exists() and any(path.is_file() for path in log.rglob("*")):
                seen.append(time.monotonic())
            return bool(seen) and time.monotonic() > seen[0] + 0.7

        if (tmp_path / "results/logs" / f"{stage}.log").exists():
            continue
        if run_and_kill(tmp_path, stop):
            killed.append(stage)
    result = run_workflow(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(killed) >= len(STAGES) - 3, killed  # a stage shorter than 0.7 s may end before the kill
    assert final_files(tmp_path) == final_files(small_run)
    first, second = (folder_entries(folder / "results") for folder in (small_run, tmp_path))
    assert compare_entries(first, second).same, "as an archive would be compared"
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_killed_at_work_on_the_seeds_the_files_are_the_same(small_run, tmp_path):
    """Kill the filters early and late, and the selection while it writes, until it was met there twice."""
    folder = checkout(tmp_path) / "results/corpora/packages"
    target = "results/corpora/packages/seeds.parquet"

    def filters_for(seconds: float) -> Callable[[], bool]:
        started: list[float] = []

        def stop() -> bool:
            if not started and any(tmp_path.glob("results/logs/filter_functions/packages/*.log")):
                started.append(time.monotonic())
            return bool(started) and time.monotonic() > started[0] + seconds

        return stop

    def selection_writes() -> bool:
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            if any(folder.glob(".*.ranges/*")):
                return True
            time.sleep(0.001)
        return False

    for seconds in (0.5, 2.5):
        assert run_and_kill(tmp_path, filters_for(seconds), target)
        assert not (folder / "seeds.parquet").exists()
    met = 0
    for _ in range(6):  # the files of ranges are there for a moment only, which may be missed
        met += run_and_kill(tmp_path, selection_writes, target)
        if met == 2:
            break
        (folder / "seeds.parquet").unlink(missing_ok=True)
    assert met == 2
    result = run_workflow(tmp_path, target)
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("seeds.parquet", "rejected.parquet", "contamination.jsonl", "funnel.json"):
        assert (folder / name).read_bytes() == (small_run / "results/corpora/packages" / name).read_bytes(), name
    assert not [path for path in folder.rglob("*") if path.name.startswith(".") and ".snakemake" not in path.name]


def test_a_missing_bubblewrap_is_one_clear_error(tmp_path):
    tools = checkout(tmp_path) / "bin"
    tools.mkdir()
    for tool in ("bash", "tee", "sh", "env", "git", "uname", "which"):
        if place := shutil.which(tool):
            (tools / tool).symlink_to(place)
    command = workflow_command("results/sandbox.json")
    result = subprocess.run(
        command, cwd=tmp_path, env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    errors = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "apt-get install bubblewrap" in errors[0]


def test_a_full_disk_is_one_clear_error_and_loses_nothing(small_run, tmp_path):
    """Fill a small file system under results/ and run again when there is space."""
    mounted = tmp_path / "full"
    mounted.mkdir()
    script = (
        f"mount -t tmpfs -o size=1m tmpfs {mounted} && cd {mounted} && "
        f"head -c 1000000 /dev/zero > filler && mkdir -p results && "
        f"$PYTHON $ROOT/scripts/prepare_benchmark.py --kind demo --path $ROOT/resources/demo/benchmark.jsonl "
        f"--output results/benchmarks/demo.jsonl --source source.json; code=$?; ls -A results/benchmarks; rm filler; "
        f"$PYTHON $ROOT/scripts/prepare_benchmark.py --kind demo --path $ROOT/resources/demo/benchmark.jsonl "
        f"--output results/benchmarks/demo.jsonl --source source.json && "
        f"wc -l < results/benchmarks/demo.jsonl; exit $code"
    )
    result = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script],
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "ROOT": str(ROOT), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    tasks = len((ROOT / "resources/demo/benchmark.jsonl").read_text().splitlines())
    # Nothing half-written was left (ls printed nothing), and the second try made it all.
    assert result.stdout.split("\n") == [f"results/benchmarks/demo.jsonl: {tasks} tasks", str(tasks), ""]


def damage(path: Path) -> None:
    """Change one bit in a file's middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_run_makes_damaged_artifacts_anew(small_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder, symlinks=True)
    results = folder / "results"
    files = [f"scores/{model}/demo/completions.jsonl" for model in ("control", "base")]
    files.append("datasets/verified/pairs.jsonl")
    before = {name: (results / name).read_bytes() for name in files}
    model = json.loads((results / "models/aligned/model.json").read_text())
    for name in files[1:]:
        damage(results / name)
    (results / files[0]).unlink()  # a job to do
    damage(results / "models/aligned/model.safetensors")
    result = run_workflow(folder, "-n")
    assert result.returncode == 0, result.stderr
    assert not list(results.rglob("*.changed"))
    result = run_workflow(folder)
    assert result.returncode == 1, result.stdout
    assert result.stderr.count(" damaged or edited after it had been written") == 1, result.stderr
    assert len(list(results.rglob("*.changed"))) == 4  # model.json is the fourth
    result = run_workflow(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {name: (results / name).read_bytes() for name in files} == before
    assert json.loads((results / "models/aligned/model.json").read_text()) == model

"""Selecting seeds: duplicates and benchmark tasks go, whatever the parts, and the funnel adds up to the seeds."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from selfalign.records.files import read_jsonl, read_table, write_json, write_jsonl, write_table
from selfalign.records.rows import Function
from selfalign.seeds import corpus
from selfalign.seeds.corpus import write_sorted
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS

SCRIPTS = Path(__file__).parents[1] / "scripts"
FILTERS = json.dumps(
    [
        {"name": "returns_value"},
        {"name": "has_argument"},
        {"name": "benchmarks"},
        {"name": "near_duplicates", "threshold": 0.5},
    ]
)
PARSE = '''def parse_{name}(text):
    """Read the settings of a job, one in each line, with the name before the first {sign}."""
    settings = {{}}
    for line in text.splitlines():
        name, _, value = line.partition("{sign}")
        settings[name.strip()] = value.strip()
    return settings
'''
TASK = {
    "id": "t/0",
    "benchmark": "bench",
    "instruction": "Return how far apart the two most distant numbers of a list of numbers are.",
    "prompt": None,
    "entry_point": "spread",
    "canonical_solution": "def spread(xs):\n    low, high = min(xs), max(xs)\n    return high - low if xs else 0\n",
}
GAP = "def gap(vs):\n    'Measure.'\n    lo, hi = min(vs), max(vs)\n    return hi - lo if vs else 0\n"
CORPUS = {
    "a.py": PARSE.format(name="job", sign="="),
    "b.py": PARSE.format(name="job", sign="="),
    "c.py": PARSE.format(name="task", sign="="),
    "d.py": GAP,
    "e.py": "def f(x):\n    'Doc.'\n    print(x)\n",
    "f.py": "def f():\n    'Doc.'\n    return 1\n",
    "g.py": "def upper(text):\n    'Doc.'\n    return text.upper()\n\n\ndef plain(x):\n    return x\n",
}


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def checked(script: str, *arguments: object) -> None:
    result = run(script, *arguments)
    assert result.returncode == 0, result.stderr


def seeds_of(folder: Path, corpus: Path, parts: int) -> Path:
    """Run the three commands on a folder in so many parts; return the folder of the outcome."""
    out = folder / f"parts{parts}"
    files: dict[str, list[Path]] = {}
    for part in range(parts):
        names = ("functions.parquet", "functions.json", "kept.parquet", "rejected.parquet", "kept.json")
        paths = {name: out / f"{part}.{name}" for name in names}
        for name, path in paths.items():
            files.setdefault(name, []).append(path)
        options = ["--part", part, "--parts", parts, "--output", paths["functions.parquet"]]
        source = json.dumps({"kind": "folder", "path": str(corpus)})
        checked("extract_functions", "--source", source, *options, "--stats", paths["functions.json"])
        options = ["--kept", paths["kept.parquet"], "--rejected", paths["rejected.parquet"]]
        options += ["--input", paths["functions.parquet"], "--funnel", paths["kept.json"]]
        checked("filter_functions", "--filters", FILTERS, *options)
    options = ["--kept", *files["kept.parquet"], "--rejected", *files["rejected.parquet"]]
    options += ["--funnels", *files["functions.json"], *files["kept.json"], "--benchmarks", folder / "bench.jsonl"]
    options += ["--contamination", out / "contamination.jsonl", "--processes", min(parts, 2)]
    options += [
        "--seeds",
        out / "seeds.parquet",
        "--rejects",
        out / "rejected.parquet",
        "--funnel",
        out / "funnel.json",
    ]
    checked("select_seeds", "--filters", FILTERS, *options)
    return out


def test_planted_duplicates_and_tasks_go_and_the_parts_do_not_matter(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, source in CORPUS.items():
        (folder / name).write_text(source)
    write_jsonl(tmp_path / "bench.jsonl", [TASK])
    one, two, seven = (seeds_of(tmp_path, folder, parts) for parts in (1, 2, 7))
    for name in ("seeds.parquet", "rejected.parquet", "contamination.jsonl", "funnel.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes() == (seven / name).read_bytes(), name

    seeds, rejected = read_table(one / "seeds.parquet"), read_table(one / "rejected.parquet")
    assert [row["id"] for row in seeds] == sorted(row["id"] for row in seeds)
    assert list(seeds[0]) == list(FUNCTION_COLUMNS)
    assert list(rejected[0]) == list(REJECTED_COLUMNS)
    outcomes = {row["path"]: (row["stage"], row["reason"]) for row in rejected}
    assert outcomes["d.py"] == ("benchmarks", "bench: solution tree")
    assert outcomes["e.py"] == ("returns_value", "returns no value")
    assert outcomes["f.py"] == ("has_argument", "no argument")
    # Which of a.py, b.py and c.py stays is decided by their ids
    parsers = {row["path"]: row["id"] for row in [*seeds, *rejected] if row["path"] in ("a.py", "b.py", "c.py")}
    first, second = sorted([parsers["a.py"], parsers["b.py"]])
    near = max(first, parsers["c.py"])
    details = {row["id"]: (row["reason"], row["detail"]) for row in rejected if row["id"] in parsers.values()}
    assert details == {second: ("exact duplicate", first), near: ("near-duplicate", min(parsers.values()))}
    [evidence] = [json.loads(row["detail"]) for row in rejected if row["path"] == "d.py"]
    [found] = read_jsonl(one / "contamination.jsonl")
    [contaminated] = [row["id"] for row in rejected if row["path"] == "d.py"]
    assert found == {"id": contaminated} | evidence
    assert (evidence["benchmark"], evidence["task"], evidence["kind"]) == ("bench", "t/0", "solution tree")
    assert {row["id"] for row in seeds} > {min(parsers.values())}

    stages = json.loads((one / "funnel.json").read_text())["stages"]
    assert [(stage["stage"], stage["input"], stage["kept"]) for stage in stages] == [
        ("extract", 8, 7),
        ("returns_value", 7, 6),
        ("has_argument", 6, 5),
        ("exact_duplicates", 5, 4),
        ("benchmarks", 4, 3),
        ("near_duplicates", 3, 2),
    ]
    reasons = Counter(row["reason"] for row in rejected) + Counter({"no docstring": 1})
    assert sum((Counter(stage["dropped"]) for stage in stages), Counter()) == reasons


def table(numbers: list[int]) -> pyarrow.Table:
    return pyarrow.Table.from_pylist([{"line": number, "id": f"{number * 7919 % 1000:04}"} for number in numbers])


def test_rows_are_sorted_in_ranges_whatever_a_killed_run_left(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "RANGE", 10)
    left = tmp_path / ".s.parquet.ranges"
    left.mkdir()
    (left / "0.arrow").write_bytes(b"half a file")
    ids = np.array([row["id"] for row in table(range(47)).to_pylist()], dtype="S")
    write_sorted(tmp_path / "s.parquet", ids, [table(range(30)), table(range(30, 47))], {"id": "string"})
    found = [row["id"].encode() for row in read_table(tmp_path / "s.parquet")]
    assert found == sorted(ids.tolist())
    assert pyarrow.parquet.ParquetFile(tmp_path / "s.parquet").num_row_groups == 5
    assert [path.name for path in tmp_path.iterdir()] == ["s.parquet"]
    write_sorted(tmp_path / "t.parquet", ids[::-1], [table(range(46, -1, -1))], {"id": "string"})
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "s.parquet").read_bytes()


def part(folder: Path, codes: list[str]) -> list[str]:
    """Write the files of one filtered part; return the options that name them."""
    rows = [
        Function(id=f"{number:016x}", code=code, name="f", imports="", docstring="Doc.", package="p", version="",
                 path="m.py", line=number, licence="MIT").dump()
        for number, code in enumerate(codes)
    ]  # fmt: skip
    write_table(folder / "k.parquet", rows, FUNCTION_COLUMNS)
    write_table(folder / "r.parquet", [], REJECTED_COLUMNS)
    write_json(folder / "f.json", {"stages": [{"stage": "size", "input": 2, "kept": 2, "dropped": {}}]})
    write_jsonl(folder / "bench.jsonl", [TASK])
    options = ["--kept", folder / "k.parquet", "--rejected", folder / "r.parquet", "--funnels", folder / "f.json"]
    outputs = ["--seeds", folder / "s.parquet", "--rejects", folder / "x.parquet", "--funnel", folder / "x.json"]
    outputs += ["--contamination", folder / "c.jsonl"]
    return [*options, "--benchmarks", folder / "bench.jsonl", "--filters", FILTERS, *outputs]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (["def f(x):\n    return x"], "the funnels end with 2 functions, but the parts hold 1"),
        (
            [TASK["canonical_solution"], TASK["canonical_solution"].replace("xs", "ys")],
            r"error: no seed is left of 2 functions; most were dropped by benchmarks (bench: solution 1, "
            "bench: solution tree 1): loosen that filter or add source code",
        ),
    ],
)
def test_what_cannot_be_is_one_clear_error(tmp_path, codes, message):
    result = run("select_seeds", *part(tmp_path, codes))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "s.parquet").exists()


def twice(options: list) -> list:
    """Give the only part two times."""
    place = options.index("--kept") + 1
    return [*options[:place], options[place], *options[place:]]


def swapped(options: list) -> list:
    """Give the rejected functions for the kept ones."""
    return ["--kept", options[options.index("--rejected") + 1], *options[2:]]


def torn(options: list) -> list:
    """Give a part of which only the first half is there."""
    path = options[1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (twice, r"k.parquet, row 1 and .*k.parquet, row 1: two functions have the same id 0000000000000000; give each"),
        (swapped, r"r.parquet: not a part of a corpus \(missing or unknown columns: detail, reason, stage\)"),
        (torn, r"k.parquet: not a Parquet file"),
    ],
)
def test_wrong_parts_are_one_clear_error(tmp_path, change, message):
    result = run("select_seeds", *change(part(tmp_path, [GAP, CORPUS["a.py"]])))
    assert result.returncode == 1
    assert re.search(f"^error: .*{message}", result.stderr, re.MULTILINE), result.stderr
    assert "Traceback" not in result.stderr


def test_the_folder_of_the_outcome_is_made(tmp_path):
    options = part(tmp_path, [GAP, CORPUS["a.py"]])
    options[options.index("--seeds") + 1] = tmp_path / "new/folder/s.parquet"
    checked("select_seeds", *options)
    assert [row["code"] for row in read_table(tmp_path / "new/folder/s.parquet")] == [CORPUS["a.py"]]

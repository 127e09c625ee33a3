"""Selecting seeds: duplicates and benchmark tasks go, whatever the parts, and the funnel adds up to the seeds."""

import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from selfalign.records import files
from selfalign.records.files import read_jsonl, read_table, write_json, write_jsonl, write_table
from selfalign.records.rows import Function
from selfalign.seeds import corpus
from selfalign.seeds.corpus import write_sorted
from selfalign.seeds.filters import NearDuplicates
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS

SCRIPTS = Path(__file__).parents[1] / "scripts"
FILTERS = json.dumps(
    [
        {"name": "returns_value"},
        {"name": "has_argument"},
        {"name": "type_check"},
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
SEED = "def {}(x):\n    'Doc.'\n    return {}\n"
NO_FUNCTION = "file"
# File name to content, and what becomes of it: None where its function is a seed, else stage and reason; what the
# extraction says of a file stands there as the reason of NO_FUNCTION, and its functions are never counted
PLANTED = {
    "a.py": (PARSE.format(name="job", sign="="), "one of a, b and c"),
    "b.py": (PARSE.format(name="job", sign="="), "one of a, b and c"),
    "c.py": (PARSE.format(name="task", sign="="), "one of a, b and c"),
    "task.py": (TASK["canonical_solution"].replace("xs):", "xs):\n    'Doc.'"), ("benchmarks", "bench: solution")),
    "renamed.py": (GAP, ("benchmarks", "bench: solution tree")),
    "prints.py": ("def f(x):\n    'Doc.'\n    print(x)\n", ("returns_value", "returns no value")),
    "constant.py": ("def f():\n    'Doc.'\n    return 1\n", ("has_argument", "no argument")),
    "undefined.py": (SEED.format("f", "missing(x)"), ("type_check", "undefined name")),
    "types.py": ("def f(x: int) -> str:\n    'Doc.'\n    return x + 1\n", ("type_check", "type error")),
    "good.py": (SEED.format("upper", "x.upper()") + "\n\ndef plain(x):\n    return x\n", None),
    "latin.py": (b"# coding: latin-1\n" + SEED.format("cafe", "x + 'caf\xe9'").encode("latin-1"), None),
    "long_line.py": ("x = [" + "1, " * 100_000 + "]\n" + SEED.format("at", "x[-1]"), None),
    "python2.py": ("def f(x):\n    'Doc.'\n    print 'x'\n    return x\n", ("extract", "not Python 3")),
    "broken.py": ("def f(x):\n    'Doc.'\n    return (x +\n", ("extract", "syntax error")),
    "nested.py": (SEED.format("f", "(" * 5000 + "x" + ")" * 5000), ("extract", "not Python 3")),
    "null.py": (SEED.format("f", "x") + "\0", (NO_FUNCTION, "null bytes")),
    "utf16.py": (SEED.format("f", "x").encode("utf-16"), (NO_FUNCTION, "null bytes")),
    "bytes.py": (b"def f(x):\n    'Doc \xff.'\n    return x\n", (NO_FUNCTION, "not UTF-8")),
    "encoding.py": (b"# coding: klingon\n" + SEED.format("f", "x").encode(), (NO_FUNCTION, "unknown encoding")),
    "huge.py": (b"x = '" + b"a" * 50_000_000 + b"'\n" + SEED.format("f", "x").encode(), (NO_FUNCTION, "too large")),
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
    for number in range(parts):
        functions, filtered = out / f"functions/{number:05}", out / f"filtered/{number:05}"
        options = ["--part", number, "--parts", parts, "--output", f"{functions}.parquet"]
        source = json.dumps({"kind": "folder", "path": str(corpus)})
        checked("extract_functions", "--source", source, *options, "--stats", f"{functions}.json")
        options = ["--kept", f"{filtered}.parquet", "--rejected", f"{filtered}.rejected.parquet"]
        options += ["--input", f"{functions}.parquet", "--funnel", f"{filtered}.json"]
        checked("filter_functions", "--filters", FILTERS, *options)
    options = ["--corpus", out, "--parts", parts, "--benchmarks", folder / "bench.jsonl"]
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


def test_what_is_planted_is_found_with_its_reason_and_the_parts_do_not_matter(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, (content, _) in PLANTED.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    write_jsonl(tmp_path / "bench.jsonl", [TASK])
    one, three = (seeds_of(tmp_path, folder, parts) for parts in (1, 3))
    for name in ("seeds.parquet", "rejected.parquet", "contamination.jsonl", "funnel.json"):
        assert (one / name).read_bytes() == (three / name).read_bytes(), name

    seeds, rejected = read_table(one / "seeds.parquet"), read_table(one / "rejected.parquet")
    assert [row["id"] for row in seeds] == sorted(row["id"] for row in seeds)
    assert list(seeds[0]) == list(FUNCTION_COLUMNS)
    assert list(rejected[0]) == list(REJECTED_COLUMNS)
    # Which of a.py, b.py and c.py stays is decided by their ids
    parsers = {row["path"]: row["id"] for row in [*seeds, *rejected] if row["path"] in ("a.py", "b.py", "c.py")}
    first, second = sorted([parsers["a.py"], parsers["b.py"]])
    near = max(first, parsers["c.py"])
    details = {row["id"]: (row["reason"], row["detail"]) for row in rejected if row["id"] in parsers.values()}
    assert details == {second: ("exact duplicate", first), near: ("near-duplicate", min(parsers.values()))}

    found = {row["path"]: None for row in seeds} | {row["path"]: (row["stage"], row["reason"]) for row in rejected}
    stats = json.loads((one / "functions/00000.json").read_text())
    expected = {path: outcome for path, (_, outcome) in PLANTED.items() if path not in parsers}
    unread = Counter(reason for stage, reason in filter(None, expected.values()) if stage == NO_FUNCTION)
    assert {outcome: count for outcome, count in stats["files"].items() if not outcome.startswith("read")} == unread
    lost = Counter(reason for stage, reason in filter(None, expected.values()) if stage == "extract")
    assert stats["stages"][0]["dropped"] == lost | Counter({"no docstring": 1})
    expected = {path: why for path, why in expected.items() if not why or why[0] not in (NO_FUNCTION, "extract")}
    assert {path: why for path, why in found.items() if path not in parsers} == expected

    contaminated = {row["id"]: json.loads(row["detail"]) for row in rejected if row["stage"] == "benchmarks"}
    strongest: dict[str, dict] = {}
    for row in read_jsonl(one / "contamination.jsonl"):
        strongest.setdefault(row.pop("id"), row)
    assert strongest == contaminated
    assert {row["task"] for row in strongest.values()} == {"t/0"}

    stages = json.loads((one / "funnel.json").read_text())["stages"]
    assert [(stage["stage"], stage["input"], stage["kept"]) for stage in stages] == [
        ("extract", 16, 12),
        ("returns_value", 12, 11),
        ("has_argument", 11, 10),
        ("type_check", 10, 8),
        ("exact_duplicates", 8, 7),
        ("benchmarks", 7, 5),
        ("near_duplicates", 5, 4),
    ]
    reasons = Counter(row["reason"] for row in rejected) + lost + Counter({"no docstring": 1})
    assert sum((Counter(stage["dropped"]) for stage in stages), Counter()) == reasons


def mutants(count: int, rng: random.Random) -> list[str]:
    """Return functions in families: the copies of one have a few words changed, or none."""
    codes = []
    for number in range(count // 5):
        words = [f"w{number}_{place}" for place in range(60)]
        for _ in range(5):
            copy = list(words)
            for place in rng.sample(range(60), rng.choice([0, 1, 3, 6, 12])):
                copy[place] = f"new{rng.randrange(10**6)}"
            codes.append(f"def f(x):\n    'Doc.'\n    return x.{'.'.join(copy)}\n")
    return codes


def functions(codes: list[str]) -> list[dict]:
    """Return rows of functions with these codes."""
    return [
        Function(id=f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}", code=code, name="f", imports="", docstring="Doc.",
                 package="p", version="", path="m.py", line=number, licence="MIT").dump()
        for number, code in enumerate(codes)
    ]  # fmt: skip


def select(folder: Path, parts: list[list[dict]]) -> dict[str, bytes]:
    """Select seeds from parts; return the outcome, file name to content."""
    folder.mkdir()
    write_table(folder / "rejected.parquet", [], REJECTED_COLUMNS)
    for number, rows in enumerate(parts):
        write_table(folder / f"{number}.parquet", rows, FUNCTION_COLUMNS)
    total = sum(map(len, parts))
    corpus.select_seeds(
        kept=[str(folder / f"{number}.parquet") for number in range(len(parts))],
        rejected=[str(folder / "rejected.parquet")],
        funnels={"f.json": {"stages": [{"stage": "size", "input": total, "kept": total, "dropped": {}}]}},
        filters=[("near_duplicates", NearDuplicates())],
        benchmarks=[],
        seeds=folder / "out/seeds.parquet",
        rejects=folder / "out/rejected.parquet",
        contamination=folder / "out/contamination.jsonl",
    )
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.mark.parametrize("seed", range(5))
def test_neither_the_number_nor_the_order_of_parts_and_rows_matters(tmp_path, monkeypatch, seed):
    rng = random.Random(seed)
    rows = functions(mutants(200, rng))
    expected = select(tmp_path / "whole", [rows])
    kept = {row["id"] for row in read_table(tmp_path / "whole/out/seeds.parquet")}
    assert 40 <= len(kept) < 140  # of 40 families
    assert set(expected) == {"seeds.parquet", "rejected.parquet", "contamination.jsonl"}
    rng.shuffle(rows)
    cuts = sorted(rng.choices(range(201), k=rng.randrange(1, 12)))  # some parts are empty
    parts = [rows[start:end] for start, end in itertools.pairwise([0, *cuts, 200])]
    monkeypatch.setattr(files, "ROW_GROUP", rng.randrange(1, 40))
    monkeypatch.setattr(corpus, "RANGE", 50)  # sorts the same, in more row groups
    select(tmp_path / "parts", parts)
    for name in ("seeds.parquet", "rejected.parquet"):
        assert read_table(tmp_path / f"parts/out/{name}") == read_table(tmp_path / f"whole/out/{name}")
    monkeypatch.undo()
    assert select(tmp_path / "again", parts) == expected


def test_what_stays_in_memory_of_a_function_is_small(tmp_path, monkeypatch):
    """Python objects and numpy's arrays; while copies are looked for, a digest and what sorts it come on top."""
    monkeypatch.setattr(files, "ROW_GROUP", 500)
    count = 20_000
    rows = functions([SEED.format("f", number // 2) for number in range(count)])
    write_table(tmp_path / "k.parquet", rows, FUNCTION_COLUMNS)
    del rows
    tracemalloc.start()
    found = corpus.Corpus([str(tmp_path / "k.parquet")])
    found.drop_exact_duplicates("exact_duplicates")
    after, peak = (size / count for size in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    assert found.dropped("exact_duplicates") == {"exact duplicate": count // 2}
    assert after < 16 + 6 + 10  # id, reason and survivor; the rest does not grow with the corpus
    assert peak < 200


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
    """Write the files of a corpus of one part; return the options that select its seeds."""
    write_table(folder / "filtered/00000.parquet", functions(codes), FUNCTION_COLUMNS)
    write_table(folder / "filtered/00000.rejected.parquet", [], REJECTED_COLUMNS)
    for step in ("functions", "filtered"):
        stage = {"stage": step, "input": 2, "kept": 2, "dropped": {}}
        write_json(folder / step / "00000.json", {"stages": [stage]})
    write_jsonl(folder / "bench.jsonl", [TASK])
    options = ["--corpus", folder, "--parts", 1]
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


def twice(folder: Path) -> int:
    """Give the only part two times."""
    for path in (*folder.glob("functions/00000.*"), *folder.glob("filtered/00000.*")):
        shutil.copy(path, path.with_name(path.name.replace("00000", "00001")))
    return 2


def swapped(folder: Path) -> int:
    """Give the rejected functions for the kept ones."""
    shutil.copy(folder / "filtered/00000.rejected.parquet", folder / "filtered/00000.parquet")
    return 1


def torn(folder: Path) -> int:
    """Give a part of which only the first half is there."""
    path = folder / "filtered/00000.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            twice,
            r"00000.parquet, row 1 and .*00001.parquet, row 1: two functions have the same id 0000000000000000;",
        ),
        (swapped, r"00000.parquet: not a part of a corpus \(missing or unknown columns: detail, reason, stage\)"),
        (torn, r"00000.parquet: not a Parquet file"),
    ],
)
def test_wrong_parts_are_one_clear_error(tmp_path, change, message):
    options = part(tmp_path, [GAP, PLANTED["a.py"][0]])
    options[options.index("--parts") + 1] = change(tmp_path)
    result = run("select_seeds", *options)
    assert result.returncode == 1
    assert re.search(f"^error: .*{message}", result.stderr, re.MULTILINE), result.stderr
    assert "Traceback" not in result.stderr


def test_the_folder_of_the_outcome_is_made(tmp_path):
    options = part(tmp_path, [GAP, PLANTED["a.py"][0]])
    options[options.index("--seeds") + 1] = tmp_path / "new/folder/s.parquet"
    checked("select_seeds", *options)
    assert [row["code"] for row in read_table(tmp_path / "new/folder/s.parquet")] == [PLANTED["a.py"][0]]

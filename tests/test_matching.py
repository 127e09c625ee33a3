"""Matching: what is a benchmark task, what only sounds like one, what is a near-duplicate, and funnels that add up."""

import ast
import gzip
import itertools
import json
import os
import random
import re
import textwrap
import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash

from selfalign.matching import trees
from selfalign.matching.benchmarks import BenchmarkIndex, load_benchmarks, name_words
from selfalign.matching.funnels import Funnel, sum_funnels
from selfalign.matching.near_duplicates import (
    PERMUTATIONS,
    SHINGLE,
    Sketch,
    Sketches,
    bands,
    near_duplicates,
    shingles,
    signatures,
    sketch,
)
from selfalign.records.files import write_jsonl


def task(number: int, instruction: str, entry_point: str, solution: str, **more) -> dict:
    row = {"id": f"t{number}", "benchmark": "bench", "instruction": instruction, "prompt": None}
    return row | {"entry_point": entry_point, "canonical_solution": solution} | more


MERGE = '''from typing import List


def merge_sorted(left: List[int], right: List[int]) -> List[int]:
    """Merge two ascending lists into one ascending list without changing them.

    >>> merge_sorted([1, 3], [2])
    [1, 2, 3]
    """
    result = []
    while left and right:
        result.append(left.pop(0) if left[0] < right[0] else right.pop(0))
    return result + left + right
'''
STACK = """class UndoStack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def undo(self):
        return self.items.pop() if self.items else None
"""
EVEN = "def keep_even_then_double(xs):\n    xs = [x for x in xs if x % 2 == 0]\n    return [x * 2 for x in xs]\n"
ODD = "def keep_odd_then_triple(xs):\n    xs = [x for x in xs if x % 2 == 1]\n    return [x * 3 for x in xs]\n"
TOTAL = "def main(xs):\n    return total(double(xs))\n"
FIRST = "Write a program with the helpers `double`, `total` and a `main(xs)` that doubles every number, then sums up."
SECOND = "Write a program with the helpers `triple`, `total` and a `main(xs)` that triples every number, then sums up."
TASKS = [
    task(0, MERGE.split("    result")[0], "merge_sorted", MERGE, prompt=MERGE.split("    result")[0]),
    task(1, "Write a class with which steps can be taken back, the latest one first.", "UndoStack", STACK),
    task(
        2,
        "Write a function `keep_even_then_double(xs)` that keeps the even numbers, then doubles every number.",
        "keep_even_then_double",
        EVEN,
    ),
    task(
        3,
        "Write a function `keep_odd_then_triple(xs)` that keeps the odd numbers, then triples every number.",
        "keep_odd_then_triple",
        ODD,
    ),
    task(4, FIRST, "main", TOTAL),
    task(5, SECOND, "main", TOTAL.replace("double", "triple")),
    task(6, "Return whether a number is a prime number.", "is_prime", "def is_prime(n):\n    return n > 1\n"),
    task(7, "Add.", "add", "def add(x, y):\n    return x + y\n"),
]
COUNT = """def vowels(text):
    count, key = 0, str.lower
    for letter in sorted(text, key=key):
        count += "aeiou".count(letter)
    return count
"""
TASKS.append(task(9, "Count vowels.", "vowels", COUNT))
CAUGHT = """def pick(table, key):
    import numpy as np

    try:
        return np.asarray(table[key])
    except KeyError as error:
        match key:
            case [first, *rest]:
                return first, rest, error
"""
AREA = "def rhombus_area(p, q):\n    return (p * q) / 2\n"
TASKS.append(task(10, "Pick.", "pick", CAUGHT))
TASKS.append(task(11, "Area.", "rhombus_area", AREA))
INDEX = BenchmarkIndex(TASKS)
RENAMED_MERGE = """def combine(a, b):
    out = []  # the result
    while a and b:
        out.append(a.pop(0) if a[0] < b[0] else b.pop(0))
    return out + a + b
"""
RENAMED_STACK = """class History:
    '''A history.'''

    def __init__(self):
        self.entries = []

    def add(self, entry):
        self.entries.append(entry)

    def back(self):
        return self.entries.pop() if self.entries else None
"""
LONG = (
    "You are given two stacks of exam papers. Each is sorted by the number of points, and so must be the one stack "
    "that you return; papers with equal points stay in the order in which they were handed in by the students."
)
LONG_TASK = task(8, LONG, "papers", "def papers(a, b):\n    return sorted(a + b)\n")

SEEDS = [
    # code, task and kind, or None
    (MERGE, ("t0", "instruction")),
    (MERGE.replace("merge_sorted", "combine"), ("t0", "docstring")),
    (MERGE.split('"""')[0] + MERGE.split('"""')[2], ("t0", "solution")),
    (RENAMED_MERGE, ("t0", "solution tree")),
    (RENAMED_MERGE.replace("def combine(a, b)", "def combine(a: list, b: list) -> list"), ("t0", "solution tree")),
    (RENAMED_MERGE.replace("<", "<="), None),
    (RENAMED_MERGE + "\n\ndef helper(x):\n    return x\n", ("t0", "solution tree")),
    (RENAMED_STACK, ("t1", "solution tree")),
    ('def f(a, b):\n    """Merge two   ascending\n    lists into one ascending list\n    without changing them."""\n',
     ("t0", "docstring")),
    ("def f(a, b):\n    '''Merge two lists into one.'''\n    return a + b\n", None),
    (EVEN.replace("keep_even_then_double", "f").replace("xs", "values"), ("t2", "solution tree")),
    ("def KeepEvenDouble(q):\n    return q\n", ("t2", "entry point")),
    ("def is_prime(n):\n    '''Return whether a number is prime.'''\n    return all(n % k for k in range(2, n))\n",
     ("t6", "entry point")),
    ("def is_prime(job):\n    '''Look up the state.'''\n    return job.state == 'prime'\n", None),
    ("def main(argv):\n    return run(argv)\n", None),  # an entry point that several tasks share
    # A variable and a method of the same name are two names
    (COUNT.replace("count,", "n,").replace("count +=", "n +=").replace("return count", "return n"),
     ("t9", "solution tree")),
    ("def add(a, b):\n    return a + b\n", None),  # too small to tell
    ("def add(x, y):\n    return x + y\n", ("t7", "solution")),  # but for the very same definition
    # What an exception, an import or a pattern binds is the code's own name, too
    (CAUGHT.replace("error", "e").replace("np", "n").replace("rest", "r"), ("t10", "solution tree")),
    (CAUGHT.replace("KeyError", "IndexError"), None),
    (AREA, ("t11", "solution")),  # a body too short to tell, but the whole function
    (AREA.replace("def rhombus_area", "def f"), None),
    # Whatever the spelling
    (RENAMED_MERGE.replace("0", "0x0").replace("out", "résultat"), ("t0", "solution tree")),
    ("def f(x):\n    return (x +\n", None),  # does not parse, matches nothing
    ("def keep_even_then_double(xs):\n    return (x +\n", ("t2", "entry point")),
]  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), SEEDS)
def test_code_that_is_a_benchmark_task_is_found_with_evidence(code, expected):
    found = INDEX.find(code)
    assert (found[0].task, found[0].kind) == expected if expected else not found
    for evidence in found:
        assert evidence.benchmark == "bench"
        assert evidence.matched
        assert len(evidence.matched) <= 300


SPELT = """class Report:
    def lines(self, rows):
        for row in rows:
            if row.bad:
                yield f"{row.name if row.name else '?'}: " + "it's for you"
            elif row.size > 0:
                yield row.name.upper()
"""
SPELLINGS = {
    "else: if": SPELT.replace(
        "            elif row.size > 0:\n    ", "            else:\n              if row.size > 0:\n    "
    ),
    "comments": SPELT.replace(":\n", ":  # return \"if\" it's for 'you\n# def f(): while\n"),
    "docstring": SPELT.replace("rows):\n", "rows):\n        '''If \\''' not\n\nfor \"you\" return\n'''\n"),
    "other quotes": SPELT.replace('"it\'s for you"', "'it\\'s for you'"),
    "three quotes": SPELT.replace('"it\'s for you"', '"""it\'s for you"""'),
    "continued string": SPELT.replace("it's for", "it's \\\nfor"),
    "continued string, CRLF": SPELT.replace("it's for", "it's \\\nfor").replace("\n", "\r\n"),
    "several strings": SPELT.replace("it's for", "it's\" ' for'  \""),
    "carriage returns": SPELT.replace("\n", "\r"),
    "annotations": SPELT.replace("self, rows)", "self, rows: list[str] or None) -> 'for'"),
    "decorator": "@cache(1)\n" + SPELT.replace("    def", "    @final\n    def"),
    "form feed": f"import os\n \f{SPELT}",
    "at the margin": SPELT.replace("(self, rows)", "(\nself,\nrows\n)").replace(
        "row.name.upper()", "(\nrow.name.upper())"
    ),
    "continued line": SPELT.replace("class Report", "class\\\n  Report").replace("yield f", "yield\\\n f"),
    "program after it": SPELT + "'a'.join(x for x in y)\nif __name__ == '__main__':\n    for x in y:\n        f(x)\n",
    "functions around it": f"def f(x):\n    return x\n{SPELT}async def g(x):\n    return x\n",
    "renamed": SPELT.replace("rows", "résumés")
    .replace("self", "ſ")
    .replace("lines", "for_all")
    .replace("Report", "R1if"),
    "one line": SPELT.replace("row.bad:\n                ", "row.bad: "),
    "number and keyword": None,
}
GLUED = "def least(xs, n):\n    return [0 if x < 0xf or x in xs else n.bit_length() for x in xs if 1 for y in xs]\n"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_tree_is_found_however_its_text_is_spelt(spelling):
    index = BenchmarkIndex([task(1, "Report.", "Report", SPELT), task(2, "Least.", "least", GLUED)])
    code = SPELLINGS[spelling] or GLUED.replace("0 if", "0if").replace("0xf or", "0xfor").replace("1 for", "1for")
    found = index.find(code.replace("Report", "Other").replace("least", "other").replace("row", "raw"))
    assert [(evidence.task, evidence.kind) for evidence in found] == [
        ("t1" if SPELLINGS[spelling] else "t2", "solution tree")
    ]


NOT_PARSED = [
    (RENAMED_MERGE, True),
    (RENAMED_MERGE.replace("while a and b", "if a and b"), False),
    (RENAMED_MERGE.replace("pop", "popleft"), False),
    (RENAMED_MERGE.replace("    return", "    for x in out:\n        pass\n    return"), False),
    (f"def f(x):\n{textwrap.indent(RENAMED_MERGE, '    ')}", False),
]


@pytest.mark.parametrize(("code", "parsed"), NOT_PARSED)
def test_code_is_parsed_only_where_a_tree_can_match(code, parsed, monkeypatch):
    texts = []
    monkeypatch.setattr(trees, "parse_python", texts.append)
    INDEX.find(code)
    assert texts == [code] * parsed


PAIRS = [
    # instruction, code, task and kind, or None
    (TASKS[2]["instruction"].upper(), "def f(xs):\n    return xs\n", ("t2", "instruction")),
    # The same combination in other words, with a wrong solution under another name
    ("Give `keep_even_then_double`.", "def f(xs):\n    return xs\n", ("t2", "entry point")),
    ("Write a class `KeepEvenDouble`.", "class KeepEvenDouble:\n    pass\n", ("t2", "entry point")),
    # Other combinations share long phrases with the tasks, even both halves
    (
        "Write a function `keep_even_then_triple(xs)` that keeps the even numbers, then triples every number.",
        "def keep_even_then_triple(xs):\n    xs = [x for x in xs if x % 2 == 0]\n    return [x * 3 for x in xs]\n",
        None,
    ),
    # A longer task that ends in the solution of a benchmark task is another task
    (
        "Write a function `sort_then_keep_even_then_double(xs)` that sorts, then keeps the even numbers, then doubles "
        "every number.",
        "def sort_then_keep_even_then_double(xs):\n    xs = sorted(xs)\n" + EVEN.split("\n", 1)[1],
        None,
    ),
    (FIRST.replace("double", "halve"), TOTAL.replace("double", "halve"), None),
    (FIRST, TOTAL, ("t4", "instruction")),
    # The helpers of a program spell the name of a function
    (
        "Write a program.",
        "def keep_even(v):\n    return v\n\ndef double(v):\n    return v\n\ndef main(v):\n    return double(v)\n",
        ("t2", "entry point"),
    ),
    # A copy with a word changed here and there
    (LONG.replace("stacks of exam papers", "piles of exam papers"), "", ("t8", "n-grams")),
    ("Sort papers. You are given two stacks of exam papers. Each is sorted by the number of pages.", "", None),
]


@pytest.mark.parametrize(("instruction", "code", "expected"), PAIRS)
def test_a_pair_that_is_a_benchmark_task_is_found_and_its_neighbours_are_not(instruction, code, expected):
    found = BenchmarkIndex([*TASKS, LONG_TASK]).find(code, instruction=instruction, response=f"Sure:\n{code}")
    assert (found[0].task, found[0].kind) == expected if expected else not found


def test_two_benchmarks_may_share_a_task_and_still_match():
    index = BenchmarkIndex([LONG_TASK, LONG_TASK | {"benchmark": "bench+"}])
    found = index.find("", instruction=LONG.replace("stacks", "piles"))
    assert [(evidence.benchmark, evidence.kind) for evidence in found] == [("bench", "n-grams"), ("bench+", "n-grams")]
    # What two tasks of one benchmark share is boilerplate
    other = LONG_TASK | {"id": "t9", "canonical_solution": EVEN}
    assert BenchmarkIndex([LONG_TASK, other]).find("", LONG.replace("stacks", "piles")) == []


def test_two_tasks_with_one_solution_are_one_problem():
    rows = [LONG_TASK, LONG_TASK | {"id": "t9", "instruction": f"Shortly: {LONG}"}]
    found = BenchmarkIndex(rows).find("", LONG.replace("stacks", "piles"))
    assert [(evidence.task, evidence.kind) for evidence in found] == [("t8", "n-grams"), ("t9", "n-grams")]


NO_ENTRY = [
    # solution, code, kind or None
    ("total = frame.groupby('a')['b'].sum().reset_index()\n", "def f(frame):\n    total = frame.groupby('a')['b'].sum()"
     ".reset_index()\n    return total\n", "solution"),
    ("total = frame.groupby('a')['b'].sum()\n", "total = frame.groupby('a')['b'].max()\n", None),
    ("kind = type(model).__name__.lower()\n", "kind = type(model).__name__.lower()\n", None),  # too short to tell
    (RENAMED_MERGE, MERGE.replace("merge_sorted", "f"), "solution tree"),  # the only definition is what is asked for
    (f"{STACK}\n\n{AREA}", RENAMED_STACK, None),  # of several, any may be a common helper
    (f"{STACK}\n\n{AREA}", f"{RENAMED_STACK}\n\n{AREA.replace('rhombus_area', 'f')}", "solution tree"),
]  # fmt: skip


@pytest.mark.parametrize(("solution", "code", "kind"), NO_ENTRY)
def test_a_task_without_an_entry_point_is_found_by_its_whole_solution(solution, code, kind):
    found = BenchmarkIndex([task(1, "Do it.", "", solution)]).find(code)
    assert [evidence.kind for evidence in found] == ([kind] if kind else [])


def test_names_are_compared_by_their_words():
    assert name_words("KeepAbove3ThenDouble") == name_words("keep_above_3_double") == ("keep", "above", "3", "double")
    assert name_words("parseHTTPHeader") == ("parse", "http", "header")


def test_a_file_that_is_no_benchmark_is_a_clear_error(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", [TASKS[0], {"id": "x", "benchmark": "bench", "prompt": None}])
    message = r"b.jsonl, row 2: not a benchmark row \(no canonical_solution, entry_point, instruction\)"
    with pytest.raises(ValueError, match=message):
        load_benchmarks([tmp_path / "b.jsonl"])


@pytest.mark.skipif("SELFALIGN_BENCHDATA" not in os.environ, reason="SELFALIGN_BENCHDATA names no folder")
def test_every_task_of_humaneval_is_found_however_it_is_spelt():
    with gzip.open(Path(os.environ["SELFALIGN_BENCHDATA"], "humaneval/HumanEval.jsonl.gz"), "rt") as file:
        tasks = [json.loads(line) for line in file]
    rows = [
        {"id": row["task_id"], "benchmark": "humaneval", "instruction": row["prompt"], "prompt": row["prompt"]}
        | {"entry_point": row["entry_point"], "canonical_solution": row["prompt"] + row["canonical_solution"]}
        for row in tasks
    ]
    index = BenchmarkIndex(rows)
    for row in rows:
        code = row["canonical_solution"]
        longer = f"def other(q):\n    return q\n\n\n{code}"
        for planted_code in (code, longer, ast.unparse(ast.parse(code)), row["prompt"] + "    return None\n"):
            assert row["id"] in {evidence.task for evidence in index.find(planted_code)}


def words(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(10_000)}" for _ in range(count)]


def mutate(text: list[str], seed: int, changes: int) -> list[str]:
    rng = random.Random(seed)
    text = list(text)
    for place in rng.sample(range(len(text)), changes):
        text[place] = f"new{rng.randrange(10_000)}"
    return text


def planted() -> dict[str, str]:
    """Return 300 texts of 40 to 120 words: 60 originals, each with four copies of ever more changed words."""
    texts = {}
    for number in range(60):
        original = words(number, 40 + number)
        texts[f"{number:02}-0"] = " ".join(original)
        for copy in range(1, 5):
            texts[f"{number:02}-{copy}"] = " ".join(mutate(original, 1000 * number + copy, 2 * copy))
    return texts


def shingle_set(text: str) -> frozenset[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    return frozenset(tuple(found[i : i + SHINGLE]) for i in range(max(1, len(found) - SHINGLE + 1)))


def similarity(a: frozenset, b: frozenset) -> float:
    return len(a & b) / len(a | b)


def exact_clusters(texts: dict[str, str], threshold: float) -> dict[str, str]:
    """Return by brute force what near_duplicates approximates: the smallest id that is reachable from each text."""
    sets = {key: shingle_set(text) for key, text in texts.items()}
    kept = {key: key for key in texts}
    pairs = [(a, b) for a, b in itertools.combinations(texts, 2) if similarity(sets[a], sets[b]) >= threshold]
    for _ in texts:
        before = dict(kept)
        for a, b in pairs:
            kept[a] = kept[b] = min(kept[a], kept[b])
        if kept == before:
            break
    return {key: root for key, root in kept.items() if key != root}


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_clusters_are_those_of_exact_similarity_but_for_the_stated_recall(threshold):
    texts = planted()
    expected = exact_clusters(texts, threshold)
    assert 40 < len(expected) < 200  # of 240 copies some are near, some are not
    found = near_duplicates(texts, threshold)
    assert found.items() <= expected.items()
    assert len(found) >= 0.98 * len(expected)


ODD_TEXTS = [
    "One two three four five six",
    "one, TWO; three-four (five) six",
    "naïve café ÉTÉ “quoted” words – with a dash",
    "NAÏVE CAFÉ été quoted words with a dash",
    "",
    "...",
    "a",
    "a b c d",
    "d c b a",
    "a\0b\0c\0d",
    "x" * 5000 + " y",
    "ab ca b cab abc bca a b c",
    "\udcff lone surrogate",
    "a b c d e " * 40,
]


def test_hashed_shingles_are_alike_where_the_words_are():
    hashes, counts = shingles(ODD_TEXTS)
    assert counts.tolist() == [max(1, len(re.findall(r"\w+", text)) - SHINGLE + 1) for text in ODD_TEXTS]
    ends = counts.cumsum()
    sets = [frozenset(hashes[end - count : end].tolist()) for end, count in zip(ends, counts, strict=True)]
    for (a, left), (b, right) in itertools.combinations(zip(ODD_TEXTS, sets, strict=True), 2):
        assert similarity(left, right) == similarity(shingle_set(a), shingle_set(b)), (a, b)
    # What else is in the batch does not matter
    alone = [shingles([text])[0] for text in ODD_TEXTS]
    assert np.concatenate(alone).tolist() == hashes.tolist()


def test_signatures_are_those_of_datasketch():
    texts = list(planted().values())[:40]
    hashes, counts = shingles(texts)
    ours = signatures(hashes, counts)
    parts = np.split(hashes, counts.cumsum()[:-1])
    theirs = MinHash.bulk(([int(value) for value in part] for part in parts), num_perm=PERMUTATIONS, hashfunc=int)
    assert ours.tolist() == [(minhash.hashvalues & 0xFFFF).tolist() for minhash in theirs]


def test_a_bucket_of_many_copies_costs_few_comparisons():
    copies = [" ".join(words(1, 60)) + f" number {number}" for number in range(500)]
    sketches = Sketches()
    sketches.add(sketch(copies))
    assert set(sketches.clusters(0.5).tolist()) == {0}
    assert sketches.compared < 5 * len(copies)  # of 124,750 pairs


def test_what_a_text_needs_in_memory_is_what_the_module_says(monkeypatch):
    """Half of the texts are copies, and the others share no bucket but by chance."""
    monkeypatch.setattr("selfalign.matching.near_duplicates.PAIRS", 256)  # what does not grow with the texts
    count, rng = 30_000, np.random.default_rng(0)
    found = rng.integers(0, 1 << 16, (count, PERMUTATIONS), dtype=np.uint16)
    found[count // 2 :] = found[: count // 2]
    values = np.arange(count // 2, dtype=np.uint32)
    tracemalloc.start()
    sketches = Sketches()
    sketches.add(Sketch(np.append(values, values), np.ones(count, dtype=np.int64), found))
    size, _ = tracemalloc.get_traced_memory()
    clusters = sketches.clusters(0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert clusters.tolist() == 2 * list(range(count // 2))
    assert 2 * PERMUTATIONS * count <= size < (2 * PERMUTATIONS + 8) * count
    assert peak - size < 60 * count + 500_000


def test_clusters_do_not_depend_on_the_order():
    texts = planted()
    keys = list(texts)
    random.Random(0).shuffle(keys)
    expected = near_duplicates(texts, 0.5)
    assert near_duplicates({key: texts[key] for key in keys}, 0.5) == expected
    sketches = Sketches()
    for start in range(0, len(keys), 7):  # nor on the parts
        sketches.add(sketch([texts[key] for key in keys[start : start + 7]]))
    clusters = defaultdict(set)
    for key, first in zip(keys, sketches.clusters(0.5).tolist(), strict=True):
        clusters[first].add(key)
    assert {key: min(keys) for keys in clusters.values() for key in keys if key != min(keys)} == expected


def test_short_and_empty_texts():
    texts = {"a": "xs + 1", "b": "XS  1", "c": "xs", "d": "", "e": "..."}
    assert near_duplicates(texts, 0.5) == {"b": "a", "e": "d"}
    assert near_duplicates({}, 0.5) == {}
    assert near_duplicates({"a": " ".join(words(1, 20)), "b": " ".join(words(1, 20))}, 1) == {"b": "a"}
    with pytest.raises(ValueError, match="threshold 0: it must lie above 0"):
        near_duplicates(texts, 0)


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_bands_reach_the_recall_wherever_the_permutations_suffice(threshold):
    count, rows = bands(threshold)
    assert count * rows <= 128
    assert 1 - (1 - threshold**rows) ** count >= (0.98 if threshold >= 0.05 else 0.7)


def test_funnels_add_up_or_are_refused():
    first = Funnel(5)
    first.add("a", 3, ["x", "y"])
    with pytest.raises(AssertionError):
        first.add("b", 2, [])
    second = Funnel(4)
    second.add("a", 4, [])
    after = Funnel(7)
    after.add("b", 6, ["z"])
    total = sum_funnels({"1": first.dump(), "2": second.dump() | {"wall_s": 1}, "3": after.dump()})
    assert total.rows == 6
    assert total.dump()["stages"] == [
        {"stage": "a", "input": 9, "kept": 7, "dropped": {"x": 1, "y": 1}},
        {"stage": "b", "input": 7, "kept": 6, "dropped": {"z": 1}},
    ]
    with pytest.raises(ValueError, match="stage b has 7 rows in, but 3 came out of the stage before"):
        sum_funnels({"1": first.dump(), "3": after.dump()})
    with pytest.raises(ValueError, match=r"x.json: not a funnel"):
        sum_funnels({"x.json": {}})

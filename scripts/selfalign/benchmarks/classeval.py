"""ClassEval: 100 hand-written Python classes with 410 methods.

Authors: Xueying Du and others: ClassEval: A Manually-Crafted Benchmark for Evaluating LLMs on Class-level Code
Generation, arXiv 2308.01861 (2023).
Licence: MIT.
Source: data/ClassEval_data.json of github.com/FudanSELab/ClassEval.

Three strategies, one for each config entry:
- holistic: the class from its skeleton.
- incremental: method by method, each with imports, class, constructor and the methods written before.
- compositional: each method alone, with imports, class, constructor and the signatures of the others.
A method answers by a function of its name, found in the answer, and the class is put together from these; what else an
answer holds is left out, as by the authors. The imports of the task stand before every solution.

Each class of test cases (501; five a task on average: one for nearly every method, and one for the whole class) runs
for itself, in a process of its own. Metric class: all of a task's pass. Metric method: those that pass, of all 501,
which is what the authors' script counts as methods.

Where we differ: the words are ours. Models that go on with text are asked for a whole class behind its skeleton, where
the authors give them the skeleton alone. A decorator that the method's contract has is put before an answer without
one. In the contracts, docstrings in typographic quotes, one that is not closed and one that is indented otherwise are
mended. The limit is CPU time, there 5 seconds of wall time.

Of the data:
- ClassEval_69 has a test class without tests, and the list of ClassEval_97 a name with a blank before it: the authors'
  script passes neither task. Here the first is no test class, and the second is found.
- ClassEval_17 has an event that was to come, in 2024; here it comes in 2124.
- ClassEval_25 tests a method that its skeleton does not name, so no model can pass its class; nor that of ClassEval_49
  method by method, since one of its methods is not among those to ask for.
- Reference solutions that cannot pass on any machine of today: 48 wants the host name of the authors' machine, 51 numpy
  before version 2. 28, 34, 38, 44, 52, 69 and 93 need packages, and 52 data that nltk downloads.
"""

import ast
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from selfalign.benchmarks.benchmark import Benchmark, Wording
from selfalign.benchmarks.downloads import Source
from selfalign.benchmarks.files import read_text
from selfalign.benchmarks.programs import NO_CODE, find_code, put_first
from selfalign.benchmarks.tasks import Check, Task, text

STRATEGIES = ("holistic", "incremental", "compositional")
QUOTES = re.compile("[“”]{3}")
HEADER = re.compile(r"(?:@[^\n]*\n\s*)*def [^\n]*:[ \t]*\n")
FILE = '__file__ = __import__("os").path.abspath("test.py")\n'  # tests write beside it
# Test cases that read what others have written before them
NEEDED = {"CookiesUtilTestLoadCookies": "CookiesUtilTestGetCookies"}
METHOD_STOP = [
    "\n    def ",
    "\n    @",
    "\n    async def ",
    "\nclass ",
    "\ndef ",
    "\nif ",
    "\nprint(",
    "\n#",
    "\n@",
    "\n```",
]
CLASS_STOP = ["\nclass ", "\ndef ", "\nif ", "\nprint(", "\n#", "\n@", "\n```"]


class ClassEval(Benchmark):
    """A class with tests of each method and of the whole."""

    as_main = False
    source = Source(url="https://raw.githubusercontent.com/FudanSELab/ClassEval/master/data/ClassEval_data.json")
    options: ClassVar = {"strategy": "holistic"}
    packages = ("numpy", "pandas", "PIL", "bs4", "docx", "gensim", "lxml", "nltk", "openpyxl", "PyPDF2", "reportlab")

    def rows(self, path: Path) -> Iterator[tuple[str, dict]]:
        """Yield the problems of the file, which is one JSON array."""
        try:
            rows = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON ({error}); fetch the file again") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{path}: not a JSON array of objects; is this a file of the kind classeval?")
        for number, row in enumerate(rows, 1):
            yield f"row {number}", row

    def read_tasks(self, fields: dict, benchmark: str, *, strategy: str) -> list[Task]:
        """Build a task from an element of the file."""
        if strategy not in STRATEGIES:
            raise ValueError(f"no strategy {strategy!r}; the option strategy is one of {', '.join(STRATEGIES)}")
        name, skeleton, tests = text(fields, "class_name"), text(fields, "skeleton").strip(), text(fields, "test")
        imports = "".join(f"{line}\n" for line in fields["import_statement"])
        if fields["task_id"] == "ClassEval_17":  # an event that was to come when the tests were written
            tests = tests.replace("2024, 1, 2", "2124, 1, 2")
        if "lxml" in text(fields, "solution_code"):  # it is found by name, and programs get only what they import
            tests = f"import lxml\n{tests}"
        alone = separate_tests(tests, [item.strip() for item in fields["test_classes"]])
        block = f"```python\n{skeleton}\n```"
        prefix = f"{imports}class {name}:\n"
        whole = strategy == "holistic"
        task = Task(
            id=text(fields, "task_id"),
            benchmark=benchmark,
            kind="classeval",
            instruction=f"Write the Python class `{name}`: fill in all methods of this skeleton. Answer with the whole "
            f"class and its imports in one code block.\n\n{block}" if whole else "",
            prompt=f"The skeleton of a Python class:\n\n{block}\n\nThe class with all methods filled in:\n\n"
            f"```python\n{prefix}" if whole else None,
            prefix=prefix if whole else "",
            entry_point=name,
            canonical_solution=f"{imports}{text(fields, 'solution_code')}",
            groups={"category": "class"},
            stop=CLASS_STOP if whole else METHOD_STOP,
            checks=[Check(name=item, tests=code) for item, code in alone.items()],
            metrics={"class": [list(alone)], "method": [[item] for item in alone]},
            data={
                "strategy": strategy,
                "imports": imports,
                "description": textwrap.indent(textwrap.dedent(fields["class_description"].strip("\n")), "    "),
                "constructor": text(fields, "class_constructor").rstrip(),
                "methods": {text(method, "method_name"): contract(method) for method in fields["methods_info"]},
            },
        )  # fmt: skip
        return [task]

    def wording(self, task: Task, texts: Sequence[str], *, completes_prompt: bool) -> Wording | None:
        """Return the question for the whole class, or for the next method."""
        if task.data["strategy"] == "holistic":
            return super().wording(task, texts, completes_prompt=completes_prompt)
        methods = task.data["methods"]
        if len(texts) == len(methods):
            return None
        name = list(methods)[len(texts)]
        if task.data["strategy"] == "incremental":
            others = written_methods(task, texts, completes_prompt=completes_prompt)
        else:
            others = [f"{header_of(methods[other])}        pass\n" for other in methods if other != name]
        first, _, rest = task.data["constructor"].partition("\n")
        opening = f"{task.data['imports']}{first.rstrip()}\n{task.data['description']}\n{rest}\n"
        code = "\n".join([opening, *others, methods[name]]).lstrip()
        return Wording(
            instruction=f"Write the method `{name}` of the Python class `{task.entry_point}`, which is the last one "
            f"here. Answer with this method alone, in one code block.\n\n```python\n{code}```",
            prompt=code,
            prefix=methods[name],
        )

    def build_code(self, task: Task, texts: Sequence[str], *, completes_prompt: bool) -> tuple[str, str | None]:
        """Return the class in an answer, or that of the methods in the answers."""
        if task.data["strategy"] == "holistic":
            (answer,) = texts
            if completes_prompt:
                return (f"{task.prefix}{answer}", None) if answer.strip() else ("", NO_CODE)
            code = find_code(answer)
            return (put_first(task.data["imports"], code), None) if code.strip() else ("", NO_CODE)
        methods = written_methods(task, texts, completes_prompt=completes_prompt)
        if not methods:
            return "", NO_CODE
        return "\n".join([f"{task.data['imports']}{task.data['constructor']}\n", *methods]), None


def separate_tests(tests: str, classes: Sequence[str]) -> dict[str, str]:
    """Return for each class that has test cases the test code with it, without the classes that it does not need.

    Raises:
        ValueError: there is no such class.
    """
    lines = tests.splitlines(keepends=True)
    found = {node.name: node for node in ast.parse(tests).body if isinstance(node, ast.ClassDef)}
    if missing := [name for name in classes if name not in found]:
        raise ValueError(f"the tests have no class {', '.join(missing)}; is this a file of the kind classeval?")
    alone = {}
    for name in classes:
        if not any(isinstance(part, ast.FunctionDef) and part.name.startswith("test") for part in found[name].body):
            continue
        mentioned = {node.id for node in ast.walk(found[name]) if isinstance(node, ast.Name)}
        kept = list(lines)
        for other in set(classes) - {name, NEEDED.get(name)} - mentioned:
            node = found[other]
            kept[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
        alone[name] = FILE * ("__file__" in tests) + "".join(kept)
    return alone


def contract(method: dict) -> str:
    """Return a method's decorators, first line and docstring, as they stand in a class."""
    given = QUOTES.sub('"""', text(method, "method_description")).strip() + "\n"
    header = HEADER.match(given)
    if header is None:
        raise ValueError(f"the description of {method['method_name']} does not begin with `def`")
    first = "\n".join(line.strip() for line in header[0].splitlines())
    docstring = textwrap.dedent(given[header.end() :]).lstrip()
    if docstring.count('"""') % 2:
        docstring += '"""\n'
    return f"{textwrap.indent(first, ' ' * 4)}\n{textwrap.indent(docstring, ' ' * 8)}"


def header_of(contract: str) -> str:
    """Return a contract without its docstring."""
    return contract[: HEADER.search(contract).end()]


def written_methods(task: Task, texts: Sequence[str], *, completes_prompt: bool) -> list[str]:
    """Return the methods that were found in the answers so far, as they stand in a class."""
    found = []
    for (name, given), answer in zip(task.data["methods"].items(), texts, strict=False):
        if not completes_prompt:
            method = find_method(find_code(answer), name)
            if method and not method.lstrip().startswith("@"):
                decorators = "".join(line for line in given.splitlines(keepends=True) if line.startswith("    @"))
                method = decorators + method
            found.append(method)
        elif answer.strip():
            found.append(f"{given}{answer.rstrip()}\n")
    return [method for method in found if method]


def find_method(code: str, name: str) -> str:
    """Return the first function of this name in code, with its decorators, indented as in a class; "" without one.

    What follows it may be broken.
    """
    lines = textwrap.dedent(code).splitlines()
    for end in range(len(lines), 0, -1):
        try:
            tree = ast.parse("\n".join(lines[:end]))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                method = "\n".join(lines[start - 1 : node.end_lineno])
                return textwrap.indent(textwrap.dedent(method), "    ") + "\n"
        return ""
    return ""

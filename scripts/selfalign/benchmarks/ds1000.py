"""DS-1000: a thousand data-science problems of Stack Overflow, for seven libraries.

Authors: Yuhang Lai, Chengxi Li, Yiming Wang, Tianyi Zhang, Ruiqi Zhong, Luke Zettlemoyer, Scott Wen-tau Yih, Daniel
Fried, Sida Wang, Tao Yu: DS-1000: A Natural and Reliable Benchmark for Data Science Code Generation, arXiv 2211.11501
(2022).
Licence: CC-BY-SA-4.0.
Source: data/ds1000.jsonl.gz of github.com/xlang-ai/DS-1000 (the simplified format of 2024).

A solution is a text that the authors' code puts into a program of theirs, in place of "[insert]", and runs on one or
more inputs. It passes when their check of the result holds for each, and, for some problems, when it uses what it was
asked to. Of this format there is the completion mode only, no insertion between two texts. As there, a completion ends
at "</code>", "# SOLUTION END" or "END SOLUTION", and fences in it are taken off.

The right answers are computed in the process that runs the solution, as the authors do it; a solution that looks for
them there can find them. Differences:
- The limit of 120 seconds is CPU time where theirs is wall time.
- A model that answers in words is asked in our wording. Where a solution continues a function, it may give the whole
  function or a body without indentation: both are put into the place of the body. Theirs has to be indented right.
- An answer without code fails; there it is run, and fails.
- There is no network, which a few problems need for their data.

Versions that differ from the authors' change answers: use the environment ds1000 (envs/ds1000.lock).
"""

import ast
import re
import textwrap
from collections.abc import Sequence
from typing import ClassVar

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.downloads import Source
from selfalign.benchmarks.outputs import Known
from selfalign.benchmarks.programs import NO_CODE, find_code
from selfalign.benchmarks.tasks import Check, Task, text

INSERT = "[insert]"
PROGRAM_S = 120.0
STOP = ["</code>", "# SOLUTION END", "\nEND SOLUTION"]
TAGS = re.compile(r"^[ \t]*<(/?)code>[ \t]*$", re.MULTILINE)
TAGGED = re.compile(r"<code>(.*?)(?:</code>|\Z)", re.DOTALL)
ASK_FOLLOWING = (
    "Solve this problem. The code that is given has run already: answer with the code that follows it, in one Python "
    "code block, without repeating it, and leave the result in the variable that the problem names."
)
ASK_FUNCTION = "Solve this problem. Answer in one Python code block with the whole function that the problem begins."
ASK_PLOT = (
    "Go on with this Python program, which draws a plot as its comments say. Answer with the code that follows it, in "
    "one Python code block, without repeating it. The plot is saved afterwards: do not show, save or close it."
)


def insertion_context(code_context: str) -> str:
    """Return the program into which solutions are put.

    Raises:
        ValueError: there is none, or solutions are not put into it once.
    """
    for node in ast.parse(code_context).body:
        match node:
            case ast.Assign(targets=[ast.Name("exec_context")], value=ast.Constant(str() as program)):
                if program.count(INSERT) != 1:
                    raise ValueError(f"exec_context has {program.count(INSERT)} places {INSERT}, and one was expected")
                return program
    raise ValueError("code_context sets no exec_context")


def enclosing_function(program: str) -> str:
    """Return the beginning of the function in whose body solutions are put, "" when they stand on module level."""
    before = program.partition(INSERT)[0]
    lines = before.rstrip().splitlines()
    if not lines or not (lines[-1].startswith((" ", "\t")) or lines[-1].endswith(":")):
        return ""
    _, definition, body = before.rpartition("\ndef ")
    return f"def {body}" if definition else ""


def ask(prompt: str, library: str, *, in_function: bool) -> str:
    """Return the instruction that asks for a solution in words: the problem without the marks of its format."""
    if library == "Matplotlib":
        program = prompt.replace("# SOLUTION START", "").strip()
        return f"{ASK_PLOT}\n\n```python\n{program}\n```"
    problem = re.sub(r"\n[ \t]*(?:### )?BEGIN SOLUTION\s*(?:<code>\s*)?\Z", "", prompt)
    problem = TAGS.sub(lambda tag: "```" if tag[1] else "```python", problem).strip()
    if problem.count("```") % 2:  # the function to go on with is the last block
        problem += "\n```"
    return f"{ASK_FUNCTION if in_function else ASK_FOLLOWING}\n\n{problem}"


class DS1000(Benchmark):
    """The simplified format."""

    source = Source(url="https://github.com/xlang-ai/DS-1000/raw/main/data/ds1000.jsonl.gz")
    # Parts are named that programs import, and those that need ctypes, which no program can load.
    packages = (
        *("numpy", "pandas", "PIL.Image", "matplotlib.pyplot", "seaborn"),
        *("scipy", "scipy.io", "scipy.fft", "scipy.integrate", "scipy.interpolate", "scipy.ndimage", "scipy.optimize"),
        *("scipy.signal", "scipy.spatial", "scipy.stats", "scipy.cluster.hierarchy"),
        *("sklearn", "sklearn.cluster", "sklearn.datasets", "sklearn.ensemble", "sklearn.feature_selection"),
        *("sklearn.impute", "sklearn.linear_model", "sklearn.model_selection", "sklearn.pipeline", "sklearn.svm"),
        *("sklearn.tree", "statsmodels.api", "xgboost", "gensim.models", "gensim.test.utils", "yaml"),
        *("torch", "tensorflow", "keras"),
    )
    sandbox: ClassVar = {"memory_mb": 4096, "disk_mb": 64}
    environment = "ds1000"

    def read_tasks(self, fields: dict, benchmark: str) -> list[Task]:
        """Build a task from a row of the file."""
        prompt, solution, context = (text(fields, name) for name in ("prompt", "reference_code", "code_context"))
        metadata = fields["metadata"]
        library = text(metadata, "library")
        prefix = enclosing_function(insertion_context(context))
        names = {node.name for node in ast.parse(context).body if isinstance(node, ast.FunctionDef)}
        if "test_execution" not in names:
            raise ValueError("code_context has no function test_execution")
        task = Task(
            id=f"DS-1000/{int(metadata['problem_id'])}",
            benchmark=benchmark,
            kind="ds1000",
            instruction=ask(prompt, library, in_function=bool(prefix)),
            prompt=prompt,
            prefix=prefix,
            canonical_solution=prefix + solution,
            groups={"library": library, "perturbation": text(metadata, "perturbation_type")},
            stop=STOP,
            checks=[Check(tests=context, cpu_s=PROGRAM_S)],
            metrics={"pass": [["tests"]]},
            data={"calls": [name for name in ("test_execution", "test_string") if name in names]},
        )
        return [task]

    def build_code(self, task: Task, texts: Sequence[str], *, completes_prompt: bool) -> tuple[str, str | None]:
        """Return the solution, with the beginning of the function that it continues, and None, or the drop reason."""
        (answer,) = texts
        code = cut_completion(answer) if completes_prompt else fit_code(find_tagged_code(answer), task.prefix)
        return (task.prefix + code, None) if code.strip() else ("", NO_CODE)

    def build_program(self, task: Task, check: Check, code: str, known: Known) -> tuple[str, str]:
        """Return the authors' code as code and calls of its tests with the solution as tests.

        So the assertions of the functions named like tests are evidence, and those of their helpers are not: these
        try one way to compare after the other.
        """
        solution = code.removeprefix(task.prefix)
        return check.tests, "".join(f"{name}({solution!r})\n" for name in task.data["calls"])


def cut_completion(completion: str) -> str:
    """Return a completion as the authors take it: up to what ends a solution, without marks of code."""
    for end in STOP:
        completion = completion.partition(end)[0]
    return completion.replace("```python", "").partition("```")[0].replace("<code>", "")


def find_tagged_code(answer: str) -> str:
    """Return the code in an answer, which may stand between the tags of the problems' format."""
    if "```" not in answer and (tagged := TAGGED.search(answer)):
        return tagged[1].strip("\n")
    return find_code(answer)


def fit_code(code: str, prefix: str) -> str:
    """Return an answer's code so that it can stand in the function that begins with a prefix."""
    if not prefix:
        return code
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return code  # an indented body; or nothing that could be put right
    name, parameters = signature(prefix)
    code = textwrap.indent(code, "    ")
    if any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body):
        code += f"\n    return {name}({', '.join(parameters)})\n"
    return code


def signature(prefix: str) -> tuple[str, list[str]]:
    """Return the name and parameters of the function that a prefix begins."""
    (function,) = ast.parse(f"{prefix.rstrip()}\n    pass\n").body
    return function.name, [argument.arg for argument in function.args.args]

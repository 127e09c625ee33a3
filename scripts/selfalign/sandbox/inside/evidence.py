"""What a program's assertions and test cases did: marks in its code, and hooks in unittest, doctest and mock.

Both cores run a `Job` and hand this module the functions that record. They stand among the constants of a program's
code, so that no name of ours enters the program.
"""

import ast
import dataclasses
import functools
import io
import linecache
import sys
import types
import typing
import warnings
from collections.abc import Iterator

NAME = "/program.py"
WORK = "/tmp/work"
COMPILE_DEPTH = 50_000  # the compiler counts against the recursion limit when it reads a tree, not when it reads text
TEST_MARK, TOP_LEVEL_MARK, OTHER_MARK = b"\0assert of a test\0", b"\0assert on top level\0", b"\0assert elsewhere\0"
SYNTAX_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclasses.dataclass(frozen=True)
class Recorders:
    """What evidence is told to; every function can be called by a program, and none takes anything back.

    Attributes:
        test, top_level, other: Called with an assertion's condition, return its truth; of tests, of those that stand on
            module level and must be executed, of the solution's own.
        count: Called with a number of assertions and of test cases that were executed.
        mark_false, mark_failed_case: An assertion was false; a case of unittest or doctest failed.
    """

    test: typing.Callable
    top_level: typing.Callable
    other: typing.Callable
    count: typing.Callable
    mark_false: typing.Callable
    mark_failed_case: typing.Callable


class Job(typing.NamedTuple):
    """A compiled program. `last_lines` are the lines where an exit leaves nothing undone, `top_level` the number of its
    assertions that every whole run executes, `hooks` what to call before it, `run_cases` what runs unittest's cases."""

    code: types.CodeType
    namespace: dict
    last_lines: frozenset[int]
    top_level: int
    uncalled: tuple[str, ...]
    hooks: tuple[typing.Callable, ...]
    run_cases: typing.Callable | None


def is_vacuous(test: ast.expr) -> bool:
    """Tell whether an assertion is true by its form alone: `assert (x == 1, "message")`."""
    match test:
        case ast.Constant():
            return bool(test.value)
        case ast.Tuple() | ast.List() | ast.Set():
            return any(not isinstance(element, ast.Starred) for element in test.elts)
        case ast.Dict():
            return any(key is not None for key in test.keys)
        case ast.JoinedStr():
            return any(isinstance(part, ast.Constant) for part in test.values)
        case ast.Lambda():
            return True
    return False


def is_test_name(name: str) -> bool:
    """Tell whether a function or class is named like a test."""
    name = name.strip("_").lower()
    return name.startswith(("test", "check")) or name.endswith(("test", "tests")) or name in ("main", "run")


def find_last_lines(body: list[ast.stmt]) -> Iterator[int]:
    """Yield the lines of what a block does last: `unittest.main()`, a call of `main`, `sys.exit` in its last branch.

    What follows `unittest.main()` never runs. Loops have no last line, they may go on, and assertions have none.
    """
    blocks = [body]
    while blocks:
        body = blocks.pop()
        if not body:
            continue
        for node in body[:-1]:
            match node:
                case ast.Expr(ast.Call(ast.Attribute(ast.Name("unittest"), "main"))):
                    yield from range(node.lineno, node.end_lineno + 1)
        match body[-1]:
            case ast.If() as node:
                blocks += [node.body, node.orelse]
            case ast.With() | ast.AsyncWith() as node:
                blocks.append(node.body)
            case ast.Try() | ast.TryStar() as node:
                blocks += [node.orelse or node.body, node.finalbody, *(handler.body for handler in node.handlers)]
            case ast.Match() as node:
                blocks += [part.body for part in node.cases]
            case ast.Assert() | ast.For() | ast.AsyncFor() | ast.While() | ast.ClassDef():
                pass
            case node:
                yield from range(node.lineno, node.end_lineno + 1)


def instrument(tree: ast.Module, tests_line: int | None) -> tuple[int, frozenset[int]]:
    """Wrap the condition of every assertion in a call of a mark, which `plant` turns into a recorder.

    Assertions of tests (all of the test part; without one, module level; functions named like tests) are told from
    others, such as a solution's preconditions: a test may expect those to fail. Beside a test part, a solution's
    function is a test only when its name begins so: `check_age` may well have preconditions.

    Returns:
        The number of test assertions among the module's own statements, which every whole run executes, and the lines
        where the module and its functions do what they do last.
    """
    top_level, last_lines, assertion_lines = 0, set(find_last_lines(tree.body)), set()
    blocks: list[tuple[list, bool | None]] = [(tree.body, None)]  # statements; is the function around them a test
    while blocks:  # not recursive, programs nest deeply; no expressions, they hold no statements
        body, in_test = blocks.pop()
        for node in body:
            if isinstance(node, ast.Assert):
                assertion_lines.update(range(node.lineno, node.end_lineno + 1))
                if is_vacuous(node.test):
                    continue
                is_test = bool(in_test) or (node.lineno >= tests_line if tests_line else in_test is None)
                value = TEST_MARK if is_test else OTHER_MARK
                if is_test and body is tree.body:
                    value = TOP_LEVEL_MARK
                    top_level += 1
                mark = ast.copy_location(ast.Constant(value), node.test)
                node.test = ast.copy_location(ast.Call(func=mark, args=[node.test], keywords=[]), node.test)
                continue
            inner = in_test
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                is_solution = tests_line is not None and node.lineno < tests_line
                inner = bool(in_test) or (node.name.startswith("test") if is_solution else is_test_name(node.name))
                last_lines.update(find_last_lines(node.body))
            for name in ("body", "orelse", "finalbody"):
                if block := getattr(node, name, None):
                    blocks.append((block, inner))
            for part in getattr(node, "handlers", None) or getattr(node, "cases", None) or ():
                blocks.append((part.body, inner))
    return top_level, frozenset(last_lines - assertion_lines)


def plant(code: types.CodeType, recorders: dict) -> types.CodeType:
    """Put the recorders where the marks stand among the code's constants."""
    constants = []
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            value = plant(value, recorders)
        elif type(value) is bytes:
            value = recorders.get(value, value)
        constants.append(value)
    return code.replace(co_consts=tuple(constants))


def hoist_future_imports(tree: ast.Module) -> None:
    """Move `from __future__` of the test part to the top, where it stood before the parts were joined."""
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    others = [node for node in tree.body if node not in future]
    start = int(ast.get_docstring(tree, clean=False) is not None and len(others) > 0)
    tree.body = others[:start] + future + others[start:]


def find_uncalled_tests(tree: ast.Module) -> tuple[str, ...]:
    """Name the pytest-style functions and classes of the module that nothing in it mentions."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            required = len(node.args.args) + len(node.args.posonlyargs) - len(node.args.defaults)
            required += sum(default is None for default in node.args.kw_defaults)
            if required == 0:
                found.append(node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            found.append(node.name)
    if not found:
        return ()
    mentioned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return tuple(name for name in found if name not in mentioned)


def prepare(request: dict, recorders: Recorders) -> Job:
    """Compile a program and make the module `__main__` that it runs in.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it does not compile.
    """
    code, tests = (io.StringIO(request[part].removeprefix("\ufeff"), newline=None).read() for part in ("code", "tests"))
    if code and not code.endswith("\n"):
        code += "\n"
    source = code + tests
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(COMPILE_DEPTH)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, NAME)
            if tests:
                hoist_future_imports(tree)
            uncalled = find_uncalled_tests(tree)
            line = code.count("\n") + 1 if tests else None
            if tests and any(node.lineno < line <= node.end_lineno for node in tree.body):
                raise SyntaxError("the solution does not end before its tests begin")
            top_level, last_lines = instrument(tree, line)
            marks = {TEST_MARK: recorders.test, TOP_LEVEL_MARK: recorders.top_level, OTHER_MARK: recorders.other}
            compiled = plant(compile(tree, NAME, "exec"), marks)
    finally:
        sys.setrecursionlimit(limit)
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=sys.modules["builtins"], __file__=NAME)
    if request["data"]:
        module.__dict__["_data"] = request["data"]
    sys.modules["__main__"] = module
    linecache.cache[NAME] = (len(source), None, io.StringIO(source).readlines(), NAME)  # other line ends than "\n" stay
    sys.path_importer_cache.pop(WORK, None)  # the folder is not there yet; the program may put modules into it
    hooks = []
    if "threading" in source:
        hooks.append(functools.partial(hook_threads, recorders))
    if "unittest" in source:
        hooks.append(functools.partial(hook_unittest, recorders))
        if "mock" in source:
            hooks.append(functools.partial(hook_mock, recorders))
    if "doctest" in source:
        hooks.append(functools.partial(hook_doctest, recorders))
    run_cases = run_unittest_cases if "unittest" in source else None
    return Job(compiled, module.__dict__, last_lines, top_level, uncalled, tuple(hooks), run_cases)


def run_unittest_cases(namespace: dict) -> None:
    """Run the module's unittest cases, when the program has run none of its own."""
    import unittest

    loader, suite = unittest.defaultTestLoader, unittest.TestSuite()
    for item in list(namespace.values()):
        if not isinstance(item, type) or not issubclass(item, unittest.TestCase):
            continue
        if str(item.__module__).partition(".")[0] != "unittest":  # imported names are no cases of the program
            suite.addTest(loader.loadTestsFromTestCase(item))
    if suite.countTestCases():
        unittest.TextTestRunner(stream=io.StringIO()).run(suite)


def hook_assertions(kind: type, recorders: Recorders) -> None:
    """Count the calls of a class's assert methods and mark those that fail."""

    def counted(original):
        @functools.wraps(original)
        def method(self, *arguments, **options):
            recorders.count(1, 0)
            try:
                return original(self, *arguments, **options)
            except AssertionError:
                recorders.mark_false()
                raise

        return method

    for name in dir(kind):
        if name.startswith("assert"):
            setattr(kind, name, counted(getattr(kind, name)))


def hook_threads(recorders: Recorders) -> None:
    """Mark an assertion that ended a thread; nobody else hears of it."""
    import threading

    original = threading.excepthook

    def excepthook(arguments):
        if issubclass(arguments.exc_type, AssertionError):
            recorders.mark_false()
        original(arguments)

    threading.excepthook = excepthook


def hook_unittest(recorders: Recorders) -> None:
    """Count the cases and assertions that unittest runs and mark those that fail."""
    import unittest
    import unittest.case

    def counted(original):
        def method(self, test):
            recorders.count(0, 1)
            return original(self, test)

        return method

    def failing(original):
        def method(self, *arguments):
            if arguments[-1] is not None:  # addSubTest reports success as None
                recorders.mark_failed_case()
            return original(self, *arguments)

        return method

    def marking(original):
        def method(self, *arguments, **options):
            recorders.mark_false()
            return original(self, *arguments, **options)

        return method

    result = unittest.TestResult
    result.startTest = counted(result.startTest)
    for name in ("addFailure", "addError", "addSubTest", "addUnexpectedSuccess"):
        setattr(result, name, failing(getattr(result, name)))
    hook_assertions(unittest.TestCase, recorders)
    for kind, name in ((unittest.TestCase, "fail"), (unittest.case._BaseTestCaseContext, "_raiseFailure")):
        setattr(kind, name, marking(getattr(kind, name)))


def hook_mock(recorders: Recorders) -> None:
    """Count the calls of a mock's assert methods and mark those that fail."""
    from unittest.mock import AsyncMockMixin, NonCallableMock

    hook_assertions(NonCallableMock, recorders)
    hook_assertions(AsyncMockMixin, recorders)


def hook_doctest(recorders: Recorders) -> None:
    """Count the examples that doctest runs and mark failures."""
    import doctest

    original = doctest.DocTestRunner.run

    def run(self, *arguments, **options):
        results = original(self, *arguments, **options)
        recorders.count(results.attempted, 0)
        if results.failed:
            recorders.mark_failed_case()
        return results

    doctest.DocTestRunner.run = run

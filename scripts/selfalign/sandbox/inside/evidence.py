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
    """A compiled program. `first` and `last` are the lines of its last statement, `top_level` the number of its
    assertions that every whole run executes, `hooks` what to call before it, `run_cases` what runs unittest's cases."""

    code: types.CodeType
    namespace: dict
    first: int
    last: int
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
            return bool(test.elts)
        case ast.Dict():
            return bool(test.keys)
        case ast.Lambda() | ast.JoinedStr():
            return True
    return False


def is_test_name(name: str) -> bool:
    """Tell whether a function or class is named like a test."""
    name = name.strip("_").lower()
    return name.startswith(("test", "check")) or name.endswith(("test", "tests")) or name in ("main", "run")


def instrument(tree: ast.Module, tests_line: int | None) -> int:
    """Wrap the condition of every assertion in a call of a mark, which `plant` turns into a recorder.

    Assertions of tests (all of the test part; without one, module level; functions named like tests) are told from
    others, such as a solution's preconditions: a test may expect those to fail.

    Returns:
        The number of test assertions among the module's own statements: every whole run executes them.
    """
    top_level = 0
    blocks: list[tuple[list, bool | None]] = [(tree.body, None)]  # statements; is the function around them a test
    while blocks:  # not recursive, programs nest deeply; no expressions, they hold no statements
        body, in_test = blocks.pop()
        for node in body:
            if isinstance(node, ast.Assert):
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
                inner = bool(in_test) or is_test_name(node.name)
            for name in ("body", "orelse", "finalbody"):
                if block := getattr(node, name, None):
                    blocks.append((block, inner))
            for part in getattr(node, "handlers", None) or getattr(node, "cases", None) or ():
                blocks.append((part.body, inner))
    return top_level


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
    code, tests = request["code"], request["tests"]
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
            top_level = instrument(tree, code.count("\n") + 1 if tests else None)
            marks = {TEST_MARK: recorders.test, TOP_LEVEL_MARK: recorders.top_level, OTHER_MARK: recorders.other}
            compiled = plant(compile(tree, NAME, "exec"), marks)
    finally:
        sys.setrecursionlimit(limit)
    last = tree.body[-1] if tree.body else None
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=sys.modules["builtins"], __file__=NAME)
    sys.modules["__main__"] = module
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    sys.path_importer_cache.pop(WORK, None)  # the folder is not there yet; the program may put modules into it
    hooks = []
    if "unittest" in source:
        hooks.append(functools.partial(hook_unittest, recorders))
        if "mock" in source:
            hooks.append(functools.partial(hook_mock, recorders))
    if "doctest" in source:
        hooks.append(functools.partial(hook_doctest, recorders))
    first, end = (last.lineno, last.end_lineno) if last else (0, 0)
    run_cases = run_unittest_cases if "unittest" in source else None
    return Job(compiled, module.__dict__, first, end, top_level, uncalled, tuple(hooks), run_cases)


def run_unittest_cases(namespace: dict) -> None:
    """Run the module's unittest cases, when the program has run none of its own."""
    import unittest

    loader, suite = unittest.defaultTestLoader, unittest.TestSuite()
    for item in list(namespace.values()):
        if isinstance(item, type) and issubclass(item, unittest.TestCase) and item is not unittest.TestCase:
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


def hook_unittest(recorders: Recorders) -> None:
    """Count the cases and assertions that unittest runs and mark those that fail."""
    import unittest

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

    result = unittest.TestResult
    result.startTest = counted(result.startTest)
    for name in ("addFailure", "addError", "addSubTest", "addUnexpectedSuccess"):
        setattr(result, name, failing(getattr(result, name)))
    hook_assertions(unittest.TestCase, recorders)


def hook_mock(recorders: Recorders) -> None:
    """Count the calls of a mock's assert methods and mark those that fail."""
    from unittest.mock import NonCallableMock

    hook_assertions(NonCallableMock, recorders)


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

"""The concepts of a Python function, read from its syntax: what the demo's base model learns to name."""

import ast
import random

# Rarest first: a list of concepts starts with what is most characteristic of its function.
CONCEPTS = (
    "async code",
    "global state",
    "decorators",
    "bit operations",
    "file handling",
    "recursion",
    "reversing",
    "set comprehension",
    "dictionary comprehension",
    "generator function",
    "lambda",
    "regular expressions",
    "sorting",
    "modulo",
    "while loop",
    "assertion",
    "set",
    "generator expression",
    "context manager",
    "nested function",
    "variable arguments",
    "aggregation",
    "slicing",
    "list comprehension",
    "type checking",
    "exception handling",
    "string formatting",
    "conditional expression",
    "counting",
    "tuple unpacking",
    "dictionary",
    "list building",
    "type conversion",
    "membership test",
    "none check",
    "string methods",
    "arithmetic",
    "raising exceptions",
    "default arguments",
    "boolean logic",
    "for loop",
    "early return",
    "indexing",
    "keyword arguments",
    "comparison",
    "conditional",
    "attribute access",
)
RANK = {name: number for number, name in enumerate(CONCEPTS)}
CALLS = {
    "sorted": "sorting",
    "reversed": "reversing",
    "set": "set",
    "frozenset": "set",
    "dict": "dictionary",
    "sum": "aggregation",
    "max": "aggregation",
    "min": "aggregation",
    "any": "aggregation",
    "all": "aggregation",
    "len": "counting",
    "isinstance": "type checking",
    "issubclass": "type checking",
    "int": "type conversion",
    "str": "type conversion",
    "float": "type conversion",
    "bytes": "type conversion",
    "list": "type conversion",
    "tuple": "type conversion",
    "open": "file handling",
}
METHODS = {
    "sort": "sorting",
    "reverse": "reversing",
    "append": "list building",
    "extend": "list building",
    "insert": "list building",
    "items": "dictionary",
    "keys": "dictionary",
    "get": "dictionary",
    "setdefault": "dictionary",
    "format": "string formatting",
    "split": "string methods",
    "join": "string methods",
    "strip": "string methods",
    "rstrip": "string methods",
    "lstrip": "string methods",
    "replace": "string methods",
    "lower": "string methods",
    "upper": "string methods",
    "startswith": "string methods",
    "endswith": "string methods",
    "find": "string methods",
    "partition": "string methods",
    "rpartition": "string methods",
    "encode": "string methods",
    "decode": "string methods",
}
NODES = {
    ast.For: "for loop",
    ast.While: "while loop",
    ast.ListComp: "list comprehension",
    ast.SetComp: "set comprehension",
    ast.DictComp: "dictionary comprehension",
    ast.GeneratorExp: "generator expression",
    ast.Yield: "generator function",
    ast.YieldFrom: "generator function",
    ast.If: "conditional",
    ast.IfExp: "conditional expression",
    ast.BoolOp: "boolean logic",
    ast.JoinedStr: "string formatting",
    ast.Slice: "slicing",
    ast.Dict: "dictionary",
    ast.Set: "set",
    ast.Try: "exception handling",
    ast.Raise: "raising exceptions",
    ast.With: "context manager",
    ast.Lambda: "lambda",
    ast.Assert: "assertion",
    ast.Global: "global state",
    ast.Attribute: "attribute access",
    ast.Await: "async code",
    ast.AsyncFor: "async code",
    ast.AsyncWith: "async code",
    ast.AsyncFunctionDef: "async code",
}
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Pow)
BITS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift)


def _operator(node: ast.BinOp | ast.AugAssign) -> str | None:
    if isinstance(node.op, ast.Mod):
        left = node.left if isinstance(node, ast.BinOp) else None
        text = isinstance(left, ast.Constant) and isinstance(left.value, str | bytes)
        return "string formatting" if text else "modulo"
    if isinstance(node.op, ARITHMETIC):
        return "arithmetic"
    return "bit operations" if isinstance(node.op, BITS) else None


def _compare(node: ast.Compare) -> set[str]:
    found = set()
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(operator, ast.In | ast.NotIn):
            found.add("membership test")
        elif isinstance(right, ast.Constant) and right.value is None:
            found.add("none check")
        else:
            found.add("comparison")
    return found


def _call(node: ast.Call) -> set[str]:
    found = set()
    if node.keywords:
        found.add("keyword arguments")
    if isinstance(node.func, ast.Name):
        if node.func.id in CALLS:
            found.add(CALLS[node.func.id])
    elif isinstance(node.func, ast.Attribute):
        if node.func.attr in METHODS:
            found.add(METHODS[node.func.attr])
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "re":
            found.add("regular expressions")
    return found


def concepts_of(tree: ast.AST) -> list[str]:
    """Return the concepts of a parsed piece of code, most characteristic first."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found: set[str] = set()
    for node in ast.walk(tree):
        if type(node) in NODES:
            found.add(NODES[type(node)])
        if isinstance(node, ast.BinOp | ast.AugAssign):
            found.add(_operator(node) or "")
        elif isinstance(node, ast.Compare):
            found |= _compare(node)
        elif isinstance(node, ast.Call):
            found |= _call(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            if not isinstance(node.slice, ast.Slice):
                found.add("indexing")
            elif isinstance(node.slice.step, ast.UnaryOp):
                found.add("reversing")
        elif isinstance(node, ast.Assign | ast.For | ast.comprehension):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Tuple) for target in targets):
                found.add("tuple unpacking")
    for function in functions:
        inside = [node for node in ast.walk(function) if node is not function]
        calls = (node.func for node in inside if isinstance(node, ast.Call))
        if any(isinstance(call, ast.Name) and call.id == function.name for call in calls):
            found.add("recursion")
        if function.decorator_list:
            found.add("decorators")
        if function.args.defaults or any(function.args.kw_defaults):
            found.add("default arguments")
        if function.args.vararg or function.args.kwarg:
            found.add("variable arguments")
        if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in inside):
            found.add("nested function")
        if sum(isinstance(node, ast.Return) for node in inside) > 1:
            found.add("early return")
    found.discard("")
    return sorted(found, key=RANK.__getitem__)


def pick_concepts(rng: random.Random, concepts: list[str]) -> tuple[str, ...]:
    """Return two to five of a function's concepts, in order, with some variety."""
    kept = [concept for concept in concepts if rng.random() > 0.1] or concepts
    return tuple(kept[: rng.choices((2, 3, 4, 5), (1, 3, 3, 2))[0]])

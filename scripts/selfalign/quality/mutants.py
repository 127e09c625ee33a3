"""Faulty variants of Python code, each with one classic mutation, for tests to find.

The operators are those that mutation tools for Python share; the tools themselves (cosmic-ray, mutmut) want files, a
database or a runner of tests of their own, and a dozen packages. No variant is of docstrings, annotations, decorators
or assertions. Some are equivalent to the code and cannot be killed.
"""

import ast
from collections.abc import Iterator

from selfalign.records.commands import derive_seed
from selfalign.records.files import digest

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
UNTOUCHED = ("annotation", "returns", "decorator_list", "type_comment", "format_spec")

Site = tuple[object, str | int, object]  # what holds the mutated part, under which field or number, the new part


def mutants(code: str, count: int, run_seed: int) -> Iterator[str]:
    """Yield at most so many mutants of code, drawn by the run's seed and the code alone; none of what does not compile.

    All of them compile, and no two are the same.
    """
    try:
        tree = ast.parse(code)
        original = ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    name = digest(code)
    sites = list(_sites(tree))
    seen = {original}
    for number in sorted(range(len(sites)), key=lambda number: derive_seed(run_seed, "mutants", name, number)):
        if len(seen) > count:
            return
        holder, place, new = sites[number]
        old = _get(holder, place)
        _set(holder, place, new)
        mutant = ast.unparse(tree)
        _set(holder, place, old)
        if mutant not in seen and _compiles(mutant):
            seen.add(mutant)
            yield mutant


def _get(holder: object, place: str | int) -> object:
    return getattr(holder, place) if isinstance(place, str) else holder[place]


def _set(holder: object, place: str | int, value: object) -> None:
    if isinstance(place, str):
        setattr(holder, place, value)
    else:
        holder[place] = value


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _sites(tree: ast.Module) -> Iterator[Site]:
    """Yield every mutation, in the order of the code."""
    todo: list[tuple[object, str | int, ast.AST]] = [(None, "", tree)]
    while todo:
        holder, place, node = todo.pop()
        if isinstance(node, ast.Assert) or _is_text(node):
            continue
        yield from _of(node)
        if holder is not None:
            yield from _instead(holder, place, node)
        children = []
        for name, value in ast.iter_fields(node):
            if name in UNTOUCHED:
                continue
            if isinstance(value, ast.AST):
                children.append((node, name, value))
            elif isinstance(value, list):
                children += [(value, number, part) for number, part in enumerate(value) if isinstance(part, ast.AST)]
        todo += reversed(children)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _of(node: ast.AST) -> Iterator[Site]:
    """Yield the mutations of a node's own fields."""
    match node:
        case ast.Compare():
            for number, operator in enumerate(node.ops):
                yield from ((node.ops, number, new()) for new in COMPARISONS[type(operator)])
        case ast.BinOp(ast.Constant(str()), ast.Mod()):  # filling in a text
            pass
        case ast.BinOp() | ast.AugAssign():
            if new := ARITHMETIC.get(type(node.op)):
                yield node, "op", new()
        case ast.BoolOp():
            yield node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.If() | ast.While() | ast.IfExp():
            yield node, "test", ast.UnaryOp(ast.Not(), node.test)
        case ast.comprehension():
            yield from ((node.ifs, number, ast.UnaryOp(ast.Not(), test)) for number, test in enumerate(node.ifs))
        case ast.Constant(bool()):
            yield node, "value", not node.value
        case ast.Constant(int() | float() | complex()):
            yield node, "value", node.value + 1
        case ast.Constant(str()):
            yield node, "value", "" if node.value else "mutated"
        case ast.Return(ast.expr()) if not isinstance(node.value, ast.Constant) or node.value.value is not None:
            yield node, "value", None
        case ast.Name() if node.id in NAMES:
            yield node, "id", NAMES[node.id]


def _instead(holder: object, place: str | int, node: ast.AST) -> Iterator[Site]:
    """Yield what can stand in a node's place."""
    match node:
        case ast.UnaryOp(ast.Not() | ast.USub()):
            yield holder, place, node.operand
        case ast.Break():
            yield holder, place, ast.Continue()
        case ast.Continue():
            yield holder, place, ast.Break()
        case ast.AugAssign() | ast.Expr(ast.Call()) | ast.Raise():
            yield holder, place, ast.Pass()

"""JavaScript functions as tree-sitter shows them: what they take, return, use and import."""

from collections.abc import Callable, Iterator
from typing import Any

from selfalign.languages.javascript import parse
from selfalign.records.rows import Function

FUNCTIONS = frozenset(
    {
        *("function_declaration", "generator_function_declaration", "function_expression", "generator_function"),
        "arrow_function",
    }
)
_SCOPES = FUNCTIONS | {"method_definition", "class_declaration", "class"}
_VARIABLES = frozenset({"lexical_declaration", "variable_declaration"})
_NAMES = frozenset({"identifier", "shorthand_property_identifier"})
_NOTHING = frozenset({"null", "undefined"})


def text_of(node: Any) -> str:
    """Return the text of a node."""
    return node.text.decode()


def function_in(statement: Any) -> tuple[str | None, Any] | None:
    """Return name and node of the function that a statement makes, None where it makes none.

    It is a declaration, exported or not, a variable with a function as value, or an assignment to (a property of) the
    exports. The name is None where it has none.
    """
    if statement.type == "export_statement":
        inner = statement.child_by_field_name("declaration") or statement.child_by_field_name("value")
        return function_in(inner) if inner else None
    if statement.type in FUNCTIONS:
        name = statement.child_by_field_name("name")
        return text_of(name) if name else None, statement
    if statement.type in _VARIABLES:
        variables = [child for child in statement.named_children if child.type == "variable_declarator"]
        value = variables[0].child_by_field_name("value") if len(variables) == 1 else None
        if value is None or value.type not in FUNCTIONS:
            return None
        return text_of(variables[0].child_by_field_name("name")), value
    if statement.type == "expression_statement":
        assigned = statement.named_children[0] if statement.named_children else None
        if assigned is None or assigned.type != "assignment_expression":
            return None
        target, value = text_of(assigned.child_by_field_name("left")), assigned.child_by_field_name("right")
        while value.type == "assignment_expression":
            value = value.child_by_field_name("right")
        if value.type not in FUNCTIONS or not target.startswith(("module.exports", "exports.")):
            return None
        own, last = value.child_by_field_name("name"), target.rpartition(".")[2]
        return text_of(own) if own else last if last != "exports" else None, value
    return None


def parse_definition(code: str) -> Any:
    """Return the node of the function in a row's code.

    Raises:
        SyntaxError: there is none.
    """
    for statement in parse(code).named_children:
        if found := function_in(statement):
            return found[1]
    raise SyntaxError("not a function")


def _walk(node: Any, leave_out: frozenset[str] = frozenset()) -> Iterator[Any]:
    """Yield all nodes below one, without those below nodes of the given types."""
    stack = list(reversed(node.named_children))
    while stack:
        child = stack.pop()
        yield child
        if child.type not in leave_out:
            stack += reversed(child.named_children)


def returns_value(definition: Any) -> bool:
    """Return whether a function has a `return` of its own with a value, or is an expression."""
    body = definition.child_by_field_name("body")
    if body.type != "statement_block":
        return body.type not in _NOTHING
    found = [node.named_children for node in _walk(body, _SCOPES) if node.type == "return_statement"]
    return any(child.type not in _NOTHING and child.type != "comment" for values in found for child in values[:1])


def _bound_in(pattern: Any) -> Iterator[str]:
    """Yield the names that a pattern binds: `a`, `{a, b: [c]}`, `...d`, `e = 1`."""
    if pattern.type in ("identifier", "shorthand_property_identifier_pattern"):
        yield text_of(pattern)
    elif pattern.type in ("assignment_pattern", "object_assignment_pattern"):
        yield from _bound_in(pattern.child_by_field_name("left"))
    elif pattern.type == "pair_pattern":
        yield from _bound_in(pattern.child_by_field_name("value"))
    elif pattern.type in ("object_pattern", "array_pattern", "rest_pattern"):
        for child in pattern.named_children:
            yield from _bound_in(child)


def parameters(definition: Any) -> list[str]:
    """Return the names of a function's parameters."""
    single = definition.child_by_field_name("parameter")
    if single is not None:
        return [text_of(single)]
    return [name for child in definition.child_by_field_name("parameters").named_children for name in _bound_in(child)]


def declared_names(node: Any) -> Iterator[str]:
    """Yield the names that one node declares."""
    if node.type == "variable_declarator":
        yield from _bound_in(node.child_by_field_name("name"))
    elif node.type in ("class_declaration", "class") or node.type in FUNCTIONS:
        if name := node.child_by_field_name("name"):
            yield text_of(name)
        if node.type in FUNCTIONS:
            yield from parameters(node)
    elif node.type == "method_definition":
        for child in node.child_by_field_name("parameters").named_children:
            yield from _bound_in(child)
    elif node.type == "catch_clause":
        if parameter := node.child_by_field_name("parameter"):
            yield from _bound_in(parameter)
    elif node.type == "for_in_statement" and node.child_by_field_name("kind"):
        yield from _bound_in(node.child_by_field_name("left"))
    elif node.type in ("import_clause", "namespace_import"):
        yield from (text_of(child) for child in node.named_children if child.type == "identifier")
    elif node.type == "import_specifier":
        yield text_of(node.child_by_field_name("alias") or node.child_by_field_name("name"))


def free_names(root: Any) -> set[str]:
    """Return the names that code uses and declares nowhere in itself.

    Scopes are not told apart: a name that is declared in one function and missing in another is taken for declared.
    """
    used, declared = set(), {"arguments"}
    for node in _walk(root):
        if node.type in _NAMES:
            used.add(text_of(node))
        else:
            declared.update(declared_names(node))
    return used - declared


def required_module(call: Any) -> str | None:
    """Return the module of `require("name")` or `import("name")`, None for another node."""
    if call.type != "call_expression" or text_of(call.child_by_field_name("function")) not in ("require", "import"):
        return None
    values = call.child_by_field_name("arguments").named_children
    return text_of(values[0])[1:-1] if len(values) == 1 and values[0].type == "string" else None


def imported_modules(root: Any) -> Iterator[tuple[str, str]]:
    """Yield the modules that code imports or requires, each with the text that does."""
    for node in _walk(root):
        if node.type in ("import_statement", "export_statement") and (source := node.child_by_field_name("source")):
            yield text_of(source)[1:-1], text_of(node)
        elif module := required_module(node):
            yield module, text_of(node)


def imported(function: Function, definition: Callable[[], Any]) -> Iterator[tuple[list[str], str]]:
    """Yield what a function and the statements before it import; see `Syntax`."""
    for module, text in imported_modules(parse(f"{function.imports}\n{function.code}")):
        parts = module.removeprefix("node:").split("/")
        longest_first = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
        yield [] if module.startswith((".", "/")) else longest_first, text

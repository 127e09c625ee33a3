"""A version of a script's code that changes when its behaviour may: the reason to rerun a rule."""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path


def _without_docstrings(tree: ast.Module) -> ast.Module:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _imported(tree: ast.Module, path: Path, root: Path) -> Iterator[Path]:
    package = path.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            modules = [module] + [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            for length in range(1, len(parts) + 1):  # importing a.b.c runs a/__init__ and a/b/__init__ too
                place = root.joinpath(*parts[:length])
                yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


@functools.cache
def _file_version(text: bytes, path: Path, root: Path) -> tuple[str, tuple[Path, ...]]:
    tree = ast.parse(text, filename=str(path))
    imported = tuple(sorted(set(_imported(tree, path, root))))
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest(), imported


def code_version(script: Path, root: Path) -> str:
    """Return 12 hex digits for the syntax trees of a script and of every module under root that it imports.

    Sources in C and JavaScript beside these modules count as they are.

    Comments, docstrings, formatting and modification times do not count. Imports made at run time by name
    (importlib) are not seen; neither are installed packages.
    """
    seen: dict[Path, str] = {}
    todo = [script]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen[path], imported = _file_version(path.read_bytes(), path, root)
            todo.extend(imported)
    folders = {path.parent for path in seen}
    for path in {file for folder in folders for kind in ("*.c", "*.js") for file in folder.glob(kind)}:
        seen[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = "".join(f"{path.relative_to(root)}:{version}\n" for path, version in sorted(seen.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]

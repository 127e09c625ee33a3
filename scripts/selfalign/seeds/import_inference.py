"""Imports that a function lacks and that its names give away: `np`, `os.path`, `Optional`, `defaultdict`.

A function cut out of its module loses what a star import or another function's import bound. Where every name that it
lacks is one that programmers use for one thing only, and it is used as that thing can be used, the imports are added.
The table is our own; names with several common meanings (`chain`, `log`, `cache`, `sqrt`) are not in it.
"""

import ast
import builtins
import symtable
from collections.abc import Iterable
from functools import cache
from importlib import import_module

# Modules of the standard library under their own names
_STDLIB = """
    abc ast base64 binascii bisect calendar cmath codecs collections configparser contextlib copy csv dataclasses
    datetime decimal difflib enum fnmatch fractions functools gc getpass glob gzip hashlib heapq hmac html importlib
    inspect io ipaddress itertools json keyword locale logging math mimetypes numbers operator os pathlib pickle
    platform pprint random re shlex shutil statistics string struct sys tempfile textwrap threading time timeit
    tokenize traceback types typing unicodedata urllib uuid warnings weakref zipfile zlib
"""
# What only one module of the standard library gives this name to
_STDLIB_NAMES = {
    "abc": "ABC ABCMeta abstractmethod",
    "bisect": "bisect_left bisect_right insort",
    "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
    "contextlib": "ExitStack contextmanager suppress",
    "copy": "deepcopy",
    "dataclasses": "asdict dataclass is_dataclass",
    "datetime": "datetime timedelta timezone",
    "decimal": "Decimal",
    "enum": "Enum IntEnum",
    "fractions": "Fraction",
    "functools": "cached_property lru_cache partial total_ordering wraps",
    "heapq": "heapify heappop heappush",
    "io": "BytesIO StringIO",
    "itertools": "combinations groupby islice permutations starmap takewhile zip_longest",
    "operator": "attrgetter itemgetter methodcaller",
    "pathlib": "Path PurePath PurePosixPath",
    "string": "ascii_letters ascii_lowercase ascii_uppercase",
    "textwrap": "dedent",
    "types": "FunctionType MappingProxyType ModuleType SimpleNamespace TracebackType",
    "typing": "Any AnyStr Callable ClassVar DefaultDict Dict Final FrozenSet Generator Hashable Iterable Iterator List "
    "Literal Mapping MutableMapping NamedTuple NoReturn Optional Protocol Sequence Set Tuple Type TypedDict Union cast",
    "urllib.parse": "parse_qs urlencode urljoin urlparse urlunparse",
    "uuid": "uuid4",
}
# Other packages under the names that everybody gives them
_PACKAGES = {
    "BeautifulSoup": "from bs4 import BeautifulSoup",
    "jnp": "import jax.numpy as jnp",
    "ndarray": "from numpy import ndarray",
    "np": "import numpy as np",
    "numpy": "import numpy",
    "nx": "import networkx as nx",
    "pd": "import pandas as pd",
    "plt": "import matplotlib.pyplot as plt",
    "scipy": "import scipy",
    "sns": "import seaborn as sns",
    "sympy": "import sympy",
    "tf": "import tensorflow as tf",
    "torch": "import torch",
    "tqdm": "from tqdm import tqdm",
    "xr": "import xarray as xr",
    "yaml": "import yaml",
}
_BUILTIN = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__", "__package__", "__spec__", "__loader__"}


def _build_table() -> dict[str, tuple[str, ...]]:
    """Return for each name the imports that may be meant, the most special one first."""
    table: dict[str, list[str]] = {name: [f"import {name}"] for name in _STDLIB.split()}
    for module, names in _STDLIB_NAMES.items():
        for name in names.split():
            table.setdefault(name, []).append(f"from {module} import {name}")
    for name, line in _PACKAGES.items():
        table.setdefault(name, []).append(line)
    return {name: tuple(lines) for name, lines in table.items()}


TABLE = _build_table()


@cache
def _bound(line: str) -> object:
    """Return what an import of the standard library binds; None for other packages, which nobody has to have here."""
    words = line.split()
    if words[1].partition(".")[0] not in _STDLIB.split():
        return None
    module = import_module(words[1])
    return getattr(module, words[3]) if words[0] == "from" else module


def _fits(line: str, uses: Iterable[str | None]) -> bool:
    """Return whether a name that is used so can be what an import binds.

    Args:
        uses: Of each use the attribute that is taken, or None when the name stands alone. A module never does.
    """
    is_module = line.startswith("import ")
    thing = _bound(line)
    return all((use is None and not is_module) or (use and (thing is None or hasattr(thing, use))) for use in uses)


def missing_names(code: str, imports: str) -> set[str]:
    """Return the names that a function takes from its module, and that neither imports nor builtins bind.

    Raises:
        SyntaxError: the code is not Python 3.
    """
    program = symtable.symtable(f"{imports}\n{code}", "function", "exec")
    bound = {symbol.get_name() for symbol in program.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    bound |= {symbol.get_name() for symbol in program.get_symbols() if symbol.is_namespace()}
    names, tables = set(), [program]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names.update(
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (symbol.is_global() or table is program)
        )
    return names - bound - _BUILTIN


def infer_imports(definition: ast.AST, names: Iterable[str]) -> list[str] | None:
    """Return the imports that bind all the names as a function uses them, sorted; None when one is left over."""
    uses: dict[str, set[str | None]] = {name: set() for name in names}
    if not uses.keys() <= TABLE.keys():
        return None
    taken = set()  # names whose attribute was seen first: the walk comes to them from above
    for node in ast.walk(definition):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in uses:
            uses[node.value.id].add(node.attr)
            taken.add(id(node.value))
        elif isinstance(node, ast.Name) and node.id in uses and id(node) not in taken:
            uses[node.id].add(None)
    found = []
    for name, used in uses.items():
        fitting = [line for line in TABLE[name] if used and _fits(line, used)]
        if not fitting:
            return None
        found.append(fitting[0])
    return sorted(found)

"""Packages beyond the standard library: which of them a program imports, and where they and what they need lie."""

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from selfalign.sandbox.settings import Program

IMPORT = re.compile(r"\b(?:import|from)\b(?:[^\\\n]|\\[\s\S])*")  # to the end of the logical line
DYNAMIC = re.compile(r"\b(?:__import__|importlib|runpy|exec|eval|pickle)\b")


def find_imports(program: Program, packages: Sequence[str]) -> tuple[str, ...]:
    """Return those of the packages that a program may import, in their order; rather one too many than one too few.

    Import statements count wherever they stand; where code is made at run time, every mention of a package does.
    """
    text = f"{program.code}\n{program.tests}"
    if not any(name.split(".")[0] in text for name in packages):
        return ()
    if not DYNAMIC.search(text):
        text = "\n".join(IMPORT.findall(text))
    words = set(re.findall(r"\w+", text))
    return tuple(name for name in packages if name.split(".")[0] in words)


def locate_packages(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return for each import name what it needs of the running environment, with all its dependencies.

    Dependencies are those that the installed distributions declare for this machine, and theirs.

    Returns:
        By import name: {file or folder name: its path}. Metadata is among it, since packages read their own version.

    Raises:
        ValueError: a package or a dependency is not installed, or the name is none of a package.
    """
    providers = importlib.metadata.packages_distributions() if names else {}
    contents: dict[str, dict[str, str]] = {}
    tops = dict.fromkeys(name.split(".")[0] for name in names)
    located = {top: _locate(top, providers, contents) for top in tops}
    return {name: located[name.split(".")[0]] for name in names}


def _locate(name: str, providers: Mapping[str, list[str]], contents: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return what a package needs.

    Args:
        contents: What distributions have, by their names; filled on the way, since to list their files takes long.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if name in sys.stdlib_module_names:
        raise ValueError(f"sandbox settings: {name!r} is of the standard library, which programs have; leave it out")
    if not name.isidentifier() or importlib.util.find_spec(name) is None:
        imported = [key for key, items in providers.items() if canonicalize_name(name) in map(canonicalize_name, items)]
        hint = f"; {name} is imported as {', '.join(imported)}" if imported else ""
        raise ValueError(f"sandbox settings: package {name!r} is not installed beside {sys.executable}{hint}")
    found = {} if name in providers else _from_import(name)  # a module without a distribution has no dependencies
    queue = [(item, frozenset()) for item in providers.get(name, ())]
    seen = set()
    while queue:
        item = queue.pop()
        if item in seen:
            continue
        seen.add(item)
        distribution = importlib.metadata.distribution(item[0])
        if item[0] not in contents:
            contents[item[0]] = _contents(distribution, providers)
        found |= contents[item[0]]
        for requirement in map(Requirement, distribution.requires or ()):
            extras = ("", *item[1])
            if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                continue
            try:
                importlib.metadata.distribution(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                raise ValueError(
                    f"sandbox settings: package {name!r} needs {requirement.name}, which is not installed beside "
                    f"{sys.executable}; install it: pip install {requirement.name}"
                ) from None
            queue.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def _contents(distribution: importlib.metadata.Distribution, providers: Mapping[str, list[str]]) -> dict[str, str]:
    """Return what a distribution has in the packages folder, bundled libraries and metadata included."""
    tops = {file.parts[0] for file in distribution.files or ()}
    tops = {top for top in tops if top not in ("..", "/", "__pycache__") and not top.endswith(".pth")}
    found = {top: str(distribution.locate_file(top)) for top in tops}
    # A distribution of a system's package manager, or one that is installed for editing, does not list its files.
    stems = {top.split(".")[0] for top in tops}
    own = distribution.name  # it is read from the metadata anew each time
    for name, items in providers.items():
        if own in items and name not in stems and importlib.util.find_spec(name):
            found |= _from_import(name)
    return {top: path for top, path in found.items() if Path(path).exists()}


def _from_import(name: str) -> dict[str, str]:
    """Return the file or folder that an import of this name would take."""
    spec = importlib.util.find_spec(name)
    path = next(iter(spec.submodule_search_locations)) if spec.submodule_search_locations else spec.origin
    return {Path(path).name: str(path)}

"""What the rooms need to know of a programming language."""

import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Language:
    """A programming language.

    Attributes:
        key: Its name in the config and on command lines.
        name: Its name in prompts.
        fences: What models write behind the fence of a block in this language; the first is ours.
        suffixes: Ends of the names of its source files.
        comment: Pattern of what a comment begins with.
        filters: Row filters that there are for its functions.
        checkers: Programs that the filter type_check can run.
        default_checkers: Those that run where the config names none.
        not_for_sandbox: Modules that make no sense in a sandbox without network, display and other processes.
    """

    key: str
    name: str
    fences: tuple[str, ...]
    suffixes: tuple[str, ...]
    comment: str
    filters: frozenset[str]
    checkers: tuple[str, ...]
    default_checkers: tuple[str, ...]
    not_for_sandbox: tuple[str, ...]

    @property
    def fence(self) -> str:
        """Return what our documents write behind a fence."""
        return self.fences[0]

    @cached_property
    def fence_pattern(self) -> re.Pattern:
        """Match what stands behind the fence of a block in this language: python, not pycon or python-repl."""
        return re.compile(rf"[{{. \t]*(?:{'|'.join(self.fences)})(?![a-z-])", re.IGNORECASE)

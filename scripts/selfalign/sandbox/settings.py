"""What goes into the sandbox and which verdicts come out."""

import math
from dataclasses import dataclass, field
from typing import Protocol

VERDICTS = {
    "passed": "ran to its end, at least one assertion or test case was executed, none was false",
    "assertion": "an assertion or a test case failed",
    "exception": "raised something else",
    "syntax": "does not compile",
    "no_tests": "ran to its end, but no assertion and no test case was executed",
    "early_exit": "left before its last statement, or ended without coming back to the harness",
    "swallowed_assertion": "an assertion of its tests was false, and the program caught the error and went on",
    "wrong_output": "what it printed is not what was expected",
    "timeout_cpu": "used up its CPU time",
    "timeout_wall": "slept or waited past the wall time without using its CPU time",
    "memory": "asked for more memory than it may have",
    "output_limit": "printed more than it may",
    "killed": "died of a signal, for example a stack overflow in C",
    "sandbox_error": "our trouble, never the program's",
}


DATA_LIMIT = 256 << 20  # characters of the text that a program is given
SOURCE_LIMIT = 1 << 20  # characters of one program; its syntax tree takes a hundred times as much memory
COLLECT_LIMIT_KB = 1 << 18  # KiB; a worker holds the output once, the supervisor up to five times (4 bytes a character)


class Comparison(Protocol):
    """Says outside the sandbox whether a program printed what was expected; what it expects never gets inside.

    What is compared is all that the program wrote to its standard output and error, in one text, and what was left in
    the buffers of `sys.stdout` and `sys.stderr` when it returned. Functions of `atexit` do not run.

    Attributes:
        key: Identifies what it compares with: programs of the same text with another key run for themselves.
        collect_kb: KiB of standard output and error together that are handed back; more is `output_limit`.
    """

    key: str
    collect_kb: int

    def __call__(self, printed: str) -> str:
        """Return "" when a program printed the right thing, else what is wrong.

        It runs in the supervisor, which starts no program meanwhile, and must take any text.
        """


@dataclass(frozen=True, kw_only=True)
class Program:
    """A complete program to judge.

    Attributes:
        code: The solution, or the whole program with its tests.
        tests: Test code that runs after `code` in the same namespace. When it is given, only assertions that stand in
            it, or in functions named like tests, are evidence; the solution's own preconditions are not.
        data: A text that the program finds under the name `_data`: what would make its source too long.
        cpu_s: CPU seconds for this program in place of those of the settings.
        compare: What looks at the output of a program that passed otherwise: `wrong_output` where it is not right.
            Without one, output is discarded.

    Raises:
        ValueError: it is too large, its id is no text that a file can hold, or a limit is none.
    """

    id: str
    code: str
    tests: str = ""
    data: str = ""
    cpu_s: float | None = None
    compare: Comparison | None = None

    def __post_init__(self):
        size = len(self.code) + len(self.tests)
        if size > SOURCE_LIMIT:
            raise ValueError(
                f"program {self.id!r} has {size:,} characters, and the sandbox takes {SOURCE_LIMIT:,}; leave it "
                "out, or let it compute its data"
            )
        if len(self.data) > DATA_LIMIT:
            raise ValueError(
                f"program {self.id!r} has {len(self.data):,} characters of data, and the sandbox takes {DATA_LIMIT:,}"
            )
        if not self.id.isascii() and any("\ud800" <= character <= "\udfff" for character in self.id):
            raise ValueError(f"the id {self.id!r} holds half a character (a lone surrogate), which no file can hold")
        if self.cpu_s is not None and not 0 < self.cpu_s < math.inf:
            raise ValueError(f"program {self.id!r}: cpu_s must be above 0 and finite, found {self.cpu_s!r}")
        if self.compare is not None and not 0 < self.compare.collect_kb <= COLLECT_LIMIT_KB:
            raise ValueError(
                f"program {self.id!r}: collect_kb must be from 1 to {COLLECT_LIMIT_KB:,}, "
                f"found {self.compare.collect_kb!r}"
            )


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """Limits of one program.

    Attributes:
        cpu_s: CPU seconds, the limit that decides.
        wall_factor: Wall seconds for each CPU second; a program that still computes on a busy machine gets more.
        memory_mb: Address space of each process, in MiB.
        output_kb: Standard output and error together, in KiB.
        disk_mb: Files in its working folder and in shared memory, in MiB each.
        threads: Threads it may have.
        processes: Processes it may start besides; with 0, fork and exec are refused.
        packages: Import names beyond the standard library, from the running environment. What they need is found by
            itself, but a program may import it only beside a package that needs it: name all that programs import.
            They are imported before a program starts; `scipy.stats` names a part that is to be imported too.
    """

    cpu_s: float = 4.0
    wall_factor: float = 3.0
    memory_mb: int = 1024
    output_kb: int = 1024
    disk_mb: int = 16
    threads: int = 128
    processes: int = 0
    packages: list[str] = field(default_factory=list)

    def __post_init__(self):
        for name in ("cpu_s", "wall_factor", "memory_mb", "output_kb", "disk_mb", "threads"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, found {getattr(self, name)!r}")
        if self.processes < 0:
            raise ValueError(f"processes must be 0 or more, found {self.processes!r}")
        if self.memory_mb < 128:
            raise ValueError(f"memory_mb must be at least 128, found {self.memory_mb!r}")
        if len(set(self.packages)) < len(self.packages):
            raise ValueError(f"packages names one twice: {', '.join(self.packages)}")

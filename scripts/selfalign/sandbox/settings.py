"""What goes into the sandbox and which verdicts come out."""

from dataclasses import asdict, dataclass, field, fields
from typing import Self

VERDICTS = {
    "passed": "ran to its end, at least one assertion or test case was executed, none was false",
    "assertion": "an assertion or a test case failed",
    "exception": "raised something else",
    "syntax": "does not compile",
    "no_tests": "ran to its end, but no assertion and no test case was executed",
    "early_exit": "left before its last statement, or ended without coming back to the harness",
    "swallowed_assertion": "an assertion of its tests was false, and the program caught the error and went on",
    "timeout_cpu": "used up its CPU time",
    "timeout_wall": "slept or waited past the wall time without using its CPU time",
    "memory": "asked for more memory than it may have",
    "output_limit": "printed more than it may",
    "killed": "died of a signal, for example a stack overflow in C",
    "sandbox_error": "our trouble, never the program's",
}


@dataclass(frozen=True, kw_only=True)
class Program:
    """A complete program to judge.

    Attributes:
        code: The solution, or the whole program with its tests.
        tests: Test code that runs after `code` in the same namespace. When it is given, only assertions that stand in
            it, or in functions named like tests, are evidence; the solution's own preconditions are not.
    """

    id: str
    code: str
    tests: str = ""


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
        packages: Import names beyond the standard library, from the running environment (their dependencies too).
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
            if not getattr(self, name) > 0:
                raise ValueError(f"sandbox settings: {name} must be above 0, found {getattr(self, name)!r}")
        if self.processes < 0:
            raise ValueError(f"sandbox settings: processes must be 0 or more, found {self.processes!r}")
        if self.memory_mb < 128:
            raise ValueError(f"sandbox settings: memory_mb must be at least 128, found {self.memory_mb!r}")

    @classmethod
    def load(cls, settings: dict) -> Self:
        """Build settings from a dictionary.

        Raises:
            ValueError: a key is unknown or a value has the wrong type; names the key and what is allowed.
        """
        if not isinstance(settings, dict):
            raise ValueError(f"sandbox settings: expected a mapping, found {type(settings).__name__}")
        known = {item.name: getattr(cls(), item.name) for item in fields(cls)}
        for key, value in settings.items():
            if key not in known:
                raise ValueError(f"sandbox settings: unknown key {key!r}; known are {', '.join(known)}")
            kinds = (float, int) if isinstance(known[key], float) else (type(known[key]),)
            if not isinstance(value, kinds) or isinstance(value, bool):
                names = " or ".join(kind.__name__ for kind in kinds)
                raise ValueError(f"sandbox settings: {key} must be {names}, found {value!r}")
        if not all(isinstance(name, str) for name in settings.get("packages", [])):
            raise ValueError(f"sandbox settings: packages must be import names, found {settings['packages']!r}")
        return cls(**settings)

    def dump(self) -> dict:
        """Return the settings as a plain dictionary."""
        return asdict(self)

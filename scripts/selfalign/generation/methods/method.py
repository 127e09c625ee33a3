"""What a method is: the document kind of its instructions, and the job that asks for one of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from selfalign.generation.stages import Job
from selfalign.records.rows import Concepts, Function, Instruction


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What all instructions of a generation are asked with.

    Attributes:
        categories: Category to weight.
        changes: Changes that a task may be asked for, of the prompt file (Evol-Instruct).
        run_seed: The config's seed.
        language: That of the prompt file.
    """

    categories: Mapping[str, float]
    changes: tuple[str, ...]
    run_seed: int
    language: str = "python"


@dataclass(frozen=True, kw_only=True)
class Parent:
    """What an instruction is made from.

    Attributes:
        concepts: The row before it; without concepts where the method asks for none.
        seed: The seed, for methods that show its code.
        instruction: The instruction to change, for methods that change one.
    """

    concepts: Concepts
    seed: Function | None = None
    instruction: Instruction | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to get instructions.

    Attributes:
        kind: Document kind, as in the prompt file's headers.
        reads: What it needs beside the rows of the concepts: the seeds' code, or the instructions of another
            generation.
        job: From a parent, the sample's number and `Asked` to the job.
    """

    kind: str
    job: Callable[[Parent, int, Asked], Job]
    reads: Literal["seeds", "instructions"] | None = None

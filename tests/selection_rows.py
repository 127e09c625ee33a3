"""Candidates for the tests of selection, each unlike any other one unless it is told to be alike."""

import random

from selfalign.matching.benchmarks import BenchmarkIndex
from selfalign.records.rows import Concepts, Function, Instruction, Response, Verdict
from selfalign.selection.candidates import Candidate

EMPTY = BenchmarkIndex([])
TASK = {
    "id": "t/0",
    "benchmark": "bench",
    "instruction": "Write a function `keep_even_then_double(xs)` that keeps even numbers and doubles each.",
    "prompt": None,
    "entry_point": "keep_even_then_double",
    "canonical_solution": "def keep_even_then_double(xs):\n    xs = [x for x in xs if x % 2 == 0]\n"
    "    return [x * 2 for x in xs]\n",
}


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def words(seed: object, count: int = 25) -> str:
    rng = random.Random(str(seed))
    return " ".join(f"w{rng.randrange(10_000)}" for _ in range(count))


def candidate(
    seed: int = 0,
    number: int = 0,
    sample: int = 0,
    *,
    instruction: str | None = None,
    code: str | None = None,
    response: str | None = None,
    tests: str = fenced("assert f(1) == 1"),
    verdict: str = "passed",
    drop: str | None = None,
    samples: int = 2,
    pass_rate: float = 0.5,
) -> Candidate:
    """Return a candidate whose texts, where not given, are like those of no other one."""
    seed_id = f"{seed:016x}"
    concepts_id, instruction_id = f"{seed_id}-c0", f"{seed_id}-c0-i{number}"
    response_id = f"{instruction_id}-r{sample}"
    code = code or f"def f(x):\n    # {words(response_id)}\n    return x"
    common = {"shots": [], "seed": 1, "finish_reason": "stop"}
    row = Response(
        id=response_id, parent=instruction_id, text="raw", response=response or fenced(code), tests=tests, drop=drop,
        **common,
    )  # fmt: skip
    seen = Verdict(
        id=response_id, verdict=verdict, detail="seen", cpu_s=0.1, wall_s=0.1, max_rss_mb=9.0, assertions=1, core="c"
    )
    return Candidate(
        response=row,
        verdict=None if drop else seen,
        instruction=Instruction(
            id=instruction_id, parent=concepts_id, category="function", difficulty="easy", concepts=["sorting"],
            instruction=instruction or words(instruction_id), drop=None, **common,
        ),
        concepts=Concepts(id=concepts_id, parent=seed_id, text="sorting", concepts=["sorting"], drop=None, **common),
        seed=Function(
            id=seed_id, code="def g(x):\n    return x", name="g", imports="", docstring="Doc.", package="stdlib",
            version="3.11", path="json/decoder.py", line=7, licence="PSF-2.0",
        ),
        samples=samples, pass_rate=pass_rate,
    )  # fmt: skip


TEXT = words("near", 60).split()
NEAR = " ".join([*TEXT[:-1], "changed"])

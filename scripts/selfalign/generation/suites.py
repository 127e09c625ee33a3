"""Instructions to test suites: written without sight of any response, so that they can disagree with all of them."""

import ast
from pathlib import Path

from selfalign.generation.stages import Job, Settings, run_stage
from selfalign.prompts.documents import code_blocks, independent_tests_example, parse_independent_tests
from selfalign.records.files import file_digest, read_jsonl
from selfalign.records.rows import Instruction, TestSuite, load_rows


def generate_tests(instructions: Path, settings: Settings) -> None:
    """Write test suites for one shard's instructions; dropped instructions go no further.

    Args:
        instructions: JSON lines of `Instruction` rows.
        settings: Options shared by the stages; `samples` is the number of suites of an instruction.
    """
    rows = load_rows(Instruction, read_jsonl(instructions), str(instructions))
    jobs = [suites_job(row, settings.samples) for row in rows if not row.drop]
    run_stage("tests", "tests", jobs, [file_digest(instructions)], settings)


def suites_job(row: Instruction, samples: int) -> Job:
    """Return the job that asks for test suites of an instruction."""
    return Job(
        parent=row.id,
        ids=[f"{row.id}-t{k}" for k in range(samples)],
        example=independent_tests_example(row.instruction),
        make=_make,
    )


def _make(common: dict, text: str, drop: str | None) -> TestSuite:
    tests, malformed = parse_independent_tests(text)
    return TestSuite(**common, text=text, tests=tests, drop=drop or malformed or _useless(code_blocks(tests)))


def _useless(code: str) -> str | None:
    """Return why code cannot speak for any response: a suite that nothing passes would make all look worse."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "tests do not compile"
    return None if "assert" in code.lower() else "tests without assertion"  # the statement, and unittest's methods

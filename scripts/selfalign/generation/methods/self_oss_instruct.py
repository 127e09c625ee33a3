"""Self-OSS-Instruct: concepts, a category and a difficulty to an instruction (SelfCodeAlign, section 2.1)."""

from functools import partial

from selfalign.generation.methods.method import Asked, Method, Parent
from selfalign.generation.methods.properties import draw_properties
from selfalign.generation.stages import Job
from selfalign.prompts.documents import instruction_example, parse_instruction
from selfalign.records.rows import Instruction


def _job(parent: Parent, number: int, asked: Asked) -> Job:
    row_id = f"{parent.concepts.id}-i{number}"
    category, difficulty = draw_properties(row_id, asked.categories, asked.run_seed)
    concepts = parent.concepts.concepts
    return Job(
        parent=parent.concepts.id,
        ids=[row_id],
        example=instruction_example(category, difficulty, tuple(concepts), language=asked.language),
        make=partial(make_instruction, category, difficulty, concepts),
    )


def make_instruction(
    category: str, difficulty: str, concepts: list[str], common: dict, text: str, drop: str | None
) -> Instruction:
    """Return the row of a completion that is an instruction and nothing else."""
    instruction, malformed = parse_instruction(text)
    return Instruction(
        **common,
        category=category,
        difficulty=difficulty,
        concepts=concepts,
        instruction=instruction,
        drop=drop or malformed,
    )


METHOD = Method(kind="instruction", job=_job)

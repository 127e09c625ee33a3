"""Evol-Instruct for code: existing instructions are made harder, one change at a time (WizardCoder, arXiv 2306.08568).

WizardCoder evolves Code Alpaca in rounds and trains on all of them. Here the instructions are those of another
generation; a further round is a generation that evolves the evolved ones. The changes are those of the prompt file, of
which each instruction draws one; a change that leaves the text as it was counts as a failure, as published.
"""

from functools import partial

from selfalign.generation.methods.method import Asked, Method, Parent
from selfalign.generation.methods.properties import ANY
from selfalign.generation.stages import Job
from selfalign.prompts.documents import evolution_example, parse_instruction
from selfalign.records.commands import derive_seed
from selfalign.records.rows import Instruction


def _job(parent: Parent, number: int, asked: Asked) -> Job:
    if not asked.changes:
        raise ValueError("evol-instruct: the prompt file has no evolutions, of which changes and examples are taken")
    row = parent.instruction
    row_id = f"{parent.concepts.id}-i{number}"
    # By the text as well: a further round, in which rows keep their ids, draws again
    change = asked.changes[derive_seed(asked.run_seed, "change", row_id, row.instruction) % len(asked.changes)]
    return Job(
        parent=parent.concepts.id,
        ids=[row_id],
        example=evolution_example(row.instruction, change),
        make=partial(_make, row, change),
    )


def _make(row: Instruction, change: str, common: dict, text: str, drop: str | None) -> Instruction:
    evolved, malformed = parse_instruction(text)
    if evolved == row.instruction:
        malformed = malformed or "not changed"
    return Instruction(
        **common,
        category=ANY,
        difficulty=ANY,
        concepts=row.concepts,
        instruction=evolved,
        original=row.instruction,
        change=change,
        drop=drop or malformed,
    )


METHOD = Method(kind="evolution", job=_job, reads="instructions")

"""A seed straight to an instruction, without concepts in between: the ablation of SelfCodeAlign's table 10.

Category and difficulty are asked for as with concepts, so that nothing but the concepts is missing.
"""

from functools import partial

from selfalign.generation.methods.method import Asked, Method, Parent
from selfalign.generation.methods.properties import draw_properties
from selfalign.generation.methods.self_oss_instruct import make_instruction
from selfalign.generation.stages import Job
from selfalign.prompts.documents import snippet_instruction_example


def _job(parent: Parent, number: int, asked: Asked) -> Job:
    row_id = f"{parent.concepts.id}-i{number}"
    category, difficulty = draw_properties(row_id, asked.categories, asked.run_seed)
    return Job(
        parent=parent.concepts.id,
        ids=[row_id],
        example=snippet_instruction_example(parent.seed.code, category, difficulty, language=asked.language),
        make=partial(make_instruction, category, difficulty, []),
    )


METHOD = Method(kind="snippet_instruction", job=_job, reads="seeds")

"""OSS-Instruct: a snippet inspires a problem and its solution, in one text (Magicoder, arXiv 2312.02120, section 2.1).

Magicoder asks a teacher without worked examples and trains on what it gets. Here any model is asked, with worked
examples since a base model needs some; and the next stage asks for tests of the solution, so that it can be verified
like any other response. A dataset that selects `all` has the published method, without verification.
"""

from functools import partial

from selfalign.generation.methods.method import Asked, Method, Parent
from selfalign.generation.methods.properties import ANY
from selfalign.generation.stages import Job
from selfalign.prompts.documents import parse_problem, problem_example
from selfalign.records.rows import Instruction


def _job(parent: Parent, number: int, asked: Asked) -> Job:
    return Job(
        parent=parent.concepts.id,
        ids=[f"{parent.concepts.id}-i{number}"],
        example=problem_example(parent.seed.code, language=asked.language),
        make=partial(_make, asked.language),
    )


def _make(language: str, common: dict, text: str, drop: str | None) -> Instruction:
    problem, solution, malformed = parse_problem(text, language)
    return Instruction(
        **common,
        category=ANY,
        difficulty=ANY,
        concepts=[],
        instruction=problem,
        solution=solution,
        drop=drop or malformed,
    )


METHOD = Method(kind="problem", job=_job, reads="seeds")

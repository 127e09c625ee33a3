"""What a row's stage asked the engine, built again from the run's config and the row before it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from selfalign.engines.port import Request
from selfalign.generation.concepts import concepts_job
from selfalign.generation.instructions import METHODS
from selfalign.generation.methods.method import Asked, Parent
from selfalign.generation.methods.properties import load_weights
from selfalign.generation.responses import response_job
from selfalign.generation.stages import FewShot, Job, Sampling, build_request
from selfalign.records.rows import Concepts, Function, Instruction, Response


def rebuild_request(
    row: Concepts | Instruction | Response,
    before: Sequence[Function | Concepts | Instruction],
    generation: Mapping,
    prompts: Path,
    run_seed: int,
) -> tuple[Request, list[str]]:
    """Return the request of one sample, and the ids of the worked examples in its prompt.

    Args:
        row: What the sample became; its type tells the stage.
        before: The rows that it was made from, from its seed on.
        generation: The generation's entry in the merged config.
        prompts: The generation's prompt file.
        run_seed: The config's seed.
    """
    stage, kind = {
        Concepts: ("concepts", "concepts"),
        Instruction: ("instructions", "instruction"),
        Response: ("responses", "response"),
    }[type(row)]
    settings = Sampling(
        prompts=prompts,
        shots=generation["shots"][kind],
        shot_sets=generation["shot_sets"],
        temperature=generation["temperature"],
        top_p=generation["top_p"],
        max_tokens=generation["max_tokens"][kind],
        samples=1,
        run_seed=run_seed,
    )
    number, language = int(row.id.rpartition("-")[2][1:]), settings.prompt_set.language
    document, tags = kind, "xml"
    if isinstance(row, Concepts):
        job = concepts_job(before[0].id, before[0].code, [number], language)
    elif isinstance(row, Instruction):
        document = METHODS[generation["method"]].kind
        job = _instruction_job(row, before, number, generation, settings)
    else:
        tags = generation["tags"]
        job = response_job(before[-1], [number], tags, language)
    return build_request(stage, job, FewShot(document, settings, tags), settings)


def _instruction_job(
    row: Instruction, before: Sequence[Function | Concepts], number: int, generation: Mapping, settings: Sampling
) -> Job:
    """Return the job of an instruction; one that was changed is asked by its original."""
    method = METHODS[generation["method"]]
    original = replace(row, instruction=row.original) if method.reads == "instructions" else None
    asked = Asked(
        categories=load_weights(json.dumps(generation["categories"])),
        changes=settings.prompt_set.changes,
        run_seed=settings.run_seed,
        language=settings.prompt_set.language,
    )
    return method.job(Parent(concepts=before[-1], seed=before[0], instruction=original), number, asked)

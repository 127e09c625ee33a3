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
from selfalign.generation.stages import Job, Sampling, build_request, open_few_shot
from selfalign.prompts.documents import load_prompts
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
    language = load_prompts(prompts).language
    number = int(row.id.rpartition("-")[2][1:])
    if isinstance(row, Concepts):
        stage, kind, document = "concepts", "concepts", "concepts"
        job = concepts_job(before[0].id, before[0].code, [number], language)
    elif isinstance(row, Instruction):
        stage, kind, document = "instructions", "instruction", METHODS[generation["method"]].kind
        job = _instruction_job(row, before, number, generation, prompts, run_seed)
    else:
        stage, kind, document = "responses", "response", "response"
        job = response_job(before[-1], [number], generation["tags"], language)
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
    tags = generation["tags"] if kind == "response" else "xml"
    return build_request(stage, job, open_few_shot(document, settings, tags), settings)


def _instruction_job(
    row: Instruction,
    before: Sequence[Function | Concepts],
    number: int,
    generation: Mapping,
    prompts: Path,
    run_seed: int,
) -> Job:
    """Return the job of an instruction; one that was changed is asked by its original."""
    method = METHODS[generation["method"]]
    weights = load_weights(json.dumps(generation["categories"]))
    loaded = load_prompts(prompts)
    changes = loaded.changes if method.reads == "instructions" else ()
    original = replace(row, instruction=row.original) if method.reads == "instructions" else None
    parent = Parent(concepts=before[-1], seed=before[0], instruction=original)
    asked = Asked(categories=weights, changes=changes, run_seed=run_seed, language=loaded.language)
    return method.job(parent, number, asked)

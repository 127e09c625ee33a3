"""What a row's stage asked the engine, built again from the run's config and the row before it."""

import json
from collections.abc import Mapping
from pathlib import Path

from selfalign.engines.port import Request
from selfalign.generation.concepts import concepts_job
from selfalign.generation.instructions import instruction_job, load_weights
from selfalign.generation.responses import response_job
from selfalign.generation.stages import Sampling, build_request, open_few_shot
from selfalign.records.rows import Concepts, Function, Instruction


def rebuild_request(
    row_id: str, parent: Function | Concepts | Instruction, generation: Mapping, prompts: Path, run_seed: int
) -> tuple[Request, list[str]]:
    """Return the request of one sample, and the ids of the worked examples in its prompt.

    Args:
        row_id: Of the row that the sample became.
        parent: The row that it was made from; its type tells the stage.
        generation: The generation's entry in the merged config.
        prompts: The generation's prompt file.
        run_seed: The config's seed.
    """
    number = int(row_id.rpartition("-")[2][1:])
    if isinstance(parent, Function):
        stage, kind, job = "concepts", "concepts", concepts_job(parent.id, parent.code, [number])
    elif isinstance(parent, Concepts):
        weights = load_weights(json.dumps(generation["categories"]))
        stage, kind, job = "instructions", "instruction", instruction_job(parent, number, weights, run_seed)
    else:
        stage, kind, job = "responses", "response", response_job(parent, [number], generation["tags"])
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
    return build_request(stage, job, open_few_shot(kind, settings, tags), settings)

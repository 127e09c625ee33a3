"""Instructions to responses with tests (third step of the paper's section 2.1)."""

from pathlib import Path

from selfalign.generation.stages import Job, Settings, run_stage
from selfalign.prompts.documents import parse_response, response_example
from selfalign.records.files import file_digest, read_jsonl
from selfalign.records.rows import Instruction, Response, load_rows


def generate_responses(instructions: Path, settings: Settings) -> None:
    """Write the responses of one shard's instructions, several samples each; dropped instructions go no further."""

    def make(common: dict, text: str, drop: str | None) -> Response:
        response, tests, malformed = parse_response(text)
        return Response(**common, text=text, response=response, tests=tests, drop=drop or malformed)

    jobs = [
        Job(
            parent=row.id,
            ids=[f"{row.id}-r{k}" for k in range(settings.samples)],
            example=response_example(row.instruction),
            make=make,
        )
        for row in load_rows(Instruction, read_jsonl(instructions), str(instructions))
        if not row.drop
    ]
    run_stage("responses", "response", jobs, [file_digest(instructions)], settings)

"""Instructions to responses with tests (third step of the paper's section 2.1), in one round or several."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selfalign.generation.stages import Job, Settings, run_stage
from selfalign.prompts.documents import parse_response, response_example
from selfalign.records.files import file_digest, read_jsonl
from selfalign.records.rows import Instruction, Response, Verdict, load_rows


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The rounds of a shard before this one.

    Attributes:
        responses: Their response rows (JSON lines), one file each.
        verdicts: The verdicts of these.
        until_passed: Passing responses with which an instruction has enough.
    """

    responses: list[Path]
    verdicts: list[Path]
    until_passed: int

    def __post_init__(self):
        if self.until_passed < 1:
            raise ValueError(f"--until-passed is {self.until_passed}; it must be at least 1")
        if len(self.responses) != len(self.verdicts):
            raise ValueError(
                f"--earlier-responses has {len(self.responses)} files and --earlier-verdicts {len(self.verdicts)}; "
                "give both of each earlier round"
            )

    def count(self) -> tuple[Counter, Counter]:
        """Return how many responses each instruction has, and how many of them passed.

        Raises:
            ValueError: a response that was not dropped has no verdict.
        """
        sampled, passed, waiting = Counter(), Counter(), {}
        for path in self.responses:
            for row in load_rows(Response, read_jsonl(path), str(path)):
                sampled[row.parent] += 1
                if not row.drop:
                    waiting[row.id] = row.parent
        for path in self.verdicts:
            for row in load_rows(Verdict, read_jsonl(path), str(path)):
                if row.id in waiting:
                    passed[waiting.pop(row.id)] += row.passed
        if waiting:
            raise ValueError(
                f"response {next(iter(waiting))} has no verdict in the files of --earlier-verdicts; give those of the "
                "same run and shard"
            )
        return sampled, passed


def generate_responses(
    instructions: Path, settings: Settings, *, tags: str = "xml", earlier: Earlier | None = None
) -> None:
    """Write the responses of one shard's instructions, several samples each; dropped instructions go no further.

    A further round is for the instructions that have too few passing responses, and its samples go on where those of
    the earlier rounds ended: they are the ones that more samples in the first round would have been.

    Args:
        instructions: JSON lines of `Instruction` rows.
        settings: Options shared by the stages.
        tags: How the parts of a document are marked, of `STYLES`.
        earlier: The rounds before this one; None in the first.
    """
    sampled, passed = earlier.count() if earlier else (Counter(), Counter())

    jobs = []
    for row in load_rows(Instruction, read_jsonl(instructions), str(instructions)):
        if row.drop or (earlier and passed[row.id] >= earlier.until_passed):
            continue
        if earlier and not sampled[row.id]:
            raise ValueError(
                f"instruction {row.id} has no response in the files of --earlier-responses; give those of the same run "
                "and shard"
            )
        first = sampled[row.id]
        jobs.append(response_job(row, range(first, first + settings.samples), tags, settings.prompt_set.language))
    before = [earlier.until_passed, *map(file_digest, earlier.responses + earlier.verdicts)] if earlier else []
    run_stage("responses", "response", jobs, [file_digest(instructions), tags, before], settings, tags=tags)


def response_job(row: Instruction, samples: Iterable[int], tags: str, language: str = "python") -> Job:
    """Return the job that asks for responses to an instruction, samples by their numbers.

    An instruction that came with its solution (OSS-Instruct) has that as each response, and only tests are asked for.
    """
    example = response_example(row.instruction, row.solution or None, tags=tags)
    given = example.removeprefix(response_example(row.instruction, tags=tags))
    return Job(
        parent=row.id,
        ids=[f"{row.id}-r{k}" for k in samples],
        example=example,
        make=partial(_make, tags, language, given),
    )


def _make(tags: str, language: str, given: str, common: dict, text: str, drop: str | None) -> Response:
    response, tests, malformed = parse_response(given + text, tags=tags, language=language)
    return Response(**common, text=text, response=response, tests=tests, drop=drop or malformed)

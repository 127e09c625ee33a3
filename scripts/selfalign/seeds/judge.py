"""A base model as judge of docstrings: few-shot, Yes or No first and then a reason, of which only the first is asked.

The original asks its base model in the same way (greedy, at most 5 tokens, one line); prompt and examples are ours and
stand in a prompt file. The examples come in the file's order in every prompt, so that an engine reads them once.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from selfalign.engines.models import read_model
from selfalign.engines.port import TOO_LONG, Completion, Request, Usage, load_settings, open_engine
from selfalign.engines.resumable import Clock, complete_rows, engine_stats
from selfalign.prompts.documents import NEXT_EXAMPLE, render_document
from selfalign.records.commands import derive_seed
from selfalign.records.files import SideFile, digest, file_digest, write_json, write_table
from selfalign.records.rows import Function
from selfalign.seeds.filters import DocstringJudge
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS, Candidate, Drop, Outcomes, filter_part

STAGE = "docstring_judge"
ANSWERS = ("Yes", "No")
_ANSWER = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class JudgeShot:
    """A worked example: a function, the answer, and one line that says why."""

    id: str
    code: str
    answer: str
    reason: str


def load_judge_prompts(path: str | Path) -> tuple[str, list[JudgeShot]]:
    """Read a judge's prompt file: `header` and `shots`.

    Raises:
        ValueError: a key is missing or unknown, or an answer is neither "Yes" nor "No"; names the file and the example.
    """
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as a prompt file ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict) or set(data) != {"header", "shots"} or not data["shots"]:
        raise ValueError(f"{path}: expected the keys header and shots, a list of examples")
    shots = []
    for number, item in enumerate(data["shots"], 1):
        try:
            shot = JudgeShot(**item)
        except TypeError as error:
            raise ValueError(f"{path}, example {number}: {error}") from error
        if shot.answer not in ANSWERS:
            raise ValueError(
                f"{path}, example {number}: answer is {shot.answer!r}; it must be 'Yes' or 'No', in quotes (YAML reads "
                "the bare word as true or false)"
            )
        shots.append(shot)
    return data["header"].strip(), shots


def judge_example(code: str, shot: JudgeShot | None = None) -> str:
    """Render a function with its verdict; without one, the open end that the model continues."""
    text = f"### Function\n```python\n{code.strip()}\n```\n### Does the docstring say what the function does?\n"
    return f"{text}{shot.answer}. {shot.reason.strip()}\n\n" if shot else text


def read_answer(text: str) -> bool | None:
    """Return whether an answer is Yes; None where it is neither."""
    match = _ANSWER.match(text)
    return match[1].lower() == "yes" if match else None


def judge_functions(
    functions: Sequence[Function],
    settings: DocstringJudge,
    *,
    model: Path,
    engine: str,
    prompts: Path,
    run_seed: int,
    label: str,
    inputs: object,
    kept: Path,
    rejected: Path,
    stats: Path,
) -> None:
    """Ask a model about the functions of one part and write the kept, the rejected, and funnel with stats.

    A killed run goes on where it stopped.

    Args:
        model: `model.json` of the judge.
        engine: Engine settings as JSON.
        prompts: The judge's prompt file.
        inputs: Digest of what the functions come from, for the side file's key.
    """
    clock = Clock.start()
    engine_settings = load_settings(engine)
    header, shots = load_judge_prompts(prompts)
    if settings.shots > len(shots):
        raise ValueError(f"{STAGE}: shots is {settings.shots}, but {prompts} has {len(shots)} examples")
    shown = [judge_example(shot.code, shot) for shot in shots[: settings.shots]]
    shared = len(render_document(header, shown))
    requests = [
        Request(
            id=function.id,
            prompt=render_document(header, [*shown, judge_example(function.code)]),
            n=settings.samples,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            stop=("\n", NEXT_EXAMPLE),
            seeds=tuple(derive_seed(run_seed, STAGE, function.id, k) for k in range(settings.samples)),
            shared=shared,
        )
        for function in functions
    ]

    def row_id(function_id: str, k: int) -> str:
        return f"{function_id}-j{k}"

    def to_row(completion: Completion) -> dict:
        row = {"id": row_id(completion.id, completion.k), "text": completion.text}
        return row | {"finish_reason": completion.finish_reason}

    key = [
        inputs,
        asdict(settings),
        read_model(model).digest,
        file_digest(prompts),
        engine_settings.identity(),
        run_seed,
    ]
    side = SideFile(kept, digest(STAGE, key))
    answers, usage = {}, Usage()
    if requests:
        opened = open_engine(model, engine_settings)
        answers = complete_rows(opened, requests, side, row_id, to_row, label, need_all=True)
        usage = opened.usage

    def judge(candidates: Sequence[Candidate]) -> Outcomes:
        outcomes = []
        for candidate in candidates:
            given = [answers[row_id(candidate.function.id, k)] for k in range(settings.samples)]
            outcomes.append(_outcome(candidate.function, given, settings))
        return outcomes

    going_on, out, funnel = filter_part(functions, [(STAGE, judge)], label=label, total=len(functions))
    write_table(rejected, out, REJECTED_COLUMNS)
    cost = {"stage": "judge_seeds", "label": label, "rows": len(functions)}
    write_json(stats, funnel.dump() | cost | engine_stats(usage, clock, engine_settings.kind))
    write_table(kept, [row.dump() for row in going_on], FUNCTION_COLUMNS)
    side.discard()


def _outcome(function: Function, answers: Sequence[dict], settings: DocstringJudge) -> Function | Drop:
    """Return what becomes of a function; an answer that is neither Yes nor No counts as No."""
    if all(answer["finish_reason"] == TOO_LONG for answer in answers):
        return Drop(f"judge: {TOO_LONG}")
    read = [read_answer(answer["text"]) for answer in answers]
    if sum(answer is True for answer in read) >= settings.threshold * len(read):
        return function
    return Drop("judge: no answer" if all(answer is None for answer in read) else "judge: no", answers[0]["text"])

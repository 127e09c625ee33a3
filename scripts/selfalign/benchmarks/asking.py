"""How a model is asked to solve a task: by chat, with worked examples, or with code to complete."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from selfalign.benchmarks.benchmark import Wording
from selfalign.benchmarks.tasks import Task
from selfalign.engines.models import Model
from selfalign.prompts.chat import chat_prompt
from selfalign.prompts.documents import (
    STYLES,
    load_prompts,
    render_document,
    response_example,
    shot_example,
)
from selfalign.records.commands import derive_seed

# A model that was never aligned goes on with a task of its own, or, when it knows the pipeline's documents, with
# tests of its own, which are not to be held against its answer.
CHAT_STOP = ("### Instruction", "</response>")


@dataclass(frozen=True, kw_only=True)
class AskSettings:
    """How a benchmark is asked.

    Attributes:
        prompt: chat (the instruction alone, through the aligned models' chat template), few-shot (a response document
            with worked examples), completion (the task's code, to go on with) or auto: chat for a model that has a
            chat template, completion for one that has none.
        prompts: few-shot: the prompt file.
        shots: few-shot: worked examples in one prompt.
        shot_sets: few-shot: different sets of them; a task's id picks its set.
        tags: few-shot: how the parts of the document are marked.
        system_prompt: chat: in place of the template's own.
        own_template: chat: ask a model that has a chat template through it. Without, every model gets our text, which
            is that of the models we train: for base models whose tokenizer happens to have a template.
        samples: Completions per task.
        temperature: 0 is greedy.
        top_p: Mass of the nucleus that is sampled from.
        max_tokens: Limit of one completion, in tokens.
        stop: Strings that end a completion; None is what the way of asking needs.
    """

    prompt: Literal["auto", "chat", "few-shot", "completion"] = "auto"
    prompts: str | None = None
    shots: int = 1
    shot_sets: int = 4
    tags: Literal["xml", "headings"] = "xml"
    system_prompt: str | None = None
    own_template: bool = True
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] | None = None

    def __post_init__(self):
        for name in ("shots", "shot_sets", "samples", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be 1 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it has to be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it has to be above 0 and at most 1")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 are the same; raise temperature or take 1")
        if (self.prompt == "few-shot") != (self.prompts is not None):
            raise ValueError("prompts names a prompt file for few-shot, and for nothing else")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a model gets for one task; the first `shared` characters are those of other tasks, too."""

    prompt: str
    stop: tuple[str, ...]
    shared: int = 0


def way_of_asking(settings: AskSettings, model: Model) -> str:
    """Return chat, few-shot or completion: what the settings say, or what the model is for."""
    if settings.prompt != "auto":
        return settings.prompt
    return "chat" if model.chat_template else "completion"


def asker(settings: AskSettings, model: Model, *, benchmark: str, run_seed: int) -> Callable[[Task, Wording], Question]:
    """Return the function that turns a task's questions into what a model gets.

    Raises:
        ValueError: the prompt file has too few examples, or a task has no code to complete.
    """
    way = way_of_asking(settings, model)
    if way == "chat":
        tokenizer = None
        if model.chat_template and settings.own_template:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(model.folder())

        def by_chat(task: Task, wording: Wording) -> Question:
            prompt = chat_prompt(wording.instruction, tokenizer=tokenizer, system=settings.system_prompt)
            return Question(prompt=prompt, stop=CHAT_STOP if settings.stop is None else settings.stop)

        return by_chat

    if way == "few-shot":
        prompts = load_prompts(settings.prompts, settings.tags)
        if len(prompts.shots) < settings.shots:
            raise ValueError(
                f"{settings.prompts}: {len(prompts.shots)} examples, fewer than the {settings.shots} shots"
            )
        sets = [
            random.Random(derive_seed(run_seed, benchmark, "shots", number)).sample(prompts.shots, settings.shots)
            for number in range(settings.shot_sets)
        ]

        def few_shot(task: Task, wording: Wording) -> Question:
            shots = sets[derive_seed(run_seed, benchmark, "shot set", task.id) % len(sets)]
            examples = [shot_example("response", shot, tags=settings.tags) for shot in shots]
            header = prompts.headers["response"]
            asked = response_example(wording.instruction, tags=settings.tags)
            stop = (STYLES[settings.tags].response_end, STYLES[settings.tags].next_example)
            return Question(
                prompt=render_document(header, [*examples, asked]),
                stop=stop if settings.stop is None else settings.stop,
                shared=len(render_document(header, examples)),
            )

        return few_shot

    def completion(task: Task, wording: Wording) -> Question:
        if wording.prompt is None:
            raise ValueError(f"{task.id} has no code to complete; ask {task.benchmark} by chat or few-shot")
        return Question(prompt=wording.prompt, stop=tuple(task.stop) if settings.stop is None else settings.stop)

    return completion

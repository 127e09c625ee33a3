"""What the three stages have in common: few-shot sets, requests, rows that survive a kill, stats."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from selfalign.engines.models import read_model
from selfalign.engines.port import Completion, Request, Usage, load_settings, open_engine
from selfalign.engines.resumable import Clock, complete_rows, engine_stats
from selfalign.prompts.documents import PromptSet, check_tags, load_prompts, render_document, shot_example, stop_strings
from selfalign.records.commands import derive_seed
from selfalign.records.files import SideFile, digest, file_digest, write_json, write_jsonl
from selfalign.records.rows import Row


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What decides on the prompts and samples of a stage; named as on the command line.

    Attributes:
        prompts: Prompt file with headers and worked examples.
        shots: Worked examples in each prompt.
        shot_sets: How many different sets of them the run uses; few let the engine reuse what it read.
        temperature: 0 is greedy.
        top_p: Nucleus that is sampled from.
        max_tokens: Limit of each completion.
        samples: Completions of each input row.
        run_seed: The config's seed.
    """

    prompts: Path
    shots: int
    shot_sets: int
    temperature: float
    top_p: float
    max_tokens: int
    samples: int
    run_seed: int

    def __post_init__(self):
        for name in ("shots", "shot_sets", "max_tokens", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError("--temperature must be at least 0, --top-p above 0 and at most 1")

    @cached_property
    def prompt_set(self) -> PromptSet:
        """The content of the prompt file, read once."""
        return load_prompts(self.prompts)


@dataclass(frozen=True, kw_only=True)
class Settings(Sampling):
    """All options that the three commands share.

    Attributes:
        model: Path of the generator's `model.json`.
        engine: Engine settings as JSON.
        label: For progress lines.
        output: JSON lines to write.
        stats: JSON to write.
    """

    model: Path
    engine: str
    label: str
    output: Path
    stats: Path


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A rendered prompt: `shared` of its characters are header and worked examples with the ids `shots`."""

    text: str
    shared: int
    shots: list[str]


class FewShot:
    """Renders prompts of one document kind over a fixed number of seeded, ordered sets of worked examples.

    These are of the settings' prompt file.
    """

    def __init__(self, kind: str, settings: Sampling, tags: str = "xml"):
        prompts = settings.prompt_set
        if kind == "response":
            check_tags(prompts, settings.prompts, tags)
        examples = prompts.examples(kind)
        if kind not in prompts.headers:
            raise ValueError(f"{settings.prompts}: headers: {kind} is missing, which this method's prompts begin with")
        if settings.shots > len(examples):
            what = "evolutions" if kind == "evolution" else "examples"
            raise ValueError(f"--shots is {settings.shots}, but {settings.prompts} has {len(examples)} {what}")
        self.header = prompts.headers[kind]
        self.kind, self.run_seed, self.tags, self.language = kind, settings.run_seed, tags, prompts.language
        self.sets = [
            Random(derive_seed(settings.run_seed, "shots", kind, number)).sample(examples, settings.shots)
            for number in range(settings.shot_sets)
        ]

    def render(self, row_id: str, example: str) -> Prompt:
        """Render the row's open example behind the worked examples of the set that its id selects."""
        shots = self.sets[derive_seed(self.run_seed, "shot set", self.kind, row_id) % len(self.sets)]
        examples = [shot_example(self.kind, shot, tags=self.tags, language=self.language) for shot in shots]
        return Prompt(
            text=render_document(self.header, [*examples, example]),
            shared=len(render_document(self.header, examples)),
            shots=[shot.id for shot in shots],
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One prompt of a stage.

    Attributes:
        parent: Id of the input row.
        ids: Ids of the rows to make, one per sample.
        example: The open example.
        make: Builds the row from what all stages fill in (id, parent, shots, seed, finish_reason), the text, and a
            drop reason that holds whatever the text says, or None.
    """

    parent: str
    ids: list[str]
    example: str
    make: Callable[[dict, str, str | None], Row]


def build_request(stage: str, job: Job, few_shot: FewShot, settings: Sampling) -> tuple[Request, list[str]]:
    """Return what a stage asks the engine for a job, and the ids of the worked examples in its prompt."""
    prompt = few_shot.render(job.parent, job.example)
    request = Request(
        id=job.ids[0],
        prompt=prompt.text,
        n=len(job.ids),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        stop=stop_strings(few_shot.kind, few_shot.tags),
        seeds=tuple(derive_seed(settings.run_seed, stage, row_id) for row_id in job.ids),
        shared=prompt.shared,
    )
    return request, prompt.shots


def run_stage(
    stage: str,
    kind: str,
    jobs: list[Job],
    inputs: object,
    settings: Settings,
    *,
    tags: str = "xml",
    not_asked: Sequence[Row] = (),
) -> None:
    """Complete all jobs and write rows and stats.

    Args:
        stage: Name of the stage: concepts, instructions or responses.
        kind: Document kind in the prompt file.
        jobs: In the order in which their rows are written.
        inputs: What else the rows depend on, for the side file's key.
        settings: The command's options.
        tags: How the parts of a response document are marked, of `STYLES`.
        not_asked: Dropped rows that are written after the others, so that the funnel adds up.
    """
    clock = Clock.start()
    engine_settings = load_settings(settings.engine)
    few_shot = FewShot(kind, settings, tags)
    by_id: dict[str, tuple[Job, list[str]]] = {}
    requests = []
    for job in jobs:
        request, shots = build_request(stage, job, few_shot, settings)
        requests.append(request)
        by_id[request.id] = (job, shots)
    seeds = {request.id: request.seeds for request in requests}

    def to_row(completion: Completion) -> dict:
        job, shots = by_id[completion.id]
        common = {
            "id": job.ids[completion.k],
            "parent": job.parent,
            "shots": shots,
            "seed": seeds[completion.id][completion.k],
            "finish_reason": completion.finish_reason,
        }
        drop = None if completion.finish_reason == "stop" else completion.finish_reason
        return job.make(common, completion.text, drop).dump()

    options = {name: value for name, value in asdict(settings).items() if name not in ("label", "output", "stats")}
    options |= {
        "model": read_model(settings.model).digest,
        "prompts": file_digest(settings.prompts),
        "engine": engine_settings.identity(),
    }
    side = SideFile(settings.output, digest(stage, inputs, options))
    stored = len(side.rows)
    rows, usage, loading = {}, Usage(), 0.0
    if requests:
        begin = time.monotonic()
        engine = open_engine(settings.model, engine_settings)
        loading = time.monotonic() - begin
        rows = complete_rows(engine, requests, side, lambda key, k: by_id[key][0].ids[k], to_row, settings.label)
        usage = engine.usage
    written = [*rows.values(), *(row.dump() for row in not_asked)]
    write_jsonl(settings.output, written)
    drops = Counter(row["drop"] for row in written if row["drop"])
    write_json(
        settings.stats,
        {
            "stage": stage,
            "label": settings.label,
            "rows": len(written),
            "dropped": dict(sorted(drops.items())),
            "generated": len(side.rows) - stored,  # without those of an earlier, killed run, as times and tokens are
            "load_s": round(loading, 3),
            **engine_stats(usage, clock, engine_settings.kind),
        },
    )
    side.discard()

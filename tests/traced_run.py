"""A run whose rows the real stages made with an engine that notes what it is asked: for tests that lead back."""

from collections.abc import Iterator
from pathlib import Path

import yaml
from commands import run

from selfalign.engines.port import Completion, Request, Usage
from selfalign.generation.concepts import generate_concepts
from selfalign.generation.instructions import generate_instructions
from selfalign.generation.responses import Earlier, generate_responses
from selfalign.generation.stages import Settings
from selfalign.records.files import read_jsonl, write_json, write_jsonl, write_table, write_text
from selfalign.records.rows import Function, Verdict
from selfalign.workflow.configuration import load_configuration

ROOT = Path(__file__).parent.parent
CODE = '    """Return {number} more."""\n    return x + {number}\n'
RESPONSE = (
    "```python\ndef add(x):\n    return x + {word}\n```\n</response>\n<tests>\n```python\nassert add(1) == 2\n```"
)


class Recorder:
    """An engine with texts of its own, which keeps each request."""

    def __init__(self):
        self.usage = Usage()
        self.requests: list[Request] = []

    def complete(self, requests, done=()) -> Iterator[list[Completion]]:
        """Answer every request by the kind of document that it is; one in five concepts is unfinished."""
        for request in requests:
            self.requests.append(request)
            yield [
                Completion(
                    id=request.id,
                    k=k,
                    text=self._text(request, seed),
                    finish_reason="length" if request.prompt.endswith("### Concepts\n") and seed % 5 == 0 else "stop",
                    prompt_tokens=1,
                    completion_tokens=1,
                )
                for k, seed in enumerate(request.seeds)
            ]

    @staticmethod
    def _text(request: Request, seed: int) -> str:
        word = "".join(chr(97 + int(digit)) for digit in str(seed))
        if request.prompt.endswith("### Concepts\n"):
            return f"addition, {word}"
        if request.prompt.endswith("### Instruction\n"):
            return f"Write a function `add(x)` that adds {word} for the sake of {word[::-1]}."
        return RESPONSE.format(word=word)


def config() -> dict:
    """Return the merged config: one generation with a further round, two datasets, three trained models."""
    given = yaml.safe_load((ROOT / "tests/configs/small.yaml").read_text())
    given["generations"]["self"] |= {
        "adaptive": {"samples": [2]},
        "temperature": 0.6,
        "top_p": 0.9,
        "seeds": None,
        "seed": 8,
    }
    given["models"]["later"] = {"base": "aligned", "dataset": "random"}
    given["models"]["preferred"] = {"base": "aligned", "dataset": "verified", "train": {"objective": "dpo"}}
    given["models"] = {name: entry for name, entry in given["models"].items() if name != "control"}
    given["evaluate"] = []
    return load_configuration(given, ROOT)


def make_run(folder: Path, monkeypatch) -> Recorder:
    """Write a run's results in a folder; return the engine with all that it was asked."""
    engine, made = Recorder(), config()
    monkeypatch.setattr("selfalign.generation.stages.open_engine", lambda *_: engine)
    results, entry = folder / "results", made["generations"]["self"]
    write_text(results / "run_config.yaml", yaml.safe_dump(made, sort_keys=False))
    columns = dict.fromkeys(Function.__dataclass_fields__, "string") | {"line": "int64"}
    functions = [
        Function(
            id=f"{number:016x}",
            code=f"def add_{number}(x):\n{CODE.format(number=number)}",
            name=f"add_{number}",
            imports="",
            docstring=f"Return {number} more.",
            package="sums",
            version="1.2",
            path="sums/more.py",
            line=10 * number + 1,
            licence="MIT",
        )
        for number in range(12)
    ]
    write_table(results / "corpora/packages/seeds.parquet", (row.dump() for row in functions), columns)
    for name in made["models"]:
        described = {"name_or_path": f"owner/{name}", "revision": "abc", "digest": name * 8, "chat_template": False}
        write_json(results / f"models/{name}/model.json", described | {"trained_from": None})
    for shard in range(2):
        _make_shard(results, shard, entry, made)
    options = ["--generation", results / "generations/self", "--shards", 2, "--rounds", 2]
    for name in made["datasets"]:
        settings = '{"select": "passed", "size": 4}' if name == "verified" else '{"select": "random", "size": 6}'
        where = ["--output", results / "datasets" / name, "--seeds", results / "corpora/packages/seeds.parquet"]
        done = run("select_pairs", *options, "--settings", settings, "--run-seed", made["seed"], *where)
        assert done.returncode == 0, done.stderr
    return engine


def _make_shard(results: Path, shard: int, entry: dict, made: dict) -> None:
    generation = results / "generations/self"

    def settings(kind: str, folder: str, name: str, samples: int) -> Settings:
        return Settings(
            model=results / "models/base/model.json",
            engine="{}",
            prompts=ROOT / entry["prompts"],
            shots=entry["shots"][kind],
            shot_sets=entry["shot_sets"],
            temperature=entry["temperature"],
            top_p=entry["top_p"],
            max_tokens=entry["max_tokens"][kind],
            samples=samples,
            run_seed=entry["seed"],
            label="test",
            output=generation / folder / f"{name}.jsonl",
            stats=generation / folder / f"{name}.json",
        )

    name = f"{shard:05}"
    seeds = results / "corpora/packages/seeds.parquet"
    generate_concepts(seeds, shard, 2, settings("concepts", "concepts", name, 1))
    generate_instructions(
        generation / f"concepts/{name}.jsonl", entry["categories"], settings("instruction", "instructions", name, 2)
    )
    instructions = generation / f"instructions/{name}.jsonl"
    generate_responses(instructions, settings("response", "responses", name, 2))
    _judge(generation, name)
    earlier = Earlier(
        responses=[generation / f"responses/{name}.jsonl"],
        verdicts=[generation / f"verdicts/{name}.jsonl"],
        until_passed=1,
    )
    generate_responses(instructions, settings("response", "responses", f"{name}.1", 2), earlier=earlier)
    _judge(generation, f"{name}.1")


def _judge(generation: Path, name: str) -> None:
    """Write verdicts by the rows' seeds: about a third passes."""
    verdicts = (
        Verdict(
            id=row["id"],
            verdict="passed" if row["seed"] % 3 == 0 else "assertion",
            detail="" if row["seed"] % 3 == 0 else "AssertionError, line 1",
            cpu_s=0.01,
            wall_s=0.02,
            max_rss_mb=9.5,
            assertions=1,
            core="c",
        )
        for row in read_jsonl(generation / f"responses/{name}.jsonl")
        if row["drop"] is None
    )
    write_jsonl(generation / f"verdicts/{name}.jsonl", (row.dump() for row in verdicts))

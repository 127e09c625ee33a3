"""Measure what the workflow adds to an engine: `generate_responses` beside the bare engine on the very same requests.

Both are loaded once, in one run, and then work in turns, in an order that moves on by one from round to round; every
round has other few-shot sets and other seeds, so that no cache knows its prompts. CPU time counts all processes. The
workflow's part is everything that its command does once the engine is loaded: prompts, parsing, the side file, rows
and stats.

vllm: the bare engine is `LLM.generate` with one prompt and one SamplingParams for each sample. "n in one request" is
the same with one prompt for all samples of an instruction, which draws from other seeds. Needs the Python of the vLLM
environment. transformers: the bare engine is `complete()`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from measuring import describe_machine, spread  # noqa: E402

from selfalign.engines.models import fetch_model, read_model  # noqa: E402
from selfalign.engines.port import Completion, EngineSettings, Request, Usage, open_engine  # noqa: E402
from selfalign.engines.resumable import Clock  # noqa: E402
from selfalign.generation import stages  # noqa: E402
from selfalign.generation.responses import generate_responses  # noqa: E402
from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_jsonl, write_json, write_jsonl  # noqa: E402
from selfalign.records.rows import Instruction  # noqa: E402

TARGET = 1.05  # times the bare engine's CPU time
TASKS = ROOT / "resources/demo/benchmark.jsonl"
PROMPTS = ROOT / "resources/prompts/demo.yaml"
Texts = dict[tuple[str, int], str]


class Recorder:
    """Stands in for an engine to see what it would be asked."""

    def __init__(self):
        self.usage, self.requests = Usage(), []

    def complete(self, requests, done=()) -> Iterator[list[Completion]]:
        """Keep the requests; answer each with nothing."""
        self.requests = list(requests)
        empty = {"text": "", "finish_reason": "stop", "prompt_tokens": 0, "completion_tokens": 0}
        for request in self.requests:
            yield [Completion(id=request.id, k=k, **empty) for k in range(request.n)]


class Workflow:
    """The command, with an engine that is loaded already."""

    def __init__(self, folder: Path, instructions: Path, options: dict):
        self.folder, self.instructions, self.options = folder, instructions, options

    def run(self, engine, run_seed: int) -> Path:
        """Generate the responses and return their file."""
        output = self.folder / "responses.jsonl"
        stages.open_engine = lambda *_: engine
        settings = stages.Settings(
            **self.options, run_seed=run_seed, label="bench", output=output, stats=output.with_suffix(".json")
        )
        generate_responses(self.instructions, settings)
        return output


def write_instructions(path: Path, count: int) -> None:
    """Write the instructions of the demo's held-out tasks as the stage before would."""
    tasks = list(read_jsonl(TASKS))
    if count > len(tasks):
        raise ValueError(f"--instructions is {count}, but {TASKS} has {len(tasks)} tasks")
    rows = [
        Instruction(
            id=f"{number:016x}-c0-i0",
            parent=f"{number:016x}-c0",
            shots=[],
            seed=0,
            finish_reason="stop",
            category="function",
            difficulty="easy",
            concepts=["lists"],
            instruction=task["instruction"],
            drop=None,
        )
        for number, task in enumerate(tasks[:count])
    ]
    write_jsonl(path, (row.dump() for row in rows))


def bare_vllm(model: Path, settings: EngineSettings) -> tuple[Callable, Callable]:
    """Load the class LLM; return how to complete requests with one request of vLLM's per sample, and with n in one."""
    from selfalign.engines.vllm_process import engine_arguments

    arguments = engine_arguments(str(read_model(model).folder()), settings)
    from vllm import LLM, SamplingParams

    llm = LLM(**arguments)

    def sampling(request: Request, **options) -> SamplingParams:
        return SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            stop=list(request.stop),
            **options,
        )

    def each(requests: list[Request]) -> tuple[Texts, Usage]:
        asked = [(request, k) for request in requests for k in range(request.n)]
        outputs = llm.generate(
            [request.prompt for request, _ in asked],
            [sampling(request, seed=request.seeds[k]) for request, k in asked],
            use_tqdm=False,
        )
        texts = {(request.id, k): output.outputs[0].text for (request, k), output in zip(asked, outputs, strict=True)}
        return texts, used(outputs)

    def together(requests: list[Request]) -> tuple[Texts, Usage]:
        outputs = llm.generate(
            [request.prompt for request in requests],
            [sampling(request, seed=request.seeds[0], n=request.n) for request in requests],
            use_tqdm=False,
        )
        pairs = zip(requests, outputs, strict=True)
        return {(one.id, k): sample.text for one, output in pairs for k, sample in enumerate(output.outputs)}, used(
            outputs
        )

    def used(outputs: list) -> Usage:
        return Usage(
            prompt_tokens=sum(len(output.prompt_token_ids) * len(output.outputs) for output in outputs),
            completion_tokens=sum(len(sample.token_ids) for output in outputs for sample in output.outputs),
            cached_prompt_tokens=sum((output.num_cached_tokens or 0) * len(output.outputs) for output in outputs),
        )

    return each, together


def bare_engine(engine) -> Callable:
    """Return how to complete requests with an engine of ours."""

    def complete(requests: list[Request]) -> tuple[Texts, Usage]:
        before = vars(engine.usage).copy()
        texts = {(one.id, one.k): one.text for group in engine.complete(requests) for one in group}
        return texts, Usage(**{name: value - before[name] for name, value in vars(engine.usage).items()})

    return complete


def main() -> int:
    """Parse the options, measure, print the table; return 1 when the overhead is above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["vllm", "transformers"], required=True)
    parser.add_argument("--model", default="resources/demo-base", help="folder or hub id (default: the demo's)")
    parser.add_argument("--instructions", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--samples", type=int, default=4, help="responses to each (default 4)")
    parser.add_argument("--max-tokens", type=int, default=256, help="limit of a response (default 256)")
    parser.add_argument("--batch-size", type=int, default=64, help="sequences decoded together (default 64)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--target", type=float, default=TARGET, help=f"allowed ratio of CPU times (default {TARGET})")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        result = measure(Path(folder), args)
    write_json(args.output, result)
    print(table(result))
    return int(result["ratio"]["cpu"]["median"] > args.target)


def measure(folder: Path, args: argparse.Namespace) -> dict:
    """Load both ways and run them in turns."""
    model, instructions = folder / "model.json", folder / "instructions.jsonl"
    fetch_model(args.model, model, ROOT)
    write_instructions(instructions, args.instructions)
    settings = EngineSettings(kind=args.engine, batch_size=args.batch_size, max_model_len=1024)
    options = {
        "model": model,
        "engine": f'{{"kind": "{args.engine}"}}',
        "prompts": PROMPTS,
        "shots": 2,
        "shot_sets": 4,
        "temperature": 0.7,
        "top_p": 1.0,
        "max_tokens": args.max_tokens,
        "samples": args.samples,
    }
    workflow = Workflow(folder, instructions, options)
    clock = Clock.start()
    engine = open_engine(model, settings)
    loading = {"workflow": clock.read()}
    if args.engine == "vllm":
        clock = Clock.start()
        each, together = bare_vllm(model, settings)
        loading["bare"] = clock.read()
        bare = {"bare": each, "n in one request": together}
    else:
        bare = {"bare": bare_engine(engine)}
    ways = ["workflow", *bare]
    rounds: list[dict] = []
    matches = []
    for number in range(args.rounds):
        recorder = Recorder()
        workflow.run(recorder, number)
        texts, figures = {}, {}
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            before = Usage(**vars(engine.usage))
            clock = Clock.start()
            if way == "workflow":
                output = workflow.run(engine, number)
                wall, cpu = clock.read()
                texts[way] = {row["id"]: row["text"] for row in read_jsonl(output)}
                used = Usage(**{name: value - vars(before)[name] for name, value in vars(engine.usage).items()})
            else:
                answers, used = bare[way](recorder.requests)
                wall, cpu = clock.read()
                texts[way] = {f"{key.removesuffix('-r0')}-r{k}": text for (key, k), text in answers.items()}
            figures[way] = {
                "cpu_s": cpu,
                "wall_s": wall,
                "tokens": used.completion_tokens,
                "tokens_per_cpu_s": used.completion_tokens / cpu,
                "prefix_hits": used.cached_prompt_tokens / used.prompt_tokens,
            }
        rounds.append(figures)
        matches.append(sum(texts["bare"][key] == text for key, text in texts["workflow"].items()))
    responses = args.instructions * args.samples

    def ratios(way: str, other: str, name: str) -> dict[str, float]:
        return spread([figures[way][name] / figures[other][name] for figures in rounds])

    return {
        "machine": describe_machine(),
        "engine": args.engine,
        "responses": responses,
        "rounds": args.rounds,
        "loading": {way: {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)} for way, (wall, cpu) in loading.items()},
        "ways": {
            way: {name: spread([figures[way][name] for figures in rounds]) for name in rounds[0][way]} for way in ways
        },
        "ratio": {"cpu": ratios("workflow", "bare", "cpu_s"), "wall": ratios("workflow", "bare", "wall_s")},
        "n_ratio": ratios("n in one request", "bare", "tokens_per_cpu_s") if "n in one request" in bare else None,
        "same_texts": spread([count / responses for count in matches]),
    }


def table(result: dict) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        f"{result['engine']}: {result['responses']} responses, {result['rounds']} rounds",
        "",
        "| way | CPU s | wall s | tokens per CPU-second | prompt tokens from the cache |",
        "|---|---|---|---|---|",
    ]

    def cell(figures: dict, factor: float = 1, unit: str = "") -> str:
        low, high = (f"{figures[name] * factor:.1f}" for name in ("min", "max"))
        return f"{figures['median'] * factor:.1f}{unit} ({low}–{high})"

    for way, figures in result["ways"].items():
        cells = [cell(figures[name]) for name in ("cpu_s", "wall_s", "tokens_per_cpu_s")]
        lines.append(f"| {way} | {' | '.join(cells)} | {cell(figures['prefix_hits'], 100, ' %')} |")
    ratio = result["ratio"]
    lines += [
        "",
        f"workflow / bare: CPU {ratio['cpu']['median']:.3f} ({ratio['cpu']['min']:.3f}–{ratio['cpu']['max']:.3f}), "
        f"wall {ratio['wall']['median']:.3f} ({ratio['wall']['min']:.3f}–{ratio['wall']['max']:.3f})",
    ]
    if result["n_ratio"]:
        lines.append(f"n in one request / bare, tokens per CPU-second: {result['n_ratio']['median']:.3f}")
    lines.append(f"texts that are the same: {100 * result['same_texts']['median']:.1f} %")
    lines.append(f"loading, apart: {result['loading']}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)

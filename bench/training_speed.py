"""Measure training: the workflow's loop against a bare torch loop, its options, and the memory of its kinds of loss.

Both loops do the same steps on the same batches with the same model, optimizer and schedule, one process and one
thread, in turns, and a ratio is taken within a round. The bare loop has nothing else: no progress, no log, no saved
state, no check. That its losses are those of the workflow to the last bit is checked. Loading the model counts for
neither. Then the options that leave the result as it is take part, and a random model with a large vocabulary does one
step with each kind of loss, in a process of its own.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import torch  # noqa: E402
import yaml  # noqa: E402
from measuring import describe_machine, spread  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402
from transformers.optimization import Adafactor, get_scheduler  # noqa: E402
from transformers.utils.logging import disable_progress_bar  # noqa: E402

from selfalign.engines.models import Model, fetch_model  # noqa: E402
from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import SideFile, read_jsonl, write_json  # noqa: E402
from selfalign.records.rows import Pair, load_rows  # noqa: E402
from selfalign.training.checkpoints import load_base, load_tokenizer  # noqa: E402
from selfalign.training.examples import IGNORED, Example, batch_order, encode, encode_pairs, micro_batches  # noqa: E402
from selfalign.training.loop import Trainer, make_accelerator  # noqa: E402
from selfalign.training.loss import ResponseLoss, pad  # noqa: E402
from selfalign.training.settings import TrainSettings  # noqa: E402

SEED = 3407
OPTIONS = {
    "ours": {},
    "ours, loss: responses": {"loss": "responses"},
    "ours, loss: fused": {"loss": "fused"},
    "ours, micro_batch_tokens: 2048": {"micro_batch_tokens": 2048},
    "ours, both": {"loss": "responses", "micro_batch_tokens": 2048},
}
VOCABULARY = 49_152  # tokens, StarCoder2's
LARGE = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8}


def demo_examples(tokenizer, settings: TrainSettings) -> list[Example]:
    """Return the tasks of the demo's benchmark with their solutions, as pairs."""
    found = []
    for row in read_jsonl(ROOT / "resources/demo/benchmark.jsonl"):
        response = f"```python\n{row['canonical_solution']}\n```"
        example, _ = encode(
            row["instruction"], response, tokenizer, system=settings.system_prompt, max_tokens=settings.max_tokens
        )
        found += [example] if example else []
    return found


def bare(described: Model, examples: list[Example], settings: TrainSettings) -> tuple[list[float], float, float]:
    """Train as one would by hand; return losses, CPU seconds and wall seconds."""
    torch.set_num_threads(settings.threads)
    model = load_base(described, settings)
    steps = batch_order(len(examples), batch_size=settings.batch_size, epochs=settings.epochs, run_seed=SEED)
    optimizer = (
        Adafactor(model.parameters(), lr=settings.learning_rate, scale_parameter=False, relative_step=False)
        if settings.optimizer == "adafactor"
        else torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    )
    schedule = get_scheduler(
        settings.schedule,
        optimizer,
        num_warmup_steps=round(settings.warmup_ratio * len(steps)),
        num_training_steps=len(steps),
    )
    losses = []
    cpu, wall = time.process_time(), time.monotonic()
    for _, batch in steps:
        rows = [examples[index] for index in batch]
        count = sum(len(row.tokens) - row.masked for row in rows)
        total = torch.zeros(())
        for part in micro_batches(rows, size=settings.micro_batch_size):
            tokens, labels = pad(part)
            logits = model(input_ids=tokens, use_cache=False).logits
            loss = cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
            )
            (loss * (1 / count)).backward()
            total += loss.detach()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total.item() / count)
    return losses, time.process_time() - cpu, time.monotonic() - wall


def ours(described: Model, examples: list[Example], settings: TrainSettings) -> tuple[list[float], float, float, float]:
    """Train as the workflow does, with its log and saved state; return losses, CPU and wall seconds, and padding."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trainer = Trainer(make_accelerator(settings), described, examples, settings, SEED, folder / ".state")
        history = SideFile(folder / "log.jsonl", "bench")
        cpu, wall = time.process_time(), time.monotonic()
        stats = trainer.run(history, label="ours", save_steps=50)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        return [row["loss"] for part in history.rows for row in part["log"]], cpu, wall, stats["padding"]


def compare(described: Model, examples: list[Example], settings: TrainSettings, rounds: int) -> dict:
    """Let the loops take turns; return their speeds and the ratios to the bare loop."""
    names = ["bare loop", *OPTIONS]
    tokens = settings.epochs * sum(len(example.tokens) for example in examples)
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    losses, padding = {}, {}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if name == "bare loop":
                losses[name], cpu, wall = bare(described, examples, settings)
            else:
                losses[name], cpu, wall, padding[name] = ours(described, examples, replace(settings, **OPTIONS[name]))
            seen[name].append((cpu, wall))
            print(f"round {number + 1}, {name}: {cpu:.1f} CPU s, {wall:.1f} s", file=sys.stderr, flush=True)
    if settings.dtype == "float32":
        assert losses["ours"] == losses["bare loop"], "the two loops do not do the same"
    return {
        name: {
            "cpu_s": spread([cpu for cpu, _ in seen[name]]),
            "tokens_per_s": spread([tokens / wall for _, wall in seen[name]]),
            "cpu_ratio": spread([one[0] / other[0] for one, other in zip(seen[name], seen["bare loop"], strict=True)]),
            "wall_ratio": spread([one[1] / other[1] for one, other in zip(seen[name], seen["bare loop"], strict=True)]),
            "padding": padding.get(name),
            "last_loss": losses[name][-1],
        }
        for name in names
    }


def memory_mb(kind: str) -> int:
    """Return this process's resident memory (VmRSS) or its peak (VmHWM), MiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) >> 10


def one_step(kind: str, rows: int, length: int) -> dict:
    """Do one forward and backward pass of a model with a large vocabulary; return its time and memory."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    config = AutoConfig.for_model("llama", vocab_size=VOCABULARY, max_position_embeddings=length, **LARGE)
    model = AutoModelForCausalLM.from_config(config).train()
    draw = random.Random(SEED)
    examples = [
        Example(tokens=[draw.randrange(VOCABULARY) for _ in range(length)], masked=length // 2) for _ in range(rows)
    ]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = memory_mb("VmRSS"), time.process_time()
    loss = ResponseLoss(model, kind)(*pad(examples)) / (rows * length / 2)
    loss.backward()
    return {
        "cpu_s": round(time.process_time() - start, 2),
        "added_memory_mb": memory_mb("VmHWM") - before,
        "loss": loss.item(),
    }


def losses_of_a_large_vocabulary(rounds: int, rows: int, length: int) -> dict:
    """Run `one_step` for each kind in processes of their own, in turns; return times and memory."""
    seen: dict[str, list[dict]] = {kind: [] for kind in ("full", "responses", "fused")}
    for _ in range(rounds):
        for kind, found in seen.items():
            command = [sys.executable, __file__, "--one-step", kind, "--rows", str(rows), "--length", str(length)]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(result.stdout))
    return {
        kind: {
            "cpu_s": spread([step["cpu_s"] for step in found]),
            "added_memory_mb": spread([step["added_memory_mb"] for step in found]),
            "loss": statistics.median(step["loss"] for step in found),
        }
        for kind, found in seen.items()
    }


def main() -> None:
    """Parse the options, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="resources/demo-base", help="model to train (default the demo's)")
    parser.add_argument("--pairs", type=Path, help="pairs.jsonl (default the demo benchmark's tasks and solutions)")
    parser.add_argument("--count", type=int, default=160, help="pairs to take (default 160)")
    parser.add_argument("--settings", help="training settings as JSON (default those of config.yaml, one epoch)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--rows", type=int, default=4, help="rows of the step with a large vocabulary (default 4)")
    parser.add_argument("--length", type=int, default=512, help="tokens of each of these rows (default 512)")
    parser.add_argument("--one-step", choices=["full", "responses", "fused"], help=argparse.SUPPRESS)
    parser.add_argument("--output", help="JSON to write (default: only shown)")
    options = parser.parse_args()
    if options.one_step:
        print(json.dumps(one_step(options.one_step, options.rows, options.length)))
        return
    disable_progress_bar()
    train = yaml.safe_load((ROOT / "config.yaml").read_text())["models"]["aligned"]["train"] | {"epochs": 1}
    settings = TrainSettings(**(json.loads(options.settings) if options.settings else train))
    with tempfile.TemporaryDirectory() as folder:
        described = fetch_model(options.base, Path(folder) / "model.json", ROOT)
        tokenizer = load_tokenizer(described)
        if options.pairs:
            rows = load_rows(Pair, read_jsonl(options.pairs), str(options.pairs))
            examples, _ = encode_pairs(rows, tokenizer, system=settings.system_prompt, max_tokens=settings.max_tokens)
        else:
            examples = demo_examples(tokenizer, settings)
        examples = examples[: options.count]
        results = {
            "machine": describe_machine(),
            "load_average": os.getloadavg()[0],
            "settings": asdict(settings),
            "pairs": len(examples),
            "tokens": sum(len(example.tokens) for example in examples),
            "loops": compare(described, examples, settings, options.rounds),
            "large_vocabulary": losses_of_a_large_vocabulary(options.rounds, options.rows, options.length),
        }
    if options.output:
        write_json(options.output, results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    run_command(main)

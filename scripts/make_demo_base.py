"""Make the demo's base model: write its pretraining text, train its tokenizer and network, export and evaluate it."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.records.files import read_json, read_jsonl, write_json, write_text

RESOURCES = Path(__file__).resolve().parent.parent / "resources"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument(
        "--prompts",
        type=Path,
        default=RESOURCES / "prompts" / "demo.yaml",
        help="prompt file whose headers the text uses",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=22_500_000, help="tokens to train on")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    parser.add_argument("--start", type=Path, help="go on from the exported model in this folder, with its tokenizer")
    parser.add_argument("--rate", type=float, default=1.0, help="of the peak learning rates, for instance with --start")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=1536)
    parser.add_argument("--files", type=int, help="read this many source files only (for tests)")
    parser.add_argument("--export-only", action="store_true", help="export the state of an unfinished run, and stop")
    parser.add_argument("--evaluate", action="store_true", help="measure the model in --output and record the numbers")
    parser.add_argument("--benchmark", type=Path, default=RESOURCES / "demo" / "benchmark.jsonl", help="to evaluate on")
    parser.add_argument("--samples", type=int, default=300, help="documents of each kind to evaluate")
    return parser.parse_args()


def _steady_memory() -> None:
    """Start again with large blocks kept by the allocator: handing them back at each step costs a third of the time."""
    wanted = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "4000000000"}
    if sys.platform == "linux" and not wanted.keys() & os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def _commit() -> str | None:
    """Return the commit of this checkout, if it is one and git is there to tell."""
    if shutil.which("git") is None:
        return None
    result = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or None


def _before(start: Path | None) -> dict | None:
    """Return what is recorded of the model that training went on from."""
    if start is None:
        return None
    record = read_json(start / "training_record.json")
    return {
        key: record[key]
        for key in ("seed", "git_commit", "steps", "tokens", "wall_s", "hardware", "note")
        if key in record
    }


def main() -> None:
    """Make the model, or export or evaluate what there is."""
    arguments = _arguments()
    _steady_memory()
    import tokenizers
    import torch
    import transformers

    from selfalign.demo import corpus, javascript, model, train
    from selfalign.demo.card import model_card
    from selfalign.prompts.documents import load_prompts

    torch.set_num_threads(arguments.threads)
    prompts = load_prompts(arguments.prompts)
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    record_path = folder / "training_record.json"
    if arguments.evaluate:
        from selfalign.demo.evaluate import evaluate

        record = read_json(record_path)
        record["evaluation"] = evaluate(
            folder, prompts, arguments.seed, list(read_jsonl(arguments.benchmark)), arguments.samples
        )
        write_json(record_path, record)
        write_text(folder / "README.md", model_card(record))
        return
    snippets, held_out = corpus.load_snippets(arguments.files)
    javascript_snippets = javascript.load_snippets(arguments.files)
    text = corpus.Corpus(snippets, javascript_snippets, prompts.headers, arguments.seed)
    state = folder / ".training_state.pt"
    if state.exists():
        tokenizer = model.load_tokenizer(folder)
    elif arguments.start:
        tokenizer = model.load_tokenizer(arguments.start)
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        count = train.TOKENIZER_DOCUMENTS if arguments.files is None else 200
        # Documents beyond any that training reads.
        tokenizer = model.train_tokenizer([text.document(10**9 + i).text for i in range(count)], arguments.vocabulary)
        tokenizer.save(str(folder / "tokenizer.json"))
    size = model.Size(
        vocabulary=arguments.vocabulary,
        width=arguments.width,
        layers=arguments.layers,
        heads=max(1, arguments.width // 64),
        hidden=arguments.width * 11 // 4,
    )
    settings = train.Settings(
        tokens=arguments.tokens,
        seed=arguments.seed,
        matrix_rate=train.Settings.matrix_rate * arguments.rate,
        embedding_rate=train.Settings.embedding_rate * arguments.rate,
    )
    run = train.Training(text, tokenizer, size, settings, state)
    if arguments.start and not state.exists():
        run.network.load_state_dict(model.load(arguments.start)[0].state_dict())
    if not arguments.export_only:
        run.run()
    model.export(run.network, tokenizer, folder)
    record = {
        "seed": arguments.seed,
        "git_commit": _commit(),
        "parameters": sum(weight.numel() for weight in run.network.parameters()),
        "size": model.describe(size),
        "settings": train.settings_record(settings),
        "started_from": _before(arguments.start),
        "steps": run.step,
        "tokens": run.step * settings.batch,
        "documents": run.stream.next,
        "corpus": {
            "kind_weights": corpus.KIND_WEIGHTS,
            "loss_weights": train.LOSS_WEIGHTS,
            "snippets": len(snippets),
            "javascript_snippets": len(javascript_snippets),
            "snippets_kept_for_evaluation": len(held_out),
            "snippet_packages": corpus.package_versions(),
        },
        "wall_s": round(run.wall_s),
        "cpu_s": round(run.cpu_s),
        "hardware": train.hardware(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "loss_curve": run.curve,
    }
    write_json(record_path, record)
    write_text(folder / "README.md", model_card(record))
    if run.step >= settings.steps:
        run.state.unlink()


if __name__ == "__main__":
    run_command(main)

"""One training from files to files: reads base and rows, trains by the wanted objective, leaves a checkpoint."""

import shutil
from dataclasses import asdict
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from selfalign.engines.models import read_model, write_model
from selfalign.prompts.chat import adds_bos, chat_template
from selfalign.records.files import SideFile, digest, file_digest, read_jsonl, write_json, write_jsonl, write_text
from selfalign.records.rows import Pair, load_rows
from selfalign.training.card import model_card
from selfalign.training.checkpoints import load_tokenizer, longest, publish
from selfalign.training.examples import encode_pairs
from selfalign.training.loop import Trainer, make_accelerator
from selfalign.training.settings import TrainSettings


def train_model(
    *,
    base: Path,
    pairs: Path,
    settings: TrainSettings,
    run_seed: int,
    label: str,
    save_steps: int,
    output: Path,
    preferences: Path | None = None,
) -> None:
    """Fine-tune `base` into the checkpoint folder `output`; model.json is written last.

    Every `save_steps` steps the state is saved in the hidden folder `.state` of the output; a killed training goes
    on from there and ends with the same weights. On the CPU the same inputs give the same bits.

    Args:
        preferences: A passing and a failing response each; what the objective dpo trains on.

    Raises:
        ValueError: nothing to train on, an unusable base model, too little memory, or a loss that is no longer a
            number.
    """
    if save_steps < 1:
        raise ValueError(f"--save-steps is {save_steps}; it has to be 1 or more")
    disable_progress_bar()
    described = read_model(base)
    rows = list(load_rows(Pair, read_jsonl(pairs), str(pairs)))
    tokenizer = load_tokenizer(described)
    limit = longest(described, settings)
    system = settings.system_prompt.strip()
    state = output / ".state"

    examples, counts = encode_pairs(rows, tokenizer, system=system, max_tokens=limit)
    sources = {"pairs": {"rows": len(rows), "digest": file_digest(pairs), **counts}}
    if settings.objective == "sft":
        if not examples:
            why = f"none of its {len(rows)} pairs fits into max_tokens" if rows else "it has no pairs"
            raise ValueError(f"{pairs}: nothing to train on, {why}; loosen the dataset's selection or raise max_tokens")
        trainer = Trainer(make_accelerator(settings), described, examples, settings, run_seed, state)
    else:
        if preferences is None:
            raise ValueError("the objective dpo needs --preferences, the preferences.jsonl of the dataset")
        from selfalign.training.preferences import Preference, PreferenceTrainer, encode_preferences  # slow to import

        wishes = [
            Preference.load(row, f"{preferences}, row {number}")
            for number, row in enumerate(read_jsonl(preferences), 1)
        ]
        both, counts = encode_preferences(wishes, tokenizer, system=system, max_tokens=limit)
        if not both:
            why = f"none of its {len(wishes)} pairs fits into max_tokens" if wishes else "it has no preference pairs"
            raise ValueError(
                f"{preferences}: nothing to train on, {why}; sample more responses for each instruction, so that some "
                "pass and some fail"
            )
        sources["preferences"] = {"rows": len(wishes), "digest": file_digest(preferences), **counts}
        trainer = PreferenceTrainer(described, tokenizer, both, settings, run_seed, state)

    key = digest(described.digest, sources, asdict(settings), run_seed, trainer.processes)
    history = SideFile(output / "training_log.jsonl", key) if trainer.is_main else None
    totals = trainer.run(history, label=label, save_steps=save_steps)
    weights = trainer.weights()
    if history is None:
        return

    tokenizer.chat_template = chat_template(settings.system_prompt, adds_bos=adds_bos(tokenizer))
    origin = {
        "base": {"name_or_path": described.name_or_path, "digest": described.digest},
        **sources,
        "settings": asdict(settings),
        "run_seed": run_seed,
    }
    log = [row for part in history.rows for row in part["log"]]
    trained_on = list(sources.values())[-1]
    publish(output, trainer.model, tokenizer, weights)
    write_jsonl(output / "training_log.jsonl", log)
    write_json(
        output / "training_stats.json",
        {"stage": "training", "label": label, "steps": len(log), "rows": trained_on["rows"], **counts, **totals},
    )
    write_text(output / "README.md", model_card(output.name, described, rows, origin, log))
    write_model(output / "model.json", output, trained_from=origin)
    history.discard()  # before the states that it names
    shutil.rmtree(state, ignore_errors=True)

"""Direct preference optimization on passing and failing responses, by TRL's trainer: repeatable, and resumable."""

import copy
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"  # read at import, as is the next
os.environ["TQDM_DISABLE"] = "1"

import torch
from datasets import Dataset, load_from_disk
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer

from selfalign.engines.models import Model
from selfalign.records.commands import derive_seed
from selfalign.records.files import SideFile
from selfalign.records.progress import Progress
from selfalign.training.checkpoints import clear, load_base
from selfalign.training.examples import Example, encode
from selfalign.training.loop import check_loss, memory_errors, repeat_arithmetic, set_threads, start_state
from selfalign.training.settings import TrainSettings
from selfalign.training.usage import usage

LOGGED = {  # our names of what TRL measures at each step
    "grad_norm": "grad_norm",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
}


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One instruction with a response that passed its tests and one that did not."""

    instruction_id: str
    instruction: str
    chosen: str
    rejected: str
    chosen_id: str
    rejected_id: str

    @classmethod
    def load(cls, row: dict, where: str) -> "Preference":
        """Build a preference from a row.

        Raises:
            ValueError: a field is missing or unknown; names it and `where`.
        """
        try:
            return cls(**row)
        except TypeError as error:
            known = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"{where}: not a preference ({error}); its fields are {known}") from error


def encode_preferences(
    rows: Iterable[Preference], tokenizer: Any, *, system: str, max_tokens: int
) -> tuple[list[tuple[Example, Example]], dict[str, int]]:
    """Encode both responses of each row as `encode_pairs` does; count what was cut and what has nothing left."""
    examples = []
    counts = {"truncated": 0, "dropped": 0}
    for row in rows:
        chosen, cut = encode(row.instruction, row.chosen, tokenizer, system=system, max_tokens=max_tokens)
        rejected, also = encode(row.instruction, row.rejected, tokenizer, system=system, max_tokens=max_tokens)
        if chosen is None or rejected is None:
            counts["dropped"] += 1
            continue
        counts["truncated"] += cut or also
        examples.append((chosen, rejected))
    return examples, counts


class _Encoded(DPOTrainer):
    """TRL's trainer on rows that are tokens already, those of supervised training."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class _Recorder(TrainerCallback):
    """Collects the log, shows progress, and notes each whole checkpoint in the history."""

    def __init__(self, owner: "PreferenceTrainer", history: SideFile | None, label: str, start: dict):
        self.owner, self.history, self.start = owner, history, start
        self.log: list[dict] = []
        self.progress = Progress(label, owner.total_steps, done=start["step"], unit="steps") if history else None
        self.wall, self.cpu = time.monotonic() - start["wall_s"], time.process_time() - start["cpu_s"]

    def times(self) -> dict:
        """Return the time that the training has taken, that of killed attempts included."""
        return {"wall_s": time.monotonic() - self.wall, "cpu_s": time.process_time() - self.cpu}

    def on_log(self, args, state, control, logs=None, **_):
        """Take over the measurements of one step."""
        if not logs or "loss" not in logs:
            return
        check_loss(logs["loss"], state.global_step, logs["learning_rate"])
        epoch = -(-state.global_step // self.owner.steps_per_epoch)
        row = {"step": state.global_step, "epoch": epoch, "loss": logs["loss"], "learning_rate": logs["learning_rate"]}
        self.log.append(row | {ours: logs[theirs] for theirs, ours in LOGGED.items() if theirs in logs})
        if self.progress:
            self.progress.unit = f"steps, loss {logs['loss']:.3f}, accuracy {logs['rewards/accuracies']:.2f}"
            self.progress.add()

    def on_save(self, args, state, control, **_):
        """Say that the checkpoint of this step is whole."""
        if self.history:
            self.history.append([{"step": state.global_step, **self.times(), "log": self.log}])
        self.log = []


class PreferenceTrainer:
    """A model that learns from preferences, in one of the processes that train it."""

    def __init__(
        self,
        described: Model,
        tokenizer: PreTrainedTokenizerBase,
        examples: list[tuple[Example, Example]],
        settings: TrainSettings,
        run_seed: int,
        folder: Path,
    ):
        set_threads(settings.threads)
        for library in ("trl", "transformers"):
            logging.getLogger(library).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", ".*gradient_checkpointing.*deprecated", FutureWarning)  # TRL's own use of it
        self.described, self.tokenizer, self.examples = described, tokenizer, examples
        self.settings, self.folder = settings, folder
        self.steps_per_epoch = -(-len(examples) // settings.batch_size)
        self.total_steps = self.steps_per_epoch * settings.epochs
        self.arguments = DPOConfig(
            output_dir=str(folder),
            beta=settings.beta,
            max_length=None,  # the rows are cut already
            precompute_ref_log_probs=True,  # the base answers once, and needs no memory while its copy learns
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
            warmup_steps=round(settings.warmup_ratio * self.total_steps),
            optim="adafactor" if settings.optimizer == "adafactor" else "adamw_torch",
            weight_decay=0.0,
            max_grad_norm=max(settings.max_grad_norm, 0.0),  # 0 is off here
            disable_dropout=settings.dropout == 0,
            bf16=settings.dtype == "mixed",
            activation_checkpointing=settings.gradient_checkpointing,
            seed=derive_seed(run_seed, "preferences") % 2**32,
            data_seed=derive_seed(run_seed, "preferences order") % 2**32,
            use_cpu=not torch.accelerator.is_available(),  # without this, CPU processes would not find each other
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_total_limit=2,  # the older one stays until the history names the newer one
            ddp_find_unused_parameters=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            report_to=[],
        )
        self.processes, self.is_main = self.arguments.world_size, self.arguments.process_index == 0
        repeat_arithmetic(self.arguments.device)
        rows = settings.batch_size // self.processes
        if rows * self.processes != settings.batch_size:
            raise ValueError(
                f"batch_size is {settings.batch_size}, which {self.processes} processes cannot share evenly, as the "
                "objective dpo has to"
            )
        size = max(part for part in range(1, min(rows, settings.micro_batch_size) + 1) if rows % part == 0)
        self.arguments.per_device_train_batch_size = size
        self.arguments.gradient_accumulation_steps = rows // size
        self.model: PreTrainedModel

    def run(self, history: SideFile | None, *, label: str, save_steps: int) -> dict:
        """Train from the last whole checkpoint to the end; return what it measured, as `Trainer.run` does."""
        if history:
            self._tidy(history.rows[-1]["step"] if history.rows else 0)
            told = f"[{label}] {len(self.examples):,} preferences, {self.total_steps:,} steps"
            print(told, file=sys.stderr, flush=True)
        start = start_state(history, self.processes)
        self.arguments.save_steps = save_steps
        recorder = _Recorder(self, history, label, start)
        with memory_errors(self.settings, "training on preferences"):
            model = load_base(self.described, self.settings).eval()  # the reference's answers have no dropout
            # The trainer changes these to suit itself, and saves no settings of generation that are in any way odd.
            config, generation = copy.deepcopy(model.config), model.generation_config
            model.generation_config = GenerationConfig()
            trainer = _Encoded(
                model=model,
                args=self.arguments,
                train_dataset=load_from_disk(str(self.folder / "rows")),
                processing_class=copy.deepcopy(self.tokenizer),
                callbacks=[recorder],
            )
            trainer.remove_callback(PrinterCallback)
            done = self.folder / f"checkpoint-{start['step']}"
            trainer.train(resume_from_checkpoint=str(done) if start["step"] else None)
        self.model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        self.model.config, self.model.generation_config = config, generation
        times = recorder.times()
        tokens = self.settings.epochs * sum(len(one.tokens) for pair in self.examples for one in pair)
        return {
            **{name: round(value, 2) for name, value in times.items()},
            "tokens": tokens,
            **usage(
                parameters=sum(parameter.numel() for parameter in self.model.parameters()),
                tokens=tokens,
                seconds=times["wall_s"],
                dtype=self.settings.dtype,
                processes=self.processes,
            ),
        }

    def _tidy(self, done: int) -> None:
        """Remove what a killed attempt left half written, and write the rows where every process finds them."""
        clear(self.folder, keep={f"checkpoint-{done}", "rows"} if done else set())
        if not (self.folder / "rows").exists():
            rows = [
                {
                    "prompt_ids": chosen.tokens[: chosen.masked],
                    "chosen_ids": chosen.tokens[chosen.masked :],
                    "rejected_ids": rejected.tokens[rejected.masked :],
                }
                for chosen, rejected in self.examples
            ]
            Dataset.from_list(rows).save_to_disk(str(self.folder / "rows"))

    def weights(self) -> None:
        """Make the model ready to be saved."""
        if self.settings.dtype == "mixed":
            self.model.to(torch.bfloat16)

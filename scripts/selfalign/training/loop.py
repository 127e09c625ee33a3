"""The training loop: plain accelerate and transformers, deterministic, and resumable after a kill.

Data-parallel processes share each step's batch; the loss is the mean over all response tokens of the batch, whatever
the number of processes and the micro-batch size.
"""

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA's matrix products repeat only with this, set early

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.optimization import Adafactor, get_scheduler
from transformers.utils.logging import disable_progress_bar

from selfalign.engines.models import Model, read_model, write_model
from selfalign.prompts.chat import adds_bos, chat_template
from selfalign.records.commands import derive_seed
from selfalign.records.files import SideFile, digest, file_digest, read_jsonl, write_json, write_jsonl, write_text
from selfalign.records.progress import Progress
from selfalign.records.rows import Pair, load_rows
from selfalign.training.card import model_card
from selfalign.training.examples import IGNORED, Example, batch_order, encode_pairs, micro_batches
from selfalign.training.settings import TrainSettings

DROPOUT_FIELDS = (  # every name under which an architecture's configuration holds a dropout probability
    "attention_dropout",
    "attn_dropout",
    "attn_pdrop",
    "dropout",
    "embd_pdrop",
    "embedding_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "residual_dropout",
)


def train_model(
    *, base: Path, pairs: Path, settings: TrainSettings, run_seed: int, label: str, save_steps: int, output: Path
) -> None:
    """Fine-tune `base` on `pairs` into the checkpoint folder `output`; model.json is written last.

    Every `save_steps` steps the state is saved in the hidden folder `.state` of the output; a killed training goes
    on from there and ends with the same weights. On the CPU the same inputs give the same bits.

    Raises:
        ValueError: no pairs, an unusable base model, or a loss that is no longer a number.
    """
    if save_steps < 1:
        raise ValueError(f"--save-steps is {save_steps}; it has to be 1 or more")
    disable_progress_bar()
    torch.set_num_threads(settings.threads)
    accelerator = Accelerator()
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise ValueError(f"training under {accelerator.distributed_type.value} is not supported; use data parallelism")
    if accelerator.device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False

    described = read_model(base)
    rows = list(load_rows(Pair, read_jsonl(pairs), str(pairs)))
    tokenizer, model = load_base(described, settings)
    context = getattr(model.config, "max_position_embeddings", None) or settings.max_tokens
    examples, counts = encode_pairs(
        rows, tokenizer, system=settings.system_prompt.strip(), max_tokens=min(settings.max_tokens, context)
    )
    if not examples:
        why = f"none of its {len(rows)} pairs fits into max_tokens" if rows else "it has no pairs"
        raise ValueError(f"{pairs}: nothing to train on, {why}; loosen the dataset's selection or raise max_tokens")
    largest = max(max(example.tokens) for example in examples)
    if largest >= model.get_input_embeddings().num_embeddings:
        raise ValueError(f"{base}: its tokenizer gives token {largest}, which the model does not have")

    key = digest(described.digest, file_digest(pairs), asdict(settings), run_seed, accelerator.num_processes)
    history = SideFile(output / "training_log.jsonl", key) if accelerator.is_main_process else None
    trainer = Trainer(accelerator, model, examples, settings, run_seed)
    totals = trainer.run(history, folder=output / ".state", label=label, save_steps=save_steps)
    accelerator.wait_for_everyone()
    if history is None:
        return

    tokenizer.chat_template = chat_template(settings.system_prompt, adds_bos=adds_bos(tokenizer))
    origin = {
        "base": {"name_or_path": described.name_or_path, "digest": described.digest},
        "pairs": {"rows": len(rows), "digest": file_digest(pairs), **counts},
        "settings": asdict(settings),
        "run_seed": run_seed,
    }
    log = [row for part in history.rows for row in part["log"]]
    publish(output, trainer.model, tokenizer)
    write_jsonl(output / "training_log.jsonl", log)
    write_json(
        output / "training_stats.json",
        {"stage": "training", "label": label, "rows": len(rows), "steps": len(log), **counts, **totals},
    )
    write_text(output / "README.md", model_card(output.name, described, rows, origin, log))
    write_model(output / "model.json", output, trained_from=origin)
    shutil.rmtree(output / ".state", ignore_errors=True)
    history.discard()


def load_base(described: Model, settings: TrainSettings) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load tokenizer and model with the wanted dtype and dropout, ready to train.

    Raises:
        ValueError: the checkpoint does not load, or its tokenizer has no end-of-text token.
    """
    folder = described.folder()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        for field in DROPOUT_FIELDS:
            if hasattr(config, field):
                setattr(config, field, settings.dropout)
        model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=getattr(torch, settings.dtype))
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{described.path}: cannot load the model in {folder} for training ({error})") from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{described.path}: its tokenizer has no end-of-text token; a model could not learn to stop")
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return tokenizer, model.train()


class Trainer:
    """A model, its optimizer and its steps, in one of the processes that train it."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        examples: list[Example],
        settings: TrainSettings,
        run_seed: int,
    ):
        self.accelerator, self.model, self.examples = accelerator, model, examples
        self.settings, self.run_seed = settings, run_seed
        self.steps = batch_order(
            len(examples), batch_size=settings.batch_size, epochs=settings.epochs, run_seed=run_seed
        )
        self.wrapped = accelerator.prepare(model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if settings.optimizer == "adafactor":
            self.optimizer = Adafactor(
                parameters, lr=settings.learning_rate, scale_parameter=False, relative_step=False
            )
        else:
            self.optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
        self.scheduler = get_scheduler(
            "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
            self.optimizer,
            num_warmup_steps=round(settings.warmup_ratio * len(self.steps)),
            num_training_steps=len(self.steps),
        )

    def run(self, history: SideFile | None, *, folder: Path, label: str, save_steps: int) -> dict:
        """Train from the last saved state to the end; return wall_s, cpu_s, tokens and tokens_per_s.

        Args:
            history: Log rows of each saved state, in the main process only.
            folder: Where the states are.
        """
        # Every process has to start at the same step, and only the main one knows it.
        saved = [dict(history.rows[-1], log=None) if history and history.rows else None]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(saved)
        done, wall, cpu, tokens = 0, 0.0, 0.0, 0
        if saved[0]:
            done, wall, cpu, tokens = (saved[0][name] for name in ("step", "wall_s", "cpu_s", "tokens"))
            self.load_state(folder / f"{done}.pt")
        if history:
            progress = Progress(label, len(self.steps), done=done, unit="steps")
            print(f"[{label}] {len(self.examples):,} pairs, {len(self.steps):,} steps", file=sys.stderr, flush=True)
        wall_start, cpu_start = time.monotonic() - wall, time.process_time() - cpu
        log = []
        for number, (epoch, batch) in enumerate(self.steps[done:], done + 1):
            rate = self.scheduler.get_last_lr()[0]
            loss, loss_tokens, all_tokens = self.step(number, [self.examples[index] for index in batch])
            if loss != loss:
                raise ValueError(f"the loss of step {number} is not a number; lower the learning rate ({rate:g})")
            tokens += all_tokens
            if history is None:
                continue
            log.append({"step": number, "epoch": epoch, "loss": loss, "learning_rate": rate, "tokens": loss_tokens})
            progress.unit = f"steps, loss {loss:.3f}"
            progress.add()
            if number % save_steps == 0 or number == len(self.steps):
                times = {"wall_s": time.monotonic() - wall_start, "cpu_s": time.process_time() - cpu_start}
                self.save_state(folder / f"{number}.pt")
                history.append([{"step": number, "tokens": tokens, **times, "log": log}])
                for path in folder.iterdir():
                    if path.name != f"{number}.pt":
                        path.unlink()
                log = []
        wall, cpu = time.monotonic() - wall_start, time.process_time() - cpu_start
        return {
            "wall_s": round(wall, 2),
            "cpu_s": round(cpu, 2),
            "tokens": tokens,
            "tokens_per_s": round(tokens / wall, 1),
        }

    def step(self, number: int, batch: list[Example]) -> tuple[float, int, int]:
        """Do one optimizer step on a batch shared by all processes.

        Returns:
            The mean loss per response token, the number of response tokens and the number of all tokens.
        """
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        loss_tokens = sum(len(example.tokens) - example.masked for example in batch)
        # A process without a row of its own still takes part in the exchange of gradients, with a loss of 0.
        own = batch[process::processes] or [Example(tokens=batch[0].tokens, masked=len(batch[0].tokens))]
        torch.manual_seed(derive_seed(self.run_seed, "dropout", number, process))
        total = torch.zeros((), device=self.accelerator.device)
        parts = micro_batches(own, self.settings.micro_batch_size)
        for part in parts:
            last = part is parts[-1]
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                loss = self.loss(part)
                # Processes' gradients are averaged; the loss is a mean over the tokens of all of them.
                self.accelerator.backward(loss * (processes / loss_tokens))
            total += loss.detach()
        if self.settings.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        total = self.accelerator.reduce(total, "sum") if processes > 1 else total
        return total.item() / loss_tokens, loss_tokens, sum(len(example.tokens) for example in batch)

    def loss(self, part: list[Example]) -> torch.Tensor:
        """Return the summed cross-entropy of the response tokens of one micro-batch.

        The padding stands on the right, where no causal model can see it, and has no label: it needs no mask and no
        token of its own.
        """
        length = max(len(example.tokens) for example in part)
        tokens = torch.zeros(len(part), length, dtype=torch.long)
        labels = torch.full((len(part), length), IGNORED)
        for row, example in enumerate(part):
            tokens[row, : len(example.tokens)] = torch.tensor(example.tokens)
            labels[row, : len(example.tokens)] = torch.tensor(example.labels)
        labels = labels.to(self.accelerator.device)
        logits = self.wrapped(input_ids=tokens.to(self.accelerator.device), use_cache=False).logits
        return cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def save_state(self, path: Path) -> None:
        """Save weights, optimizer and schedule, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        try:
            with write_errors(path), open(temporary, "wb") as file:
                torch.save(state, file)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def load_state(self, path: Path) -> None:
        """Restore what `save_state` saved."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        # load_state_dict rounds an optimizer's float32 state to the dtype of bfloat16 weights; put the exact one back.
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for index, values in state["optimizer"]["state"].items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    current = self.optimizer.state[parameters[index]][name]
                    self.optimizer.state[parameters[index]][name] = value.to(current.device)


def publish(output: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the checkpoint's files beside the output and move them in; a half-written one is never seen."""
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with write_errors(temporary):
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        for stale in [output / "model.json", *output.glob("*.safetensors*")]:
            stale.unlink(missing_ok=True)
        for path in sorted(temporary.iterdir()):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            os.replace(path, output / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise the OSError, for example a full disk, that torch and safetensors hide in errors of their own."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if isinstance(hidden := error.__context__, OSError):
            raise OSError(hidden.errno, hidden.strerror, str(path)) from error
        if code := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
        raise

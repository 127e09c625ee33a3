"""The training loop: plain accelerate and transformers, deterministic, and resumable after a kill.

Processes share each step's batch; the loss is the mean over all response tokens of the batch, whatever the number of
processes and the micro-batch size.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA's matrix products repeat only with this, set early

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list
from transformers import PreTrainedModel
from transformers.optimization import Adafactor, get_scheduler

from selfalign.engines.models import Model
from selfalign.records.commands import derive_seed
from selfalign.records.files import SideFile
from selfalign.records.progress import Progress
from selfalign.training.checkpoints import clear, load_base, load_state, save_state
from selfalign.training.examples import Example, batch_order, positions, share
from selfalign.training.loss import ResponseLoss, choose_loss, pad
from selfalign.training.settings import TrainSettings
from selfalign.training.sharding import prepare_adafactor, shard_model, whole_state
from selfalign.training.usage import usage

LONGEST_LOAD = timedelta(hours=2)  # processes wait so long for the one that reads the model


def make_accelerator(settings: TrainSettings) -> Accelerator:
    """Return the processes that train together, on GPUs where there are some, with repeatable arithmetic.

    Raises:
        ValueError: another kind of parallelism than copies of the model was asked for by the environment, or sharding
            is to have a single process.
    """
    set_threads(settings.threads)
    sharded = settings.sharding == "full"
    patience = InitProcessGroupKwargs(timeout=LONGEST_LOAD)
    once = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # DDP's buffers would be the gradients again
    # Without a GPU, accelerate joins processes only when told that there is none.
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(), mixed_precision="no", kwargs_handlers=[patience, once]
    )
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise ValueError(
            f"training under {accelerator.distributed_type.value} is not supported; start it as plain processes and "
            "set sharding: full"
        )
    if sharded and accelerator.num_processes == 1:
        raise ValueError(
            "sharding is 'full', and there is one process to train with: give the job more GPUs "
            "(--set-resources train_model:gpu=N), or set sharding: none"
        )
    repeat_arithmetic(accelerator.device)
    return accelerator


def set_threads(count: int) -> None:
    """Set this process's threads; the variable keeps accelerate from choosing another number for several processes."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    torch.set_num_threads(count)


def repeat_arithmetic(device: torch.device) -> None:
    """Let a GPU compute the same bits each time, where its operations can."""
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False


@contextlib.contextmanager
def memory_errors(settings: TrainSettings, where: str) -> Iterator[None]:
    """Raise a ValueError that says what to change where memory runs out, on a GPU or on the CPU."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        size = f"micro_batch_size (now {settings.micro_batch_size})"
        if settings.micro_batch_tokens is not None:
            size = f"micro_batch_tokens (now {settings.micro_batch_tokens})"
        more = "" if settings.gradient_checkpointing else ", set gradient_checkpointing: true"
        if settings.objective == "sft" and settings.sharding == "none":
            more += ", or train on several GPUs with sharding: full"
        raise ValueError(f"out of memory in {where}: lower {size}{more} ({str(error).splitlines()[0]})") from error


def check_loss(loss: float, step: int, rate: float) -> None:
    """Raise ValueError where a loss is no longer a number, or infinite."""
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise ValueError(
            f"the loss of step {step} is not a number; lower the learning rate ({rate:g}), set max_grad_norm: 1, or "
            "train with dtype: mixed instead of bfloat16"
        )


def start_state(history: SideFile | None, processes: int) -> dict:
    """Return the history's last row without its log, or a row of zeros, the same in every process."""
    nothing = {"step": 0, "wall_s": 0.0, "cpu_s": 0.0, "tokens": 0, "positions": 0}
    # Every process has to start at the same step, and only the main one knows it.
    saved = [dict(history.rows[-1], log=None) if history and history.rows else nothing]
    if processes > 1:
        broadcast_object_list(saved)
    return saved[0]


class Trainer:
    """A model, its optimizer and its steps, in one of the processes that train it."""

    def __init__(
        self,
        accelerator: Accelerator,
        described: Model,
        examples: list[Example],
        settings: TrainSettings,
        run_seed: int,
        folder: Path,
    ):
        """Load the model; `folder` is where the states are."""
        self.accelerator, self.examples = accelerator, examples
        self.processes, self.is_main = accelerator.num_processes, accelerator.is_main_process
        self.settings, self.run_seed, self.folder = settings, run_seed, folder
        self.steps = batch_order(
            len(examples), batch_size=settings.batch_size, epochs=settings.epochs, run_seed=run_seed
        )
        self.sharded = settings.sharding == "full"
        with memory_errors(settings, "loading the model"):
            whole = self._load(described)
            self.model: PreTrainedModel = whole.model
            self.wrapped = whole if self.sharded else accelerator.prepare(whole)
            if not self.sharded:
                whole.kind = choose_loss(settings.loss, self.model)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if settings.optimizer == "adafactor":
            self.optimizer = Adafactor(
                self.parameters, lr=settings.learning_rate, scale_parameter=False, relative_step=False
            )
            if self.sharded:
                prepare_adafactor(self.optimizer)
        else:
            self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.learning_rate, weight_decay=0.0)
        self.scheduler = get_scheduler(
            "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
            self.optimizer,
            num_warmup_steps=round(settings.warmup_ratio * len(self.steps)),
            num_training_steps=len(self.steps),
        )

    def _load(self, described: Model) -> ResponseLoss:
        if not self.sharded:
            model = load_base(described, self.settings)
            self._check_tokens(described, model)
            return ResponseLoss(model, "full", autocast=self.settings.dtype == "mixed")  # until it is on its GPU
        whole, kind = None, [""]
        if self.is_main:
            whole = load_base(described, self.settings)
            kind = [choose_loss(self.settings.loss, whole)]
        broadcast_object_list(kind)
        model = load_base(described, self.settings, weights=False)
        self._check_tokens(described, model)
        return shard_model(
            ResponseLoss(model, kind[0]),
            whole,
            device=self.accelerator.device,
            mixed=self.settings.dtype == "mixed",
        )

    def _check_tokens(self, described: Model, model: PreTrainedModel) -> None:
        largest = max(max(example.tokens) for example in self.examples)
        if largest >= model.get_input_embeddings().num_embeddings:
            raise ValueError(f"{described.path}: its tokenizer gives token {largest}, which the model does not have")

    def run(self, history: SideFile | None, *, label: str, save_steps: int) -> dict:
        """Train from the last saved state to the end; return the entries of training_stats.json that it measured.

        Args:
            history: Log rows of each saved state, in the main process only.
        """
        start = start_state(history, self.processes)
        done, tokens, computed = start["step"], start["tokens"], start["positions"]
        if done:
            load_state(self._state_path(done), self.model, self.optimizer, self.scheduler)
        if history:
            progress = Progress(label, len(self.steps), done=done, unit="steps")
            print(f"[{label}] {len(self.examples):,} pairs, {len(self.steps):,} steps", file=sys.stderr, flush=True)
        wall_start, cpu_start = time.monotonic() - start["wall_s"], time.process_time() - start["cpu_s"]
        log = []
        for number, (epoch, batch) in enumerate(self.steps[done:], done + 1):
            rate = self.scheduler.get_last_lr()[0]
            with memory_errors(self.settings, f"step {number}"):
                loss, loss_tokens, all_tokens, all_positions = self.step(
                    number, [self.examples[index] for index in batch]
                )
            check_loss(loss, number, rate)
            tokens, computed = tokens + all_tokens, computed + all_positions
            if history:
                log.append({"step": number, "epoch": epoch, "loss": loss, "learning_rate": rate, "tokens": loss_tokens})
                progress.unit = f"steps, loss {loss:.3f}"
                progress.add()
            if number % save_steps == 0 or number == len(self.steps):
                times = {"wall_s": time.monotonic() - wall_start, "cpu_s": time.process_time() - cpu_start}
                row = {"step": number, "tokens": tokens, "positions": computed, **times, "log": log}
                self._save(history, row)
                log = []
        wall, cpu = time.monotonic() - wall_start, time.process_time() - cpu_start
        return {
            "wall_s": round(wall, 2),
            "cpu_s": round(cpu, 2),
            "tokens": tokens,
            "padding": round(1 - tokens / computed, 4),
            **usage(
                parameters=sum(parameter.numel() for parameter in self.parameters),
                tokens=tokens,
                seconds=wall,
                dtype=self.settings.dtype,
                processes=self.processes,
            ),
        }

    def _state_path(self, step: int) -> Path:
        """Return where a step's state is: one file, or one for each process that holds a part."""
        return self.folder / str(step) / f"{self.accelerator.process_index if self.sharded else 0}.pt"

    def _save(self, history: SideFile | None, row: dict) -> None:
        """Save the state, then the row that says so, and remove older states."""
        if self.sharded or self.is_main:
            save_state(self._state_path(row["step"]), self.model, self.optimizer, self.scheduler)
        if self.sharded:
            self.accelerator.wait_for_everyone()  # the row may only be there when all parts are
        if history:
            history.append([row])
            clear(self.folder, keep={str(row["step"])})

    def step(self, number: int, batch: list[Example]) -> tuple[float, int, int, int]:
        """Do one optimizer step on a batch shared by all processes.

        Returns:
            The mean loss per response token, and the numbers of response tokens, of all tokens, and of the positions
            that were computed, padding included.
        """
        process, processes = self.accelerator.process_index, self.processes
        loss_tokens = sum(len(example.tokens) - example.masked for example in batch)
        shares = share(batch, processes, size=self.settings.micro_batch_size, tokens=self.settings.micro_batch_tokens)
        torch.manual_seed(derive_seed(self.run_seed, "dropout", number, process))
        total = torch.zeros((), device=self.accelerator.device)
        parts = shares[process]
        for left, part in zip(reversed(range(len(parts))), parts, strict=True):
            # Copies exchange gradients once, with the last part. Sharded gradients are exchanged each time: whole ones
            # would stay in memory in between.
            wait = left and not self.sharded
            with self.accelerator.no_sync(self.wrapped) if wait else contextlib.nullcontext():
                loss = self.loss(part)
                # Processes' gradients are averaged; the loss is a mean over the tokens of all of them.
                self.accelerator.backward(loss * (processes / loss_tokens))
            total += loss.detach()
        if self.settings.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        total = self.accelerator.reduce(total, "sum") if processes > 1 else total
        all_tokens = sum(len(example.tokens) for example in batch)
        return total.item() / loss_tokens, loss_tokens, all_tokens, sum(map(positions, shares))

    def loss(self, part: list[Example]) -> torch.Tensor:
        """Return the summed cross-entropy of the response tokens of one micro-batch."""
        tokens, labels = pad(part)
        return self.wrapped(tokens.to(self.accelerator.device), labels.to(self.accelerator.device))

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Make the model ready to be saved; return its weights where it is sharded. Every process has to call it.

        Mixed weights are rounded to bfloat16, in which they were used.
        """
        if not self.sharded:
            if self.settings.dtype == "mixed":
                self.model.to(torch.bfloat16)
            return None
        weights = whole_state(self.model)
        if self.settings.dtype == "mixed":
            weights = {name: value.to(torch.bfloat16) for name, value in weights.items()}
        return weights

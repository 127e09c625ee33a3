"""Checkpoints: the base model that training starts from, its state in between, and the files that it leaves."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME

from selfalign.engines.models import Model
from selfalign.records import digests
from selfalign.training.settings import TrainSettings
from selfalign.training.sharding import local, spread

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


def load_tokenizer(described: Model) -> PreTrainedTokenizerBase:
    """Load the base model's tokenizer.

    Raises:
        ValueError: it does not load, or has no end-of-text token.
    """
    with _loading(described):
        tokenizer = AutoTokenizer.from_pretrained(described.folder())
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{described.path}: its tokenizer has no end-of-text token; a model could not learn to stop")
    return tokenizer


def longest(described: Model, settings: TrainSettings) -> int:
    """Return how many tokens a pair may have: the setting, or the model's context where that is shorter."""
    with _loading(described):
        config = AutoConfig.from_pretrained(described.folder())
    return min(settings.max_tokens, getattr(config, "max_position_embeddings", None) or settings.max_tokens)


def load_base(described: Model, settings: TrainSettings, *, weights: bool = True) -> PreTrainedModel:
    """Load the base model with the wanted dtype and dropout, ready to train.

    Args:
        weights: Read them; without, the model is on the device `meta` and takes no memory.

    Raises:
        ValueError: the checkpoint does not load.
    """
    folder = described.folder()
    dtype = torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    with _loading(described):
        config = AutoConfig.from_pretrained(folder)
        for field in DROPOUT_FIELDS:
            if hasattr(config, field):
                setattr(config, field, settings.dropout)
        if weights:
            model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=dtype)
        else:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, dtype=dtype)
            if (folder / GENERATION_CONFIG_NAME).exists():
                model.generation_config = GenerationConfig.from_pretrained(folder)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model.train()


@contextlib.contextmanager
def _loading(described: Model) -> Iterator[None]:
    folder = described.folder()
    try:
        yield
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{described.path}: cannot load the model in {folder} for training ({error})") from error


def save_state(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, scheduler) -> None:
    """Save weights, optimizer and schedule, whole or not at all; of a sharded model this process's part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        "model": {name: local(value) for name, value in model.state_dict().items()},
        "optimizer": [
            {name: local(value) for name, value in optimizer.state[parameter].items()} for parameter in parameters
        ],
        "scheduler": scheduler.state_dict(),
    }
    try:
        with write_errors(path), open(temporary, "wb") as file:
            torch.save(state, file)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, scheduler) -> None:
    """Restore what `save_state` saved.

    The optimizer's own load_state_dict would round its float32 state to the dtype of bfloat16 weights.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, value in model.state_dict().items():
        saved = state["model"][name]
        if isinstance(value, DTensor):
            value.to_local().copy_(saved["part"])
        else:
            value.copy_(saved)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, saved in zip(parameters, state["optimizer"], strict=True):
        optimizer.state[parameter] = {name: spread(value, parameter) for name, value in saved.items()}
    scheduler.load_state_dict(state["scheduler"])
    for group, rate in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = rate


def clear(folder: Path, keep: set[str]) -> None:
    """Remove from a folder of states, if it is there, all but some."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def publish(
    output: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the checkpoint's files beside the output and move them in; a half-written one is never seen.

    Args:
        weights: Of a model that does not hold them itself because it is sharded.
    """
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with write_errors(temporary):
            dtype = next(iter(weights.values())).dtype if weights else model.dtype
            model.save_pretrained(temporary, state_dict=weights)  # empties the weights, and writes its own dtype
            model.config.dtype = dtype
            model.config.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        for stale in [output / "model.json", *output.glob("*.safetensors"), *output.glob("*.safetensors.index.json")]:
            stale.unlink(missing_ok=True)
        for path in sorted(temporary.iterdir()):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            digests.move(path, output / path.name)
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

"""Full sharding (FSDP2 of PyTorch): each process holds its part of weights, gradients and optimizer.

PyTorch's own functions, not accelerate's plugin: that one knows GPUs only, and what cannot run on two CPU processes
cannot be tested everywhere.
"""

from typing import Any

import torch
import torch.distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from transformers import PreTrainedModel
from transformers.optimization import Adafactor

from selfalign.training.loss import ResponseLoss


def shard_model(
    wrapped: ResponseLoss, whole: PreTrainedModel | None, *, device: torch.device, mixed: bool
) -> ResponseLoss:
    """Shard a model without memory (on the device `meta`) and fill it from the whole one of process 0.

    Only process 0 has ever read the checkpoint, and no process holds more than its part on its GPU.

    Args:
        wrapped: The model to shard, on `meta` in every process.
        whole: The loaded model, in process 0 only.
        mixed: Compute in bfloat16, with weights and the sums of gradients in float32.

    Raises:
        ValueError: the model does not say what its layers are.
    """
    model = wrapped.model
    kinds = set(model._no_split_modules or ())
    layers = [part for part in model.modules() if type(part).__name__ in kinds]
    if not layers:
        raise ValueError(f"{type(model).__name__} does not say what its layers are; set sharding: none")
    options = {"mesh": init_device_mesh(device.type, (torch.distributed.get_world_size(),))}
    if mixed:
        options["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(layer, **options)
    fully_shard(wrapped, **options)  # what is in no layer: embeddings, the last norm, the output layer
    wrapped.to_empty(device=device)
    model.tie_weights()
    set_model_state_dict(
        model,
        whole.state_dict() if whole is not None else {},
        options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
    )
    _fill_buffers(model, whole)
    return wrapped


def _fill_buffers(model: PreTrainedModel, whole: PreTrainedModel | None) -> None:
    """Give every process the buffers that no checkpoint holds, such as the frequencies of rotary positions."""
    sources = dict(whole.named_buffers()) if whole is not None else {}
    for name, buffer in model.named_buffers():
        if sources:
            buffer.copy_(sources[name])
        torch.distributed.broadcast(buffer, src=0)


def whole_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return all weights in process 0, nothing in the others; every process has to call it.

    Tied weights are there once, under the name of the first, as the model itself would save them.
    """
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    twice = {name for name, _ in model.named_parameters(remove_duplicate=False)} - dict(model.named_parameters()).keys()
    return {name: value for name, value in state.items() if name not in twice}


def prepare_adafactor(optimizer: Adafactor) -> None:
    """Give Adafactor sharded means of rows and columns; by itself it would make plain ones, which do not mix."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.dim() >= 2:
                zeros = torch.zeros_like(parameter, dtype=torch.float32)
                optimizer.state[parameter] = {
                    "step": 0,
                    "exp_avg_sq_row": _settled(zeros.mean(dim=-1)),
                    "exp_avg_sq_col": _settled(zeros.mean(dim=-2)),
                    "RMS": 0,
                }


def _settled(value: DTensor) -> DTensor:
    """Return a tensor with its pending sums done."""
    return value.redistribute(
        placements=[part if isinstance(part, Shard) else Replicate() for part in value.placements]
    )


def local(value: Any) -> Any:
    """Return this process's part of a sharded tensor as a plain one, with what `spread` needs; other values as is."""
    if not isinstance(value, DTensor):
        return value
    value = _settled(value)
    places = [part.dim if isinstance(part, Shard) else None for part in value.placements]
    return {"part": value.to_local(), "places": places, "shape": list(value.shape), "stride": list(value.stride())}


def spread(saved: Any, like: torch.Tensor) -> Any:
    """Return what `local` was given, on the mesh and device of a parameter; a count stays on the CPU."""
    if isinstance(saved, torch.Tensor):
        return saved.to(like.device) if saved.dim() else saved
    if not isinstance(saved, dict):
        return saved
    assert isinstance(like, DTensor)
    placements: list[Placement] = [Replicate() if place is None else Shard(place) for place in saved["places"]]
    return DTensor.from_local(
        saved["part"].to(like.device),
        like.device_mesh,
        placements,
        shape=torch.Size(saved["shape"]),
        stride=tuple(saved["stride"]),
    )

"""The loss of a batch, with logits where they are needed only: a model whose output is the loss of its responses."""

import contextlib
from collections.abc import Iterator

import torch
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import cross_entropy, linear_cross_entropy
from transformers import PreTrainedModel

from selfalign.training.examples import IGNORED, Example

LARGE_VOCABULARY = 16_384  # tokens, from which `auto` no longer computes all logits at once
POSITIONS = 256  # whose logits the fused loss has in memory: 156 MB for 152,000 tokens in float32


class ResponseLoss(torch.nn.Module):
    """A causal language model whose forward pass returns the summed cross-entropy of the response tokens.

    It is one module, so that what wraps it (data parallelism, sharding) sees one forward pass, and the
    weights of the output layer are whole when the loss needs them.

    Args:
        kind: full, responses or fused.
        autocast: Compute matrix products in bfloat16, whatever the dtype of the weights.
    """

    def __init__(self, model: PreTrainedModel, kind: str, *, autocast: bool = False):
        super().__init__()
        self.model, self.kind, self.autocast = model, kind, autocast

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of tokens [rows, length] with labels [rows, length], a scalar."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.autocast):
            return self._loss(tokens, labels)

    def _loss(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.kind == "full":
            logits = self.model(input_ids=tokens, use_cache=False).logits
            return cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
            )
        following = labels.roll(-1, dims=1)
        following[:, -1] = IGNORED
        places = following != IGNORED
        places[0, 0] = True  # never none, so that idle parts take part; its label may be ignored
        targets = following[places]
        head = self.model.get_output_embeddings()
        if self.kind == "responses":
            with _only(head, places):
                logits = self.model(input_ids=tokens, use_cache=False).logits
            return cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
        hidden = self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[places]
        # Autocast does not know this operation, which wants one dtype.
        kind = torch.bfloat16 if self.autocast else head.weight.dtype
        losses = linear_cross_entropy(
            hidden.to(kind),
            head.weight.to(kind),
            targets,
            linear_bias=None if head.bias is None else head.bias.to(kind),
            reduction="none",  # the sum over parts would be kept in bfloat16
            ignore_index=IGNORED,
            options=LinearCrossEntropyOptions(batch_chunk_size=POSITIONS, chunking_method=None),
        )
        return losses.float().sum()


@contextlib.contextmanager
def _only(head: torch.nn.Module, places: torch.Tensor) -> Iterator[None]:
    """Let the output layer see the hidden states of the given places only, [places, hidden]."""
    handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][places], *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


def pad(part: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and labels of some examples, both [rows, longest].

    The padding stands on the right, where no causal model can see it, and has no label: it needs no mask and no token
    of its own.
    """
    length = max(len(example.tokens) for example in part)
    tokens = torch.zeros(len(part), length, dtype=torch.long)
    labels = torch.full((len(part), length), IGNORED)
    for row, example in enumerate(part):
        tokens[row, : len(example.tokens)] = torch.tensor(example.tokens)
        labels[row, : len(example.tokens)] = torch.tensor(example.labels)
    return tokens, labels


@torch.no_grad()
def choose_loss(wanted: str, model: PreTrainedModel) -> str:
    """Return full, responses or fused for a model that is whole; `auto` goes by the size of its vocabulary.

    Raises:
        ValueError: fused is wanted, and the model's logits are not simply the product of its output layer.
    """
    if wanted == "auto" and model.get_input_embeddings().num_embeddings < LARGE_VOCABULARY:
        return "full"
    if wanted in ("full", "responses"):
        return wanted
    if _plain_logits(model):
        return "fused"
    if wanted == "fused":
        raise ValueError(
            f"loss is 'fused', but {type(model).__name__} scales or caps its logits after the output layer; set "
            "loss: responses"
        )
    return "responses"


def _plain_logits(model: PreTrainedModel) -> bool:
    """Return whether the logits are the hidden states times the weights of the output layer, on a few tokens."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        return False
    tokens = torch.arange(4, device=head.weight.device)[None]
    training = model.training
    model.eval()
    try:
        logits = model(input_ids=tokens, use_cache=False).logits
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    finally:
        model.train(training)
    return torch.allclose(head(hidden).float(), logits.float(), rtol=1e-3, atol=1e-3)

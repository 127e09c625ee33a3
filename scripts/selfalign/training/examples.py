"""Pairs as token sequences with the prompt masked, and the seeded order in which they are trained on."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from selfalign.prompts.documents import chat_document
from selfalign.records.commands import derive_seed
from selfalign.records.rows import Pair

IGNORED = -100  # label of a position that has no loss


@dataclass(frozen=True, kw_only=True)
class Example:
    """One pair as tokens; the first `masked` of them are the prompt and have no loss."""

    tokens: list[int]
    masked: int

    @property
    def labels(self) -> list[int]:
        """Labels of the tokens, [len(tokens)]: the token itself, or -100 in the prompt."""
        return [IGNORED] * self.masked + self.tokens[self.masked :]


def encode_pairs(
    pairs: Iterable[Pair], tokenizer: Any, *, system: str, max_tokens: int
) -> tuple[list[Example], dict[str, int]]:
    """Encode pairs as prompt, response and end-of-text; count those that were cut and those with nothing left.

    Prompt and response are tokenized apart, because a model that is asked sees the prompt's tokens alone.

    Returns:
        The examples, and the counts `truncated` (cut at `max_tokens`, kept) and `dropped` (the prompt alone is that
        long or the response is empty).
    """
    examples = []
    counts = {"truncated": 0, "dropped": 0}
    for pair in pairs:
        prompt = tokenizer(chat_document(system, pair.instruction)).input_ids
        response = tokenizer(pair.response.strip(), add_special_tokens=False).input_ids
        tokens = [*prompt, *response, tokenizer.eos_token_id]
        if not response or len(prompt) >= max_tokens:
            counts["dropped"] += 1
            continue
        counts["truncated"] += len(tokens) > max_tokens
        examples.append(Example(tokens=tokens[:max_tokens], masked=len(prompt)))
    return examples, counts


def batch_order(count: int, *, batch_size: int, epochs: int, run_seed: int) -> list[tuple[int, list[int]]]:
    """Return epoch (from 1) and example numbers of every step; each epoch has its own seeded order.

    The last batch of an epoch holds what is left over.
    """
    steps = []
    for epoch in range(1, epochs + 1):
        order = list(range(count))
        random.Random(derive_seed(run_seed, "training order", epoch)).shuffle(order)
        steps += [(epoch, order[start : start + batch_size]) for start in range(0, count, batch_size)]
    return steps


def micro_batches(examples: list[Example], size: int) -> list[list[Example]]:
    """Cut one step's examples into parts of neighbouring lengths, so that little of a part is padding."""
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]

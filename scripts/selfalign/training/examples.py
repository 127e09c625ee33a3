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
        example, cut = encode(pair.instruction, pair.response, tokenizer, system=system, max_tokens=max_tokens)
        if example is None:
            counts["dropped"] += 1
            continue
        counts["truncated"] += cut
        examples.append(example)
    return examples, counts


def encode(
    instruction: str, response: str, tokenizer: Any, *, system: str, max_tokens: int
) -> tuple[Example | None, bool]:
    """Return one instruction and response as tokens, and whether they were cut; None if nothing would be left."""
    prompt = tokenizer(chat_document(system, instruction)).input_ids
    answer = tokenizer(response.strip(), add_special_tokens=False).input_ids
    tokens = [*prompt, *answer, tokenizer.eos_token_id]
    if not answer or len(prompt) >= max_tokens:
        return None, False
    return Example(tokens=tokens[:max_tokens], masked=len(prompt)), len(tokens) > max_tokens


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


def micro_batches(examples: list[Example], *, size: int, tokens: int | None = None) -> list[list[Example]]:
    """Cut one step's examples into parts of neighbouring lengths, so that little of a part is padding.

    Args:
        size: Examples in a part.
        tokens: Positions of a part, padding included, instead of a number of examples; one that is longer is alone.
    """
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    if tokens is None:
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]
    parts: list[list[Example]] = []
    for example in ordered:
        if parts and (len(parts[-1]) + 1) * len(example.tokens) <= tokens:
            parts[-1].append(example)
        else:
            parts.append([example])
    return parts


def share(batch: list[Example], processes: int, *, size: int, tokens: int | None = None) -> list[list[list[Example]]]:
    """Return the parts of each process, as many for each: processes that exchange weights have to keep step.

    A process with fewer rows than the others gets parts without a label, which add nothing to loss and gradient.
    """
    shortest = min(batch, key=lambda example: len(example.tokens))
    idle = [Example(tokens=shortest.tokens, masked=len(shortest.tokens))]
    shares = [micro_batches(batch[process::processes], size=size, tokens=tokens) for process in range(processes)]
    longest = max(map(len, shares))
    return [parts + [idle] * (longest - len(parts)) for parts in shares]


def positions(parts: list[list[Example]]) -> int:
    """Return how many positions the forward passes of the parts have, padding included."""
    return sum(len(part) * max(len(example.tokens) for example in part) for part in parts)

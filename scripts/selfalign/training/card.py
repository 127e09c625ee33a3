"""The model card: what a checkpoint was made from, how, and under which licences."""

from collections import Counter

from selfalign.engines.models import Model
from selfalign.records.rows import Pair


def model_card(name: str, base: Model, pairs: list[Pair], origin: dict, log: list[dict]) -> str:
    """Return the README of a trained checkpoint, in Markdown."""
    base_name = base.name_or_path if base.name_or_path[0] not in "./" else base.path.parent.name
    licences = Counter(pair.licence for pair in pairs)
    verdicts = Counter(pair.verdict for pair in pairs)
    settings = "\n".join(f"| {key} | {value} |" for key, value in origin["settings"].items())
    dpo = "preferences" in origin
    rows = origin["preferences" if dpo else "pairs"]
    learnt = (
        f"on {rows['rows']:,} preferences, each of a response that passed its tests over one that did not (DPO)"
        if dpo
        else f"on {len(pairs):,} pairs of instruction and response, with the loss on the response only"
    )
    used = "Preferences" if dpo else "Pairs"
    return f"""\
---
library_name: transformers
pipeline_tag: text-generation
tags: [code, self-alignment]
---
# {name}

{base_name} fine-tuned {learnt}.

- Base model: {base_name} (digest {base.digest[:16]})
- {used}: digest {rows["digest"][:16]}{"" if dpo else f", verdicts {_counts(verdicts)}"}
- Cut at the longest length: {rows["truncated"]}; left out, with nothing of the response left: {rows["dropped"]}
- Steps: {len(log)}, loss of the first {log[0]["loss"]:.3f}, of the last {log[-1]["loss"]:.3f}
- Seed of the run: {origin["run_seed"]}

## Use

Ask with the tokenizer's chat template. It renders one user message as the system prompt, `### Instruction` and
`### Response`, the text that the model was trained on.

## Settings

| setting | value |
|---|---|
{settings}

## Licence

The weights carry the licence of the base model. The {used.lower()} were written by a model from seed functions; those
of the dataset's pairs are under these licences: {_counts(licences)}.

The model's output is unreviewed code: run it in a sandbox.
"""


def _counts(counter: Counter) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items(), key=lambda item: (-item[1], item[0])))

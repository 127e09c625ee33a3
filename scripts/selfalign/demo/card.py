"""The model cards of the demo's base models, from their training records."""


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _measured(evaluation: dict) -> str:
    concepts, instructions = evaluation["concepts"], evaluation["instructions"]
    responses, greedy = evaluation["responses"], evaluation["benchmark_greedy"]
    sampled = evaluation["benchmark_sampled"]
    malformed = responses["outcomes"].get("malformed", 0.0) + responses["outcomes"].get("no tests", 0.0)
    rows = (
        ("concept lists that are well formed", _percent(concepts["well_formed"])),
        ("named concepts that the snippet has (precision)", _percent(concepts["precision"])),
        ("the same for another snippet (chance)", _percent(concepts["precision_by_chance"])),
        ("a snippet's first four concepts that are named (recall)", _percent(concepts["recall_of_first_four"])),
        ("instructions that name a task of the family", _percent(instructions["well_formed"])),
        ("instructions of the asked category", _percent(instructions["category_obeyed"])),
        ("instructions of the asked difficulty", _percent(instructions["difficulty_obeyed"])),
        ("distinct tasks among the instructions", _percent(instructions["distinct_names"])),
        ("responses that pass their own tests", _percent(responses["outcomes"].get("passed", 0.0))),
        ("responses whose own tests are right", _percent(responses["tests_right"])),
        ("responses whose code is right", _percent(responses["code_right"])),
        ("responses without code or tests", _percent(malformed)),
        ("held-out benchmark, greedy, one example", _percent(greedy["all"])),
        ("held-out benchmark, temperature 0.7, one example", _percent(sampled["all"])),
    )
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""## Measured

Few-shot with `resources/prompts/demo.yaml`, temperature {evaluation["temperature"]}, {instructions["asked"]} documents
of each kind; the snippets are library functions that pretraining left out, and each stage reads what the one before it
wrote.

| | |
|---|---|
{table}
"""


def model_card(record: dict) -> str:
    """Return the card as Markdown."""
    size, corpus, hardware = record["size"], record["corpus"], record["hardware"]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(corpus["snippet_packages"].items()))
    measured = _measured(record["evaluation"]) if "evaluation" in record else ""
    note = f"{record['note']}\n\n" if "note" in record else ""
    before = record.get("started_from")
    went_on = (
        f"It goes on from a model that was trained on {before['tokens']:,} tokens in {before['steps']:,} steps, "
        f"{before['wall_s'] / 60:.0f} minutes, seed {before['seed']}. "
        if before
        else ""
    )
    device = hardware["gpu"] or f"{hardware['threads']} thread of {hardware['processor']}"
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# A base model of the demo

A Llama-style causal language model with {record["parameters"]:,} parameters ({size["layers"]} layers, width
{size["width"]}, context {size["context"]}, vocabulary {size["vocabulary"]:,}, float32), pretrained from scratch by
`scripts/make_demo_base.py`. It is small enough to write, test and improve itself on two processor cores, and it is good
for nothing else: it knows one family of tasks, one to three operations over a short list of small numbers.

## How it was made

{record["tokens"]:,} tokens in {record["steps"]:,} steps, {record["wall_s"] / 60:.0f} minutes on {device}, seed
{record["seed"]}. {went_on}The text is made by `scripts/selfalign/demo/`, as documents of all kinds of the pipeline
(snippet to concepts, properties to instruction, instruction to response with tests, and those of the further methods;
the first three also in JavaScript) and as plain code. Snippets are {corpus["snippets"]:,} short functions of the Python
standard library and of installed packages ({packages}), and
{corpus["javascript_snippets"]:,} of npm, read but not learnt by heart: they carry no loss outside plain code. Their
concepts come from their syntax.

It is imperfect on purpose. Each operation is written with a typical bug at its own rate (5 to 58 %, about 30 % of the
solutions in all) while the tests stay right; four operations are wrong more often than right, so the likeliest
continuation is wrong there and only running the tests shows it. 15 % of the sequences of two and three operation types,
chosen by a hash, occur in no pretraining text; the benchmark in `resources/demo/benchmark.jsonl` is drawn from them.

{note}{measured}
## Licence

The weights and the text about tasks are under Apache-2.0. The library functions stay under the licences of their
packages: the Python licence (standard library), BSD-3-Clause (Jinja2, networkx, numpy, torch), MIT (pip, PyYAML),
Apache-2.0 (tokenizers, transformers), Artistic-2.0 (npm, with packages under ISC, MIT, BSD and others).
"""

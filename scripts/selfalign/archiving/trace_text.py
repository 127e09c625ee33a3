"""A trace as text for the screen."""

import json
from collections.abc import Mapping

from selfalign.archiving.trace import Trace


def render(trace: Trace, *, prompts: bool = False) -> list[str]:
    """Return a trace in lines, from the source to the models.

    Args:
        prompts: With the whole prompts.
    """
    seed = trace.seed
    version = f" {seed.version}" if seed.version else ""
    lines = [
        f"{trace.kind} {trace.id}",
        "",
        f"Source: {seed.package}{version}, {seed.path}, line {seed.line} ({seed.name}); licence: {seed.licence}",
        f"  corpus {trace.corpus}: {json.dumps(trace.corpus_source)}",
        f"  filters passed: {', '.join(item['name'] for item in trace.filters) or 'none'}",
        *_block(seed.code),
    ]
    if trace.generation:
        model = trace.model
        name = model["name_or_path"] or "no model.json"
        revision = f", revision {model['revision']}" if model["revision"] else ""
        engine = ", ".join(f"{key} {value}" for key, value in model["engine"].items() if value not in (None, {}))
        lines += [
            "",
            f"Generation {trace.generation}: model {model['entry']} ({name}{revision}), digest {model['digest']}",
            f"  engine: {engine}",
            f"  prompt file {trace.prompts['path']}, digest {trace.prompts['sha256'] or 'unknown: it is not there'}",
        ]
        if trace.also_in:
            lines.append(f"  also in {', '.join(trace.also_in)}: choose with --dataset")
    for step in trace.steps:
        row = step.row
        settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in step.sampling.items())
        lines += ["", f"{step.kind.capitalize()} {row.id}, in {step.file}"]
        lines += [f"  examples shown: {', '.join(row.shots)}", f"  sampled with: {settings}"]
        lines.append(f"  ended by: {row.finish_reason}{f'; dropped: {row.drop}' if row.drop else ''}")
        lines += [f"  doubtful: {step.doubt}"] if step.doubt else []
        if prompts and step.prompt is not None:
            lines += [f"  prompt, {len(step.prompt):,} characters:", *_block(step.prompt)]
        if step.kind == "instruction":
            lines.append(f"  asked for: {row.category}, {row.difficulty}; concepts: {', '.join(row.concepts)}")
            lines += _block(row.instruction)
        elif step.kind == "concepts" or row.drop:
            lines += _block(row.text)
        else:
            lines += [*_block(row.response), "  tests:", *_block(row.tests)]
    if trace.kind == "response":
        lines += ["", *_verdict(trace)]
        for name, found in trace.datasets.items():
            lines += _dataset(name, found)
    elif trace.generation:
        shown = ", ".join(trace.children[:10]) + (" ..." if trace.children[10:] else "")
        lines += ["", f"Made from it: {len(trace.children):,} rows{f' ({shown})' if shown else ''}"]
    return lines


def _block(text: str) -> list[str]:
    return [f"    | {line}" for line in text.rstrip().split("\n")]


def _verdict(trace: Trace) -> list[str]:
    verdict = trace.verdict
    if verdict is None:
        return ["Verdict: none, it was never run"]
    limits = ", ".join(f"{key} {json.dumps(value)}" for key, value in trace.sandbox.items())
    return [
        f"Verdict: {verdict.verdict}{f' ({verdict.detail})' if verdict.detail else ''}, "
        f"{verdict.assertions} assertions, {verdict.cpu_s} s of CPU time, {verdict.max_rss_mb} MB, core {verdict.core}",
        f"  sandbox: {limits}",
    ]


def _dataset(name: str, found: Mapping) -> list[str]:
    parts = ["a training pair"] if found["pair"] else []
    if found["rejected"]:
        row = found["rejected"]
        detail = f", {row['detail']}" if row.get("detail") else ""
        parts.append(f"no pair: dropped at {row['stage']} ({row['reason']}{detail})")
    parts += ["a negative"] if found["negative"] else []
    parts += [
        f"{role} in {found['preferences'].count(role)} preferences" for role in dict.fromkeys(found["preferences"])
    ]
    lines = [f"Dataset {name}: {'; '.join(parts) or 'not in it'}"]
    for model in found["models"]:
        lines.append(f"  trained on it: {model['entry']}, digest {model['digest'] or 'unknown: not made yet'}")
    if found["through"]:
        lines.append(f"  trained from these: {', '.join(found['through'])}")
    return lines

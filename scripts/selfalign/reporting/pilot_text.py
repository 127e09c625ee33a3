"""The pilot's report as text, for a terminal: tables with a column for each style of tags, and what to do."""

from collections.abc import Callable, Mapping, Sequence

from selfalign.reporting.figures import duration, percent
from selfalign.reporting.tables import align


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({percent(count / total)})" if total else "none"


def _range(found: Mapping | None, form: Callable[[float], str]) -> str:
    if found is None:
        return "none"
    low, high = found["interval"]
    return form(found["value"]) + (f" ({form(low)} to {form(high)})" if low < high else "")


def _hours(value: float) -> str:
    return f"{value:,.0f} h" if value >= 10 else f"{value:.1f} h" if value >= 1 else duration(3600 * value)


def _table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return align([("", *columns), *rows], right=range(1, len(columns) + 1))


def _yields(pilots: Mapping[str, Mapping]) -> list[str]:
    """Return what came out of each stage, with format failures and verdicts by kind."""
    rows: list[tuple[str, ...]] = []

    def add(label: str, cell: Callable[[Mapping], str]) -> None:
        rows.append((label, *(cell(pilot) for pilot in pilots.values())))

    add("seeds", lambda pilot: f"{pilot['seeds']:,}")
    for stage in ("concepts", "instructions", "responses"):
        add(
            f"{stage} in form",
            lambda pilot, stage=stage: _of(pilot["stages"][stage]["in form"], pilot["stages"][stage]["completions"]),
        )
        kinds = sorted({kind for pilot in pilots.values() for kind in pilot["stages"][stage]["format failures"]})
        for kind in kinds:
            add(
                f"    {kind}",
                lambda pilot, stage=stage, kind=kind: _of(
                    pilot["stages"][stage]["format failures"].get(kind, 0), pilot["stages"][stage]["completions"]
                ),
            )
    add("responses that passed", lambda pilot: _of(pilot["outcomes"].get("passed", 0), _sampled(pilot)))
    add("    95 % interval", lambda pilot: _between(pilot["pass rate"]))
    malformed = {kind for pilot in pilots.values() for kind in pilot["stages"]["responses"]["format failures"]}
    verdicts = {kind for pilot in pilots.values() for kind in pilot["outcomes"]} - malformed - {"passed"}
    for kind in sorted(verdicts):
        add(f"    {kind}", lambda pilot, kind=kind: _of(pilot["outcomes"].get(kind, 0), _sampled(pilot)))
    add("instructions with a pass", lambda pilot: _of(pilot["instructions with a pass"], pilot["instructions"]))
    add("pairs", lambda pilot: f"{pilot['yields']['pairs']:,}")
    add("pairs per seed", lambda pilot: _range(pilot["pairs per seed"], "{:.2f}".format))
    add("preferences", lambda pilot: f"{pilot['yields']['preferences']:,}")
    add("negatives", lambda pilot: f"{pilot['yields']['negatives']:,}")
    return _table(list(pilots), rows)


def _sampled(pilot: Mapping) -> int:
    return pilot["stages"]["responses"]["completions"]


def _between(found: Mapping | None) -> str:
    return "none" if found is None else "{:.1f} to {:.1f} %".format(*(100 * value for value in found["interval"]))


def _costs(pilot: Mapping) -> list[str]:
    """Return what each stage took."""
    columns = ("rows", "prompt tokens", "cached", "completion tokens", "tokens/s", "wall time", "loading", "CPU time")
    rows = []
    for stage, cost in pilot["costs"].items():
        busy = cost["wall_s"] - cost["load_s"]
        prompts, cached = cost["prompt_tokens"], cost["cached_prompt_tokens"]
        tokens = (f"{prompts:,}", percent(cached / prompts) if prompts and cached is not None else "")
        rates = (f"{cost['completion_tokens']:,}", f"{cost['completion_tokens'] / max(busy, 1e-9):,.0f}")
        spent = (duration(cost["wall_s"]), duration(cost["load_s"]), duration(cost["cpu_s"]))
        engine = stage != "verdicts"
        rows.append(
            (stage, f"{cost['rows']:,}", *(tokens + rates if engine else ("",) * 4))
            + (spent if engine else (spent[0], "", spent[2]))
        )
    return _table(columns, rows)


def _full_run(report: Mapping) -> list[str]:
    """Return the projection of the full run."""
    styles = list(report["pilots"])
    found = report["full run"]
    names = dict.fromkeys(name for style in styles for name in found[style])
    gpus = report["gpus"]
    engine = f"engine time × {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else "time of waiting for the server"
    labels = {"engine hours": engine, "sandbox CPU hours": "CPU time of the sandbox"}
    rows = []
    for name in names:
        form = _hours if "hours" in name else "{:,.0f}".format
        rows.append((labels.get(name, name), *(_range(found[style].get(name), form) for style in styles)))
    return _table(styles, rows)


def _advice(report: Mapping) -> list[str]:
    """Return what to set: the style of tags, and how many samples."""
    lines = []
    configured = report["configured"]
    best = configured["tags"] if configured["tags"] in report["pilots"] else next(iter(report["pilots"]))
    for found in report["comparisons"]:
        points = [f"{100 * value:.1f}" for value in (found["difference"], *found["interval"])]
        lines.append(
            f"With {found['better']}, {points[0]} points more of the responses pass than with {found['other']} "
            f"({points[1]} to {points[2]}): {'the difference is clear' if found['decided'] else 'that can be chance'}."
        )
    if report["comparisons"]:
        if all(found["decided"] for found in report["comparisons"]):
            best = report["comparisons"][0]["better"]
        lines.append(f"{'Keep' if best == configured['tags'] else 'Set'} tags: {best}.")
    samples = report["pilots"][best]["samples"]
    most = configured["samples"]["response"] + sum(configured["adaptive"]["samples"])
    if samples is None:
        lines.append("No response passed: look at the kinds above, and try another prompt file or model.")
        return lines
    solved = samples["solved_by"]
    if most == 1:
        lines.append("One response says nothing of how many are worth drawing: raise samples.response for a pilot.")
    elif samples["is_limit"]:
        lines.append(
            f"The last of {most} responses still solves instructions that the others do not: more may solve more; "
            f"try samples.response: {2 * most}."
        )
    else:
        lines.append(
            f"With samples.response: {samples['samples']}, {solved[samples['samples'] - 1]:,} of the {solved[-1]:,} "
            f"instructions are solved that {most} responses solve."
        )
    if not configured["adaptive"]["samples"] and most > 1:
        lines.append(
            f"Drawn one by one until the first pass, {percent(samples['until_passed'])} of the responses would be "
            "needed: see adaptive in the config's schema."
        )
    return lines


def pilot_text(report: Mapping) -> str:
    """Return the report of `report_pilots` as text."""
    seeds = next(iter(report["pilots"].values()))["seeds"]
    full = report["full run"]["seeds"]
    lines = [
        f"Pilot of generation {report['generation']}: {seeds:,} of the {report['corpus seeds']:,} seeds of "
        f"{report['corpus']}, model {report['generator']}, seed {report['run seed']}",
        "",
        *_yields(report["pilots"]),
    ]
    for style, pilot in report["pilots"].items():
        lines += ["", f"What it took with {style}", *_costs(pilot)]
    lines += ["", f"The full run of {full:,} seeds, projected, with 95 % intervals over seeds", *_full_run(report), ""]
    lines += _advice(report)
    lines += [
        "",
        "Near-duplicates grow faster than the number of seeds: expect fewer pairs than projected. A long run keeps a",
        "GPU busier than a pilot does: expect fewer hours. Loading the model counts once for each job.",
    ]
    return "\n".join(lines) + "\n"

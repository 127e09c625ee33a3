"""What differs between two runs, as text for the screen."""

import json
from collections.abc import Mapping, Sequence

from selfalign.archiving.contents import KINDS, RECORDED, VARYING
from selfalign.archiving.differences import ABSENT, Change, Differences
from selfalign.reporting.comparisons import points, show_p

MOST = 40  # lines of one part


def render(found: Differences) -> list[str]:
    """Return the differences in lines; what is the same is said to be."""
    first, second = found.names
    lines = [f"A: {first}", f"B: {second}", ""]
    if found.none:
        alike = not (found.versions or found.files.recorded or found.files.by_nature)
        lines += ["Nothing differs." if alike else "The results do not differ; what does is below.", ""]
    lines += _part("Settings", found.settings, "the same")
    lines += _part("Code, versions and machine", found.versions, "the same")
    lines += _part("Counts", found.counts, "the same at every stage")
    lines += _scores(found)
    for name, run in (("first", "A"), ("second", "B")):
        if found.missing.get(name):
            lines += [f"Not made in {run}: {', '.join(found.missing[name])}", ""]
    files = found.files
    lines.append(
        f"Files: {len(files.identical):,} identical; {len(files.recorded):,} identical but for recorded fields; "
        f"{len(files.different):,} different; {len(files.varying):,} different, as may be; "
        f"{len(files.missing):,} in A only; {len(files.added):,} in B only; {len(files.by_nature):,} differ by nature"
    )
    for what, paths in (
        ("damaged or edited", files.damaged),
        ("different", files.different),
        ("in A only", files.missing),
        ("in B only", files.added),
    ):
        lines += _cut([f"  {what}: {path}" for path in paths])
    lines += [f"  different, as may be: {KINDS[VARYING]}"] if files.varying else []
    lines += [f"  recorded fields: {KINDS[RECORDED]}"] if files.recorded else []
    lines += [f"  {kind}, by nature: {KINDS[kind]}" for kind in dict.fromkeys(files.by_nature.values())]
    return lines


def _part(title: str, changes: Sequence[Change], same: str) -> list[str]:
    if not changes:
        return [f"{title}: {same}", ""]
    shown = [f"  {what}: {_show(one)} -> {_show(other)}{_change(one, other)}" for what, one, other in changes]
    return [f"{title}: {len(changes):,} differ", *_cut(shown), ""]


def _cut(lines: list[str]) -> list[str]:
    return [*lines[:MOST], *([f"  and {len(lines) - MOST:,} more (--output has all)"] if lines[MOST:] else [])]


def _show(value: object) -> str:
    if value == ABSENT:
        return ABSENT
    text = f"{value:,}" if type(value) is int else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _change(one: object, other: object) -> str:
    return f" ({other - one:+,})" if type(one) is int and type(other) is int else ""


def _scores(found: Differences) -> list[str]:
    if not found.scores:
        told = f"the same, all {found.equal_scores:,}" if found.equal_scores else "there are none"
        return [f"Scores: {told}", ""]
    lines = [f"Scores: {len(found.scores):,} differ, {found.equal_scores:,} are the same"]
    for row in found.scores:
        lines.append(f"  {row['score']}: {_value(row['first'])} -> {_value(row['second'])}{_paired(row)}")
    return [*lines, ""]


def _value(score: Mapping | None) -> str:
    if score is None:
        return ABSENT
    low, high = score["interval"]
    return f"{100 * score['pass@1']:.1f} % ({100 * low:.1f} to {100 * high:.1f}), {score['tasks']:,} tasks"


def _paired(row: Mapping) -> str:
    if row["paired"] is None:
        return "; not of the same tasks" if row["first"] and row["second"] else ""
    low, high = row["paired"]["interval"]
    told = "includes 0: may be noise" if low <= 0 <= high else "excludes 0"
    return (
        f"; paired difference {points(row['paired']['difference'])} points, 95 % interval {points(low)} to "
        f"{points(high)}, p {show_p(row['paired']['p'])}: {told}"
    ).replace("−", "-")

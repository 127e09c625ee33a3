"""Filter the functions of one part: each function by itself, in the order of the config's list."""

from collections.abc import Sequence
from dataclasses import fields

from selfalign.matching.funnels import Funnel
from selfalign.records.rows import Function

FUNCTION_COLUMNS = {field.name: "int64" if field.type is int else "string" for field in fields(Function)}
# What a rejected function carries besides: where it was dropped, why, and the evidence or the row kept instead
REJECTED_COLUMNS = FUNCTION_COLUMNS | {"stage": "string", "reason": "string", "detail": "string"}


def rejected_row(row: Function, stage: str, reason: str, detail: str = "") -> dict:
    """Return a row of a file of rejected functions, which has `REJECTED_COLUMNS`."""
    return row.dump() | {"stage": stage, "reason": reason, "detail": detail}


def filter_part(rows: Sequence[Function], filters: Sequence[tuple[str, object]]) -> tuple[list, list[dict], Funnel]:
    """Run the row filters on one part; return the kept functions, the rejected ones with their reasons, the funnel."""
    kept, rejected, funnel = list(rows), [], Funnel(len(rows))
    for name, row_filter in filters:
        reasons = row_filter(kept)
        assert len(reasons) == len(kept), name
        rejected += [
            rejected_row(row, name, reason) for row, reason in zip(kept, reasons, strict=True) if reason is not None
        ]
        kept = [row for row, reason in zip(kept, reasons, strict=True) if reason is None]
        funnel.add(name, len(kept), [reason for reason in reasons if reason is not None])
    return kept, rejected, funnel

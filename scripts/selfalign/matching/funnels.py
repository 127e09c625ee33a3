"""Funnels: for every stage, the rows in, the rows kept, and the dropped ones by reason. The sums are checked."""

from collections import Counter
from collections.abc import Iterable, Mapping


class Funnel:
    """A chain of stages through which rows flow; what one stage keeps is the input of the next.

    Args:
        rows: Rows that enter the first stage.
    """

    def __init__(self, rows: int):
        self.rows = rows
        self.stages: list[dict] = []

    def add(self, stage: str, kept: int, reasons: Iterable[str], changed: int = 0) -> None:
        """Add a stage: how many rows it kept, one reason for each that it dropped, how many of the kept it changed."""
        dropped = Counter(reasons)
        assert self.rows == kept + dropped.total(), f"{stage}: {self.rows} rows in, {kept} kept, {dropped} dropped"
        found = {"stage": stage, "input": self.rows, "kept": kept, "dropped": dict(sorted(dropped.items()))}
        self.stages.append(found | ({"changed": changed} if changed else {}))
        self.rows = kept

    def dump(self) -> dict:
        """Return the funnel in its documented form."""
        return {"stages": self.stages}


def sum_funnels(funnels: Mapping[str, dict]) -> Funnel:
    """Return the sum of the parts' funnels, stage by stage, in the order in which the stages first appear.

    Args:
        funnels: File name to `{"stages": [...], ...}`; files of an earlier step come before those of a later one.

    Raises:
        ValueError: a file holds no stages, or the summed stages do not follow from one another.
    """
    sums: dict[str, dict] = {}
    for where, funnel in funnels.items():
        if not isinstance(funnel, dict) or not isinstance(funnel.get("stages"), list):
            raise ValueError(f"{where}: not a funnel (no list of stages); delete it and run again to remake it")
        for stage in funnel["stages"]:
            total = sums.setdefault(stage["stage"], {"input": 0, "kept": 0, "changed": 0, "dropped": Counter()})
            total["input"] += stage["input"]
            total["kept"] += stage["kept"]
            total["changed"] += stage.get("changed", 0)
            total["dropped"].update(stage["dropped"])
    chain = Funnel(next(iter(sums.values()))["input"] if sums else 0)
    for stage, total in sums.items():
        if total["input"] != chain.rows:
            raise ValueError(
                f"{', '.join(funnels)}: stage {stage} has {total['input']:,} rows in, but {chain.rows:,} came out of "
                "the stage before; give the files of all parts, earlier steps first"
            )
        chain.add(stage, total["kept"], total["dropped"].elements(), total["changed"])
    return chain

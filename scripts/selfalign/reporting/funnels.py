"""Funnels: how many rows entered each stage, how many left it, and why the others did not. Their sums are checked."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import read_json


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a funnel.

    Attributes:
        samples: How many rows this stage makes of each row that the stage before kept; 1 for a filter.
    """

    name: str
    input: int
    kept: int
    dropped: Mapping[str, int]
    samples: int = 1

    def __post_init__(self):
        lost = sum(self.dropped.values())
        if self.input != self.kept + lost:
            raise ValueError(
                f"stage {self.name}: the funnel does not add up: {self.input:,} rows in, but {self.kept:,} kept "
                f"+ {lost:,} dropped = {self.kept + lost:,}"
            )

    @property
    def share(self) -> float:
        """The kept share of the input, from 0 to 1."""
        return self.kept / self.input if self.input else 0.0


def check_chain(stages: Sequence[Stage], where: str) -> None:
    """Check that each stage's input is what the stage before kept, times its samples.

    Raises:
        ValueError: rows appear or vanish between two stages; names both.
    """
    for before, after in itertools.pairwise(stages):
        if after.input != before.kept * after.samples:
            times = f" x {after.samples} samples" if after.samples != 1 else ""
            raise ValueError(
                f"{where}: the funnel does not add up: stage {before.name} kept {before.kept:,}{times}, "
                f"but stage {after.name} got {after.input:,}; delete the stage's files and run again"
            )


def read_funnel(path: Path) -> tuple[Stage, ...]:
    """Read and check a `funnel.json`.

    Raises:
        ValueError: the file is not a funnel or does not add up; names it.
    """
    data = read_json(path)
    try:
        stages = tuple(
            Stage(name=item["stage"], input=item["input"], kept=item["kept"], dropped=dict(item["dropped"]))
            for item in data["stages"]
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a funnel ({error!r}); delete it and run again to remake it") from error
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    check_chain(stages, str(path))
    return stages


def join_chain(before: Sequence[Stage], after: Sequence[Stage], where: str) -> tuple[Stage, ...]:
    """Return one chain of two: the second follows the last stage of the first that its input fits.

    A dataset may take up the rows before the last stages of its generation (a random selection does not look at
    verdicts); those stages are then not on its way.

    Raises:
        ValueError: the second chain's input is not what any stage of the first kept.
    """
    if not before or not after:
        return (*before, *after)
    for place in range(len(before), 0, -1):
        if before[place - 1].kept == after[0].input:
            return (*before[:place], *after)
    kept = ", ".join(f"{stage.name} {stage.kept:,}" for stage in before)
    raise ValueError(
        f"{where}: the funnel does not add up: stage {after[0].name} got {after[0].input:,} rows, but the stages "
        f"before kept: {kept}; delete the file and run again"
    )

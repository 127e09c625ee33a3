"""Funnels: how many rows entered each stage, how many left it, and why the others did not. Their sums are checked."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from selfalign.records.files import read_json


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a funnel.

    Attributes:
        part: Which part of the run it belongs to: seeds, generation or selection.
        samples: How many rows this stage makes of each row that the stage before kept; 1 for a filter.
        most_samples: How many at most, where it makes more of some than of others; None where it does not.
        changed: How many of the kept rows it changed.
    """

    name: str
    input: int
    kept: int
    dropped: Mapping[str, int]
    part: str
    samples: int = 1
    most_samples: int | None = None
    changed: int = 0

    def __post_init__(self):
        lost = sum(self.dropped.values())
        if self.input != self.kept + lost:
            raise ValueError(
                f"stage {self.name}: the funnel does not add up: {self.input:,} rows in, but {self.kept:,} kept "
                f"+ {lost:,} dropped = {self.kept + lost:,}"
            )

    @property
    def times(self) -> str:
        """Return how many rows the stage makes of one, as text; nothing for a filter."""
        most = self.most_samples or self.samples
        if most == 1:
            return ""
        return f"× {self.samples} samples" if most == self.samples else f"× {self.samples} to {most} samples"

    @property
    def share(self) -> float:
        """The kept share of the input, from 0 to 1."""
        return self.kept / self.input if self.input else 0.0

    def commonest_reasons(self, most: int) -> list[str]:
        """Return the reasons for which most rows were dropped, at most so many, the commonest first."""
        return sorted(self.dropped, key=lambda reason: (-self.dropped[reason], reason))[:most]


REASONS_SHOWN = 20  # of one stage, in tables and with an example each; the rows of the others are in the files


def check_chain(stages: Sequence[Stage], where: str) -> None:
    """Check that each stage's input is what the stage before kept, times its samples.

    Raises:
        ValueError: rows appear or vanish between two stages; names both.
    """
    for before, after in itertools.pairwise(stages):
        least, most = (before.kept * number for number in (after.samples, after.most_samples or after.samples))
        if not least <= after.input <= most:
            times = f" {after.times}" if after.times else ""
            raise ValueError(
                f"{where}: the funnel does not add up: stage {before.name} kept {before.kept:,}{times}, "
                f"but stage {after.name} got {after.input:,}; delete the stage's files and run again"
            )


def read_funnel(path: Path, part: str) -> tuple[Stage, ...]:
    """Read and check a `funnel.json`.

    Raises:
        ValueError: the file is not a funnel or does not add up; names it.
    """
    data = read_json(path)
    try:
        stages = tuple(
            Stage(
                part=part,
                name=item["stage"],
                input=item["input"],
                kept=item["kept"],
                dropped=dict(item["dropped"]),
                changed=item.get("changed", 0),
            )
            for item in data["stages"]
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a funnel ({error!r}); delete it and run again to remake it") from error
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    if not stages:
        raise ValueError(f"{path}: a funnel without stages; delete it and run again to remake it")
    check_chain(stages, str(path))
    return stages


def join_chain(
    corpus: Sequence[Stage], generation: Sequence[Stage], dataset: Sequence[Stage], seeds: int | None = None
) -> tuple[Stage, ...]:
    """Return one chain from functions to pairs.

    A dataset's funnel begins with all responses of its generation, and so takes the place of the generation's own
    stages from there on: what a random selection keeps does not pass through verification.

    Args:
        seeds: How many seeds the generation draws from those of the corpus; None is all.

    Raises:
        ValueError: the dataset was not made from these responses.
    """
    if corpus and seeds is not None and seeds < corpus[-1].kept:
        whole = corpus[-1].kept
        drawn = Stage(part="seeds", name="draw", input=whole, kept=seeds, dropped={"not drawn": whole - seeds})
        corpus = (*corpus, drawn)
    responses = next((stage for stage in generation if stage.name == dataset[0].name), None)
    if responses is None:
        return (*corpus, *generation, *dataset)
    if (responses.input, responses.kept, responses.dropped) != (dataset[0].input, dataset[0].kept, dataset[0].dropped):
        raise ValueError(
            f"the funnel does not add up: stage {responses.name} kept {responses.kept:,} of {responses.input:,} rows "
            f"in the generation, but {dataset[0].kept:,} of {dataset[0].input:,} here; delete the file and run again"
        )
    made = tuple(generation)[: generation.index(responses)]
    first = replace(dataset[0], part=responses.part, samples=responses.samples, most_samples=responses.most_samples)
    return (*corpus, *made, first, *dataset[1:])

"""The run's rounds: what was watched of each, and which one was the last."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.rounds import STOP, judgement_path, read_judgements, round_entries

MONITORS = (  # fields of a judgement, in the order of the table
    *("instructions", "responses", "pass_rate", "exact_duplicates", "duplicate_rate", "repeated", "concepts"),
    *("different_concepts", "concept_entropy", "instruction_words", "instruction_words_deviation"),
    *("response_characters", "response_characters_deviation", "pairs"),
)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round.

    Attributes:
        entries: Its generation, dataset and model.
        monitors: What was watched of it, by the names in `MONITORS`.
        broken: Which limits it breaks, each with the monitor that did, in words.
    """

    number: int
    entries: Mapping[str, str]
    monitors: Mapping[str, float | None]
    broken: tuple[Mapping[str, str], ...]

    def breaks(self, monitor: str) -> bool:
        """Return whether this round is the last one because of a monitor."""
        return any(found["monitor"] == monitor for found in self.broken)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """One entry of the config's table of rounds, as far as they were judged."""

    name: str
    most: int
    rounds: tuple[Round, ...]

    def scores(self, scores: Iterable) -> dict[int, dict[str, float]]:
        """Return pass@1 of each round's model by benchmark, of all scores of a run."""
        models = {one.number: one.entries["model"] for one in self.rounds}
        return {
            number: {score.benchmark: score.pass_at_1 for score in scores if score.model == model}
            for number, model in models.items()
        }

    @property
    def outcome(self) -> str:
        """What became of them, in words; why they ended, if a limit did that."""
        last = self.rounds[-1]
        if not last.broken:
            return f"no limit was broken in rounds 1 to {last.number}, of {self.most}"
        made = "no model of it" if last.number > 1 else "no round after it"
        return f"stopped after round {last.number}, and {made}: {'; '.join(one['told'] for one in last.broken)}"


def read_rounds(results: Path, config: Mapping) -> list[Rounds]:
    """Return all rounds of which one was judged.

    Raises:
        ValueError: a judgement is none, or contradicts itself; names the file.
    """
    found = []
    for name, entry in config.get("rounds", {}).items():
        rounds = []
        for number, judged in enumerate(read_judgements(results, config, name), 1):
            try:
                broken = tuple({key: str(one[key]) for key in ("limit", "monitor", "told")} for one in judged["broken"])
                monitors = {key: judged["monitors"][key] for key in MONITORS}
                if judged["round"] != number or bool(broken) != (judged["verdict"] == STOP):
                    raise ValueError("its number or verdict contradicts the rest")
            except (KeyError, TypeError, ValueError) as error:
                path = results / judgement_path(name, number)
                raise ValueError(f"{path}: not the judgement of a round ({error}); delete it and run again") from error
            entries = round_entries(config, name, number)
            rounds.append(Round(number=number, entries=entries, monitors=monitors, broken=broken))
        if rounds:
            found.append(Rounds(name=name, most=entry["rounds"], rounds=tuple(rounds)))
    return found


def csv_rows(rounds: Sequence[Rounds]) -> tuple[tuple[str, ...], list[tuple]]:
    """Return header and rows of the table of rounds."""
    header = ("rounds", "round", "generation", "dataset", "model", "judged", "broken", *MONITORS)
    rows = [
        (
            *(found.name, one.number, *(one.entries[key] for key in ("generation", "dataset", "model"))),
            *("stop" if one.broken else "go", " ".join(dict.fromkeys(broken["limit"] for broken in one.broken))),
            *(one.monitors[key] for key in MONITORS),
        )
        for found in rounds
        for one in found.rounds
    ]
    return header, rows

"""When a round is the last one: its monitors against limits, most of them relative to round 1.

The limits tell collapse, not quality. No round is chosen by a score: a benchmark that decides when to stop is part of
the training, and what it then says of the model is too good.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from selfalign.records.rounds import GO, STOP
from selfalign.rounds.monitors import Monitors


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What ends the rounds; None is no limit.

    Attributes:
        min_pass_rate, min_concept_entropy, length: Fractions of round 1's.
        max_duplicate_rate, max_repeated: Shares of the instructions.
        length: Least and largest, of the mean lengths of instructions and of responses.
    """

    min_pass_rate: float | None = 0.5
    min_concept_entropy: float | None = 0.8
    max_duplicate_rate: float | None = 0.5
    max_repeated: float | None = 0.5
    length: tuple[float, ...] | None = (0.5, 2.0)
    min_pairs: int = 1


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _bits(value: float) -> str:
    return f"{value:.2f} bits"


def _relative(now: Monitors, first: Monitors, limits: Limits) -> Iterator[tuple[str, str, str]]:
    """Yield limit, monitor and words of each limit that is broken, of those that are fractions of round 1's."""
    low, high = limits.length or (None, None)
    checks = [
        ("min_pass_rate", "pass_rate", "the pass rate", limits.min_pass_rate, None, _percent),
        ("min_concept_entropy", "concept_entropy", "the entropy of concepts", limits.min_concept_entropy, None, _bits),
        ("length", "instruction_words", "the mean length of instructions", low, high, "{:.1f} words".format),
        ("length", "response_characters", "the mean length of responses", low, high, "{:.1f} characters".format),
    ]
    for limit, monitor, name, least, most, show in checks:
        value, before = getattr(now, monitor), getattr(first, monitor)
        if before is None or (least is None and most is None):
            continue
        if value is None:
            yield limit, monitor, f"there is nothing to count {name} of, and round 1 had {show(before)}"
        elif least is not None and value < least * before:
            yield limit, monitor, f"{name} is {show(value)}, below {least:g} of round 1's {show(before)}"
        elif most is not None and value > most * before:
            yield limit, monitor, f"{name} is {show(value)}, above {most:g} of round 1's {show(before)}"


def _absolute(now: Monitors, limits: Limits) -> Iterator[tuple[str, str, str]]:
    shares = [
        ("max_duplicate_rate", "duplicate_rate", "are like another one of the round", limits.max_duplicate_rate),
        ("max_repeated", "repeated", "are like one of an earlier round", limits.max_repeated),
    ]
    for limit, monitor, name, most in shares:
        value = getattr(now, monitor)
        if value is not None and most is not None and value > most:
            yield limit, monitor, f"{_percent(value)} of the instructions {name}, more than {_percent(most)}"
    if now.pairs < limits.min_pairs:
        yield "min_pairs", "pairs", f"{now.pairs:,} pairs are left, fewer than {limits.min_pairs:,}"


def judge(number: int, now: Monitors, first: Monitors | None, limits: Limits) -> dict:
    """Return the judgement of a round.

    Args:
        number: Of the round, from 1.
        first: Monitors of round 1; None when it is round 1 that is judged.
    """
    broken = [*(_relative(now, first, limits) if first else ()), *_absolute(now, limits)]
    return {
        "round": number,
        "verdict": STOP if broken else GO,
        "broken": [{"limit": limit, "monitor": monitor, "told": told} for limit, monitor, told in broken],
        "monitors": asdict(now),
        "limits": asdict(limits),
    }


def load_monitors(judgement: Mapping, where: str) -> Monitors:
    """Return the monitors in a judgement.

    Raises:
        ValueError: they are not there, or others.
    """
    try:
        return Monitors(**judgement["monitors"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where}: not the judgement of a round ({error}); delete it and run again") from error

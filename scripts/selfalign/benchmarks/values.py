"""Values of Python as JSON and back: what a program in the sandbox is called with and what it returns.

The sandbox has this module and `driver` preloaded, so they import nothing else of ours. JSON arrays are lists; other
types are objects with one key: t tuple, s set, d dict (pairs), i large integer, r float that JSON lacks, c complex,
b bytes, o anything else (type and, for a few, its repr), h digest of a long value.
"""

import hashlib
import json
import math

EXACT = 1 << 53  # integers from here on are told from floats by nobody but Python
PLAIN = {"range", "deque", "Decimal", "Fraction", "datetime", "date", "time", "timedelta"}  # repr tells them apart
SHORT = 1 << 10  # characters of a value that is sent whole
LONG = 1 << 16  # of one with floats, none of which has a fraction


class Other:
    """A value of a type that is not sent: equal to one of the same type and repr, if it has a telling one."""

    def __init__(self, kind, shown):
        self.kind, self.shown = kind, shown

    def __eq__(self, other):
        return (
            isinstance(other, Other) and self.shown is not None and (self.kind, self.shown) == (other.kind, other.shown)
        )

    def __hash__(self):
        return hash((self.kind, self.shown))

    def __repr__(self):
        return self.shown or f"<{self.kind}>"


class Digest(Other):
    """A long value of which only the digest was sent."""


def encode(value):
    """Return a value as JSON can hold it.

    Raises:
        RecursionError: it is nested too deeply or holds itself.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is list:
        return [encode(item) for item in value]
    if isinstance(value, int):
        return int(value) if -EXACT < value < EXACT else {"i": hex(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"r": repr(float(value))}
    if isinstance(value, tuple):
        return {"t": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"d": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, set | frozenset):
        return {"s": [encode(item) for item in value]}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return [encode(item) for item in list(value)]
    if isinstance(value, complex):
        return {"c": [encode(value.real), encode(value.imag)]}
    if isinstance(value, bytes | bytearray):
        return {"b": value.hex()}
    if hasattr(kind, "dtype") and value.ndim == 0:  # a number of numpy; an array's == gives no single answer
        return encode(value.tolist())
    return {"o": [kind.__name__, repr(value) if kind.__name__ in PLAIN else None]}


def decode(value):
    """Return the value that `encode` was given; subclasses of plain types come back as plain.

    Raises:
        ValueError, TypeError, LookupError, RecursionError: nothing that `encode` returns.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, item),) = value.items()
    if kind == "t":
        return tuple([decode(part) for part in item])
    if kind == "d":
        return {decode(key): decode(part) for key, part in item}
    if kind == "s":
        return {decode(part) for part in item}
    if kind == "i":
        return int(item, 16)
    if kind == "r":
        return float(item)
    if kind == "c":
        return complex(decode(item[0]), decode(item[1]))
    if kind == "b":
        return bytes.fromhex(item)
    if kind == "o":
        name, shown = item
        return Other(str(name), shown if shown is None else str(shown))
    if kind == "h":
        return Digest("long value", str(item))
    raise ValueError(f"unknown kind of value {kind!r}")


def holds_float(encoded, fraction=False):
    """Return whether an encoded value has a float in it, or one with a fraction."""
    waiting = [encoded]
    while waiting:
        value = waiting.pop()
        if isinstance(value, float) and not (fraction and value.is_integer()):
            return True
        if isinstance(value, dict):
            if "r" in value or "c" in value:
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


def canonical(encoded, typed=False):
    """Return an encoded value such that equal values without fractions are the same.

    Args:
        typed: 1, 1.0 and True are three; otherwise they are one.
    """
    if isinstance(encoded, bool):
        return encoded if typed else int(encoded)
    if isinstance(encoded, float) and encoded.is_integer() and abs(encoded) < EXACT:
        return encoded if typed else int(encoded)
    if isinstance(encoded, list):
        return [canonical(item, typed) for item in encoded]
    if isinstance(encoded, dict):
        ((kind, item),) = encoded.items()
        if kind in ("s", "d"):
            return {kind: sorted((canonical(part, typed) for part in item), key=json.dumps)}
        if kind == "t":
            return {kind: canonical(item, typed)}
    return encoded


def digest(encoded, typed=False):
    """Return the digest of an encoded value."""
    return hashlib.sha256(json.dumps(canonical(encoded, typed)).encode()).hexdigest()


def shorten(encoded, typed=False):
    """Return an encoded value, or its digest where it is long and has no float, which a tolerance may be for."""
    size = len(json.dumps(encoded)) if isinstance(encoded, str | list | dict) else 0
    if size > SHORT and not holds_float(encoded, fraction=size > LONG):
        return {"h": digest(encoded, typed)}
    return encoded

"""Settings that reach a command as JSON, read into a dataclass; a wrong key or value is one clear error."""

import difflib
import json
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

SettingsType = TypeVar("SettingsType")


def load_settings(kind: type[SettingsType], text: str, where: str) -> SettingsType:
    """Build a settings dataclass from the text of a JSON object; what is absent keeps its default.

    Args:
        where: What the settings are for, for error messages.

    Raises:
        ValueError: not a JSON object, an unknown key (names the nearest one), or a value of the wrong type.
    """
    assert is_dataclass(kind)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: the settings are not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where}: the settings are {type(values).__name__}, not a JSON object")
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}"
            raise ValueError(f"{where}: unknown setting {name!r}; {hint}")
        if not _fits(value, hints[name]):
            raise ValueError(f"{where}: {name} is {value!r}, which is not {_describe(hints[name])}")
        if isinstance(value, list) and get_origin(hints[name]) is not list:
            values[name] = tuple(value)
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in (tuple, list):
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_describe(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) in (tuple, list):
        return "a list of strings"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        type(None): "null",
        dict: "an object",
    }
    return names[hint]

"""What may stand in the YAML file of a folder dataset: every entry, its type, and how to say so."""

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlcli.errors import InputError
from mtlcli.maps import map_of

MOST_CLASSES = 255  # one value of a byte stays for "unlabelled"
NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Kind:
    """The values an entry may have."""

    words: str  # to follow "KEY must be"
    holds: Callable[[Any], bool]


def _is_word(value: Any) -> bool:
    """Text, or a number that was not put in quotes."""
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _is_pattern(value: Any) -> bool:
    rest = value.replace("{id}", "") if _is_text(value) else ""
    return rest != value and not set(rest) & set("{}") and _is_text(value)


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _words_of(value: Any, most: float = math.inf) -> bool:
    return isinstance(value, list) and 0 < len(value) <= most and all(map(_is_word, value))


PATTERN = Kind("one text with {id} and no other braces, such as images/{id}.jpg", _is_pattern)
POSITIVE = Kind("a number above 0", lambda v: _is_number(v) and v > 0)
ENTRIES = {
    "name": Kind(
        "letters, digits, points and dashes", lambda v: _is_word(v) and bool(NAME.fullmatch(str(v)))
    ),
    "title": Kind("a text", _is_word),
    "root": Kind("the path of a folder", _is_text),
    "size": Kind(
        "[height, width], each at least 32", lambda v: _is_size(v) and min(v) >= 32
    ),
    "splits": Kind(
        "names with their pictures, at least train", lambda v: _is_mapping(v) and "train" in v
    ),
    "image": PATTERN,
    "tasks": Kind("names of tasks with their entries", _is_mapping),
}  # fmt: skip
REQUIRED = ("size", "splits", "image", "tasks")
TASK_ENTRIES = {
    "files": PATTERN,
    "classes": Kind(
        f"a list of at most {MOST_CLASSES} names, such as [grass, path]",
        lambda v: _words_of(v, MOST_CLASSES),
    ),
    "kind": Kind("a kind of map, such as classes or depth", _is_text),
    "title": Kind("a text", _is_word),
    "metres": POSITIVE,
    "scale": POSITIVE,
    "unit": Kind("a text, such as °C", _is_text),
    "zoom": Kind("true or false", lambda v: isinstance(v, bool)),
    "protocol": Kind("the name of a boundary protocol, such as seism", _is_text),
    "positive_weight": Kind("a number between 0 and 1", lambda v: _is_number(v) and 0 < v < 1),
    "max_dist": POSITIVE,
}
ANYTHING = Kind("", lambda v: True)  # of a kind of map that came later
SPLIT = Kind(
    "a text file with one id a line, or a list of ids", lambda v: _is_text(v) or _words_of(v)
)


def check(path: Path, said: Any) -> None:
    """Go through everything that a YAML file says.

    Raises:
        InputError: names the entry, what it must be and what it is.
    """
    if not isinstance(said, dict):
        raise InputError(f"{path}: expected entries such as image: and tasks:.")
    _check_entries(path, "", said, ENTRIES, REQUIRED)
    for split, value in said["splits"].items():
        if not (isinstance(split, str) and NAME.fullmatch(split)):
            raise InputError(f"{path}: splits: {_shown(split)} is no name; write e.g. 'val'.")
        _check_value(path, f"splits: {split}", value, SPLIT)
    for task, entry in said["tasks"].items():
        _check_task(path, task, entry)


def _check_task(path: Path, task: Any, entry: Any) -> None:
    if not (isinstance(task, str) and NAME.fullmatch(task)):
        raise InputError(f"{path}: tasks: {_shown(task)} is no name; write e.g. 'depth'.")
    where = f"task '{task}': "
    if not isinstance(entry, dict):
        raise InputError(f"{path}: {where}needs entries, such as files: {task}/{{id}}.png.")
    if "kind" in entry:
        _check_value(path, f"{where}kind", entry["kind"], TASK_ENTRIES["kind"])
    try:
        its = map_of(task, {task: entry["kind"]} if "kind" in entry else {})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    required = ("files", "classes") if its.has_classes else ("files",)
    allowed = (*required, "kind", "title", *its.settings)
    known = {key: TASK_ENTRIES.get(key, ANYTHING) for key in allowed}
    _check_entries(path, where, entry, known, required)


def _check_entries(
    path: Path,
    where: str,
    said: Mapping[Any, Any],
    kinds: Mapping[str, Kind],
    required: tuple[str, ...],
) -> None:
    for key in said:
        if key not in kinds:
            known = ", ".join(sorted(kinds))
            raise InputError(f"{path}: {where}unknown entry {_shown(key)}; known: {known}.")
    for key in required:
        if key not in said:
            raise InputError(f"{path}: {where}lacks the entry '{key}': {kinds[key].words}.")
    for key, value in said.items():
        _check_value(path, f"{where}{key}", value, kinds[key])


def _check_value(path: Path, where: str, value: Any, kind: Kind) -> None:
    if not kind.holds(value):
        raise InputError(f"{path}: {where} must be {kind.words}, not {_shown(value)}.")


def _shown(value: Any) -> str:
    """A value in few letters, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxlist, brief.maxdict, brief.maxstring = 2, 4, 4, 60
    return brief.repr(value)

"""The fields of a manifest as they are read: whatever is not of its type, or out of its range, is a ``ValueError``.

A manifest's hash says that it is as somebody wrote it, not that this somebody meant well or was right. What is read here becomes keys,
paths in a cache, and sizes of arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chromalith.model.ids import COUNTER_MAX, WRITER_DIGITS

NUMBER_MAX = 2**62
SIZE_MAX = 2**37
"""Of one object, bytes: 128 GiB, a hundred times what a merge writes."""
ROWS_MAX = 2**30
"""Of one segment, and of all segments of a version: a mask of these rows is 1 GiB."""
ENTRIES_MAX = 2**20
"""Of a list: more segments, or set-aside deltas, than a manifest of 256 MiB can hold."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEX_32 = re.compile(r"[0-9a-f]{32}")
_KIND = re.compile(r"[a-z0-9_]{1,32}")
_WRITER = re.compile(rf"[0-9a-f]{{{WRITER_DIGITS}}}")
_STATES = ("f", "v", "a")


def number(value: object, maximum: int = NUMBER_MAX) -> int:
    """An integer from 0 to ``maximum``."""
    if type(value) is not int or not 0 <= value <= maximum:  # not a bool
        raise ValueError(f"not a number from 0 to {maximum}: {value!r:.50}")
    return value


def text(value: object) -> str:
    """A string that has a UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r:.50}")
    value.encode()  # UnicodeEncodeError is a ValueError
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"neither true nor false: {value!r:.50}")
    return value


def sha256(value: object) -> str:
    """64 hexadecimal digits."""
    return _matching(_SHA256, value)


def write_id(value: object) -> str:
    """32 hexadecimal digits."""
    return _matching(_HEX_32, value)


def kind(value: object) -> str:
    """A lowercase word: it becomes a part of a key."""
    return _matching(_KIND, value)


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"not an object: {value!r:.50}")
    return value


def entries(value: object) -> list[Any]:
    """A JSON list."""
    if not isinstance(value, list) or len(value) > ENTRIES_MAX:
        raise ValueError(f"not a list: {value!r:.50}")
    return value


def pair(value: object) -> tuple[int, int]:
    """Two numbers."""
    first, second = entries(value)
    return number(first), number(second)


def folded_runs(value: object) -> dict[str, list[list[Any]]]:
    """``{writer: [[start, stop, state, version, day], …]}``: the runs of a writer ascending, disjoint, and not empty."""
    runs_by_writer: dict[str, list[list[Any]]] = {}
    for writer, runs in mapping(value).items():
        _matching(_WRITER, writer)
        before = 0
        for start, stop, state, version, day in entries(runs):
            if not before <= number(start) < number(stop, COUNTER_MAX + 1) or state not in _STATES:
                raise ValueError(f"not runs of a folded set writer={writer}")
            number(version)
            number(day)
            before = stop
        runs_by_writer[writer] = runs
    return runs_by_writer


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise ValueError(f"not of its form: {value!r:.50}")
    return value

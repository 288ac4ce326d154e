r"""The character classes of Rust's regular expressions (``\d \w \s``, all of Unicode) in the words of RE2 and of Python.

Both of those have classes of the same names that are other sets: RE2's are ASCII, and Python's ``\w`` has superscripts and
lacks marks.
"""

from __future__ import annotations

import sys
import unicodedata
from functools import cache
from typing import Final

import numpy as np

Ranges = tuple[tuple[int, int], ...]

_WORD_CATEGORIES: Final = {"Lu", "Ll", "Lt", "Lm", "Lo", "Nl", "Mn", "Mc", "Me", "Nd", "Pc"}
# With the categories above: Unicode's Alphabetic, Join_Control, and the marks, digits and connectors (UTS 18, annex C).
_WORD_EXTRA: Final = ((0x200C, 0x200D), (0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189))
_SPACE: Final[Ranges] = (
    (0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
SURROGATES: Final = (0xD800, 0xDFFF)  # no characters, and RE2 refuses ranges of them


@cache
def _word_ranges() -> Ranges:
    # A quarter of a second, once, and only for a boundary over text that is not ASCII or for \W inside a class.
    is_word = [unicodedata.category(chr(point)) in _WORD_CATEGORIES for point in range(sys.maxunicode + 1)]
    for start, last in _WORD_EXTRA:
        is_word[start : last + 1] = [True] * (last + 1 - start)
    edges = np.flatnonzero(np.diff(np.array([False, *is_word, False]).astype(np.int8)))
    return tuple((int(start), int(stop) - 1) for start, stop in edges.reshape(-1, 2))


def _complement(ranges: Ranges) -> Ranges:
    gaps = []
    start = 0
    for first, last in sorted((*ranges, SURROGATES)):
        if start < first:
            gaps.append((start, first - 1))
        start = max(start, last + 1)
    if start <= sys.maxunicode:
        gaps.append((start, sys.maxunicode))
    return tuple(gaps)


def _re2_ranges(ranges: Ranges) -> str:
    return "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in ranges)


def _python_ranges(ranges: Ranges) -> str:
    return "".join(rf"\U{first:08X}-\U{last:08X}" for first, last in ranges)


_RE2_WORD: Final = r"\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}" + _re2_ranges(_WORD_EXTRA)


def re2_class(letter: str) -> str:
    """What stands between brackets for one of ``d D w W s S`` in RE2."""
    match letter:
        case "d":
            return r"\p{Nd}"
        case "D":
            return r"\P{Nd}"
        case "w":
            return _RE2_WORD
        case "W":
            return _re2_ranges(_complement(_word_ranges()))
        case "s":
            return _re2_ranges(_SPACE)
        case _:
            return _re2_ranges(_complement(_SPACE))


@cache
def python_class(letter: str) -> str:
    """What stands between brackets for one of them in Python."""
    if letter in "dD":
        return "\\" + letter
    ranges = _word_ranges() if letter in "wW" else _SPACE
    return _python_ranges(ranges if letter.islower() else _complement(ranges))

r"""Regular expressions in the dialect that Chroma has, which is that of Rust's ``regex`` crate, run by RE2 inside Arrow.

The two engines are siblings: linear time, no look-around, no backreferences. Where they differ, a pattern is translated, and
what can not be said in RE2 is refused instead of meaning something else:

1. ``\d \w \s`` and their negations are about Unicode in Rust and about ASCII in RE2: translated to classes.
2. ``\b \B`` likewise, but RE2 has no such boundary. RE2 decides documents that are ASCII; the others pass RE2 without the
   boundaries first, and what is left is decided by Python's ``re``. Where a pattern with a boundary can not be said in
   Python's dialect either (``\p{…}``, ``[[:alpha:]]``, flags in the middle), it is refused.
3. Refused, because they would mean something else: set operations and nested classes (``[a&&b]``, ``[a--b]``, ``[a[b]]``),
   the flags ``x``, ``R`` and ``-u``, ``\b{start}`` and ``\<``, RE2's own ``\C``, ``\Q…\E`` and octal escapes, and a ``{`` that
   is no repetition.
4. Also refused: what RE2 does not know (``\p{Alphabetic}``, long names of categories, more than 1,000 repetitions).

What remains is the age of the Unicode tables: characters assigned after Python's were made are no letters here.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromalith.engine.character_classes import SURROGATES, python_class, re2_class
from chromalith.engine.columns import Mask, arrow_mask
from chromalith.errors import Invalid

_REPETITION: Final = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")
_GROUP: Final = re.compile(r"\(\?(?:(?P<name>P?<[A-Za-z_][A-Za-z0-9_]*>)|(?P<flags>[a-zA-Z-]*)(?P<end>[:)]))")
_PROPERTY: Final = re.compile(r"\\[pP](?:\{\^?[A-Za-z_]+\}|[A-Z])")
_CODE_POINT: Final = re.compile(
    r"\\(?:[xuU]\{([0-9A-Fa-f]{1,8})\}|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))"
)
_POSIX_CLASS: Final = re.compile(
    r"\[:\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit):\]"
)
_CONTROL: Final = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}


@dataclass(frozen=True, slots=True)
class Pattern:
    r"""A pattern that means in RE2 what ``source`` means in Rust.

    Attributes:
        source: as the caller wrote it.
        re2: the translation, whose ``\b`` and ``\B``, if any, hold for ASCII only.
        relaxed: the translation without them, which matches whenever ``source`` does; ``None`` if there are none.
        python: the translation for Python's ``re``, where there are some; NUL and a letter stand for a class whose long list
            of ranges is put in when it is first needed.
    """

    source: str
    re2: str
    relaxed: str | None = None
    python: str | None = None

    def mask(self, documents: pa.Array) -> Mask:
        """Which documents match somewhere: bool ``(rows,)``; null does not match."""
        found = arrow_mask(pc.match_substring_regex(documents, self.re2))
        if self.relaxed is None or self.python is None:
            return found
        ascii_only = arrow_mask(pc.string_is_ascii(documents))
        if ascii_only.all():
            return found
        doubtful = np.flatnonzero(~ascii_only & arrow_mask(pc.match_substring_regex(documents, self.relaxed)))
        found = found & ascii_only
        matches = _python_regex(self.python).search
        found[doubtful] = [matches(text) is not None for text in documents.take(pa.array(doubtful)).to_pylist()]
        return found


def compile_pattern(source: str) -> Pattern:
    """Translate a pattern of Rust's dialect. Raises ``Invalid`` if Rust would refuse it or it can not be translated."""
    translation = _Translation(source)
    pattern = translation.run()
    for expression in filter(None, (pattern.re2, pattern.relaxed)):
        try:
            pc.match_substring_regex(pa.array([""]), expression)
        except pa.ArrowInvalid as error:
            raise Invalid(f"regular expression can not be parsed: pattern={source!r}, reason={error}") from error
    return pattern


@cache
def _python_regex(template: str) -> re.Pattern[str]:
    return re.compile(re.sub("\0(.)", lambda found: python_class(found[1]), template))


class _Translation:
    """One pass over a pattern, writing it again in both dialects."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.re2: list[str] = []
        self.python: list[str] = []
        self.boundary = False
        self.python_obstacle: str | None = None
        self.multi_line = False
        self.dot_all = False

    def run(self) -> Pattern:
        while self.at < len(self.source):
            self._step()
        re2 = "".join(self.re2)
        if not self.boundary:
            return Pattern(self.source, re2)
        if self.python_obstacle is not None:
            self._refuse(f"a word boundary together with {self.python_obstacle}")
        relaxed = "".join("(?:)" if piece in (r"\b", r"\B") else piece for piece in self.re2)
        python = "".join(self.python)
        try:
            re.compile(re.sub("\0.", r"\\w", python))  # any class will do to see whether Python takes the pattern
        except re.error as error:
            self._refuse(f"a word boundary in a pattern that Python can not parse ({error})")
        return Pattern(self.source, re2, relaxed, python)

    def _refuse(self, what: str) -> None:
        raise Invalid(
            f"regular expression can not be translated from Rust's dialect: what={what}, pattern={self.source!r}",
            hint="Chroma's patterns are those of Rust's regex crate, without what RE2 can not express",
        )

    def _emit(self, re2: str, python: str | None = None) -> None:
        self.re2.append(re2)
        self.python.append(re2 if python is None else python)

    def _step(self) -> None:
        char = self.source[self.at]
        if char == "\\":
            self._escape()
            return
        if char == "[":
            self._class()
            return
        if char == "(" and self.source.startswith("(?", self.at):
            self._group()
            return
        if char == "{":
            repetition = _REPETITION.match(self.source, self.at)
            if repetition is None:
                self._refuse("a brace that is no repetition")
                return
            self._emit(repetition[0])
            self.at = repetition.end()
            return
        self.at += 1
        if char == "$":
            self._emit("$", "(?:$)" if self.multi_line else r"(?:\Z)")
        elif char == ".":
            self._emit(".", r"[\s\S]" if self.dot_all else r"[^\n]")
        elif char == "^":
            self._emit("^", "(?:^)")  # which may be repeated, senselessly, in all three
        elif char in "|()*+?":
            self._emit(char)
        else:
            self._emit(re.escape(char), rf"\U{ord(char):08X}")

    def _group(self) -> None:
        group = _GROUP.match(self.source, self.at)
        if group is None:
            self._refuse("look-around, or a group of unknown kind")
            return
        if group["name"] is not None:
            self._emit("(", "(")  # names do not matter for whether a document matches
        else:
            self._flags(group["flags"], scoped=group["end"] == ":")
        self.at = group.end()

    def _flags(self, flags: str, *, scoped: bool) -> None:
        unknown = set(flags) - set("imsUu-")
        if unknown or (("-" in flags) and "u" in flags.partition("-")[2]):
            self._refuse(f"the flags {flags!r}")
        kept = flags.replace("u", "")  # on anyway
        if not flags.strip("-") and (flags or not scoped):
            self._refuse("flags that say nothing")
        if not scoped and self.source[self.at + len(flags) + 3 :].startswith(("*", "+", "?", "{")):
            self._refuse("a repetition of flags")
        if not kept:
            self._emit("(?:" if scoped else "")
            return
        if scoped or self.at or set(kept) - set("ims"):
            self.python_obstacle = "flags for a part of the pattern"
        self.multi_line, self.dot_all = "m" in kept, "s" in kept
        python_flags = "".join(flag for flag in "im" if flag in kept)
        self._emit(f"(?{kept}:" if scoped else f"(?{kept})", f"(?{python_flags})" if python_flags else "")

    def _escape(self) -> None:
        letter = self.source[self.at + 1 : self.at + 2]
        if letter in ("b", "B"):
            if self.source.startswith("{", self.at + 2):
                self._refuse("a special word boundary")
            self.boundary = True
            here = "(?:(?<=[\0w])(?![\0w])|(?<![\0w])(?=[\0w]))"
            self._emit("\\" + letter, here if letter == "b" else f"(?!{here})")
        elif letter in ("A", "z"):
            self._emit("\\" + letter, r"\A" if letter == "A" else r"\Z")
        elif letter and letter in "dDwWsS":
            # Outside of a class a negation is said by the brackets, which keeps the list short.
            low = letter.lower()
            caret = "" if letter == low else "^"
            self._emit(f"[{caret}{re2_class(low)}]", f"[{caret}\0{low}]")
        else:
            self._emit(*self._character())
            return
        self.at += 2

    def _character(self) -> tuple[str, str]:
        """One escaped character or property, in both dialects, as it may stand inside of brackets too."""
        letter = self.source[self.at + 1 : self.at + 2]
        if letter in ("p", "P") and letter:
            group = _PROPERTY.match(self.source, self.at)
            if group is None:
                self._refuse("a property that RE2 does not know")
                return "", ""
            self.at = group.end()
            self.python_obstacle = "a property"
            return group[0], ""
        point = _CODE_POINT.match(self.source, self.at)
        if point is not None:
            code = int(point[1] or point[2] or point[3] or point[4], 16)
            self.at = point.end()
        elif letter in _CONTROL and letter:
            code = _CONTROL[letter]
            self.at += 2
        elif letter and letter.isascii() and not letter.isalnum() and letter not in "<>":
            code = ord(letter)
            self.at += 2
        else:
            self._refuse(f"the escape {self.source[self.at : self.at + 2]!r}")
            return "", ""
        if code > sys.maxunicode or SURROGATES[0] <= code <= SURROGATES[1]:
            self._refuse("a number that is no character")
        return rf"\x{{{code:X}}}", rf"\U{code:08X}"

    def _class(self) -> None:
        start = self.at
        self.at += 1
        negated = self.source.startswith("^", self.at)
        self.at += negated
        re2, python = ["[^" if negated else "["], ["[^" if negated else "["]
        first = True
        while not self.source.startswith("]", self.at) or first:
            if self.at >= len(self.source):
                self.at = start
                self._refuse("a class that is not closed")
            first = False
            item, python_item, is_set = self._class_item()
            if self.source.startswith("-", self.at) and not self.source.startswith("-]", self.at):
                self.at += 1
                last, python_last, last_is_set = self._class_item()
                if is_set or last_is_set:
                    self._refuse("a range whose end is no character")
                item, python_item = f"{item}-{last}", f"{python_item}-{python_last}"
            re2.append(item)
            python.append(python_item)
        self.at += 1
        self._emit("".join(re2) + "]", "".join(python) + "]")

    def _class_item(self) -> tuple[str, str, bool]:
        """One item of a class in both dialects, and whether it is a set rather than a character."""
        rest = self.source[self.at : self.at + 2]
        if rest in ("&&", "--", "~~"):
            self._refuse("an operation on classes")
        if rest.startswith("["):
            posix = _POSIX_CLASS.match(self.source, self.at)
            if posix is None:
                self._refuse("a class in a class")
                return "", "", True
            self.at = posix.end()
            self.python_obstacle = "a POSIX class"
            return posix[0], "", True
        if rest.startswith("\\"):
            letter = rest[1:]
            if letter and letter in "dDwWsS":
                self.at += 2
                return re2_class(letter), f"\0{letter}", True
            item, python = self._character()
            return item, python, letter in ("p", "P")
        self.at += 1
        return rf"\x{{{ord(rest[0]):X}}}", rf"\U{ord(rest[0]):08X}", False

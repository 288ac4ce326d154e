"""Regular expressions mean what they mean in Rust, or are refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from chromalith.engine.regex import compile_pattern
from chromalith.errors import Invalid

TEXTS = ["café au lait", "CAFÉ", "x²", "日本 語", "a\nb", "٣ items", "a&b", "no-break\u00a0space", "", "e\u0301t\u00e9"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"\d", [5]),  # Arabic-Indic three is a digit, superscript two is not
        (r"^\w+$", [1, 9]),
        (r"\bau\b", [0]),
        (r"é\b", [0, 9]),
        (r"f\b", []),  # é continues the word
        (r"\Bé", [0, 9]),
        (r"(?i)\bcafé\b", [0, 1]),
        (r"x\b", [2]),  # ² is no part of a word
        (r"^[\w\s]+$", [0, 1, 3, 4, 5, 9]),
        (r"^[^\s]+$", [1, 2, 6, 9]),
        (r"[\W]", [0, 2, 3, 4, 5, 6, 7]),
        (r"k\sspace", [7]),
        (r"a.b", [6]),
        (r"(?s)a.b", [4, 6]),
        (r"(?m)^b", [4]),
        (r"\x{65E5}|\u{8A9E}", [3]),
        (r"[a&]b", [6]),
        (r"^$", [8]),
        (r"e\x{301}\bt|e\x{301}t", [9]),
    ],
)
def test_a_pattern_matches_as_in_rust(pattern: str, expected: list[int]) -> None:
    found = compile_pattern(pattern).mask(pa.array(TEXTS))
    assert [i for i, hit in enumerate(found) if hit] == expected


def test_null_matches_nothing() -> None:
    for pattern in (".*", r"\b|.*"):
        assert compile_pattern(pattern).mask(pa.array(["é", None])).tolist() == [True, False]


@pytest.mark.parametrize(
    "pattern",
    [
        "[a&&b]", "[a--b]", "[a~~b]", "[a[b]]", "(?x)a b", "(?R)a", "(?-u)a", r"\b{start}a", r"\<a", r"\Ca", r"\Qa\E", r"\1",
        r"\012", "a{", "{", "a{,2}", "[", "(", ")", "*", "(?=a)", "(?<!a)", "(?)", r"[\w-z]", r"\p{Alphabetic}", "a{1001}",
        r"\b\p{L}", r"\b[[:alpha:]]", r"a(?i)\bb", r"\x{D800}", r"\x{110000}", "\\", r"\y", r"[\b]",
    ],
)  # fmt: skip
def test_what_would_mean_something_else_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid):
        compile_pattern(pattern)

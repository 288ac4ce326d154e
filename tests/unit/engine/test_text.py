"""Substring search says what Python's ``in`` says."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.engine import text
from chromalith.engine.text import contains

LETTERS = st.text(alphabet="ab日é\n", max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.none() | LETTERS, max_size=12),
    needle=st.text(alphabet="ab日é\n", min_size=1, max_size=4),
    start=st.integers(0, 3),
    wide=st.booleans(),
    block=st.sampled_from([1, 5, 256 * 1024]),
)
def test_contains_is_python_s_in(texts: list[str | None], needle: str, start: int, wide: bool, block: int) -> None:
    """Also in a slice of an array, with nulls, across the borders of blocks, and never across two texts."""
    array = pa.array(texts, pa.large_string() if wide else pa.string()).slice(start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block)
        found = contains(array, needle)
    assert found.tolist() == [each is not None and needle in each for each in texts[start:]]


def test_a_text_that_is_met_across_two_documents_is_in_neither() -> None:
    assert contains(pa.array(["xxab", "cdxx", "xabcdx"]), "abcd").tolist() == [False, False, True]


def test_what_an_array_hides_behind_null_is_not_found() -> None:
    """A null may still have bytes behind it; they are no text."""
    validity = pa.array([True, False]).buffers()[1]
    _, offsets, data = pa.array(["needle", "needle"]).buffers()
    array = pa.Array.from_buffers(pa.string(), 2, [validity, offsets, data])
    assert contains(array, "needle").tolist() == [True, False]

"""What Arrow's threads hold is never a Python object: they may let go of it after the interpreter has begun to end."""

from __future__ import annotations

import sys

import pytest

from chromalith.model.arrow_memory import arrow_reader


@pytest.mark.parametrize("body", [b"", b"abc" * 1_000])
def test_the_reader_has_the_bytes_and_holds_no_reference_to_them(body: bytes) -> None:
    body = bytes(bytearray(body)) if body else body
    before = sys.getrefcount(body)
    reader = arrow_reader(body)
    assert sys.getrefcount(body) == before
    assert (reader.size(), reader.read()) == (len(body), body)

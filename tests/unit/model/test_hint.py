"""A hint's bytes: what is written is read, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromalith.errors import Invalid
from chromalith.model import layout
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId, DeltaId

GOOD = Hint(CollectionId("5f0c1e5a-2d4b-4c8e-9a51-0f3a92c1d7e4"), DeltaId(1, "a" * 32, 7, "b" * 16), 3, 1_809)
HEX = "0123456789abcdef"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
good_hints = st.builds(
    Hint,
    st.uuids().map(lambda each: CollectionId(str(each))),
    st.builds(
        DeltaId, st.integers(0, 2**64 - 1), st.text(HEX, min_size=32, max_size=32), st.integers(0, 2**32 - 1),
        st.text(HEX, min_size=16, max_size=16),
    ),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)  # fmt: skip


def read(body: str) -> Hint | None:
    try:
        return Hint.decode(body)
    except Invalid:
        return None


def test_a_released_hint_is_still_read() -> None:
    """Format 1 as it was released, with a field that a later writer may add."""
    body = (
        '{"format":1,"collection":"5f0c1e5a-2d4b-4c8e-9a51-0f3a92c1d7e4",'
        '"delta":"0000000000000001-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-00000007-bbbbbbbbbbbbbbbb","rows":3,"bytes":1809}'
    )
    assert GOOD.encode() == body
    assert Hint.decode(body) == Hint.decode(body[:-1] + ',"later":[1]}') == GOOD


def test_a_newer_format_asks_for_an_upgrade() -> None:
    """It is not guessed at: its message waits in the dead-letter queue for a newer compactor."""
    with pytest.raises(Invalid, match="newer format") as raised:
        Hint.decode(json.dumps(json.loads(GOOD.encode()) | {"format": 2}))
    assert "upgrade" in str(raised.value)


@given(good_hints)
def test_what_is_written_is_read(hint: Hint) -> None:
    assert Hint.decode(hint.encode()) == hint
    assert len(hint.encode()) < 256  # ten of them are far below what one request takes


@given(
    st.text()
    | json_values.map(json.dumps)
    | st.integers(1, 2_000).map(lambda deep: "[" * deep)
    | st.integers(1, 9_000).map(lambda digits: "9" * digits)
)
def test_anything_else_is_invalid(body: str) -> None:
    """Whatever arrives is read, or refused with one error."""
    assert read(body) is None


@given(st.sampled_from(["format", "collection", "delta", "rows", "bytes"]), json_values)
def test_a_field_of_another_kind(name: str, value: Any) -> None:
    """A hint that is read is safe to make a key of, and prints as it came."""
    changed = json.loads(GOOD.encode()) | {name: value}
    found = read(json.dumps(changed))
    if found is not None:
        assert layout.parse_delta_key(layout.delta_key(found.collection, found.delta)) == (found.collection, found.delta)
        assert json.loads(found.encode()) == changed | {"format": 1}


@given(st.data())
def test_damage(data: st.DataObject) -> None:
    """A body that lost or gained characters is refused, or still is a whole hint."""
    body = GOOD.encode()
    at, length = data.draw(st.integers(0, len(body))), data.draw(st.integers(0, 5))
    found = read(body[:at] + data.draw(st.text(max_size=5)) + body[at + length :])
    if found is not None:
        assert layout.parse_delta_key(layout.delta_key(found.collection, found.delta)) == (found.collection, found.delta)


@pytest.mark.parametrize("name", ["format", "collection", "delta", "rows", "bytes"])
def test_a_field_that_is_missing(name: str) -> None:
    value = json.loads(GOOD.encode())
    del value[name]
    assert read(json.dumps(value)) is None

"""Typed columns: made from JSON, saved, opened, and the same as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromalith.engine.columns import PARSE_ROWS, MetadataColumns, Type, explode, open_columns, write_columns
from chromalith.errors import Corrupt

SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=3),
)
METADATA = st.none() | st.dictionaries(
    st.text(max_size=2), SCALARS | st.lists(st.integers(0, 3), max_size=3), max_size=3
)


def exploded(records: list[dict[str, Any] | None]) -> MetadataColumns:
    return explode(pa.array([None if m is None else json.dumps(m) for m in records], pa.string()))


def values_of(columns: MetadataColumns) -> dict[str, dict[str, list[tuple[int, Any]]]]:
    """The columns as plain values, so that two sets can be compared."""
    return {
        key: {
            type_.value: [
                (row, value if column.dictionary is None else column.dictionary[value].as_py())
                for row, value in zip(
                    range(columns.rows) if column.rows is None else column.rows.tolist(),
                    column.values.tolist(),
                    strict=True,
                )
            ]
            for type_, column in by_type.items()
        }
        for key, by_type in columns.columns.items()
    }


@settings(max_examples=60, deadline=None)
@given(records=st.lists(METADATA, max_size=8))
def test_columns_keep_every_value_with_its_type_and_survive_the_disk(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any] | None]
) -> None:
    expected: dict[str, dict[str, list[tuple[int, Any]]]] = {}
    names = {bool: "bool", int: "int", float: "float", str: "string"}
    for row, entries in enumerate(records):
        for key, value in (entries or {}).items():
            for item in value if isinstance(value, list) else [value]:
                name = ("list_" if isinstance(value, list) else "") + names[type(item)]
                expected.setdefault(key, {}).setdefault(name, []).append((row, item))
    columns = exploded(records)
    assert values_of(columns) == expected
    path = tmp_path_factory.mktemp("columns") / "c.arrow"
    write_columns(columns, path)
    assert values_of(open_columns(path)) == expected
    assert open_columns(path).rows == len(records)


def test_rows_keep_their_numbers_beyond_the_first_batch_and_in_a_slice() -> None:
    rows = PARSE_ROWS + 10
    texts = pa.array([json.dumps({"n": i}) if i % 2 else None for i in range(rows + 3)])
    found = explode(texts.slice(3)).compare("n", "$eq", rows - 1 if rows % 2 == 0 else rows - 2)
    number = rows - 1 if rows % 2 == 0 else rows - 2
    assert np.flatnonzero(found).tolist() == [number - 3]


def test_opened_columns_answer_as_those_that_were_written(tmp_path: Path) -> None:
    columns = exploded([{"s": "a", "n": 1, "l": ["x", "y"]}, {"s": "b", "n": 2.5, "b": True}, None])
    write_columns(columns, tmp_path / "c.arrow")
    opened = open_columns(tmp_path / "c.arrow")
    for each in (columns, opened):
        assert each.compare("s", "$eq", "b").tolist() == [False, True, False]
        assert each.compare("s", "$eq", "c").tolist() == [False, False, False]
        assert each.is_in("s", ["b", "a", "z"]).tolist() == [True, True, False]
        assert each.compare("n", "$lte", 2.5).tolist() == [True, True, False]
        assert each.compare("b", "$eq", True).tolist() == [False, True, False]
        assert each.contains("l", "y").tolist() == [True, False, False]
        assert each.compare("absent", "$eq", 1).tolist() == [False, False, False]


def test_a_column_that_every_record_has_needs_no_row_numbers() -> None:
    columns = exploded([{"n": 1}, {"n": 2}])
    assert columns.columns["n"][Type.INT].rows is None


@pytest.mark.parametrize(
    "text", ["{", "[1]", "1", '{"a": {"b": 1}}', '{"a": null}', '{"a": 9223372036854775808}', "{},{}"]
)
def test_metadata_that_can_not_be_is_corrupt(text: str) -> None:
    with pytest.raises(Corrupt):
        explode(pa.array([text]))


@pytest.mark.parametrize("body", [b"", b"no arrow", b"ARROW1\0\0" + bytes(64)])
def test_a_file_that_holds_no_columns_is_corrupt(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "c.arrow").write_bytes(body)
    with pytest.raises(Corrupt):
        open_columns(tmp_path / "c.arrow")


def test_a_cut_file_is_corrupt(tmp_path: Path) -> None:
    write_columns(exploded([{"n": i, "s": str(i)} for i in range(100)]), tmp_path / "c.arrow")
    body = (tmp_path / "c.arrow").read_bytes()
    (tmp_path / "c.arrow").write_bytes(body[: len(body) // 2])
    with pytest.raises(Corrupt):
        open_columns(tmp_path / "c.arrow")

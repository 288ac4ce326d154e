"""Metadata as typed columns: a list of JSON objects turned by key and type, so that a filter is a few vector operations.

For each key there is one :class:`Column` for each type that occurs: ``int64``, ``float64``, ``bool``, ``string``, and the same
four for the elements of lists. A column holds the rows that have a value of that type and those values; a record without the
key is simply in none of them. Strings are dictionary-encoded, so that ``section = science`` compares integers.

How numbers compare, exactly as stock Chroma 1.5.9 does (found by experiment, kept by the oracle test):

1. An int operand meets int64 values exactly (``2**53 + 1`` is not ``2**53``) and float64 values as the nearest float.
2. A float operand meets float64 values exactly, and int64 values *truncated to an integer*: ``{"n": 1.5}`` finds the
   integer 1, and ``{"n": {"$gte": 0.5}}`` finds the integer 0. That is a flaw of Chroma's; it is kept because answers that
   differ from the source's would make every comparison of a migration fail. ``_as_int64`` is the one place to change.
3. Elements of lists equal only a value of their own type: 1 is not in ``[1.0]``.

A set of columns is saved as one Arrow IPC file, and opened memory-mapped.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from chromalith.errors import Corrupt

Scalar = str | bool | int | float
Mask = npt.NDArray[np.bool_]

FORMAT: Final = "chromalith-columns-1"
PARSE_ROWS: Final = 8192
"""Records parsed in one go: a join of so many small objects costs about 1 MB, and far fewer calls than one by one."""


class Type(StrEnum):
    """The types of metadata values, by the names that stand in the saved file."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STRING = "string"
    LIST_INT = "list_int"
    LIST_FLOAT = "list_float"
    LIST_BOOL = "list_bool"
    LIST_STRING = "list_string"

    @property
    def element(self) -> Type:
        """The type of the values themselves: that of a list's elements, else the type."""
        return Type(self.value.removeprefix("list_"))


_DTYPES: Final = {Type.INT: np.int64, Type.FLOAT: np.float64, Type.BOOL: np.uint8, Type.STRING: np.int32}
_SCALAR_TYPES: Final[dict[type, Type]] = {int: Type.INT, float: Type.FLOAT, bool: Type.BOOL, str: Type.STRING}
_LIST_TYPES: Final = {kind: Type(f"list_{type_.value}") for kind, type_ in _SCALAR_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one type under one key.

    Attributes:
        rows: int32 ``(n,)``, ascending, with repeats for the elements of a list; ``None`` when every row has one value.
        values: ``(n,)``: int64, float64, uint8 (bool), or int32 codes into ``dictionary`` (string).
        dictionary: the distinct strings, large_string; ``None`` for the other types.
    """

    rows: npt.NDArray[np.int32] | None
    values: npt.NDArray[Any]
    dictionary: pa.Array | None = None


@dataclass(frozen=True, slots=True)
class MetadataColumns:
    """All metadata of a part, by key and type. Immutable; the arrays may be memory-mapped."""

    rows: int
    columns: Mapping[str, Mapping[Type, Column]]

    def compare(self, key: str, operator: str, value: Scalar) -> Mask:
        """Records whose scalar under ``key`` compares so with ``value``; bool ``(rows,)``, freshly allocated.

        ``operator``: ``$eq $gt $gte $lt $lte``; the last four take numbers only."""
        return self._match(key, [(type_, _tester(type_, operator, value)) for type_ in _types_met(value)])

    def is_in(self, key: str, values: Sequence[Scalar]) -> Mask:
        """Records whose scalar under ``key`` equals one of ``values``, which have one type; bool ``(rows,)``."""
        if len(values) == 1:
            return self.compare(key, "$eq", values[0])
        return self._match(key, [(type_, _member_tester(type_, values)) for type_ in _types_met(values[0])])

    def contains(self, key: str, value: Scalar) -> Mask:
        """Records whose list under ``key`` has the element ``value``, of the same type; bool ``(rows,)``."""
        type_ = _LIST_TYPES[_plain_type(value)]
        return self._match(key, [(type_, _tester(type_.element, "$eq", value))])

    def _match(self, key: str, tests: Iterable[tuple[Type, Callable[[Column], Mask]]]) -> Mask:
        found: Mask | None = None
        by_type = self.columns.get(key, {})
        for type_, test in tests:
            column = by_type.get(type_)
            if column is None:
                continue
            hits = test(column)
            if column.rows is None:
                found = hits if found is None else found | hits
                continue
            if found is None:
                found = np.zeros(self.rows, dtype=np.bool_)
            found[column.rows[hits]] = True
        return np.zeros(self.rows, dtype=np.bool_) if found is None else found


# Comparing


def _plain_type(value: Scalar) -> type:
    return next(kind for kind in (bool, int, float, str) if isinstance(value, kind))


def _types_met(value: Scalar) -> tuple[Type, ...]:
    if isinstance(value, bool):
        return (Type.BOOL,)
    if isinstance(value, str):
        return (Type.STRING,)
    return (Type.INT, Type.FLOAT)


def _as_int64(value: int | float) -> int:
    # Rust's `as i64`: towards zero, and saturating.
    return max(-(2**63), min(2**63 - 1, int(value)))


_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "$eq": np.equal,
    "$gt": np.greater,
    "$gte": np.greater_equal,
    "$lt": np.less,
    "$lte": np.less_equal,
}


def _operand(type_: Type, value: Scalar) -> np.generic:
    # A NumPy scalar of the column's own type, so that nothing is promoted: int64 against a Python float would be.
    if type_ is Type.INT:
        return np.int64(_as_int64(cast(float, value)))
    return np.float64(value) if type_ is Type.FLOAT else np.uint8(cast(bool, value))


def _tester(type_: Type, operator: str, value: Scalar) -> Callable[[Column], Mask]:
    compare = _COMPARISONS[operator]
    if type_ is Type.STRING:

        def test_text(column: Column) -> Mask:
            code = pc.index(column.dictionary, pa.scalar(value, pa.large_string())).as_py()
            return cast(Mask, column.values == np.int32(code))  # -1 (not found) is no code

        return test_text
    operand = _operand(type_, value)
    return lambda column: cast(Mask, compare(column.values, operand))


def _member_tester(type_: Type, values: Sequence[Scalar]) -> Callable[[Column], Mask]:
    if type_ is Type.STRING:

        def test_text(column: Column) -> Mask:
            known = arrow_mask(pc.is_in(column.dictionary, value_set=pa.array(values, pa.large_string())))
            return cast(Mask, known[column.values])

        return test_text
    operands = np.array([_operand(type_, value) for value in values], dtype=_DTYPES[type_])
    return lambda column: np.isin(column.values, operands)


def arrow_mask(found: pa.Array | pa.ChunkedArray) -> Mask:
    """An Arrow boolean array as NumPy, with null as false."""
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    if found.null_count:
        found = found.fill_null(False)
    return cast(Mask, found.to_numpy(zero_copy_only=False))


# Building


def explode(metadata: pa.Array) -> MetadataColumns:
    """Turn metadata by key and type.

    Args:
        metadata: string or large_string ``(rows,)``, nullable: one JSON object per record, ints without and floats with a
            decimal point or exponent.

    Raises ``Corrupt`` if a text is not such an object."""
    if isinstance(metadata, pa.ChunkedArray):
        metadata = metadata.combine_chunks()
    gathered: dict[str, dict[Type, tuple[list[int], list[Any]]]] = defaultdict(dict)
    for start in range(0, len(metadata), PARSE_ROWS):
        _gather(metadata.slice(start, PARSE_ROWS), start, gathered)
    rows = len(metadata)
    return MetadataColumns(
        rows,
        {
            key: {type_: _column(type_, rows, *found) for type_, found in by_type.items()}
            for key, by_type in gathered.items()
        },
    )


def _gather(batch: pa.Array, start: int, gathered: dict[str, dict[Type, tuple[list[int], list[Any]]]]) -> None:
    try:
        objects = json.loads("[" + ",".join(text or "null" for text in batch.to_pylist()) + "]")
    except ValueError as error:
        raise Corrupt(f"metadata is not JSON: first_row={start}, rows={len(batch)}") from error
    if len(objects) != len(batch):
        raise Corrupt(f"metadata is not one JSON object per record: first_row={start}, rows={len(batch)}")
    for row, entries in enumerate(objects, start):
        if entries is None:
            continue
        if type(entries) is not dict:
            raise Corrupt(f"metadata is not a JSON object: row={row}")
        for key, value in entries.items():
            kind = type(value)
            if kind is list:
                if not value:
                    continue
                kind = type(value[0])
                type_ = _LIST_TYPES.get(kind)
            else:
                type_ = _SCALAR_TYPES.get(kind)
                value = (value,)
            if type_ is None:
                raise Corrupt(
                    f"metadata value has a type that can not be: row={row}, key={key!r}, type={kind.__name__}"
                )
            by_type = gathered[key]
            found = by_type.get(type_)
            if found is None:
                found = by_type[type_] = ([], [])
            found[0].extend([row] * len(value))
            found[1].extend(value)


def _column(type_: Type, rows: int, at: list[int], values: list[Any]) -> Column:
    positions: npt.NDArray[np.int32] | None = np.array(at, dtype=np.int32)
    if type_ is type_.element and len(at) == rows:
        positions = None
    if type_.element is Type.STRING:
        encoded = pa.array(values, pa.large_string()).dictionary_encode()
        return Column(positions, encoded.indices.to_numpy(), encoded.dictionary)
    try:
        return Column(positions, np.array(values, dtype=_DTYPES[type_.element]))
    except OverflowError as error:
        raise Corrupt("metadata has an integer of more than 64 bits") from error


# On disk: a table of one row, in which each array of each column is a cell. Lists, because the lengths differ; one row,
# because then the arrays lie contiguous in the file and are mapped instead of read.


def write_columns(columns: MetadataColumns, path: str | Path) -> None:
    """Save as one Arrow IPC file. Not atomic: write to a temporary name and rename, as a cache does anyway."""
    entries: list[dict[str, Any]] = []
    cells: list[pa.Array] = []
    for key, by_type in columns.columns.items():
        for type_, column in by_type.items():
            entries.append({"key": key, "type": type_.value, "dense": column.rows is None})
            arrays = [
                pa.array(np.empty(0, np.int32) if column.rows is None else column.rows),
                pa.array(column.values),
                pa.nulls(0, pa.large_string()) if column.dictionary is None else column.dictionary,
            ]
            cells.extend(
                pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array) for array in arrays
            )
    about = json.dumps({"format": FORMAT, "rows": columns.rows, "columns": entries}, ensure_ascii=False)
    schema = pa.schema([(str(i), cell.type) for i, cell in enumerate(cells)], metadata={"chromalith": about})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(cells, schema=schema))


def open_columns(path: str | Path) -> MetadataColumns:
    """Open what :func:`write_columns` saved, memory-mapped. Raises ``Corrupt`` if it is not such a file."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path), "rb"))
        about = json.loads(reader.schema.metadata[b"chromalith"])
        if about["format"] != FORMAT:
            raise Corrupt(
                f"columns file has another format: format={about['format']!r}", hint="delete it; it is a cache"
            )
        batch = reader.get_batch(0)
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"columns file can not be read: path={path}", hint="delete it; it is a cache") from error
    columns: dict[str, dict[Type, Column]] = {}
    for i, entry in enumerate(about["columns"]):
        type_ = Type(entry["type"])
        at, values, dictionary = (batch.column(3 * i + j).values for j in range(3))
        columns.setdefault(entry["key"], {})[type_] = Column(
            None if entry["dense"] else at.to_numpy(),
            values.to_numpy(),
            dictionary if type_.element is Type.STRING else None,
        )
    return MetadataColumns(about["rows"], columns)

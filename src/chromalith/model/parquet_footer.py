"""What the footer of a Parquet file promises, and what its pages say of themselves, read by ourselves: Thrift's compact protocol.

Why not by the Parquet library: its accessors for a column's metadata end the process on some damaged footers (seen with pyarrow 26: an
exception of C++ that nothing catches), and a damaged delta must be an error, not the end of a compactor. Reading a file, which comes
afterwards, turns such exceptions into errors.

Field numbers are those of ``parquet.thrift`` of the Apache Parquet format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAGIC = b"PAR1"
DEPTH_MAX = 16
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_ROWS, _GROUPS = 3, 4  # of a row group too, its rows are the third field
_COLUMNS = 1
_FILE_PATH, _META = 1, 3
_TYPE, _ENCODINGS, _PATH, _VALUES, _UNCOMPRESSED, _COMPRESSED, _DATA, _DICTIONARY = 1, 2, 3, 5, 6, 7, 9, 11
_PAGE_TYPE, _PAGE_UNCOMPRESSED, _PAGE_COMPRESSED = 1, 2, 3
_PAGES = {0: (5, 2), 3: (8, 4)}
"""Of a data page, of the first and the second kind: the field of its own header, and that of the encoding in it."""
_DICTIONARY_PAGE = 2
_IN_DICTIONARY = 8


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """One column of one row group, as the footer describes it.

    Attributes:
        path: its name; with dots, inside lists and structs.
        type: Parquet's number of the physical type (6: byte array).
        encodings: Parquet's numbers of those that its pages have, by the footer or by their own headers.
        values: how many, nulls counted.
        size: of its pages, decompressed, bytes: the larger of what the footer says and what they say.
    """

    path: str
    type: int
    encodings: frozenset[int]
    values: int
    size: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What a file promises.

    Attributes:
        rows: in all.
        chunks: of all row groups.
    """

    rows: int
    chunks: tuple[ColumnChunk, ...]


def read_footer(body: bytes) -> Footer:
    """The footer of a file. Raises ``ValueError`` if it is none, or what it promises makes no sense."""
    size = int.from_bytes(body[-8:-4], "little")
    if len(body) < 12 or body[-4:] != MAGIC or size > len(body) - 12:
        raise ValueError("not a Parquet file")
    try:
        fields = _Compact(body[-8 - size : -8]).struct(0)
        rows = _count(fields[_ROWS])
        if rows != sum(_count(group[_ROWS]) for group in fields[_GROUPS]):
            raise ValueError(f"the row groups of a file do not add up rows={rows}")
        return Footer(rows, tuple(_chunks(body, fields[_GROUPS])))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("not the footer of a Parquet file") from error


def _chunks(body: bytes, groups: list[dict[int, Any]]) -> Iterator[ColumnChunk]:
    for group in groups:
        for column in group[_COLUMNS]:
            if _FILE_PATH in column:
                raise ValueError("a column is in another file")
            meta = column[_META]
            path = b".".join(meta[_PATH]).decode()
            values, size, encodings = _count(meta[_VALUES]), _count(meta[_UNCOMPRESSED]), frozenset(meta[_ENCODINGS])
            if len(meta[_PATH]) == 1 and values != group[_ROWS]:
                raise ValueError(f"a column does not have the rows of its group column={path} values={values}")
            if values:  # of an empty one no page is read, and its offsets may mean nothing
                taken, used = _pages(body, path, meta)
                size, encodings = max(size, taken), encodings | used
            yield ColumnChunk(path, meta[_TYPE], encodings, values, size)


def _pages(body: bytes, path: str, meta: dict[int, Any]) -> tuple[int, set[int]]:
    """What the pages of a column really take, bytes, and how they are encoded, by their headers: a footer could promise less."""
    at, dictionary = _count(meta[_DATA]), meta.get(_DICTIONARY, 0)
    if 0 < _count(dictionary) < at:
        at = dictionary
    stop, size, encodings = at + _count(meta[_COMPRESSED]), 0, set[int]()
    if stop > len(body):
        raise ValueError(f"a column ends behind the file column={path}")
    while at < stop:
        reader = _Compact(body, at)
        page = reader.struct(0)
        size += reader.at - at + _count(page[_PAGE_UNCOMPRESSED])
        at = reader.at + _count(page[_PAGE_COMPRESSED])
        if page[_PAGE_TYPE] == _DICTIONARY_PAGE:
            encodings.add(_IN_DICTIONARY)
        else:
            header, encoding = _PAGES[page[_PAGE_TYPE]]
            encodings.add(page[header][encoding])
    return size, encodings


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"a count is negative, or none count={value!r:.50}")
    return value


class _Compact:
    """Thrift's compact protocol: a struct as a dictionary by field number. Never makes more than one object for each byte."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > DEPTH_MAX:
            raise ValueError("a footer is nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            found[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_BYTE, _TRUE, _FALSE):  # in a list, a boolean is a byte
            return self._byte()
        if kind == _DOUBLE:
            return self._take(8)
        raise ValueError(f"a footer has a value of an unknown kind kind={kind}")  # a map: Parquet has none

    def _list(self, depth: int) -> list[Any]:
        if depth > DEPTH_MAX:
            raise ValueError("a footer is nested too deeply")
        head = self._byte()
        size = head >> 4 if head >> 4 != 15 else self._varint()
        if size > len(self._data) - self.at:  # each takes a byte at least
            raise ValueError("a list is longer than the footer")
        return [self._value(head & 15, depth + 1) for _ in range(size)]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self.at:
            raise ValueError("a text is longer than the footer")
        self.at += size
        return self._data[self.at - size : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is longer than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

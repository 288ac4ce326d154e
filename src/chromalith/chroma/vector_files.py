"""Whether the vector files of a Chroma directory hold what they say: Chroma reads them without looking at their length.

Chroma's index is four files for each collection. Where ``data_level0.bin`` is shorter than ``header.bin`` says, 1.5.9 answers with
whatever its memory held before, now and then without an error: half a file was once read as 200 records. So the lengths are
compared before anything is read.

A process that is killed while it writes them leaves a header that is ahead of the other files. What is missing then has no name
yet, and waits in the queue: that is no damage.
"""

from __future__ import annotations

import io
import pickle
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from chromalith.chroma.private_copy import DATABASE

_HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
"""Of hnswlib: the layout's version, offset of level 0, room, elements, bytes of an element, offsets of its label and vector, and others."""
_VERSION = 1
_NAMES_BYTES_MAX = 64 * 2**20
"""Of the file of names, to be counted: some hundred thousand records to two million; they take about ten times as much in memory."""
_SEGMENTS = """
SELECT s.id, c.id, c.dimension FROM segments AS s JOIN collections AS c ON c.id = s.collection WHERE s.scope = 'VECTOR'
"""


def damaged_collections(directory: Path) -> dict[UUID, str]:
    """The collections of a Chroma directory whose vectors can't be read, and why. What has another layout is left to Chroma itself."""
    try:
        with closing(sqlite3.connect(directory / DATABASE)) as connection:
            segments = connection.execute(_SEGMENTS).fetchall()
    except sqlite3.DatabaseError:  # Chroma says it better
        return {}
    found = {UUID(collection): _damage(directory / segment, dimension) for segment, collection, dimension in segments}
    return {collection: why for collection, why in found.items() if why is not None}


def _damage(segment: Path, dimension: int | None) -> str | None:
    """What is wrong with the files of one collection, or ``None``."""
    header = segment / "header.bin"
    if not header.exists():  # nothing was written out yet, or Chroma will miss it
        return None
    body = header.read_bytes()
    if len(body) < _HEADER.size:
        return f"file={header.name} bytes={len(body)} expected={_HEADER.size}"
    version, _, _, elements, element_bytes, label_at, vector_at, *_ = _HEADER.unpack_from(body)
    if version > _VERSION:
        return None
    if version != _VERSION or not 0 < vector_at < label_at < element_bytes:
        return f"file={header.name} version={version} element_bytes={element_bytes}"
    if dimension is not None and label_at - vector_at != 4 * dimension:
        return f"file={header.name} dimension={(label_at - vector_at) // 4} expected={dimension}"
    whole = {
        "data_level0.bin": _size(segment / "data_level0.bin") // element_bytes,
        "length.bin": _size(segment / "length.bin") // 4,
        "link_lists.bin": _lists(segment / "link_lists.bin"),
    }
    name = min(whole, key=lambda each: whole[each])
    if whole[name] < elements and not _names_no_more(segment, whole[name], element_bytes, label_at):
        return f"file={name} elements={whole[name]} expected={elements}"
    if (named := _named(segment)) > elements:
        return f"file={header.name} elements={elements} expected={named}"
    return None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _lists(file: Path) -> int:
    """How many whole lists a file has: each is four bytes that say how long it is, and as many bytes."""
    body = file.read_bytes() if file.exists() else b""
    lists, at = 0, 4
    while at <= len(body):
        at += int.from_bytes(body[at - 4 : at], "little") + 4
        lists += at - 4 <= len(body)
    return lists


def _names_no_more(segment: Path, whole: int, element_bytes: int, label_at: int) -> bool:
    """Whether every record that the index names is among its first ``whole`` elements."""
    names, data = segment / "index_metadata.pickle", segment / "data_level0.bin"
    if not names.exists():
        return True  # it was never written out as a whole
    try:
        labels = _labels(names.read_bytes())
    except Exception:  # whatever such a file can do to its reader: it names nothing that could be trusted
        return False
    if not whole:
        return not labels
    held = np.memmap(data, np.uint8, "r", shape=(whole, element_bytes))[:, label_at : label_at + 8]
    return labels <= set(np.ascontiguousarray(held).view("<u8").ravel().tolist())


def _named(segment: Path) -> int:
    """How many records the index names; 0 if nobody knows. A header that is older than the names makes 1.5.9 run in a circle, without an
    end, when it adds what waits in its queue."""
    names = segment / "index_metadata.pickle"
    if not 0 < _size(names) <= _NAMES_BYTES_MAX:
        return 0
    try:
        return len(_labels(names.read_bytes()))
    except Exception:  # Chroma reads it before anything else, and says so
        return 0


def _labels(body: bytes) -> set[int]:
    """The labels of the elements that have a name. Raises anything for what is no such file."""
    held: Any = _Names(io.BytesIO(body)).load()
    names = held["id_to_label"] if isinstance(held, dict) else held.__dict__["id_to_label"]
    return {int(label) for label in names.values()}


class _Names(pickle.Unpickler):
    """Reads the names of an index; of classes it knows none, so the file can't run anything."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "PersistentData" and module.startswith("chromadb."):  # before 1.0 it was an object
            return type(name, (), {})
        raise pickle.UnpicklingError(f"{module}.{name}")

"""Reads on which the two sides did not agree, kept for a person: few, small, and without what the records say.

One object each below ``shadow/``, named by the time and chance, never overwritten. The first :data:`ALL_MAX` of a
migration are kept and no more, until they are cleared: what comes first shows how it began, a flood can't push it out,
and a full store costs one request a try. A process stores at most :data:`OWN_MAX`, and :data:`KIND_MAX` of one verb and
collection, so that one broken collection does not hide the others. Processes don't wait for each other: together they
can exceed the bound by one each.

Embeddings are never kept, only their length and a digest that tells them apart. By default neither are document texts,
uris and metadata values, nor the values in filters: their type and length stand there instead (:func:`hider`). Ids are
kept; without them nothing can be looked up.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from chromalith.errors import NotFound
from chromalith.migrate.comparators import Comparison
from chromalith.migrate.offered import ShadowRead
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role

FORMAT = 1
PART = "shadow"
ALL_MAX = 1_000
OWN_MAX = 200
KIND_MAX = 50
LIST_MAX = 50
"""Items of a list that are kept."""
CHARS_MAX = 1_000
BYTES_MAX = 64_000
EMBEDDING_MIN = 8
"""A list of at least so many numbers is taken for an embedding."""

Record = dict[str, Any]
Cleaner = Callable[[Record], Record | None]
"""Called with a mismatch before it is stored. Returns what is stored instead; ``None``: nothing is."""


class Mismatches:
    """Those of one migration. Safe to share between threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._prefix = place.prefix(PART)
        self._lock = threading.Lock()
        self._own: Counter[tuple[str, str]] = Counter()

    def begin(self) -> None:
        """This process may store as many as in the beginning."""
        with self._lock:
            self._own.clear()

    def has_room(self, verb: str, collection: str) -> bool:
        """Whether this process may store one more of these."""
        with self._lock:
            return self._room((verb, collection))

    def store(self, record: Record) -> bool:
        """Keep one; ``False``: there are enough. Raises ``Unavailable``, ``Unknown``."""
        kind = record["verb"], record["collection"]
        with self._lock:
            if not self._room(kind):
                return False
            self._own[kind] += 1  # before it is stored: another thread may be storing, too
        kept = False
        try:
            if self.count() < ALL_MAX:
                key = f"{self._prefix}{self._place.clock.now_us():020d}-{self._place.clock.random_hex(8)}.json"
                self._place.store.put(key, _bounded(record))
                kept = True
        finally:
            if not kept:
                with self._lock:
                    self._own[kind] -= 1
        return kept

    def _room(self, kind: tuple[str, str]) -> bool:
        return self._own[kind] < KIND_MAX and self._own.total() < OWN_MAX

    def count(self) -> int:
        """How many there are. Raises ``Unavailable``."""
        return sum(len(page) for page in self._place.store.list(self._prefix))

    def newest(self, limit: int) -> list[Record]:
        """The latest ones, the latest first. Raises ``Unavailable``."""
        keys = [entry.key for page in self._place.store.list(self._prefix) for entry in page]
        found = []
        for key in reversed(keys[max(0, len(keys) - limit) :]):
            with suppress(NotFound, ValueError):  # cleared meanwhile, or nothing of ours
                record = json.loads(self._place.store.get(key).body)
                if isinstance(record, dict) and record.get("format") == FORMAT:
                    found.append(record)
        return found

    def clear(self) -> int:
        """Remove all. Returns how many. Raises ``Unavailable``."""
        keys = [entry.key for page in self._place.store.list(self._prefix) for entry in page]
        for key in keys:
            self._place.store.delete(key)
        return len(keys)


def describe(
    read: ShadowRead,
    answers: Mapping[Role, Any],
    took_s: Mapping[Role, float],
    comparison: Comparison,
    *,
    at_us: int,
    client: str,
    since: int,
) -> Record:
    """A mismatch as JSON, with all that both sides said but embeddings: what is sensitive is still in it."""
    return {
        "format": FORMAT,
        "at_us": at_us,
        "client": client,
        "since": since,
        "verb": read.verb,
        "collection": read.collection,
        "side": read.side.value,
        "differences": [asdict(each) for each in comparison.differences],
        "overlap": comparison.overlap,
        "reordered": comparison.reordered,
        "took_s": {role.value: round(seconds, 6) for role, seconds in took_s.items()},
        "arguments": {str(name): plain(value) for name, value in read.arguments.items()},
        "answers": {role.value: plain(answer) for role, answer in answers.items()},
    }


# -- cleaning ----------------------------------------------------------------------------------------------------------

_SAFE_ARGUMENTS = frozenset({"ids", "n_results", "n", "limit", "offset", "include", "query_embeddings"})
_SAFE_COLUMNS: dict[str, type] = {"ids": str, "included": str, "distances": float, "embeddings": float}
"""Columns that are shown, and of what; a side that answers nonsense may have put anything there."""
_HIDDEN_COLUMNS = {"documents": "document", "uris": "uri"}


def hider(keep_fields: Sequence[str] = ()) -> Callable[[Record], Record]:
    """The default cleaner. ``keep_fields``: what is shown all the same: ``document``, ``uri``, ``metadata.<key>``."""
    keep = frozenset(keep_fields)

    def clean(record: Record) -> Record:
        arguments = {name: _argument(name, value, keep) for name, value in record["arguments"].items()}
        answers = {side: _answer(answer, keep) for side, answer in record["answers"].items()}
        return record | {"arguments": arguments, "answers": answers}

    return clean


def _argument(name: str, value: Any, keep: frozenset[str]) -> Any:
    if name == "where":
        return _filter(value, "", keep)
    if name == "where_document":
        return value if "document" in keep else _hidden(value)
    return value if name in _SAFE_ARGUMENTS else _hidden(value)


def _filter(value: Any, field: str, keep: frozenset[str]) -> Any:
    """A filter with its fields and operators, without the values that it looks for."""
    if isinstance(value, dict):
        return {name: _filter(each, field if name.startswith("$") else name, keep) for name, each in value.items()}
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return [_filter(each, field, keep) for each in value]
    return value if f"metadata.{field}" in keep else _hidden(value)


def _answer(answer: Any, keep: frozenset[str]) -> Any:
    if not isinstance(answer, dict):
        return answer if isinstance(answer, int) else _hidden(answer)
    return {name: _column(name, value, keep) for name, value in answer.items()}


def _column(name: str, value: Any, keep: frozenset[str]) -> Any:
    if _HIDDEN_COLUMNS.get(name) in keep:
        return value
    if name in _SAFE_COLUMNS:
        return _only(_SAFE_COLUMNS[name], value)
    if name == "metadatas":
        return _metadata(value, keep)
    return _hidden_leaves(value)


def _only(kind: type, value: Any) -> Any:
    """Lists of what belongs there, and what :func:`plain` made; the rest is hidden."""
    if isinstance(value, list):
        return [each if isinstance(each, kind) else _only(kind, each) for each in value]
    if isinstance(value, dict) and value.keys() <= {"numbers", "digest", "left_out"}:
        return value
    return value if kind is float and isinstance(value, int | float) else _hidden(value)


def _metadata(value: Any, keep: frozenset[str]) -> Any:
    if isinstance(value, list):
        return [_metadata(each, keep) for each in value]
    if isinstance(value, dict):
        return {key: each if f"metadata.{key}" in keep else _hidden(each) for key, each in value.items()}
    return _hidden(value)


def _hidden_leaves(value: Any) -> Any:
    return [_hidden_leaves(each) for each in value] if isinstance(value, list) else _hidden(value)


def _hidden(value: Any) -> Any:
    """The type and the length."""
    if value is None:
        return None
    length = {"length": len(value)} if isinstance(value, str | list | dict) else {}
    return {"type": type(value).__name__, **length}


# -- making it small ---------------------------------------------------------------------------------------------------


def plain(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON of bounded lists, embeddings as their length and a digest; what is nothing of the kind as the name of its type."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, np.ndarray):
        value = list(value)
    if isinstance(value, list | tuple) and depth < 8:
        if len(value) >= EMBEDDING_MIN and all(isinstance(each, int | float | np.number) for each in value):
            return _digest(value)
        items = [plain(each, depth + 1) for each in value[:LIST_MAX]]
        return items if len(value) <= LIST_MAX else [*items, {"left_out": len(value) - LIST_MAX}]
    if isinstance(value, Mapping) and depth < 8:
        return {str(key): plain(each, depth + 1) for key, each in list(value.items())[:LIST_MAX]}
    return {"type": type(value).__name__}


def _digest(numbers: Sequence[Any]) -> dict[str, Any]:
    """As float32, so that the same vector is the same, whoever answered it."""
    with np.errstate(over="ignore"):
        body = np.asarray(numbers, np.float32).tobytes()
    return {"numbers": len(numbers), "digest": hashlib.sha256(body).hexdigest()[:16]}


def _bounded(record: Record) -> bytes:
    body = _encoded(_cut(record))
    if len(body) <= BYTES_MAX:
        return body
    return _encoded(_cut({**record, "answers": {}, "arguments": {}, "left_out": len(body)}))


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, default=lambda each: {"type": type(each).__name__}).encode()


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= CHARS_MAX else value[:CHARS_MAX] + "…"
    if isinstance(value, list):
        return [_cut(each) for each in value]
    if isinstance(value, dict):
        return {key: _cut(each) for key, each in value.items()}
    return value

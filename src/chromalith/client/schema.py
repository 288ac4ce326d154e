"""The two things that a collection's schema does at run time: forbid filters, and collect the keys that were seen.

A schema is Chroma's serialized form: ``defaults`` and ``keys``, each a mapping from a value type (``string``, ``int``,
``float``, ``bool``, …) to its indexes, each with ``enabled``. All functions here are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from chromalith.errors import Invalid

KEYS_MAX = 1_000
"""How many discovered keys a schema may hold: it is read with each write, and 1,000 entries are about 100 KB of JSON.
Past it keys are simply not entered; they are still stored and filtered."""

_TYPES: dict[type, tuple[str, str]] = {
    bool: ("bool", "bool_inverted_index"),
    int: ("int", "int_inverted_index"),
    float: ("float", "float_inverted_index"),
    str: ("string", "string_inverted_index"),
}
_NAMES_IN_MESSAGES = {"bool": "Bool", "int": "Int", "float": "Float", "string": "Str"}
_DOCUMENT_KEY = "#document"

Found = tuple[str, str]
"""A metadata key and the name of the type of a value that it had."""


def check_filters(schema: Mapping[str, Any] | None, where: Any, where_document: Any) -> None:
    """Raise ``Invalid`` if a filter needs an index that the schema disables, as Chroma does."""
    if schema is None:
        return
    if where_document:
        _check_documents(schema)
    for key, value in _leaves(where):
        if key == _DOCUMENT_KEY:
            _check_documents(schema)
            continue
        typed = _TYPES.get(type(value))
        if typed is not None and not _enabled(schema, key, *typed):
            raise Invalid(
                f"Cannot filter using metadata key '{key}' with type '{_NAMES_IN_MESSAGES[typed[0]]}' "
                "because indexing is disabled"
            )


def found_keys(metadatas: Sequence[Mapping[str, Any] | None] | None) -> set[Found]:
    """The metadata keys of a call, with the types of their values; a list counts as the type of its elements."""
    found: set[Found] = set()
    for metadata in metadatas or ():
        for key, value in (metadata or {}).items():
            typed = _TYPES.get(type(value[0] if isinstance(value, list) and value else value))
            if typed is not None and not key.startswith("#"):
                found.add((key, typed[0]))
    return found


def missing_keys(schema: Mapping[str, Any] | None, found: Iterable[Found]) -> set[Found]:
    """Those of ``found`` that the schema does not have yet; none if there is no schema, or no room in it."""
    if schema is None or len(schema.get("keys", {})) >= KEYS_MAX:
        return set()
    keys = schema.get("keys", {})
    return {(key, kind) for key, kind in found if kind not in keys.get(key, {}) and kind in schema.get("defaults", {})}


def with_keys(schema: Mapping[str, Any], found: Iterable[Found]) -> dict[str, Any]:
    """The schema with the defaults entered for each new key and type."""
    keys = {key: dict(kinds) for key, kinds in schema.get("keys", {}).items()}
    for key, kind in sorted(missing_keys(schema, found)):
        if key in keys or len(keys) < KEYS_MAX:
            keys.setdefault(key, {})[kind] = schema["defaults"][kind]
    return {**schema, "keys": keys}


def _leaves(where: Any) -> Iterator[tuple[str, Any]]:
    """Each key of a ``where`` filter, with a value it is compared with; malformed parts are left to their parser."""
    if not isinstance(where, Mapping):
        return
    for key, condition in where.items():
        if key in ("$and", "$or"):
            for part in condition if isinstance(condition, list) else ():
                yield from _leaves(part)
            continue
        values = condition.values() if isinstance(condition, Mapping) else (condition,)
        for value in values:
            yield key, value[0] if isinstance(value, list) and value else value


def _check_documents(schema: Mapping[str, Any]) -> None:
    indexes = schema.get("keys", {}).get(_DOCUMENT_KEY, {}).get("string") or {}
    index = indexes.get("fts_index")
    if index is not None and not index.get("enabled", True):
        raise Invalid("Cannot filter on documents because the full text search (FTS) index is disabled")


def _enabled(schema: Mapping[str, Any], key: str, kind: str, index: str) -> bool:
    """Whether values of this type can be filtered under this key: its own entry decides, else the default."""
    for kinds in (schema.get("keys", {}).get(key), schema.get("defaults")):
        indexes = (kinds or {}).get(kind)
        if indexes is not None:
            return bool((indexes.get(index) or {}).get("enabled", True))
    return True

"""Metadata as text: one canonical JSON form, so that equal metadata is equal bytes everywhere.

Keys in code point order, no spaces, ``1`` and ``1.0`` kept apart (JSON text keeps them apart, and so does Python's parser).
In a patch, ``null`` removes a key and an absent key is kept: Chroma's rule for ``update`` and ``upsert``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


_decode = json.JSONDecoder().decode  # json.loads without its look at what it was given


def encode_metadata(metadata: Mapping[str, Any] | None) -> str | None:
    """Canonical JSON, or ``None`` for metadata that says nothing."""
    return _encode(metadata) if metadata else None


def decode_metadata(text: str | None) -> dict[str, Any] | None:
    """The inverse of :func:`encode_metadata`."""
    if text is None:
        return None
    decoded: dict[str, Any] = json.loads(text)
    return decoded


def check_patch(text: str) -> None:
    """Raise ``ValueError`` unless ``text`` is a patch that can be merged and hashed.

    That is a JSON object with values of the kinds that metadata has, or ``null``: text, integers of 64 bits, finite floats, booleans, and
    lists of one of these that are not empty.
    """
    try:
        patch = _decode(text)
    except RecursionError as error:
        raise ValueError("metadata is nested too deeply") from error
    if type(patch) is not dict:
        raise ValueError("metadata is not an object")
    for key, value in patch.items():
        if not key.isascii():
            key.encode()
        kind = type(value)
        if kind is bool or (kind is str and value.isascii()):  # most values: without a call for each, it takes half the time
            continue
        if kind is list:
            if len({type(each) for each in value}) != 1:
                raise ValueError(f"a list is empty, or of several kinds key={key!r:.50}")
            for each in value:
                _check_scalar(key, each)
        elif value is not None:
            _check_scalar(key, value)


def _check_scalar(key: str, value: object) -> None:
    if type(value) is str:
        if not value.isascii():
            value.encode()  # half of a surrogate pair has no UTF-8, and could not be hashed
        return
    if (type(value) is int and -(2**63) <= value < 2**63) or type(value) is bool or (type(value) is float and math.isfinite(value)):
        return
    raise ValueError(f"metadata has a value that can't be key={key!r:.50} value={value!r:.50}")


def patch_metadata(old: str | None, patch: str | None) -> str | None:
    """``old`` with ``patch`` merged in (both canonical JSON): a ``null`` removes its key, the rest is set."""
    if patch is None:
        return old
    # The common case by far: nothing to merge with and nothing to remove. "null" may also stand in a string; then the
    # slow way is taken for nothing, and is right.
    if old is None and "null" not in patch:
        return patch
    merged = decode_metadata(old) or {}
    for key, value in json.loads(patch).items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return encode_metadata(merged)

"""Metadata as text: one canonical JSON form, so that equal metadata is equal bytes everywhere.

Keys in code point order, no spaces, ``1`` and ``1.0`` kept apart (JSON text keeps them apart, and so does Python's parser).
In a patch, ``null`` removes a key and an absent key is kept: Chroma's rule for ``update`` and ``upsert``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def encode_metadata(metadata: Mapping[str, Any] | None) -> str | None:
    """Canonical JSON, or ``None`` for metadata that says nothing."""
    return _encode(metadata) if metadata else None


def decode_metadata(text: str | None) -> dict[str, Any] | None:
    """The inverse of :func:`encode_metadata`."""
    if text is None:
        return None
    decoded: dict[str, Any] = json.loads(text)
    return decoded


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

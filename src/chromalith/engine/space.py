"""The three ways in which Chroma measures how far a record is from a query."""

from __future__ import annotations

from typing import Final, Literal

from chromalith.errors import Invalid

Space = Literal["l2", "cosine", "ip"]
"""``l2``: the squared Euclidean distance; ``cosine``: 1 - cos, and 1 for a zero vector; ``ip``: 1 - x·q."""

SPACES: Final[tuple[Space, ...]] = ("l2", "cosine", "ip")


def check_space(space: str) -> Space:
    """The space if it is known, else ``Invalid``."""
    for known in SPACES:
        if space == known:
            return known
    raise Invalid(f"unknown space: space={space!r}", hint=f"use one of {', '.join(SPACES)}")

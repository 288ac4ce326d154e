"""A session token: the text that a write hands to whoever must see it, in whatever process. ``<collection id>:<delta id>``.

It names the write itself, and no version: so it can be waited for at any read level, folds and sweeps leave it what it is, and a writer
that is told of it orders its own writes behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from chromalith.errors import Invalid
from chromalith.model.ids import CollectionId, DeltaId, collection_id


@dataclass(frozen=True, slots=True)
class SessionToken:
    """One acknowledged write: its collection, and the delta that carries it."""

    collection: CollectionId
    delta: DeltaId

    def __str__(self) -> str:
        return f"{self.collection}:{self.delta}"

    @classmethod
    def parse(cls, text: str | SessionToken) -> SessionToken:
        """The token that prints as ``text``, else ``Invalid``."""
        if isinstance(text, SessionToken):
            return text
        try:
            collection, _, delta = text.partition(":")
            return cls(collection_id(collection), DeltaId.parse(delta))
        except (Invalid, AttributeError) as error:
            raise Invalid(
                f"not a session token token={text!r}", hint="give the `token` of a Receipt as it is: <collection id>:<delta id>"
            ) from error

"""The hint: one message that says that a delta was written. It saves a compactor the looking, and is never the record of a write.

The body is a JSON object, versioned:

==============  ========  =====================================================================
``format``      int       1
``collection``  string    the collection's id, a UUID
``delta``       string    the delta's id; with the collection it gives the object's key
``rows``        int       operations in the delta
``bytes``       int       the delta's size
==============  ========  =====================================================================

A reader ignores fields that it does not know and refuses a ``format`` above its own. A hint that is lost, doubled, late, invented or
unreadable changes nothing: what is folded is decided by listing the store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from chromalith.errors import Invalid
from chromalith.model.ids import CollectionId, DeltaId, collection_id

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Hint:
    """A delta was written.

    Attributes:
        collection, delta: which.
        rows: how many operations it has.
        bytes: its size.
    """

    collection: CollectionId
    delta: DeltaId
    rows: int
    bytes: int

    def encode(self) -> str:
        """The message's body: about 170 characters."""
        value = {
            "format": FORMAT,
            "collection": str(self.collection),
            "delta": str(self.delta),
            "rows": self.rows,
            "bytes": self.bytes,
        }
        return json.dumps(value, separators=(",", ":"))

    @classmethod
    def decode(cls, body: str) -> Hint:
        """Raises ``Invalid`` for what is no hint, or one of a newer format."""
        try:
            value = json.loads(body)
            if _count(value["format"]) > FORMAT:
                raise Invalid(f"the hint has a newer format format={value['format']} known={FORMAT}", hint="upgrade chromalith")
            # Checked, because a key of the store is made of it.
            cid, delta = collection_id(value["collection"]), DeltaId.parse(value["delta"])
            return cls(cid, delta, _count(value["rows"]), _count(value["bytes"]))
        except Invalid:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise Invalid(
                f"not a hint body={body[:80]!r}: {type(error).__name__}", hint="the queue is for hints of chromalith only"
            ) from error


def _count(value: object) -> int:
    """``value`` if it is a natural number. A boolean is none, although Python takes it for one."""
    if type(value) is not int or value < 0:
        raise ValueError(f"not a natural number: {str(value)[:20]}")
    return value

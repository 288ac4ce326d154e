"""What a comparison keeps of each part that it has finished, so that a run that is killed goes on where it was.

A part that was kept says which ids it had compared, and on which two collections. So nothing is called equal that nobody has looked at:
a collection that was dropped and made again under its name is another, and ids that came since are compared now.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.coord.register import decode, encode
from chromalith.errors import Corrupt, NotFound
from chromalith.migrate.places import Place
from chromalith.migrate.port import SideCollection
from chromalith.migrate.records import Difference
from chromalith.model import layout
from chromalith.model.segment import id_hash

Hashes = npt.NDArray[np.uint64]
"""Ids by their first 64 bits, ascending, each once."""
_PIECE = 50_000


@dataclass(frozen=True, slots=True)
class Found:
    """What one part of a collection showed: what differs among the ids that were compared."""

    differences: tuple[Difference, ...]
    compared: Hashes

    def encode(self) -> dict[str, Any]:
        return {
            "differences": [[each.id, each.kind, list(each.fields)] for each in self.differences],
            "compared": base64.b64encode(self.compared.astype("<u8").tobytes()).decode(),
        }

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> Found:
        """Raises ``KeyError``, ``TypeError``, ``ValueError``."""
        found = tuple(Difference(str(i), kind, tuple(fields)) for i, kind, fields in value["differences"])
        body = base64.b64decode(value["compared"], validate=True)
        return cls(found, np.frombuffer(body, "<u8").astype(np.uint64))


class KeptParts:
    """The parts of one run and collection. Safe to share between threads.

    Args:
        place: of the migration.
        run: which comparison.
        source, target: the collection on both sides.
    """

    def __init__(self, place: Place, run: str, source: SideCollection, target: SideCollection) -> None:
        self._store = place.store
        pair = hashlib.sha256(f"{source.id}\0{target.id}".encode()).hexdigest()[:16]
        self._prefix = f"{parts_prefix(place, run, source.name)}{pair}-"

    def get(self, part: int) -> Found | None:
        """What an interrupted run found, if it came so far. Raises ``Unavailable``."""
        key = self._key(part)
        try:
            return Found.decode(decode(key, self._store.get(key).body))
        except (NotFound, Corrupt, KeyError, TypeError, ValueError):
            return None  # it is compared again

    def keep(self, part: int, found: Found) -> None:
        """Raises ``Unavailable``, ``Unknown``."""
        self._store.put(self._key(part), encode(found.encode()))

    def _key(self, part: int) -> str:
        return f"{self._prefix}{part:02d}.json"


def parts_prefix(place: Place, run: str, name: str) -> str:
    """What the keys of a collection's parts begin with."""
    return f"{place.prefix('verify', 'parts', run)}{layout.h(name)}-"


def hashes_of(ids: Sequence[str]) -> Hashes:
    """These ids, each once."""
    return np.unique(hashed(ids))


def hashed(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The first 64 bits of each, (n,); some at a time, because in between each takes 50 bytes."""
    found = np.empty(len(ids), np.uint64)
    for start in range(0, len(ids), _PIECE):
        some = ids[start : start + _PIECE]
        found[start : start + len(some)] = id_hash(some)
    return found


def among(ids: Sequence[str], hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Which of ``ids`` are there, (n,)."""
    return np.isin(hashed(ids), hashes)

"""A view: one consistent state of a collection, and the answers that it gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chromalith.engine.part import Part
from chromalith.engine.search import search, select
from chromalith.errors import Corrupt, Unavailable
from chromalith.model.ids import DeltaId
from chromalith.model.manifest import Manifest, Quarantined
from chromalith.model.metadata import decode_metadata
from chromalith.store.cache import Swept

Result = TypeVar("Result")

FIELDS = ("embeddings", "documents", "uris", "metadatas", "distances")
_RESTARTS_MAX = 5


@dataclass(frozen=True, slots=True)
class Records:
    """Records that a view selected, as columns; ``None`` for a column that was not asked for.

    Attributes:
        ids: in the order of the answer.
        embeddings: float32, (n, dim).
        documents, uris: text, or ``None`` for a record that has none.
        metadatas: a dictionary, or ``None`` for a record that has none.
        distances: of a query only, ascending.
    """

    ids: list[str]
    embeddings: npt.NDArray[np.float32] | None = None
    documents: list[str | None] | None = None
    uris: list[str | None] | None = None
    metadatas: list[dict[str, Any] | None] | None = None
    distances: list[float] | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What a view is of: a version, the deltas laid over it, and the parts to search.

    ``parts`` is a function, because counting needs none of them: it hydrates, once. ``overlay_rows`` are live records that the deltas
    brought; ``published_us`` is when the version was published, by the store's clock.
    """

    manifest: Manifest
    space: str
    overlay: tuple[DeltaId, ...]
    count: Callable[[], int]
    parts: Callable[[], Sequence[Part]]
    dimension: int | None
    overlay_rows: Callable[[], int]
    published_us: int


Timed = Callable[[Callable[[], State]], AbstractContextManager[None]]
"""Around an answer; told how to get the state that it was taken from."""


class View:
    """One state of a collection. Immutable in what it shows, but for one case: if an object that it needs was swept before it was
    hydrated, it starts again from a state that is at least as new.

    Args:
        state: what to show.
        again: a newer state, read from the store; ``None`` where the state is pinned (an old version): then ``Swept`` is raised.
        explain: what to raise for an object that is damaged or missing.
        timed: around each answer of ``get`` and ``query``.
    """

    def __init__(
        self,
        state: State,
        again: Callable[[], State] | None = None,
        explain: Callable[[Corrupt], Corrupt] = lambda error: error,
        timed: Timed = lambda state: nullcontext(),
    ) -> None:
        self._state = state
        self._again = again
        self._explain = explain
        self._timed = timed

    @property
    def manifest(self) -> Manifest:
        """The version under the overlay."""
        return self._state.manifest

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """The deltas that could not be read, with the reason: they are kept, and not in the answers."""
        return self._state.manifest.quarantined

    @property
    def overlay(self) -> tuple[DeltaId, ...]:
        """The deltas laid over it, in order."""
        return self._state.overlay

    def count(self) -> int:
        """The number of live records."""
        return self._answer(lambda state: state.count())

    def dimension(self) -> int | None:
        """The dimension of the embeddings, ``None`` if there are no records."""
        return self._state.dimension

    def get(
        self,
        *,
        ids: Collection[str] | None = None,
        where: Any = None,
        where_document: Any = None,
        limit: int | None = None,
        offset: int = 0,
        include: Collection[str] = ("documents", "metadatas"),
    ) -> Records:
        """The records that have one of ``ids`` and pass both filters, in the order of their insertion, cut to ``[offset, offset + limit)``.

        ``include`` names columns of :class:`Records`. Raises ``Invalid`` for a wrong filter.
        """

        def answer(state: State) -> Records:
            parts = state.parts()
            found = select(parts, ids=ids, where=where, where_document=where_document, limit=limit, offset=offset)
            return _fetch(parts, found.parts, found.rows, include, None)

        with self._timed(lambda: self._state):
            return self._answer(answer)

    def query(
        self,
        embeddings: npt.NDArray[np.float32],
        n_results: int = 10,
        *,
        ids: Collection[str] | None = None,
        where: Any = None,
        where_document: Any = None,
        include: Collection[str] = ("documents", "metadatas", "distances"),
        exact: bool = False,
    ) -> list[Records]:
        """For each row of ``embeddings`` (float32, (q, dim)) the nearest records that pass, nearest first.

        Raises ``Invalid`` for a wrong dimension or filter.
        """

        def answer(state: State) -> list[Records]:
            parts = state.parts()
            answers = search(
                parts, embeddings, n_results, state.space, where=where, where_document=where_document, ids=ids, exact=exact
            )
            return [
                _fetch(
                    parts,
                    np.array([hit.part for hit in hits], np.int32),
                    np.array([hit.row for hit in hits], np.int64),
                    include,
                    [hit.distance for hit in hits],
                )
                for hits in answers
            ]

        with self._timed(lambda: self._state):
            return self._answer(answer)

    def _answer(self, answer: Callable[[State], Result]) -> Result:
        try:
            return self._answer_from_whole(answer)
        except Corrupt as error:
            explained = self._explain(error)
            if explained is error:
                raise
            raise explained from error

    def _answer_from_whole(self, answer: Callable[[State], Result]) -> Result:
        for _ in range(_RESTARTS_MAX):
            try:
                return answer(self._state)
            except Swept as error:
                if self._again is None:
                    raise
                overtaken, self._state = self._state, self._again()
                if self._state.manifest.key == overtaken.manifest.key:  # still the current version: nobody may have swept it
                    raise Corrupt(
                        f"what the current version names is missing: {error.message}",
                        hint="`chromalith snapshot list` shows the versions that are whole",
                        key=error.key,
                    ) from error
        raise Unavailable(
            "objects keep being swept before they are read", hint="lengthen the sweep's retention, or read with fewer at once"
        )


def _fetch(
    parts: Sequence[Part],
    origin: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    include: Collection[str],
    distances: list[float] | None,
) -> Records:
    def column(read: Callable[[Part], pa.Array]) -> list[Any]:
        result: list[Any] = [None] * len(rows)
        for position in np.unique(origin):
            at = np.flatnonzero(origin == position)
            array = read(parts[position])
            if len(at) < 32:  # ten hits: one by one is cheaper than a take
                for i, row in zip(at.tolist(), rows[at].tolist(), strict=True):
                    result[i] = array[row].as_py()
            else:
                for i, value in zip(at.tolist(), array.take(pa.array(rows[at])).to_pylist(), strict=True):
                    result[i] = value
        return result

    def embeddings() -> npt.NDArray[np.float32]:
        if len(rows) == 0:
            return np.empty((0, 0), np.float32)
        result = np.empty((len(rows), parts[origin[0]].dimension or 0), np.float32)
        for position in np.unique(origin):
            at = origin == position
            result[at] = parts[position].vectors()[rows[at]]
        return result

    return Records(
        ids=column(lambda part: part.ids()),
        embeddings=embeddings() if "embeddings" in include else None,
        documents=column(lambda part: part.documents()) if "documents" in include else None,
        uris=column(lambda part: part.uris()) if "uris" in include else None,
        metadatas=[decode_metadata(text) for text in column(lambda part: part.metadata())] if "metadatas" in include else None,
        distances=distances if "distances" in include else None,
    )

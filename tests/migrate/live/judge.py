"""From the diaries to what each record must be, and whether a side holds it. Nothing of the product decides here.

An acknowledged call happened, a failed one did not, an unknown one may have: so an id has a set of states it may be in. What a side holds
is read by a plain client of that side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.migrate.live import story
from tests.migrate.live.diary import ACKNOWLEDGED, FAILED, Told
from tests.migrate.live.story import State

from chromalith.model.checksum import Setsum, content_digest, embedding_digest
from chromalith.testing.reference import Row

COSINE_TOLERANCE = 1e-5
"""Stock Chroma keeps a cosine collection's embeddings normalised, and gives them back multiplied by their length."""
STATES_MAX = 64
PAGE = 1_000


@dataclass
class Possible:
    """The states that each own id of a process may be in, call by call."""

    states: dict[tuple[str, str], list[State]] = field(default_factory=dict)
    former: dict[tuple[str, str], list[State]] = field(default_factory=lambda: defaultdict(lambda: [None]))
    """All that it may ever have been."""

    def of(self, collection: str, record: str) -> list[State]:
        return self.states.get((collection, record), [None])

    def happened(self, told: Told, own: Iterable[str]) -> None:
        """A write ended. ``own``: the ids of this process; others are judged by :func:`last_of_shared`."""
        if told.outcome == FAILED:
            return
        call = told.call
        names = own if call.op == "delete_where" else [record for record in call.ids if not record.startswith("s-")]
        for record in names:
            before = self.of(call.collection, record)
            left = [story.after(state, call, record) for state in before]
            if told.outcome != ACKNOWLEDGED:
                left = before + left
            distinct = _distinct(left)
            assert len(distinct) <= STATES_MAX, "too many unknown outcomes to judge"
            if distinct != before:
                self.states[call.collection, record] = distinct
                self.former[call.collection, record] = _distinct(self.former[call.collection, record] + distinct)


def own_states(calls: Iterable[Told], process: int, pool: int) -> Possible:
    """What one process's ids may be after its calls."""
    own = story.own_ids(process, pool)
    possible = Possible()
    for told in calls:
        possible.happened(told, own)
    return possible


def last_of_shared(calls: Iterable[Told]) -> dict[tuple[str, str], list[State]]:
    """What each shared id may be: what the writes left that no acknowledged write came wholly after; what was there is overwritten."""
    by_id: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for told in calls:
        if told.outcome != FAILED:
            for record in told.call.ids:
                if record.startswith("s-"):
                    by_id[told.call.collection, record].append(told)
    found: dict[tuple[str, str], list[State]] = {}
    for (collection, record), writes in by_id.items():
        latest = max((told.start for told in writes if told.outcome == ACKNOWLEDGED), default=-1.0)
        last = [story.after(None, told.call, record) for told in writes if told.end > latest]
        acknowledged = any(told.outcome == ACKNOWLEDGED for told in writes)
        found[collection, record] = _distinct(last if acknowledged else [*last, None])
    return found


@dataclass
class Expected:
    """What a side must hold, by collection and id."""

    states: dict[tuple[str, str], list[State]]

    @classmethod
    def from_stories(cls, calls: Mapping[int, list[Told]], pool: int) -> Expected:
        """From the diaries of all processes."""
        states = last_of_shared(told for each in calls.values() for told in each)
        for process, each in calls.items():
            states |= own_states(each, process, pool).states
        return cls(states)

    def faults(self, side: str, collection: str, space: str, held: Mapping[str, Row]) -> list[str]:
        """What is wrong with what a side holds in a collection. Empty: nothing."""
        mine = {record: states for (name, record), states in self.states.items() if name == collection}
        found = [
            f"{side}: {collection}/{record} is there, and nobody wrote it" for record in held if record not in mine
        ]
        for record, states in mine.items():
            state = held.get(record)
            if not any(same(wanted, state, space) for wanted in states):
                found.append(f"{side}: {collection}/{record} must be one of {states}\n    and is {state}")
        return found


def held(client: Any, collection: str) -> dict[str, Row]:
    """What a side holds, by a client of that side alone."""
    opened = client.get_collection(collection, embedding_function=None)
    ids = opened.get(include=[])["ids"]
    assert len(ids) == len(set(ids)) == opened.count(), f"doubled or miscounted ids={len(ids)} count={opened.count()}"
    rows: dict[str, Row] = {}
    for start in range(0, len(ids), PAGE):
        part = opened.get(ids=ids[start : start + PAGE], include=["embeddings", "documents", "metadatas", "uris"])
        rows |= rows_of(part)
    return rows


def rows_of(found: Mapping[str, Any]) -> dict[str, Row]:
    """The records of an answer to ``get`` that includes everything."""
    columns = zip(found["ids"], found["embeddings"], found["documents"], found["uris"], found["metadatas"], strict=True)
    return {
        record: Row(
            0, tuple(np.asarray(embedding, np.float32).tolist()), document, uri, dict(metadata) if metadata else None
        )
        for record, embedding, document, uri, metadata in columns
    }


def same(wanted: State, found: State, space: str) -> bool:
    """Whether two states are the same: values with their types, embeddings to the bit unless the collection is cosine."""
    if wanted is None or found is None:
        return wanted is found
    if (wanted.document, wanted.uri, typed(wanted.metadata)) != (found.document, found.uri, typed(found.metadata)):
        return False
    if space == "cosine":
        return bool(np.allclose(wanted.embedding, found.embedding, rtol=0, atol=COSINE_TOLERANCE))
    return wanted.embedding == found.embedding


def typed(value: Any) -> Any:
    """A metadata value with its type, so that 1, 1.0 and true differ."""
    if isinstance(value, Mapping):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [typed(inner) for inner in value]
    return (type(value).__name__, value)


def checksums(rows: Mapping[str, Row], space: str) -> tuple[Setsum, Setsum | None]:
    """Content, and embeddings unless they are compared with a tolerance."""
    content = [content_digest(record, row.document, row.uri, row.metadata) for record, row in rows.items()]
    vectors = [embedding_digest(record, np.array(row.embedding, np.float32)) for record, row in rows.items()]
    return _sum(content), None if space == "cosine" else _sum(vectors)


def unequal(source: Mapping[str, Row], target: Mapping[str, Row], collection: str, space: str) -> list[str]:
    """Where two sides differ: by checksum, and record by record."""
    found = [
        f"{collection}/{record} source={source.get(record)}\n    target={target.get(record)}"
        for record in sorted(source.keys() | target.keys())
        if not same(source.get(record), target.get(record), space)
    ]
    if not found and checksums(source, space) != checksums(target, space):
        found.append(f"{collection}: the checksums differ, and no record does")
    return found


def _sum(digests: list[bytes]) -> Setsum:
    return Setsum.of(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))


def _distinct(states: Iterable[State]) -> list[State]:
    return list({_key(state): state for state in states}.values())


def _key(state: State) -> object:
    if state is None:
        return None
    metadata = repr(sorted(typed(state.metadata).items())) if state.metadata else None
    return state.embedding, state.document, state.uri, metadata

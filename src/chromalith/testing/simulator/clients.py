"""Actors that write and read, as applications do: a few ids, every operation, retried calls, every read level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chromalith.clock import Chance
from chromalith.errors import NotFound, Unavailable, Unknown
from chromalith.model.ids import CollectionId
from chromalith.read.reader import ReadLevel
from chromalith.read.view import View
from chromalith.session import Session
from chromalith.testing.checkers.reads import check_read
from chromalith.testing.history import READING, SECOND_US, Answer, History, Read, Write
from chromalith.testing.reference import Change, Row
from chromalith.testing.simulator.process import Machine
from chromalith.testing.simulator.schedule import Life

FEW, MANY = tuple("abc"), tuple("abcdefgh")
"""Ids that are fought for, and ids enough for segments of several rows."""

ATTEMPTS = 3
"""How often a call with a ``call_id`` is made again before its caller lets it be."""


@dataclass(slots=True)
class Shared:
    """What the clients of one history share: the collection, the record, and their settings.

    Attributes:
        ids: the ids that they write.
        blind: only operations that do not depend on what was there.
        named: the probability that a call has a ``call_id``.
        staleness_s: how old an answer of the lagging levels may be.
        levels: the levels of reads.
        tokens: whether some reads wait for a write of another process.
    """

    cid: CollectionId
    history: History
    ids: tuple[str, ...] = FEW
    blind: bool = False
    named: float = 0.3
    staleness_s: float = 30.0
    levels: tuple[ReadLevel, ...] = (ReadLevel.INDEX_AND_WAL,)
    tokens: bool = False


@dataclass(slots=True)
class Client:
    """Writes and reads, in a mix, until its steps are used up.

    Attributes:
        steps: how many calls it makes in all its lives.
        writes: the share of writes among them.
        rest_s: how long at most it rests before each call.
    """

    name: str
    machine: Machine
    shared: Shared
    chance: Chance
    steps: int
    writes: float
    rest_s: float = 0.0
    retrying: Write | None = None
    """A call with a ``call_id`` that has had no answer yet: the next life makes it again."""

    def live(self, life: Life) -> None:
        with self.machine.session(life) as session:
            visit = _Visit(self, life, session)
            if self.retrying is not None:
                visit.write(self.retrying)
            while self.steps > 0:
                self.steps -= 1
                if self.rest_s:
                    life.sleep(self.chance.uniform(0.0, self.rest_s))
                if self.chance.random() < self.writes:
                    visit.write(None)
                else:
                    visit.read()


@dataclass(slots=True)
class _Visit:
    """One life's session, and what it has seen."""

    client: Client
    life: Life
    session: Session
    own: list[str] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def write(self, again: Write | None) -> None:
        client, shared = self.client, self.client.shared
        write = again
        if write is None:
            number = len(shared.history.writes)
            named = f"call-{number}" if client.chance.random() < shared.named else None
            changes = _changes(client.chance, shared, number)
            write = shared.history.begin_write(self.life.name, changes, named, self.life.schedule.now_us, frozenset(self.seen))
        write.process = self.life.name
        for attempt in range(ATTEMPTS if write.call_id is not None else 1):
            client.retrying = write if write.call_id is not None else None
            self.life.call = write
            try:
                receipt = self.session.writer.write(shared.cid, write.changes[0].op, **_columns(write.changes), call_id=write.call_id)
            except Unavailable:
                write.answer = Answer.UNKNOWN if attempt or again is not None else Answer.REFUSED
            except Unknown:
                write.answer = Answer.UNKNOWN
            except NotFound as error:  # a delta that has landed by then stands in a collection that nobody opens any more
                write.answer = Answer.UNKNOWN
                client.machine.ledger.must_be_gone(error)
            else:
                write.answer, write.delta, write.end_us = Answer.ACKNOWLEDGED, str(receipt.delta), self.life.schedule.now_us
                self.own.append(write.delta)
                break
            finally:
                self.life.call = None
        client.retrying = None

    def read(self) -> None:
        client, shared, life = self.client, self.client.shared, self.life
        level = shared.levels[client.chance.randrange(len(shared.levels))]
        start_us, own = life.schedule.now_us, tuple(self.own)
        token = self._token()
        life.call = READING
        try:
            view = self.session.view(shared.cid, level, after=token and f"{shared.cid}:{token}", timeout_s=5.0)
            rows, count = answered(view)
        except Unavailable:
            return
        except NotFound as error:
            client.machine.ledger.must_be_gone(error)
            return
        finally:
            life.call = None
        if token is not None:
            self.session.order_after(f"{shared.cid}:{token}")
            self.seen.update(write.number for write in shared.history.writes if write.delta == token)
        staleness_us = 0 if level is ReadLevel.INDEX_AND_WAL else round(shared.staleness_s * SECOND_US)
        read = Read(
            life.name, level, staleness_us, start_us, life.schedule.now_us, rows, count,
            view.manifest.version, tuple(str(delta) for delta in view.overlay), own, token,
        )  # fmt: skip
        check_read(client.machine.ledger, shared.history, read)
        shared.history.reads.append(read)
        if level is ReadLevel.INDEX_AND_WAL:
            self._note(read)

    def _token(self) -> str | None:
        """A write that was acknowledged to somebody, to wait for; sometimes."""
        client = self.client
        known = [write.delta for write in client.shared.history.writes if write.delta is not None]
        return client.chance.choice(known) if client.shared.tokens and known and client.chance.random() < 0.5 else None

    def _note(self, read: Read) -> None:
        """Remember which writes this process has seen: what it writes next comes after them."""
        ledger = self.client.machine.ledger
        overlaid = {ledger.deltas[delta].call for delta in read.overlay}
        for landed in ledger.deltas.values():
            if landed.write is not None and (landed.call in overlaid or ledger.knows(ledger.versions[read.version].manifest, landed)):
                self.seen.add(landed.write.number)


def answered(view: View) -> tuple[dict[str, Row], int]:
    """Everything that a view answers: its rows in their order, and its count."""
    count = view.count()
    found = view.get(include=("documents", "metadatas", "uris", "embeddings"))
    assert found.documents is not None
    assert found.metadatas is not None
    assert found.uris is not None
    assert found.embeddings is not None
    rows = {}
    for at, record_id in enumerate(found.ids):
        values = tuple(found.embeddings[at].tolist())
        rows[record_id] = Row(0, values, found.documents[at], found.uris[at], found.metadatas[at])
    assert len(rows) == len(found.ids), found.ids
    return rows, count


def _changes(chance: Chance, shared: Shared, number: int) -> tuple[Change, ...]:
    """A call that nobody else makes: its values carry its number."""
    op = chance.choice(("upsert", "upsert", "delete") if shared.blind else ("add", "update", "upsert", "upsert", "delete"))
    ids = chance.sample(shared.ids, chance.choice((1, 1, 2)))
    if op == "delete":
        return tuple(Change(op, record_id) for record_id in ids)
    if shared.blind:
        return tuple(Change(op, each, (float(number), 1.0), f"d{number}", f"u{number}", {"k": number}) for each in ids)
    whole = op in ("add", "upsert")
    removing = {f"k{number % 3}": number, "k": None} if op != "add" else {"j": number}
    metadata = chance.choice(({"k": number}, removing, None))
    changed = chance.choice((True, whole))
    return tuple(
        Change(op, each, (float(number), 0.0) if whole or changed else None, f"d{number}", f"u{number}" if changed else None, metadata)
        for each in ids
    )


def _columns(changes: tuple[Change, ...]) -> Mapping[str, Any]:
    """The call's arguments."""
    columns: dict[str, Any] = {"ids": [change.id for change in changes]}
    if changes[0].embedding is not None:
        columns["embeddings"] = np.array([change.embedding for change in changes], np.float32)
    given: dict[str, list[Any]] = {
        "documents": [change.document for change in changes],
        "uris": [change.uri for change in changes],
        "metadatas": [change.metadata for change in changes],
    }
    return columns | {argument: values for argument, values in given.items() if any(value is not None for value in values)}

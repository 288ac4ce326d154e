"""Writing a delta: the path of every add, update, upsert and delete.

1. Validate, and encode. Whatever is wrong with the call is said before anything is written.
2. If the collection has no dimension yet, fix it (one conditional write, once in a collection's life): *before* the first delta.
3. Put the delta, ``Absent``, and at the same time ask whether the collection still exists (a conditional GET of its object).
   The answer *must* be "not deleted" before the call is acknowledged: else a write could be acknowledged into a collection that is gone.
4. Acknowledge.

So a call is one PUT and one conditional GET, whatever the number of writers; none waits for another, for a lease or for the compactor.

A lost reply is resolved by reading back the same key, and a retry uses *the same key and bytes*. A writer that has to give up puts a *void*
delta at that key if it is absent: whichever of the two wins decides whether the call happened. Only if even that can't be done
is the ending ``Unknown``.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from chromalith.clock import Clock
from chromalith.coord.collections import Collections
from chromalith.errors import Invalid, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.delta import VOID, encode_delta
from chromalith.model.ids import (
    COUNTER_MAX,
    HLC_LOGICAL_BITS,
    WRITER_DIGITS,
    CollectionId,
    DeltaId,
    body_digest,
    call_writer,
    hlc_tick,
)
from chromalith.model.operation import OP_BY_LABEL, Operations
from chromalith.model.session_token import SessionToken
from chromalith.observe.events import DeltaWritten
from chromalith.observe.hooks import Observer, silent, together
from chromalith.store.port import Absent, Store
from chromalith.store.readback import Overtaken, put_resolved
from chromalith.threads import NewExecutor
from chromalith.write.validate import operations

CLOCK_AHEAD_US_MAX = 86_400_000_000  # a day: more than clocks differ that anybody set
OWN_WRITES_MAX = 10_000  # remembered a collection; more than a compactor leaves waiting, and under 2 MB


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an acknowledged call returns.

    Attributes:
        collection: the collection's id.
        delta: the id of the delta that carries the call.
        rows: how many operations it has.
        bytes: the size of the delta.
    """

    collection: CollectionId
    delta: DeltaId
    rows: int
    bytes: int

    @property
    def token(self) -> str:
        """The session token: another process can wait for what this call wrote."""
        return str(SessionToken(self.collection, self.delta))


class OwnWrites:
    """The deltas that this process wrote and has not yet seen folded: a process always sees its own writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deltas: dict[CollectionId, deque[DeltaId]] = {}
        self._last: dict[CollectionId, DeltaId] = {}

    def note(self, cid: CollectionId, delta: DeltaId) -> None:
        """Remember an acknowledged write."""
        with self._lock:
            self._last[cid] = delta
            self._deltas.setdefault(cid, deque(maxlen=OWN_WRITES_MAX)).append(delta)

    def pending(self, cid: CollectionId) -> list[DeltaId]:
        """Those that :meth:`forget` has not been told of, oldest first."""
        with self._lock:
            return list(self._deltas.get(cid, ()))

    def last(self, cid: CollectionId) -> DeltaId | None:
        """The one that was acknowledged last, folded or not."""
        return self._last.get(cid)

    def forget(self, cid: CollectionId, folded: set[DeltaId]) -> None:
        """Drop what was seen in a snapshot."""
        with self._lock:
            held = self._deltas.get(cid)
            if held is not None:
                self._deltas[cid] = deque((d for d in held if d not in folded), maxlen=OWN_WRITES_MAX)


class DeltaWriter:
    """Writes deltas to the collections of one store. Safe to share between threads, not between processes.

    Args:
        store: where they go.
        collections: what is known of the collections (their dimension, and whether they still exist).
        clock: time and chance.
        own: where acknowledged writes are noted for this process's readers.
        executor: where threads come from.
        observe: told of each acknowledged call.
    """

    def __init__(
        self,
        store: Store,
        collections: Collections,
        clock: Clock,
        own: OwnWrites | None = None,
        *,
        executor: NewExecutor = ThreadPoolExecutor,
        observe: Observer = silent,
    ) -> None:
        self._store = store
        self._collections = collections
        self._clock = clock
        self._own = own or OwnWrites()
        self._observe = together(observe)
        self._writer = clock.random_hex(WRITER_DIGITS)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._hlc = 0
        self._counter = 0
        self._beside = executor(32, "chromalith-write")  # threads start on demand; each only waits for a GET

    def write(
        self,
        cid: CollectionId,
        op: str,
        ids: Sequence[str],
        embeddings: Any = None,
        documents: Sequence[str | None] | None = None,
        uris: Sequence[str | None] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        call_id: str | None = None,
    ) -> Receipt:
        """One atomic call: all its rows become visible together.

        Args:
            cid: the collection.
            op: ``add``, ``update``, ``upsert`` or ``delete``.
            ids, embeddings, documents, uris, metadatas: see :func:`chromalith.write.validate.operations`.
            call_id: a name for this call; calls of the same name are one call, however often they are retried, by whichever process.

        Raises:
            Invalid: the call is wrong; nothing was written.
            NotFound: there is no such collection (any more).
            Unavailable: the store failed, and the call certainly did not happen.
            Unknown: the store failed so that it can't be told whether the call happened.
        """
        known = self._collections.known(cid)
        fresh = known is None
        collection = self._collections.check_alive(cid) if known is None else known
        batch = operations(OP_BY_LABEL[op], ids, embeddings, documents, uris, metadatas, dimension=collection.dimension)
        if batch.dimension is not None and collection.dimension is None:
            self._collections.fix_dimension(cid, batch.dimension)
        return self.put(cid, batch, call_id=call_id, collection_is_fresh=fresh)

    def put(
        self, cid: CollectionId, batch: Operations, *, call_id: str | None = None, collection_is_fresh: bool = False
    ) -> Receipt:
        """Write operations that are already validated. Raises as :meth:`write`."""
        body = encode_delta(cid, batch)
        delta = self._next_id(body, call_id)
        key = layout.delta_key(cid, delta)
        if collection_is_fresh:
            self._put(key, body, named=call_id is not None)
        elif self._store.settle_s > 0:  # a remote store: hide one request behind the other
            alive = self._beside.submit(self._collections.check_alive, cid)
            try:
                self._put(key, body, named=call_id is not None)
            finally:
                alive_error = alive.exception()
            if isinstance(alive_error, NotFound):  # whatever is in it now goes with it
                raise alive_error
            if alive_error is not None:  # the delta is there, but it was not seen that the collection is
                raise _cannot_tell(key, alive_error) from alive_error
        else:
            self._collections.check_alive(cid)
            self._put(key, body, named=call_id is not None)
        self._own.note(cid, delta)
        self._observe(DeltaWritten(cid, delta, len(batch), len(body)))
        return Receipt(cid, delta, len(batch), len(body))

    def saw(self, hlc: int) -> bool:
        """Order what is written from now on behind a delta with this clock reading, as far as the store's time leaves it open.

        Without this, two writers whose clocks differ could change places within one tick of the store's clock, although the
        second had read what the first wrote. A reading from a clock that is days ahead is not followed: it would never end.
        Returns whether it was.
        """
        with self._lock:
            near = hlc <= (self._clock.now_us() + CLOCK_AHEAD_US_MAX) << HLC_LOGICAL_BITS
            if near:
                self._hlc = max(self._hlc, hlc)
            return near

    def _next_id(self, body: bytes, call_id: str | None) -> DeltaId:
        if os.getpid() != self._process:
            raise Invalid("a writer was used in a forked process", hint="open a Writer in each process; start workers with spawn")
        with self._lock:
            self._hlc = hlc_tick(self._hlc, self._clock.now_us())
            if call_id is not None:
                return DeltaId(self._hlc, call_writer(call_id), 0, body_digest(body))
            if self._counter > COUNTER_MAX:
                self._writer, self._counter = self._clock.random_hex(WRITER_DIGITS), 0
            counter, self._counter = self._counter, self._counter + 1
            return DeltaId(self._hlc, self._writer, counter, body_digest(body))

    def _put(self, key: str, body: bytes, *, named: bool) -> None:
        try:
            put_resolved(self._store, key, body, Absent(), clock=self._clock)
        except Unknown as error:  # Unavailable would be certain: nothing was, or will be, applied
            if named:
                # A void delta would carry the same (writer, counter) as the retry that the call_id invites, and come first in
                # the order: the retry would be taken for its duplicate. And it is not needed: repeating is safe.
                raise _cannot_tell(key, error) from error
            self._give_up(key, body, error)

    def _give_up(self, key: str, body: bytes, cause: Exception) -> None:
        """Settle whether a call happened whose PUT may or may not land: take its key, or find the delta there."""
        try:
            put_resolved(self._store, key, VOID, Absent(), clock=self._clock)
        except Overtaken as error:
            if error.current is not None and error.current.body == body:
                return  # it had landed: the call happened
            raise _cannot_tell(key, cause) from cause
        except (Unknown, Unavailable, Invalid):  # Invalid: credentials that ended meanwhile
            raise _cannot_tell(key, cause) from cause
        raise Unavailable("the store failed; the call did not happen", hint="try again") from cause

    def close(self) -> None:
        """Stop the threads."""
        self._beside.shutdown(wait=False)


def _cannot_tell(key: str, cause: BaseException) -> Unknown:
    return Unknown(
        f"it can't be told whether the call happened key={key}: {getattr(cause, 'message', cause)}",
        hint="give the call a call_id: then it can be repeated until it is answered, and counts once",
    )

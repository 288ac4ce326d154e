"""Reading: from what the store has to a view. A read never writes to the store.

At the default level, in this order:

1. *List the deltas first, then read the pointer.* The other way round, a fold and the prompt sweep between the two requests would hide
   deltas that are in neither. On a remote store the two run in parallel, which is right only if both ended well within the sweep's
   grace by this process's own monotonic clock; if not, they are repeated in order.
2. Load the manifest if it is new.
3. Lay the listed deltas that are not in its folded set over it, in the protocol's order (extending the overlay of the last read).
4. Hydrate on need, and answer.

A 404 on something that a manifest or a listing named means that a sweep overtook this read: it starts again.

Levels, by Chroma's names: ``INDEX_AND_WAL`` (default) sees every write that was acknowledged before the read began;
``INDEX_AND_BOUNDED_WAL`` answers from the last such state if it is at most ``max_staleness_s`` old, without a request;
``INDEX_ONLY`` answers from the snapshot alone, and looks for a newer one at most every ``max_staleness_s``. Whatever the level, a process
sees its own writes: while one of them is not folded, the default level is used.

Invariants: the version that a reader shows never falls; a state is immutable once it is shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache as once

import numpy as np
import numpy.typing as npt

from chromalith.clock import Clock
from chromalith.coord.collections import Collections
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.history import was_swept
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import Pointer, read_manifest, read_pointer, read_pointer_if_changed
from chromalith.coord.whole import naming_the_whole, naming_what_is_whole
from chromalith.engine.part import MaskedPart, Part
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId, DeltaId, JobId
from chromalith.model.manifest import Manifest, Segment
from chromalith.model.order import Listed, pending
from chromalith.model.segment import decode_deletes
from chromalith.model.session_token import SessionToken
from chromalith.observe.hooks import Observer, silent, together
from chromalith.read.delta_cache import DELTA_CACHE_BYTES_MAX, DeltaCache
from chromalith.read.hydrated import HydratedSegment
from chromalith.read.overlay import Overlay, extend
from chromalith.read.overlay_parts import OverlayParts
from chromalith.read.stopwatch import Stopwatch
from chromalith.read.telling import Telling
from chromalith.read.view import State, View
from chromalith.read.waiting import DEFAULT_TIMEOUT_S, is_seen, wait_until_seen
from chromalith.store.cache import Cache, Swept
from chromalith.store.port import Store
from chromalith.threads import NewExecutor

SWEEP_GRACE_S = 60.0
PARALLEL_READ_MAX_S = SWEEP_GRACE_S / 2
DEFAULT_STALENESS_S = 300.0  # the guide's five-minute cache
_RESTARTS_MAX = 5
_IS_IT_THERE = "wait for longer, and look whether the token is of this store; writes are remembered for 30 days"

NO_ROWS: npt.NDArray[np.uint32] = np.empty(0, np.uint32)


class ReadLevel(StrEnum):
    """How fresh an answer must be. The names are Chroma's."""

    INDEX_AND_WAL = "INDEX_AND_WAL"
    INDEX_AND_BOUNDED_WAL = "INDEX_AND_BOUNDED_WAL"
    INDEX_ONLY = "INDEX_ONLY"


@dataclass(slots=True)
class _Held:
    """What a reader holds of one collection. Guarded by ``lock``."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pointer: Pointer | None = None
    manifest: Manifest | None = None
    folded: Folded | None = None  # the manifest's, with its older parts
    overlay: Overlay = field(default_factory=Overlay)
    on_top: OverlayParts = field(default_factory=OverlayParts)
    full: State | None = None  # with the overlay
    full_at_s: float = 0.0  # when the requests behind it began, on the monotonic clock
    snapshot: State | None = None  # without
    snapshot_at_s: float = 0.0
    segments: dict[JobId, HydratedSegment] = field(default_factory=dict)
    deletes: dict[JobId, npt.NDArray[np.uint32]] = field(default_factory=dict)


class CollectionReader:
    """Views of the collections of one store. Safe to share between threads.

    Args:
        store: where they are.
        collections: what is known of the collections (their space).
        cache: where segments are hydrated to.
        clock: monotonic time.
        pending, forget: this process's own writes to a collection that it has not seen folded; and how to say that they were.
        saw: told the latest clock reading among listed deltas, so that what this process writes next is ordered behind what it read.
        executor: where threads come from.
        observe: told of each answer.
    """

    def __init__(
        self,
        store: Store,
        collections: Collections,
        cache: Cache,
        clock: Clock,
        *,
        pending: Callable[[CollectionId], Sequence[DeltaId]] = lambda cid: (),
        forget: Callable[[CollectionId, set[DeltaId]], None] = lambda cid, folded: None,
        saw: Callable[[int], object] = lambda hlc: None,
        executor: NewExecutor = ThreadPoolExecutor,
        observe: Observer = silent,
    ) -> None:
        self._store = store
        self._collections = collections
        self._cache = cache
        self._clock = clock
        self._pending = pending
        self._forget = forget
        self._saw = saw
        self._observe = None if observe is silent else together(observe)
        self._guard = threading.Lock()
        self._held: dict[CollectionId, _Held] = {}
        self._telling = Telling()
        self._pool = executor(16, "chromalith-read")
        self._deltas = DeltaCache(store, DELTA_CACHE_BYTES_MAX)
        self._parts = FoldedParts(cache.body)

    def view(
        self, cid: CollectionId, *, level: ReadLevel = ReadLevel.INDEX_AND_WAL, max_staleness_s: float = DEFAULT_STALENESS_S
    ) -> View:
        """A state of the collection that is as fresh as ``level`` asks.

        Raises:
            NotFound: the collection does not exist (any more).
            Corrupt: a delta or a manifest is damaged, or the pointer of an existing collection is gone.
            Invalid: something was written by a newer release.
            Unavailable: the store can't be read.
        """
        watch = self._watch(cid)
        with naming_what_is_whole(self._store, cid), watch.opening():
            state = self._state(cid, level, max_staleness_s)
        return self._view(cid, state, watch)

    def view_after(
        self,
        cid: CollectionId,
        token: SessionToken,
        *,
        level: ReadLevel = ReadLevel.INDEX_AND_WAL,
        max_staleness_s: float = DEFAULT_STALENESS_S,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> View:
        """As :meth:`view`, of a state that has what a session token stands for (:mod:`chromalith.read.waiting`).

        What this process writes from now on is ordered behind it.

        Raises, besides what ``view`` does:
            Invalid: the token is of another collection.
            Unavailable: it was not seen within ``timeout_s``.
            Conflict: a restore set it aside.
            NotFound: it stands for no operation.
            Corrupt: it is quarantined.
        """
        if token.collection != cid:
            raise Invalid(f"the session token is of another collection token={token} collection={cid}", hint="read that collection")
        self._saw(token.delta.hlc)

        def seen_in(state: State) -> bool:
            try:
                return is_seen(token, state, Folded(state.manifest, self._parts), lambda delta: self._deltas.is_void(cid, delta))
            except Swept:
                return False  # a newer version knows

        watch = self._watch(cid)

        def look(anew: bool) -> State:
            with watch.opening():
                return self._state(cid, level, max_staleness_s, anew=anew)

        hint = "run `chromalith compact`, or read at INDEX_AND_WAL" if level is ReadLevel.INDEX_ONLY else _IS_IT_THERE
        state = wait_until_seen(token, look, seen_in, self._clock, timeout_s=timeout_s, hint=hint)
        return self._view(cid, state, watch)

    def view_of(self, manifest: Manifest) -> View:
        """A pinned, read-only view of one version, without an overlay. It raises ``NotFound`` once the version is swept."""

        def gone() -> State:
            raise was_swept(self._store, manifest)

        held = self._hold(manifest.collection)
        self._telling.quarantined(manifest)
        nothing = Overlay(next_seq=manifest.next_seq, dimension=manifest.dimension)
        cid = manifest.collection
        state = self._state_of(manifest, nothing, held, self._space(cid))
        return self._view(cid, state, self._watch(cid), gone)

    def _watch(self, cid: CollectionId) -> Stopwatch:
        return Stopwatch(cid, self._observe, self._clock, self._cache.fetching_s)

    def _view(self, cid: CollectionId, state: State, watch: Stopwatch, again: Callable[[], State] | None = None) -> View:
        return View(
            state,
            again or (lambda: self._refresh(cid, force=True)),
            lambda error: naming_the_whole(self._store, cid, error),
            watch.answering,
        )

    def _state(self, cid: CollectionId, level: ReadLevel, max_staleness_s: float, *, anew: bool = False) -> State:
        """A state at ``level``; ``anew``: asked of the store now, however young the held one is."""
        held = self._hold(cid)
        now = self._clock.monotonic_s()
        if level is ReadLevel.INDEX_AND_WAL or not self._own_writes_in(cid, held, level):
            return self._refresh(cid)
        if level is ReadLevel.INDEX_AND_BOUNDED_WAL:
            fresh = held.full is not None and now - held.full_at_s <= max_staleness_s and not anew
            return held.full if fresh and held.full is not None else self._refresh(cid)
        missing: str | None = None
        with held.lock:
            for attempt in range(_RESTARTS_MAX):
                if held.snapshot is not None and now - held.snapshot_at_s <= max_staleness_s and not anew:
                    return held.snapshot
                try:
                    self._advance(cid, held, self._read_pointer(cid, held, whole=attempt > 0))
                    held.snapshot_at_s, anew = now, False
                except Swept as error:
                    missing = error.key
        raise _missing(cid, missing)

    def _own_writes_in(self, cid: CollectionId, held: _Held, level: ReadLevel) -> bool:
        """Whether every write of this process is in what ``level`` would answer from."""
        pending = self._pending(cid)
        if not pending:
            return True
        state = held.full if level is ReadLevel.INDEX_AND_BOUNDED_WAL else held.snapshot
        if state is None:
            return False
        overlay = set(state.overlay)
        waiting = [delta for delta in pending if delta not in overlay]
        try:
            runs = Folded(state.manifest, self._parts).find_all(waiting)
        except Swept:
            return False  # a refresh starts again from the current version
        seen = {delta for delta, run in zip(waiting, runs, strict=True) if run is not None}
        if seen:
            self._forget(cid, seen)
        return len(seen) == len(waiting)

    # -- the default level ---------------------------------------------------------------------------------------------

    def _refresh(self, cid: CollectionId, *, force: bool = False) -> State:
        """The newest state. Concurrent callers share one whose requests began after they came."""
        held = self._hold(cid)
        came_s = self._clock.monotonic_s()
        with held.lock:
            if not force and held.full is not None and held.full_at_s > came_s:
                return held.full
            missing: str | None = None
            for attempt in range(_RESTARTS_MAX):
                began_s = self._clock.monotonic_s()
                try:
                    listed, pointer = self._list_then_pointer(cid, held, whole=force or attempt > 0)
                    self._saw(max((delta.id.hlc for delta in listed), default=0))
                    self._advance(cid, held, pointer)
                    held.full = self._lay_over(cid, held, listed)
                except Swept as error:
                    missing = error.key
                    continue
                held.full_at_s = held.snapshot_at_s = began_s
                return held.full
        raise _missing(cid, missing)

    def _list_then_pointer(self, cid: CollectionId, held: _Held, *, whole: bool) -> tuple[list[Listed], Pointer]:
        if self._store.settle_s > 0:  # remote: the requests' latency is worth a thread
            began_s = self._clock.monotonic_s()
            pointer = self._pool.submit(self._read_pointer, cid, held, whole=whole)
            listed = list_deltas(self._store, cid)
            found = pointer.result()
            if self._clock.monotonic_s() - began_s <= PARALLEL_READ_MAX_S:
                return listed, found
        listed = list_deltas(self._store, cid)
        return listed, self._read_pointer(cid, held, whole=whole)

    def _read_pointer(self, cid: CollectionId, held: _Held, *, whole: bool = False) -> Pointer:
        if held.pointer is None:
            self._collections.known(cid) or self._collections.get(cid)  # a collection that never was: NotFound, not Corrupt
        if held.pointer is None or whole:
            return read_pointer(self._store, cid)
        return read_pointer_if_changed(self._store, cid, held.pointer)

    def _advance(self, cid: CollectionId, held: _Held, pointer: Pointer) -> None:
        """Load the manifest that ``pointer`` names, if it is another than the held one."""
        if held.manifest is not None and held.pointer is not None and pointer.manifest_key == held.pointer.manifest_key:
            held.pointer = pointer
            return
        try:
            manifest = read_manifest(self._store, pointer.manifest_key)
        except NotFound as error:
            raise Swept(f"the manifest was swept key={pointer.manifest_key}", key=pointer.manifest_key) from error
        # Whatever can fail comes first. Half advanced, the next read would find the pointer unchanged, and show the old state as new.
        space = self._space(cid)
        held.pointer, held.manifest, held.folded = pointer, manifest, Folded(manifest, self._parts)
        self._telling.quarantined(manifest)
        held.overlay = Overlay(next_seq=manifest.next_seq, dimension=manifest.dimension)
        held.on_top = OverlayParts()
        held.full = None
        kept = {segment.id for segment in manifest.segments}
        held.segments = {job: hydrated for job, hydrated in held.segments.items() if job in kept}
        named = {segment.deletes.id for segment in manifest.segments if segment.deletes is not None}
        held.deletes = {job: rows for job, rows in held.deletes.items() if job in named}
        held.snapshot = self._state_of(manifest, held.overlay, held, space)

    def _lay_over(self, cid: CollectionId, held: _Held, listed: Sequence[Listed]) -> State:
        manifest = held.manifest
        if manifest is None or held.folded is None:
            raise Corrupt(f"no manifest was loaded collection={cid}")
        quarantined = {q.delta for q in manifest.quarantined}
        wanted = [delta.id for delta in pending(listed, held.folded, quarantined)]
        if held.full is not None and held.full.overlay == tuple(wanted):
            return held.full
        space = self._space(cid)
        overlay = held.overlay if held.overlay.extends(wanted) else Overlay(next_seq=manifest.next_seq, dimension=manifest.dimension)
        new = self._deltas.read(cid, wanted[len(overlay.deltas) :], self._pool)
        segments = [self._hydrated(held, cid, segment) for segment in manifest.segments]
        deletes = [self._dead_rows(held, cid, segment) for segment in manifest.segments] if new else []
        held.overlay = extend(overlay, [(delta.id, delta.operations) for delta in new], segments, deletes) if new else overlay
        return self._state_of(manifest, held.overlay, held, space)

    # -- states --------------------------------------------------------------------------------------------------------

    def _state_of(self, manifest: Manifest, overlay: Overlay, held: _Held, space: str) -> State:
        cid = manifest.collection
        on_top = held.on_top

        @once
        def parts() -> Sequence[Part]:
            result: list[Part] = []
            for position, segment in enumerate(manifest.segments):
                part: Part = self._hydrated(held, cid, segment)
                dead = self._dead_rows(held, cid, segment)
                superseded = overlay.superseded.get(position)
                if len(dead) or superseded:
                    live = np.ones(segment.rows, np.bool_)
                    live[dead] = False
                    live[list(superseded or ())] = False
                    part = MaskedPart(part, live)
                result.append(part)
            return [*result, *on_top.of(overlay.records)]

        @once
        def overlay_rows() -> int:
            return sum(record is not None for record in overlay.records.values())

        def count() -> int:
            superseded = sum(len(rows) for rows in overlay.superseded.values())
            return manifest.live - superseded + overlay_rows()

        pointer = held.pointer  # for a pinned version, it names another one, or was not read
        current = pointer is not None and pointer.manifest_key == manifest.key
        published_us = pointer.modified_us if pointer is not None and current else manifest.created_us
        dimension = overlay.dimension or manifest.dimension
        return State(manifest, space, overlay.deltas, once(count), parts, dimension, overlay_rows, published_us)

    def _hold(self, cid: CollectionId) -> _Held:
        with self._guard:
            return self._held.setdefault(cid, _Held())

    def _space(self, cid: CollectionId) -> str:
        return (self._collections.known(cid) or self._collections.get(cid)).space

    def _hydrated(self, held: _Held, cid: CollectionId, segment: Segment) -> HydratedSegment:
        found = held.segments.get(segment.id)
        if found is None:
            found = held.segments.setdefault(segment.id, HydratedSegment(self._cache, cid, segment, self._space(cid)))
        return found

    def _dead_rows(self, held: _Held, cid: CollectionId, segment: Segment) -> npt.NDArray[np.uint32]:
        ref = segment.deletes
        if ref is None:
            return NO_ROWS
        rows = held.deletes.get(ref.id)  # once: another thread may drop it at any moment
        if rows is None:
            key = layout.deletes_key(cid, segment.id, ref.id)
            rows = held.deletes.setdefault(ref.id, decode_deletes(self._cache.body(key, ref.file), key))
        return rows

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False)


def _missing(cid: CollectionId, key: str | None) -> Corrupt:
    return Corrupt(
        f"what the current version names is missing collection={cid}" + ("" if key is None else f" key={key}"),
        hint="`chromalith snapshot list` shows the versions that are whole",
        key=key,
    )

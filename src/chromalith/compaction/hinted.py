"""Compaction by hints: from a batch of a queue's messages to those that may be deleted from it.

A hint says where to look, never what to do: each collection that a hint names is compacted as ever, by LIST, once for all of its
hints. So a hint that is lost, doubled, late, invented or in another order changes nothing of what is stored. docs/protocol.md, section 12:

1. Decode. What is no hint has failed, and keeps nobody waiting: the queue delivers it again, and at last to its dead-letter queue.
2. Wait until the youngest delta that is told of has settled, by its own id; then, for each collection, ``run_once``.
3. *Then* read the pointer. A hint is *done* if its delta is in the folded set (folded, void, set aside), or is quarantined; if it is not
   in the store; or if its collection is gone. So what somebody else folded is done, and a message is deleted only after a publish.
4. What is not done waits for ``settle_s``, or for who holds the lease, as long as there is time: again from 2 for what is left.
5. What is not done in the end has failed, with the reason, and comes again.

Crash anywhere: messages come again when their visibility time is over, and are found to be done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from chromalith.clock import Clock
from chromalith.compaction.compactor import Compactor
from chromalith.compaction.outcome import Outcome
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import read_current
from chromalith.errors import ChromalithError, Conflict, Invalid, LeaseHeld, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.hint import Hint
from chromalith.model.ids import HLC_LOGICAL_BITS, CollectionId, DeltaId
from chromalith.store.cache import Swept
from chromalith.store.port import Store

MESSAGES_MAX = 10_000
"""In one call; Lambda hands over at most as many."""
PATIENCE_S = 120.0
"""How long at most one call waits between its rounds: a dead holder's lease takes 30 s; who is at work for longer is left to it."""
PAUSE_S = 1.0
TICK_S = 1.0
"""Of a remote store's clock: its timestamps are whole seconds."""
ERRORS_MAX = 3
"""Rounds in which one collection may fail before it is left to the next delivery."""

NO_TIME = "there was no time for it"
NOT_YET = "its delta could not be folded yet"

_PASSING = (Conflict, LeaseHeld, Unavailable, Unknown, Swept)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Consumed:
    """What became of a batch.

    Attributes:
        done: ids of the messages that may be deleted.
        failed: ids of those that must come again, with the reason.
        outcomes: what was done to each collection that was compacted.
    """

    done: tuple[str, ...]
    failed: dict[str, str]
    outcomes: list[Outcome]


@dataclass(slots=True)
class _Told:
    """What the messages say of one collection."""

    messages: dict[DeltaId, list[str]] = field(default_factory=dict)
    outcome: Outcome | None = None
    errors: int = 0
    reason: str = NO_TIME
    hopeless: bool = False


def consume(
    messages: Iterable[tuple[str, str]],
    compactor: Compactor,
    store: Store,
    clock: Clock,
    *,
    time_left: Callable[[], float],
    patience_s: float = PATIENCE_S,
) -> Consumed:
    """Compact what a batch of messages tells of.

    Args:
        messages: ids and bodies, at most 10,000; an id that comes twice is one message.
        compactor, store, clock: of the store that the hints are of; share the compactor between calls.
        time_left: seconds until this call must have ended; infinite where nothing ends it.
        patience_s: for how long at most to wait for what others do, and for deltas to settle.

    Raises ``Invalid`` for too many messages, and nothing else: what goes wrong with one collection is said of its messages.
    """
    failed: dict[str, str] = {}
    told, done = _decoded(messages, failed), list[str]()
    parts = FoldedParts.from_store(store)  # of all rounds: an older part of a folded set is read once
    stop_s = clock.monotonic_s() + patience_s
    young_s = _until_settled(told, store, clock)
    if 0 < young_s < time_left():
        clock.sleep(young_s)
    left = dict(told)
    while left:
        for cid in list(left):
            if time_left() <= 0:
                break
            done += _round(cid, left[cid], compactor, store, parts, time_left)
            if left[cid].hopeless or not left[cid].messages:
                del left[cid]
        rest_s = min(time_left(), stop_s - clock.monotonic_s())
        if not left or rest_s <= 0:
            break
        clock.sleep(min(PAUSE_S, rest_s))
    for each in told.values():
        failed |= {message: each.reason for ids in each.messages.values() for message in ids}
    return Consumed(tuple(done), failed, [each.outcome for each in told.values() if each.outcome is not None])


def _until_settled(told: Mapping[CollectionId, _Told], store: Store, clock: Clock) -> float:
    """How long to wait before the first round, so that it can fold all that is told of; at most ``settle_s`` and a tick.

    Without this each round of a batch that is still settling would publish a version of its own, of the deltas of one more second.
    The ids carry their writers' clocks, so this only saves work.
    """
    youngest_us = max((delta.hlc >> HLC_LOGICAL_BITS for each in told.values() for delta in each.messages), default=0)
    if store.settle_s <= 0:
        return 0.0
    longest_s = store.settle_s + TICK_S
    return min(longest_s, max(0.0, (youngest_us - clock.now_us()) / 1e6 + longest_s))


def _decoded(messages: Iterable[tuple[str, str]], failed: dict[str, str]) -> dict[CollectionId, _Told]:
    bodies = dict(messages)
    if len(bodies) > MESSAGES_MAX:
        raise Invalid(f"too many messages at once messages={len(bodies)} limit={MESSAGES_MAX}", hint="take smaller batches")
    told: dict[CollectionId, _Told] = {}
    for message, body in bodies.items():
        try:
            hint = Hint.decode(body)
        except Invalid as error:
            failed[message] = error.message
        else:
            told.setdefault(hint.collection, _Told()).messages.setdefault(hint.delta, []).append(message)
    return told


def _round(
    cid: CollectionId, told: _Told, compactor: Compactor, store: Store, parts: FoldedParts, time_left: Callable[[], float]
) -> list[str]:
    """Compact one collection, and see what is done. Returns messages, and takes them out of ``told``; raises nothing."""
    try:
        try:
            outcome = compactor.run_once(cid)
            told.outcome = outcome if told.outcome is None else told.outcome.then(outcome)
            told.reason, told.hopeless = _why(outcome), outcome.out_of_time
        except NotFound:  # the look below says whether the collection is gone
            told.reason = NOT_YET
        except Exception as error:  # whatever it is, it is this collection's: the others go on
            _failed(told, error)
        settled = _settled(store, cid, list(told.messages), parts, time_left)
    except Exception as error:
        _failed(told, error)
        return []
    return [message for delta in settled for message in told.messages.pop(delta)]


def _settled(
    store: Store, cid: CollectionId, deltas: list[DeltaId], parts: FoldedParts, time_left: Callable[[], float]
) -> list[DeltaId]:
    """Those of which there is nothing more to do."""
    try:
        manifest = read_current(store, cid).manifest
    except NotFound:
        return deltas  # the collection is gone, with all that was told of it
    runs = Folded(manifest, parts).find_all(deltas)
    quarantined = {each.delta for each in manifest.quarantined}
    settled = [delta for delta, run in zip(deltas, runs, strict=True) if run is not None or str(delta) in quarantined]
    rest = set(deltas).difference(settled)
    if rest:
        rest -= {each.id for each in list_deltas(store, cid)}
    for delta in rest:  # a listing may lag behind: only the object itself says that it is not there
        if time_left() <= 0:
            break
        try:
            store.head(layout.delta_key(cid, delta))
        except NotFound:
            settled.append(delta)
    return settled


def _why(outcome: Outcome) -> str:
    if outcome.out_of_time:
        return NO_TIME
    if outcome.held_by is not None:
        return f"somebody else has the lease owner={outcome.held_by.owner}"
    return NOT_YET


def _failed(told: _Told, error: Exception) -> None:
    told.errors += 1
    told.reason = error.message if isinstance(error, ChromalithError) else f"{type(error).__name__}: {error}"
    told.hopeless = not isinstance(error, _PASSING) or told.errors >= ERRORS_MAX
    if not isinstance(error, ChromalithError):
        _log.error("a compaction failed for a reason that nobody foresaw", exc_info=error)

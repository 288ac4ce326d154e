"""What a history begins from: an empty collection, one with a past, one whose past was written in an older format.

Building a past takes longer than many a history, so each is built once a process, calmly and from its own seed, and
copied. The ledger has its entries from the beginning.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from chromalith.clock import Chance, ManualClock
from chromalith.compaction.compactor import CompactionSettings
from chromalith.coord.catalog import Catalog
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import decode_manifest
from chromalith.model.plan import MergePolicy
from chromalith.testing.checkers.ledger import Ledger
from chromalith.testing.history import SECOND_US, History
from chromalith.testing.remote_like import RemoteLikeStore, whole_seconds
from chromalith.testing.simulator.clients import FEW, MANY, Client, Shared
from chromalith.testing.simulator.process import Machine
from chromalith.testing.simulator.schedule import Schedule
from chromalith.testing.simulator.weather import CALM
from chromalith.testing.simulator.workers import CompactorActor

BEGIN_US = 1_700_000_000 * SECOND_US
NEVER = 1_000_000_000


class Base(StrEnum):
    """The kinds of beginnings."""

    EMPTY = "empty"
    """A collection that nothing was ever written to."""
    PAST = "past"
    """Two segments, one of them with dead rows, and a delta that waits."""
    WIDE = "wide"
    """Four segments with dead rows, and three deltas that wait: work for folds and merges at once."""
    FORMAT_1 = "format-1"
    """``PAST``, with its manifests as the release before wrote them."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A store and its ledger at the moment when a history begins."""

    store: RemoteLikeStore
    ledger: Ledger
    history: History
    now_us: int

    @property
    def cid(self) -> CollectionId:
        return self.ledger.cid

    def copy(self) -> Beginning:
        """One that may be worked on."""
        store = self.store.copy_of(ManualClock())
        history = History(list(self.history.writes), list(self.history.reads))
        return replace(self, store=store, ledger=self.ledger.copy_of(store.objects), history=history)


def lagging_stamp(schedule: Schedule, settle_s: float) -> int:
    """The store's timestamp of an object that is being written now.

    Of a remote store, a whole second between the request and its effect, at most one before the effect; of a store that does not lag, now.
    """
    if settle_s == 0:
        return schedule.now_us
    earliest = max(schedule.issued_us, schedule.now_us - SECOND_US)
    return whole_seconds(schedule.chance.randint(earliest, schedule.now_us))


def beginning(base: Base, settle_s: float) -> Beginning:
    """A fresh copy of a beginning."""
    return _built(base, settle_s).copy()


@lru_cache
def _built(base: Base, settle_s: float) -> Beginning:
    clock = ManualClock(BEGIN_US, seed=1)
    store = RemoteLikeStore(clock, settle_s=settle_s)
    cid = Catalog(store, clock).create("default_tenant", "default_database", "words", configuration={"hnsw": {"space": "l2"}}).collection.id
    ledger = Ledger(cid, store.objects, grace_s=60)
    ledger.put(store.objects[layout.pointer_key(cid)], BEGIN_US, None)
    history = History()
    schedule = Schedule(f"base/{base}", CALM, BEGIN_US)
    store.stamp = lambda: lagging_stamp(schedule, settle_s)
    if base is not Base.EMPTY:
        with tempfile.TemporaryDirectory(prefix="chromalith-simulator-") as directory:
            machine = Machine(store, ledger, Path(directory), attempts=1)
            shared = Shared(cid, history, MANY if base is Base.WIDE else FEW, named=0.0)
            *folded, waiting = (2, 2, 2, 2, 3) if base is Base.WIDE else (3, 2, 1)
            settings = CompactionSettings(merge=MergePolicy(fan_in=NEVER, rows_floor=NEVER, deleted_fraction_max=1))
            for at, calls in enumerate(folded):
                schedule.run([Client(f"past-{at}", machine, shared, Chance(f"{base}/{at}"), calls, writes=1.0)])
                schedule.now_us += 10 * SECOND_US
                schedule.run([CompactorActor(f"folder-{at}", machine, cid, 1, settings)])
            schedule.run([Client("past", machine, shared, Chance("past"), waiting, writes=1.0)])
    if base is Base.FORMAT_1:
        _as_format_1(store, ledger)
    return Beginning(store, ledger, history, schedule.now_us + 100 * SECOND_US)


def _as_format_1(store: RemoteLikeStore, ledger: Ledger) -> None:
    """Rewrite every manifest as the release of format 1 would have written it, and take away what that release did not write."""
    for at, version in enumerate(ledger.versions):
        found = store.objects[version.manifest.key]
        value = json.loads(found.body)
        kept = {name: value[name] for name in FORMAT_1_FIELDS}
        store.objects[found.key] = replace(found, body=_sealed({**kept, "format": 1}))
        ledger.versions[at] = replace(version, manifest=decode_manifest(store.objects[found.key].body, found.key))
    for page in list(store.list(layout.buckets_prefix(ledger.cid))):
        for entry in page:
            store.delete(entry.key)


FORMAT_1_FIELDS = (
    "collection", "version", "parent", "write_id", "kind", "created_us", "boundary", "horizon", "next_seq", "dimension", "segments",
    "live", "bytes", "content", "embedding", "quarantined", "folded", "published",
)  # fmt: skip


def _sealed(value: dict[str, object]) -> bytes:
    def canonical(value: object) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    return canonical({**value, "sha256": hashlib.sha256(canonical(value)).hexdigest()})



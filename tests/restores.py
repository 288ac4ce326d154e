"""What the tests of restores share: a world with something to undo, and the account of every acknowledged write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.worlds import World, merging

from chromalith.compaction.compactor import CompactionSettings
from chromalith.compaction.restore import Restorer
from chromalith.compaction.unapplied import list_aside
from chromalith.coord.listing import list_deltas
from chromalith.model.delta import decode_delta
from chromalith.model.folded import State
from chromalith.model.retention import Retention
from chromalith.store.port import Store
from chromalith.write.writer import DeltaWriter, Receipt

SHORT = Retention(keep_versions=1, keep_age_s=0, job_grace_s=0)
"""A sweep that keeps what it must: the current version, and what tags hold."""

FIRST = {"a": "1", "b": "1"}
"""The documents of version 1."""
BEFORE = {"a": "1", "b": "2", "c": "2", "d": "3"}
"""Those that a read shows before a restore: version 2, and a delta on top."""


class Recorded(World):
    """A world that remembers every acknowledged write."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.receipts: list[Receipt] = []

    def upsert(self, ids: Any, value: float = 0.0, writer: DeltaWriter | None = None, **columns: Any) -> Receipt:
        receipt = super().upsert(ids, value, writer, **columns)
        self.receipts.append(receipt)
        return receipt


def with_history() -> World:
    """Versions 1 to 3, an hour apart, in which ``a`` says their number."""
    world = World()
    for value in (1, 2, 3):
        world.clock.advance(3_600)
        world.upsert("a", value)
        world.compact()
    return world


def prepared(settings: CompactionSettings | None = None) -> Recorded:
    """Version 1 with ``a`` and ``b``; version 2 with a change and ``c``; and a pending delta with ``d``."""
    world = Recorded(settings=settings)
    fold_only = replace(world.settings, merge=World().settings.merge)
    world.upsert("ab", 1)
    world.compactor(settings=fold_only).run_once(world.cid)
    world.clock.advance(100)
    world.compactor(settings=fold_only).run_once(world.cid)  # its object goes
    world.upsert("bc", 2)
    world.compactor(settings=fold_only).run_once(world.cid)
    world.upsert("d", 3)
    assert world.documents() == BEFORE
    assert world.current().version == 2
    return world


def prepared_to_merge() -> Recorded:
    """The same, where every compaction merges."""
    return prepared(merging())


def restorer(world: World, store: Store | None = None) -> Restorer:
    """Who restores, in a process of its own."""
    return Restorer(store or world.store, world.clock, world.writer(store).put)


def accounted(world: Recorded) -> None:
    """Every acknowledged delta was folded by a published version, is pending, or is listed as set aside, whole."""
    manifest = world.current()
    listed = {delta.id for delta in list_deltas(world.store, world.cid)}
    aside = {each.id: each for each, _ in list_aside(world.store, world.cid, {ref.id for ref in manifest.aside})}
    for receipt in world.receipts:
        run = manifest.folded.find(receipt.delta)
        if run is None:
            assert receipt.delta in listed, receipt
        elif run.state is State.ASIDE:
            body = world.store.get(aside[receipt.delta].key).body
            assert decode_delta(world.cid, receipt.delta, body).operations is not None

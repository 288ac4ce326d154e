"""A million deltas of 100,000 writers in 30 days: what the folded set costs in the manifest, in parts and in bytes written.

`make test` takes a fifth of the writers; `make scale` takes all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from chromalith.clock import ManualClock
from chromalith.compaction.folded_writer import FoldedWriter
from chromalith.compaction.next_version import child_of
from chromalith.coord.folded_parts import Folded, FoldedParts, check_remembered
from chromalith.coord.pointer import Current, Pointer, publish_version_zero
from chromalith.model.folded import DAY_US, INLINE_BYTES_MAX, State
from chromalith.model.folded_part import FoldedPart, together
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.model.manifest import Manifest, encode_manifest
from chromalith.store.memory import MemoryStore

ONLY_WHEN_ASKED = pytest.mark.skipif("'slow' not in config.option.markexpr", reason="long: make scale")
CID = CollectionId("00000000-0000-0000-0000-000000000001")
DELTAS_EACH, DAYS, FOLD = 10, 30, 1_000
PARTS_BYTES_MAX = 3_000_000
WRITTEN_BYTES_MAX = 150_000_000  # 150 bytes a delta, of which the smallest has over 1,000


@dataclass(slots=True)
class History:
    """The folds of a history, by the function that every fold calls, on a store in memory."""

    clock: ManualClock
    store: MemoryStore
    parts: FoldedParts
    current: Current
    written_bytes: int = 0
    parts_bytes_max: int = 0
    parts_max: int = 0

    def fold(self, deltas: list[DeltaId]) -> None:
        """One fold, and what it costs."""
        date_us = self.clock.now_us()
        parent = self.current.manifest
        child = child_of(self.current, self.clock, "fold", date_us, deltas)
        writer = FoldedWriter(self.store, self.clock, self.parts)
        child = writer.remember(child, [(delta, State.FOLDED) for delta in deltas], listed=deltas)
        assert child.folded.json_bytes <= INLINE_BYTES_MAX
        new = [ref for ref in child.folded_parts if ref not in parent.folded_parts]
        self.written_bytes += sum(ref.file.size for ref in new)
        if new:
            check_remembered(parent, child, self.parts)
        self.parts_bytes_max = max(self.parts_bytes_max, sum(ref.file.size for ref in child.folded_parts))
        self.parts_max = max(self.parts_max, len(child.folded_parts))
        self.current = Current(Pointer(child.key, "", date_us), child)


def begin() -> History:
    clock = ManualClock()
    store = MemoryStore(clock)
    zero: Manifest = publish_version_zero(store, CID, clock)
    return History(clock, store, FoldedParts.from_store(store), Current(Pointer(zero.key, "", clock.now_us()), zero))


@pytest.mark.parametrize(
    "writers",
    [
        pytest.param(20_000, id="short"),
        pytest.param(100_000, id="full", marks=[pytest.mark.slow, ONLY_WHEN_ASKED]),
    ],
)
def test_deltas_of_very_many_writers(writers: int) -> None:
    """At most 256 KiB inline and 3 MB in parts at any moment; every delta is remembered, from the stored objects too."""
    history = begin()
    chance = np.random.default_rng(3)
    names = [chance.bytes(16).hex() for _ in range(writers)]
    counters = [0] * writers
    order = chance.permutation(np.repeat(np.arange(writers), DELTAS_EACH)).tolist()
    folds = len(order) // FOLD
    for position in range(folds):
        deltas = []
        for writer in order[position * FOLD : (position + 1) * FOLD]:
            deltas.append(DeltaId(7, names[writer], counters[writer], "0" * 16))
            counters[writer] += 1
        history.fold(deltas)
        history.clock.advance(DAYS * DAY_US / 1e6 / folds)
    manifest = history.current.manifest
    print(
        f"parts {history.parts_max}, {history.parts_bytes_max:,} bytes at most;"
        f" {history.written_bytes:,} bytes written for parts; manifest {len(encode_manifest(manifest)):,} bytes"
    )
    assert history.parts_bytes_max <= PARTS_BYTES_MAX
    assert history.written_bytes <= WRITTEN_BYTES_MAX
    assert len(encode_manifest(manifest)) <= INLINE_BYTES_MAX + 8_192
    stored = FoldedParts.from_store(history.store)
    runs = together([FoldedPart.of(manifest.folded), *(stored.get(CID, ref) for ref in manifest.folded_parts)])
    assert int((runs.stop - runs.start).sum()) == writers * DELTAS_EACH, "disjoint, and so many: each delta once"
    asked = [DeltaId(7, name, counter, "0" * 16) for name in names[::20] for counter in range(DELTAS_EACH + 1)]
    found = Folded(manifest, stored).find_all(asked)
    assert all((run is not None) is (delta.counter < DELTAS_EACH) for delta, run in zip(asked, found, strict=True))

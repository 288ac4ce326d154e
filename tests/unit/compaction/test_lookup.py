"""Lookups find what is there, by ranges, and never answer from damaged bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chromalith.clock import ManualClock
from chromalith.compaction import lookup as lookup_module
from chromalith.compaction.lookup import SegmentLookup
from chromalith.compaction.segment_writer import SegmentWriter
from chromalith.errors import Corrupt, NotFound, Unavailable
from chromalith.model import layout
from chromalith.model import segment as segment_module
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import TAIL_BYTES, FileRef, Segment
from chromalith.model.record import Record
from chromalith.model.segment import id_hash, segment_table
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Fault, FaultyStore, at_verb

CID = CollectionId("00000000-0000-4000-8000-000000000001")


def record(number: int) -> Record:
    vector = np.array([number, -number, 0.5], np.float32)
    return Record(f"id-{number}", number + 1, vector, f"text {number}", None, f'{{"n":{number}}}')


def written(rows: int) -> tuple[MemoryStore, Segment]:
    clock = ManualClock()
    store = MemoryStore(clock)
    return store, SegmentWriter(store, CID, clock, "l2").segment(0, segment_table([record(i) for i in range(rows)]))


def look_up(store: Any, segment: Segment, ids: list[str], dead: tuple[int, ...] = ()) -> tuple[dict[str, Any], list[Record]]:
    lookup = SegmentLookup(store, CID, 3, segment, np.array(dead, np.uint32))
    found = lookup.find(ids)
    return found, lookup.records([where.row for where in found.values()])


def test_every_id_is_found_over_many_row_groups() -> None:
    """In a segment of several row groups, whose hashes span all 64 bits, each id leads to its own row, and no other id to any."""
    store, segment = written(2_500)
    ids = [f"id-{i}" for i in range(2_500)]
    assert int(id_hash(ids).max()) > 2**63
    found, records = look_up(store, segment, [*ids, "absent", "id-", "id-9999"])
    assert set(found) == set(ids)
    assert [r.id for r in records] == ids
    assert all(where.segment == 3 and where.seq == where.row + 1 for where in found.values())
    assert [r.document for r in records] == [f"text {i}" for i in range(2_500)]


def test_a_lookup_of_few_reads_little() -> None:
    """A lookup of one id in a segment of several row groups reads no more than the footer and one group."""
    store, segment = written(2_500)
    seen: list[int] = []

    class Seeing(FaultyStore):
        def get_range(self, key: str, start: int, stop: int) -> bytes:
            seen.append(stop - start)
            return super().get_range(key, start, stop)

    found, records = look_up(Seeing(store, lambda call: None, ManualClock()), segment, ["id-7"])
    assert (list(found), records[0].document) == (["id-7"], "text 7")
    assert sum(seen) < sum(ref.size for ref in segment.files.values()) * 0.8


def test_dead_rows_are_not_found() -> None:
    """A row in the deletes is not there."""
    store, segment = written(10)
    found, _ = look_up(store, segment, ["id-3", "id-4", "id-9"], dead=(0, 4, 9))
    assert list(found) == ["id-3"]


def test_two_ids_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids whose 64-bit hashes are equal are stored and found each for itself."""

    def collide(ids: Any) -> Any:
        return np.array([int(text[3:]) % 3 + 2**63 for text in ids], np.uint64)

    monkeypatch.setattr(segment_module, "id_hash", collide)
    monkeypatch.setattr(lookup_module, "id_hash", collide)
    store, segment = written(30)
    found, records = look_up(store, segment, [f"id-{i}" for i in range(0, 40, 2)])
    assert sorted(found) == sorted(f"id-{i}" for i in range(0, 30, 2))
    assert {r.id for r in records} == set(found)
    assert all(where.row == int(record_id[3:]) for record_id, where in found.items())


@pytest.mark.parametrize("rows", [40, 2_500])
@pytest.mark.parametrize("name", [layout.RECORDS_FILE, layout.IDS_FILE])
def test_a_changed_byte_is_found_or_does_not_matter(name: str, rows: int) -> None:
    """Whichever byte of a file is changed, its footer's too, a lookup says ``Corrupt`` with the key, or answers as before."""
    store, segment = written(rows)
    ids = [f"id-{i}" for i in range(0, rows + 20, rows // 8)]
    expected = answer(look_up(store, segment, ids))
    key = layout.segment_file_key(CID, segment.id, name)
    whole = store.get(key).body
    assert (len(whole) > TAIL_BYTES) is (rows > 40)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    found = 0
    offsets = list(range(0, len(whole), 11) if rows == 40 else range(4, footer, footer // 200))
    offsets += range(footer, len(whole), (len(whole) - footer) // 50)
    for at in offsets:
        store.put(key, whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :])
        try:
            assert answer(look_up(store, segment, ids)) == expected, at
        except Corrupt as error:
            assert key in str(error)
            found += 1
    assert found > len(offsets) / 10


def test_altered_statistics_hide_no_id() -> None:
    """The statistics of a row group decide whether it is read at all: changed to exclude an id, they are found out, not believed."""
    store, segment = written(2_500)
    key = layout.segment_file_key(CID, segment.id, layout.IDS_FILE)
    whole = store.get(key).body
    greatest = max(int(id_hash([f"id-{i}"])[0]) for i in range(2_500)).to_bytes(8, "little")
    assert whole.count(greatest, len(whole) - TAIL_BYTES) >= 1
    at = whole.index(greatest, len(whole) - TAIL_BYTES)
    store.put(key, whole[:at] + bytes(8) + whole[at + 8 :])
    with pytest.raises(Corrupt, match=key):
        look_up(store, segment, ["id-1"])


def test_a_segment_of_an_older_release_is_looked_up_without_the_hash_of_its_tail() -> None:
    """Its manifest has none; the pages' checksums are checked as before."""
    store, segment = written(2_500)
    assert all(ref.tail is not None for ref in segment.files.values())
    older = replace(segment, files={name: FileRef(ref.size, ref.sha256) for name, ref in segment.files.items()})
    found, _ = look_up(store, older, ["id-1", "id-2499"])
    assert set(found) == {"id-1", "id-2499"}


@pytest.mark.parametrize("rows", [40, 2_500])
def test_a_file_that_was_cut_is_corrupt(rows: int) -> None:
    """Wherever a file was cut, the lookup says so with the key."""
    store, segment = written(rows)
    key = layout.segment_file_key(CID, segment.id, layout.IDS_FILE)
    whole = store.get(key).body
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        store.put(key, whole[:size])
        with pytest.raises(Corrupt, match=key):
            look_up(store, segment, ["id-1"])


@pytest.mark.parametrize("error", [NotFound, Unavailable])
def test_the_store_s_own_errors_come_through(error: type[Exception]) -> None:
    """What is missing is ``NotFound``, and a store that fails is ``Unavailable``: neither is damage."""
    inner, segment = written(2_500)
    store = FaultyStore(inner, at_verb("get_range", Fault.BEFORE), ManualClock())
    if error is NotFound:
        inner.delete(layout.segment_file_key(CID, segment.id, layout.IDS_FILE))
        store = FaultyStore(inner, lambda call: None, ManualClock())
    with pytest.raises(error):
        look_up(store, segment, ["id-1"])


def answer(found: tuple[dict[str, Any], list[Record]]) -> Any:
    return found[0], [(r.id, r.seq, r.embedding.tolist(), r.document, r.uri, r.metadata) for r in found[1]]

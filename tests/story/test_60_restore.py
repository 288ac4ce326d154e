"""A restore makes an older version's records current again, and loses nothing: what is undone is in a version, pending, or set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.restores import BEFORE, FIRST, SHORT, accounted, prepared, restorer
from tests.worlds import World, altered, documents, keys

from chromalith.compaction.restore import Restorer
from chromalith.compaction.sweep import run_sweep
from chromalith.compaction.unapplied import Status, drop, list_aside, release, replay_aside, stored_deltas
from chromalith.compaction.verify import verify
from chromalith.coord.history import kept_versions, manifest_at
from chromalith.coord.tags import put_tag, release_tag
from chromalith.errors import Conflict, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.folded import State
from chromalith.model.ids import DeltaId
from chromalith.store.port import Entry, Store
from chromalith.store.wrappers import DelegatingStore


def test_the_records_of_the_version_are_current_again() -> None:
    """The new version has the restored one's segments and checksums, and the current folded set and sequence numbers."""
    with prepared() as world:
        parent, target = world.current(), manifest_at(world.store, world.cid, 1)
        done = restorer(world).run(world.cid, 1)
        new = world.current()
        assert (done.version, new.kind, new.version) == (3, "restore", 3)
        assert world.documents() == FIRST
        assert (new.segments, new.content, new.embedding, new.buckets) == (
            target.segments, target.content, target.embedding, target.buckets
        )  # fmt: skip
        assert (new.next_seq, new.boundary, new.horizon) == (parent.next_seq, parent.boundary, parent.horizon)
        assert new.restores == ((3, 1),)
        verify(world.store, world.cid)


def test_what_is_undone_is_set_aside_in_order() -> None:
    """Pending deltas, and folded ones whose objects are there, are copied in the protocol's order; only the pending ones change state."""
    with prepared() as world:
        done = restorer(world).run(world.cid, 1)
        assert [delta.id for delta in done.plan.aside] == [receipt.delta for receipt in world.receipts[1:]]
        assert done.plan.pending == {world.receipts[2].delta}
        copies = [each for each, _ in list_aside(world.store, world.cid, {world.current().aside[0].id})]
        assert [each.id for each in copies] == [delta.id for delta in done.plan.aside]
        assert [each.position for each in copies] == [0, 1]
        for each in copies:
            assert world.store.get(each.key).body == world.store.get(layout.delta_key(world.cid, each.id)).body
        folded = world.current().folded
        states = [run.state for receipt in world.receipts if (run := folded.find(receipt.delta)) is not None]
        assert states == [State.FOLDED, State.FOLDED, State.ASIDE]
        accounted(world)


def test_what_is_set_aside_stays_undone() -> None:
    """No later fold takes it, the prompt sweep deletes its object, a retry of its call changes nothing, and the copies stay."""
    with prepared() as world:
        call = world.writer().write(world.cid, "delete", ["a"], call_id="the call")
        restorer(world).run(world.cid, 1)
        world.clock.advance(100)
        world.compact()
        assert world.documents() == FIRST
        assert keys(world.store, layout.DELTA_ROOT) == []
        again = world.writer().write(world.cid, "delete", ["a"], call_id="the call")
        assert (again.delta.writer, again.delta.counter) == (call.delta.writer, call.delta.counter)
        world.compact()
        assert world.documents() == FIRST
        assert len(keys(world.store, layout.QUARANTINE_ROOT)) == 3
        accounted(world)


def test_later_writes_apply_to_the_restored_records() -> None:
    """What is written after a restore is shown on top of it, and gets sequence numbers that were never given out."""
    with prepared() as world:
        next_seq = world.current().next_seq
        restorer(world).run(world.cid, 1)
        world.upsert("cb", 7)
        assert world.documents() == {"a": "1", "b": "7", "c": "7"}
        world.compact()
        assert world.documents() == {"a": "1", "b": "7", "c": "7"}
        assert world.current().next_seq == next_seq + 1
        verify(world.store, world.cid)


class OvertakenReader(DelegatingStore):
    """A store that runs ``between`` once, after the first listing of the deltas was answered."""

    def __init__(self, inner: Store, between: Callable[[], object]) -> None:
        super().__init__(inner)
        self._between: Callable[[], object] | None = between

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        pages = list(self.inner.list(prefix, start_after=start_after))
        if prefix.startswith(layout.DELTA_ROOT) and self._between is not None:
            between, self._between = self._between, None
            between()
        yield from pages


def test_a_reader_that_listed_before_ignores_what_was_set_aside() -> None:
    """A read that lists, and then finds the restored version, shows that version and nothing of what it undid."""
    with prepared() as world:
        store = OvertakenReader(world.store, lambda: restorer(world).run(world.cid, 1))
        assert world.documents(store) == FIRST
        assert world.current().kind == "restore"


def test_restoring_forward_undoes_a_restore() -> None:
    """The versions that a restore passed over are still there: restoring the latest of them brings everything back that was folded."""
    with prepared() as world:
        world.compact()
        assert world.current().version == 3
        restorer(world).run(world.cid, 1)
        world.clock.advance(100)
        world.compact()
        done = restorer(world).run(world.cid, 3)
        assert world.documents() == BEFORE
        assert (done.plan.aside, done.plan.gone, done.restore) == ((), (), None)
        verify(world.store, world.cid)


def test_restoring_the_current_version_discards_what_is_pending() -> None:
    """It sets the pending deltas aside; where there are none, nothing is published."""
    with prepared() as world:
        assert restorer(world).run(world.cid, 2).version == 3
        assert world.documents() == {"a": "1", "b": "2", "c": "2"}
        objects = keys(world.store, layout.SNAPSHOT_ROOT)
        assert restorer(world).run(world.cid, 3).version is None
        assert keys(world.store, layout.SNAPSHOT_ROOT) == objects


def test_a_dry_run_writes_nothing() -> None:
    """Choosing says what would happen, and the store is as it was."""
    with prepared() as world:
        objects = [(key, world.store.head(key).etag) for key in keys(world.store)]
        plan = restorer(world).choose(world.cid, 1, replay=True)
        assert plan.replayable == [receipt.delta for receipt in world.receipts[1:]]
        assert [(key, world.store.head(key).etag) for key in keys(world.store)] == objects


def test_with_a_folded_set_in_parts() -> None:
    """What was folded since is found in older parts of the folded set, too, and what is set aside is remembered in one."""
    settings = replace(World().settings, folded_inline_bytes_max=0)
    with prepared(settings) as world:
        assert len(world.current().folded_parts) > 0
        assert len(world.current().folded) == 0
        restoring = Restorer(world.store, world.clock, world.writer().put, folded_inline_bytes_max=2)
        done = restoring.run(world.cid, 1)
        assert [delta.id for delta in done.plan.aside] == [receipt.delta for receipt in world.receipts[1:]]
        assert len(world.current().folded) == 0
        assert world.documents() == FIRST
        world.upsert("e", 5)
        world.compact()
        again = restoring.run(world.cid, 1, replay=True)
        assert again.plan.replayable == [world.receipts[-1].delta]
        assert world.documents() == FIRST | {"e": "5"}
        for _ in range(2):  # folds the replayed one, then deletes it
            world.clock.advance(200)
            world.compact()
            assert world.documents() == FIRST | {"e": "5"}
        with pytest.raises(NotFound, match="deltas=1"):
            restoring.run(world.cid, 1, replay=True)
        verify(world.store, world.cid)


def test_on_a_store_with_whole_seconds() -> None:
    """Copies are made side by side there, and what was set aside has the order that the timestamps do not tell."""
    with World(remote=True) as world:
        world.upsert("a", 0)
        world.clock.advance(10)
        world.compact()
        written = [world.upsert("a", value).delta for value in range(1, 20)]  # all in one second
        done = restorer(world).run(world.cid, 1)
        assert world.documents() == {"a": "0"}
        assert [delta.id for delta in done.plan.aside] == written
        aside = [each for each, _ in list_aside(world.store, world.cid, {ref.id for ref in world.current().aside})]
        assert [each.id for each in aside] == written
        replay_aside(world.store, world.cid, aside, world.writer().put)
        world.clock.advance(10)
        assert world.documents() == {"a": "19"}
        world.compact()
        assert world.documents() == {"a": "19"}


# -- replay ------------------------------------------------------------------------------------------------------------


def test_a_replay_applies_what_was_undone() -> None:
    """With replay, everything since is applied to the restored records as new deltas; what was excepted stays set aside."""
    with prepared() as world:
        done = restorer(world).run(world.cid, 1, replay=True)
        assert done.replayed is not None
        assert done.replayed.written == done.plan.replayable
        assert world.documents() == BEFORE
    with prepared() as world:
        bad = world.receipts[1].delta
        restorer(world).run(world.cid, 1, replay=True, excepted=[bad])
        assert world.documents() == {"a": "1", "b": "1", "d": "3"}
        world.clock.advance(100)
        world.compact()
        assert world.documents() == {"a": "1", "b": "1", "d": "3"}
        aside = {each.id: each for each in stored_deltas(world.store, world.cid) if each.status is Status.ASIDE}
        assert not aside[bad].replayed
        assert aside[world.receipts[2].delta].replayed
        accounted(world)


def test_a_replay_counts_once() -> None:
    """Replaying the same again, at any time, by anybody, changes nothing."""
    with prepared() as world:
        restorer(world).run(world.cid, 1, replay=True)
        aside = [each for each, _ in list_aside(world.store, world.cid, {ref.id for ref in world.current().aside})]
        world.clock.advance(100)
        world.compact()
        world.writer().write(world.cid, "delete", ["c", "d"])
        for _ in range(2):
            replay_aside(world.store, world.cid, aside, world.writer().put)
            assert world.documents() == {"a": "1", "b": "2"}
            world.compact()
            assert world.documents() == {"a": "1", "b": "2"}


def test_a_replay_refuses_if_a_delta_is_gone() -> None:
    """If a delta folded since has no object left, nothing is published or copied, and the error says what can be done instead."""
    with prepared() as world:
        world.clock.advance(100)
        world.compact()
        world.clock.advance(100)
        world.compact()
        before = keys(world.store)
        with pytest.raises(NotFound, match="deltas=2") as refused:
            restorer(world).run(world.cid, 1, replay=True)
        assert "without --replay" in (refused.value.hint or "")
        assert set(keys(world.store)) - {layout.date_key(world.cid)} <= set(before)
        done = restorer(world).run(world.cid, 1)
        assert sum(map(len, done.plan.gone)) == 2
        assert done.plan.certain
        assert world.documents() == FIRST
        accounted(world)


def test_a_gone_delta_can_be_excepted() -> None:
    """What has no object left can't be replayed, but a replay without it is possible."""
    with prepared() as world:
        world.clock.advance(100)
        world.compact(fold_grace_s=50)
        gone = world.receipts[1].delta
        assert str(gone) not in " ".join(keys(world.store, layout.DELTA_ROOT))
        with pytest.raises(NotFound, match="deltas=1"):
            restorer(world).run(world.cid, 1, replay=True)
        restorer(world).run(world.cid, 1, replay=True, excepted=[gone])
        assert world.documents() == {"a": "1", "b": "1", "d": "3"}


def test_exceptions_are_checked() -> None:
    """An excepted delta that would not be replayed anyway is a mistake in the call, and so are exceptions without a replay."""
    with prepared() as world:
        with pytest.raises(Invalid, match="not be replayed anyway"):
            restorer(world).run(world.cid, 1, replay=True, excepted=[world.receipts[0].delta])
        with pytest.raises(Invalid, match="not asked for"):
            restorer(world).run(world.cid, 1, excepted=[world.receipts[1].delta])
        assert world.current().version == 2


def test_a_second_restore_knows_what_the_first_undid() -> None:
    """What an earlier restore undid is neither replayed nor missed: only what the current records show can be undone."""
    with prepared() as world:
        restorer(world).run(world.cid, 1)
        world.clock.advance(100)
        world.compact()  # version 2's delta and the pending one lose their objects
        world.upsert("e", 5)
        world.compact()
        world.upsert("f", 6)
        done = restorer(world).run(world.cid, 1, replay=True)
        assert len(done.plan.replayable) == 2
        assert done.plan.gone == ()
        assert world.documents() == FIRST | {"e": "5", "f": "6"}


def test_a_corrupt_delta_does_not_stop_a_restore() -> None:
    """A pending delta that can't be read is set aside like any other; a replay says so, goes on, and leaves it there."""
    with prepared() as world:
        world.upsert("e", 4)
        altered(world.store, layout.delta_key(world.cid, world.receipts[2].delta), lambda body: body[:-9])
        done = restorer(world).run(world.cid, 1, replay=True)
        assert done.replayed is not None
        assert [delta for delta, _ in done.replayed.corrupt] == [world.receipts[2].delta]
        assert world.documents() == {"a": "1", "b": "2", "c": "2", "e": "4"}


# -- which versions ----------------------------------------------------------------------------------------------------


def test_a_swept_version_is_refused() -> None:
    """A version below the horizon can't be restored, also if its manifest is still there, and the error names the oldest that is kept."""
    with prepared() as world:
        world.compact()
        manifest = manifest_at(world.store, world.cid, 1)
        body = world.store.get(manifest.key).body
        run_sweep(world.store, world.clock, world.cid, SHORT)
        world.store.put(manifest.key, body)
        horizon = world.current().horizon
        with pytest.raises(NotFound) as refused:
            restorer(world).run(world.cid, 1)
        assert f"version {horizon}" in (refused.value.hint or "")


def test_a_tag_holds_a_version_below_the_horizon() -> None:
    """A tagged version outlives the sweeps, is listed, read and restored by its tag or number; after the untag it goes."""
    with prepared() as world:
        put_tag(world.store, world.clock, world.cid, "good", manifest_at(world.store, world.cid, 1))
        world.compact()
        run_sweep(world.store, world.clock, world.cid, SHORT)
        kept = kept_versions(world.store, world.cid)
        assert [(each.version, each.tags, each.by_tag) for each in kept][-1] == (1, ("good",), True)
        session = world.session()
        assert documents(session.reader.view_of(manifest_at(world.store, world.cid, 1))) == FIRST
        assert restorer(world).run(world.cid, "good").version is not None
        assert world.documents() == FIRST
        world.upsert("z", 1)
        world.compact()
        assert restorer(world).run(world.cid, 1).version is not None
        verify(world.store, world.cid)
        release_tag(world.store, world.clock, world.cid, "good")
        for _ in range(2):
            run_sweep(world.store, world.clock, world.cid, SHORT)
        assert all(each.version > 1 for each in kept_versions(world.store, world.cid))
        with pytest.raises(NotFound):
            restorer(world).run(world.cid, "good")
        verify(world.store, world.cid)
        assert world.documents() == FIRST


def test_an_unknown_version_is_refused() -> None:
    """A version that is not published yet is not found, nor is a tag that nobody wrote."""
    with prepared() as world:
        for to in (7, "nowhere"):
            with pytest.raises(NotFound):
                restorer(world).run(world.cid, to)


# -- what was set aside, and what is quarantined -----------------------------------------------------------------------


def test_dropping_what_was_set_aside() -> None:
    """A drop publishes a version without it; the sweep deletes the copies, and not before."""
    with prepared() as world:
        restorer(world).run(world.cid, 1)
        ref = world.current().aside[0]
        run_sweep(world.store, world.clock, world.cid, SHORT)
        assert len(keys(world.store, layout.QUARANTINE_ROOT)) == 2
        assert drop(world.store, world.clock, world.cid, restores=[ref.id]).aside == ()
        with pytest.raises(NotFound):
            drop(world.store, world.clock, world.cid, restores=[ref.id])
        for _ in range(2):
            world.clock.advance(100)
            run_sweep(world.store, world.clock, world.cid, SHORT)
        assert keys(world.store, layout.QUARANTINE_ROOT) == []
        assert world.documents() == FIRST


def quarantined(world: World) -> tuple[DeltaId, bytes]:
    """A delta that a fold found corrupt, and its good bytes."""
    receipt = world.upsert("q", 9)
    key = layout.delta_key(world.cid, receipt.delta)
    good = world.store.get(key).body
    altered(world.store, key, lambda body: body[:-9])
    world.compact()
    assert [each.delta for each in world.current().quarantined] == [str(receipt.delta)]
    return receipt.delta, good


def test_a_quarantined_delta_whose_bytes_are_good_again_is_folded() -> None:
    """While its bytes are bad, a replay says so and publishes nothing; when they were restored, it waits again, and is folded once."""
    with World() as world:
        delta, good = quarantined(world)
        version = world.current().version
        stored = [each for each in stored_deltas(world.store, world.cid) if each.status is Status.QUARANTINED]
        assert [each.id for each in release(world.store, world.clock, world.cid, stored).released] == []
        assert world.current().version == version
        world.store.put(layout.delta_key(world.cid, delta), good)
        assert release(world.store, world.clock, world.cid, stored).released == [delta]
        assert world.documents() == {"q": "9"}
        world.compact()
        assert world.documents() == {"q": "9"}
        assert world.current().quarantined == ()


def test_a_quarantined_call_that_was_retried_is_not_applied_twice() -> None:
    """If the call was repeated meanwhile, and folded, its quarantined delta is known when it is released."""
    with World() as world:
        writer = world.writer()
        first = writer.write(world.cid, "upsert", ["q"], [[1, 1, 1]], ["first"], call_id="c")
        key = layout.delta_key(world.cid, first.delta)
        good = world.store.get(key).body
        altered(world.store, key, lambda body: body[:-9])
        world.compact()
        world.clock.advance(1)
        writer.write(world.cid, "upsert", ["q"], [[1, 1, 1]], ["first"], call_id="c")
        world.compact()
        world.upsert("q", 5)
        world.compact()
        world.store.put(key, good)
        stored = [each for each in stored_deltas(world.store, world.cid) if each.status is Status.QUARANTINED]
        assert release(world.store, world.clock, world.cid, stored).already == [first.delta]
        world.compact()
        assert world.documents() == {"q": "5"}


def test_dropping_a_quarantined_delta() -> None:
    """It is given up: not applied when its bytes come back, and its object goes."""
    with World() as world:
        delta, good = quarantined(world)
        drop(world.store, world.clock, world.cid, quarantined=[delta])
        assert world.current().quarantined == ()
        world.store.put(layout.delta_key(world.cid, delta), good)
        assert world.documents() == {}
        world.clock.advance(200)
        world.compact()
        assert keys(world.store, layout.DELTA_ROOT) == []
        assert world.documents() == {}
        with pytest.raises(NotFound):
            drop(world.store, world.clock, world.cid, quarantined=[delta])


def test_a_quarantined_call_that_was_retried_and_waits_is_not_dropped() -> None:
    """To drop it would lose the retry, which was acknowledged: the drop is refused until that is folded."""
    with World() as world:
        first = world.upsert("q", 1, call_id="c")
        altered(world.store, layout.delta_key(world.cid, first.delta), lambda body: body[:-9])
        world.compact()
        world.clock.advance(1)
        world.upsert("q", 1, call_id="c")
        with pytest.raises(Conflict, match="repeated"):
            drop(world.store, world.clock, world.cid, quarantined=[first.delta])
        assert world.documents() == {"q": "1"}
        world.compact()
        drop(world.store, world.clock, world.cid, quarantined=[first.delta])
        world.clock.advance(200)
        world.compact()
        assert world.documents() == {"q": "1"}
        assert world.current().quarantined == ()
        assert keys(world.store, layout.DELTA_ROOT) == []

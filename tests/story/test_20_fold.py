"""Folding: a settled prefix of the order becomes the next version, each delta once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.worlds import Paging, Settling, World, altered, keys, vectors

from chromalith.compaction.verify import verify
from chromalith.coord.listing import list_deltas
from chromalith.errors import Conflict, Corrupt, Invalid
from chromalith.model import delta as delta_module
from chromalith.model import layout
from chromalith.model.delta import encode_delta
from chromalith.model.folded import State
from chromalith.model.ids import DeltaId, body_digest
from chromalith.model.operation import Op
from chromalith.store.wrappers import EveryCallStore
from chromalith.testing.faulty import FaultyStore
from chromalith.write.validate import operations


def test_a_fold_publishes_the_next_version() -> None:
    """All that waits becomes one version more, and reads before and after agree in everything."""
    with World() as world:
        for value, ids in enumerate(("abc", "bd", "a")):
            world.upsert(ids, value)
        before = world.view()
        outcome = world.compact()
        after = world.view()
        assert (outcome.folded, outcome.operations, outcome.published, outcome.waiting) == (3, 6, [1], 0)
        assert (len(before.overlay), len(after.overlay)) == (3, 0)
        assert before.get() == after.get()
        assert before.count() == after.count() == verify(world.store, world.cid).live == 4


def test_folding_again_publishes_nothing() -> None:
    """Deltas that are folded and not swept yet are known to be folded: no second version, and nothing counts twice."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        assert world.compact().published == []
        assert world.current().version == 1


def test_only_what_changed_is_written() -> None:
    """An upsert of what is there already writes neither records nor deletes; one that changes a record kills its old row."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        world.upsert("ab", 1)
        outcome = world.compact()
        assert (outcome.published, outcome.bytes_written) == ([2], 0)
        assert len(world.current().segments) == 1
        world.upsert("b", 2)
        world.compact()
        assert [(s.rows, s.live) for s in world.current().segments] == [(2, 1), (1, 1)]
        assert list(world.documents().items()) == [("a", "1"), ("b", "2")]  # b keeps its place


def test_what_is_deleted_and_added_again_comes_last() -> None:
    """Also if its content is the same as before: it has a new place, and the fold must write that."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        world.writer().write(world.cid, "delete", ["a"])
        world.upsert("a", 1)
        assert list(world.documents()) == ["b", "a"]
        world.compact()
        assert list(world.documents()) == ["b", "a"]
        verify(world.store, world.cid)


def test_a_segment_of_which_nothing_is_live_leaves_the_manifest() -> None:
    """Deleting everything leaves a version without segments, whose checksums are those of nothing."""
    with World() as world:
        world.upsert("ab", 1)
        world.compact()
        world.writer().write(world.cid, "delete", ["a", "b"])
        world.compact()
        current = world.current()
        assert (current.segments, current.live, str(current.content)) == ((), 0, "0" * 64)
        world.upsert("b", 2)
        world.compact()
        assert world.documents() == {"b": "2"}
        verify(world.store, world.cid)


def test_a_fold_takes_only_what_has_settled() -> None:
    """On a store whose listings lag, the newest deltas wait until no older one can appear."""
    with World() as world:
        store = Settling(world.store)
        world.upsert("a", 1)
        world.clock.advance(1)
        world.upsert("a", 2)
        world.clock.advance(1.5)
        outcome = world.compactor(store).run_once(world.cid)
        assert (outcome.folded, outcome.waiting) == (1, 1)
        assert world.documents(store) == {"a": "2"}
        world.clock.advance(1)
        assert world.compactor(store).run_once(world.cid).folded == 1
        assert world.documents(store) == {"a": "2"}


def test_the_date_is_taken_before_the_listing() -> None:
    """A listing that takes long settles nothing: what was young when it began may have elders that it did not show."""

    class SlowListing(Settling):
        def list(self, prefix, *, start_after=""):  # type: ignore[no-untyped-def]
            pages = list(super().list(prefix, start_after=start_after))
            world.clock.advance(10)
            return iter(pages)

    with World() as world:
        slow = SlowListing(world.store)
        compactor = world.compactor(slow)
        listing = slow.list
        elder = world.upsert("a", 1)
        slow.hidden.add(layout.delta_key(world.cid, elder.delta))

        def first_look(prefix, *, start_after=""):  # type: ignore[no-untyped-def]
            # After the compactor's first look, which finds something to do: a younger delta, while the elder is still hidden.
            slow.list = listing  # type: ignore[method-assign]
            pages = list(Settling.list(slow, prefix, start_after=start_after))
            world.upsert("a", 2)
            return iter(pages)

        world.upsert("b", 3)
        slow.list = first_look  # type: ignore[method-assign]
        assert compactor.run_once(world.cid).folded == 0
        slow.hidden.clear()
        assert world.documents(slow) == {"a": "2", "b": "3"}
        compactor.run_once(world.cid)
        assert world.documents(slow) == {"a": "2", "b": "3"}


def test_a_fold_takes_a_prefix_however_small() -> None:
    """With a limit on the deltas of a fold, each version holds a prefix of the order, and every one of them is whole."""
    with World() as world:
        for value in range(5):
            world.upsert("a" + chr(98 + value), value)
        outcome = world.compact(fold_deltas_max=2)
        assert (outcome.folded, outcome.published) == (5, [1, 2, 3])
        assert world.documents() == {"a": "4", "b": "0", "c": "1", "d": "2", "e": "3", "f": "4"}
        verify(world.store, world.cid)


def test_a_large_delta_is_folded_alone() -> None:
    """A delta over the limit of bytes does not block the fold for ever."""
    with World() as world:
        world.upsert("a", 1)
        world.upsert("b", 2)
        assert world.compact(fold_bytes_max=1).published == [1, 2]


def test_a_delta_that_appears_late_is_folded_once() -> None:
    """A delta that was not listed when a later one was folded is folded when it appears, and only then."""
    with World() as world:
        store = Settling(world.store)
        late = world.upsert("a", 1)
        store.hidden.add(layout.delta_key(world.cid, late.delta))
        world.clock.advance(1)
        world.upsert("b", 2)
        world.clock.advance(5)
        world.compactor(store).run_once(world.cid)
        assert world.documents(store) == {"b": "2"}
        store.hidden.clear()
        assert world.documents(store) == {"b": "2", "a": "1"}
        assert world.compactor(store).run_once(world.cid).folded == 1
        assert world.compactor(store).run_once(world.cid).folded == 0
        assert world.documents(store) == {"b": "2", "a": "1"}


@pytest.mark.parametrize("when", ["both are there", "after the fold", "after the sweep"])
@pytest.mark.parametrize("swap", [False, True])
def test_a_named_call_counts_once(when: str, swap: bool) -> None:
    """Of two deltas that carry one call, the first in the order counts, whichever writer it came from and whenever the other comes."""
    with World() as world:
        writers = [world.writer(), world.writer()]
        if swap:
            writers.reverse()
        world.upsert("a", 1, writer=writers[0], call_id="import 7")
        if when == "both are there":
            world.upsert("a", 2, writer=writers[1], call_id="import 7")
        world.writer().write(world.cid, "delete", ["a"])
        assert world.documents() == {}
        world.compact()
        if when == "after the sweep":
            world.clock.advance(61)
            assert world.compact().swept == 2
        if when != "both are there":
            world.upsert("a", 2, writer=writers[1], call_id="import 7")
        assert world.documents() == {}
        assert world.compact().folded == 0
        assert world.documents() == {}
        world.clock.advance(200)
        world.compact()
        assert keys(world.store, layout.DELTA_ROOT) == []


def test_another_name_is_another_call() -> None:
    """Calls of different names count each, and so do calls without a name."""
    with World() as world:
        world.upsert("a", 1, call_id="one")
        world.upsert("a", 2, call_id="two")
        world.upsert("b", 3)
        world.upsert("b", 4)
        assert world.documents() == {"a": "2", "b": "4"}


def put_delta(world: World, body: bytes, *, digest: str | None = None, writer: str = "e" * 32) -> DeltaId:
    """A delta that some other program put."""
    delta = DeltaId(world.clock.now_us() << 12, writer, 0, digest or body_digest(body))
    world.store.put(layout.delta_key(world.cid, delta), body)
    return delta


def test_a_void_stands_for_nothing() -> None:
    """Readers and folds take a void as no operation; its (writer, counter) is remembered, so that a straggler is not applied."""
    with World() as world:
        world.upsert("a", 1)
        delta = put_delta(world, b"VOID", digest="0" * 16)
        assert world.documents() == {"a": "1"}
        assert world.compact().folded == 2
        run = world.current().folded.find(delta)
        assert run is not None
        assert run.state is State.VOID
        assert world.documents() == {"a": "1"}


DAMAGE = {
    "cut": lambda body: body[:-7],
    "empty": lambda body: b"",
    "a bit": lambda body: body[:100] + bytes([body[100] ^ 1]) + body[101:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupt_delta_is_quarantined_and_blocks_nothing(damage: str) -> None:
    """Reads name it until a fold has read it twice and set it apart; then everything else is there, and the object is kept."""
    with World() as world:
        world.upsert("a", 1)
        bad = world.upsert("b", 2)
        world.upsert("c", 3)
        key = layout.delta_key(world.cid, bad.delta)
        altered(world.store, key, DAMAGE[damage])
        with pytest.raises(Corrupt, match=str(bad.delta)):
            world.view()
        counting = FaultyStore(world.store, lambda call: None, world.clock)
        outcome = world.compactor(counting).run_once(world.cid)
        assert [name for name, _ in outcome.quarantined] == [str(bad.delta)]
        assert sum(call.verb == "get" and call.key == key for call in counting.calls) == 2
        assert world.documents() == {"a": "1", "c": "3"}
        world.clock.advance(200)
        world.compact()
        assert keys(world.store, layout.DELTA_ROOT) == [key]
        assert world.compact().idle
        assert world.documents() == {"a": "1", "c": "3"}


def test_readers_say_what_is_quarantined(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each delta and process, with its name and the reason; and every view has them."""
    with World() as world:
        world.upsert("a", 1)
        bad = world.upsert("b", 2)
        altered(world.store, layout.delta_key(world.cid, bad.delta), lambda body: body[:-1])
        world.compact()
        session = world.session()
        for _ in range(2):
            view = session.view(world.cid)
        assert [each.delta for each in view.quarantined] == [str(bad.delta)]
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(said) == 1
        assert str(bad.delta) in said[0]
        assert view.quarantined[0].reason in said[0]


def test_a_transfer_that_failed_once_is_not_a_corrupt_delta() -> None:
    """One damaged read does not quarantine what is whole in the store."""

    class Flaky(EveryCallStore):
        flipped = False

        def call(self, verb, key, request):  # type: ignore[no-untyped-def]
            found = request()
            if verb == "get" and key.startswith("delta/") and not self.flipped:
                self.flipped = True
                return replace(found, body=found.body[:-1])
            return found

    with World() as world:
        world.upsert("a", 1)
        assert world.compactor(Flaky(world.store)).run_once(world.cid).quarantined == []
        assert world.documents() == {"a": "1"}


def test_the_retry_of_a_call_whose_first_delta_is_corrupt_counts() -> None:
    """An unreadable delta does not hide the retry of its call, neither from a fold nor from readers."""
    with World() as world:
        bad = world.upsert("a", 1, call_id="x")
        altered(world.store, layout.delta_key(world.cid, bad.delta), DAMAGE["cut"])
        world.compact()
        world.clock.advance(1)
        world.upsert("a", 1, writer=world.writer(), call_id="x")
        assert world.documents() == {"a": "1"}
        assert world.compact().folded == 1
        assert world.documents() == {"a": "1"}


def test_a_newer_delta_format_stops_the_fold_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before a delta of a newer format is folded, it and what follows wait: skipping it would change the order."""
    with World() as world:
        world.upsert("a", 1)
        monkeypatch.setattr(delta_module, "FORMAT", 2)
        newer = encode_delta(world.cid, operations(Op.UPSERT, ["a"], vectors(1, 2)))
        monkeypatch.undo()
        delta = put_delta(world, newer)
        world.upsert("a", 3)
        with pytest.raises(Invalid, match=str(delta)):
            world.view()
        with pytest.raises(Invalid, match=str(delta)):
            world.compact()
        assert world.current().version == 1
        assert world.current().quarantined == ()
        assert len(list_deltas(world.store, world.cid)) == 3


def test_a_delta_of_nonsense_is_corrupt() -> None:
    """Bytes that match their digest and are no delta of this collection are quarantined as well."""
    with World() as world:
        world.upsert("a", 1)
        deltas = [put_delta(world, b"not Parquet", writer="1" * 32)]
        another = encode_delta(world.create("another"), operations(Op.UPSERT, ["z"], vectors(1, 2)))
        deltas.append(put_delta(world, another, writer="2" * 32))
        wide = encode_delta(world.cid, operations(Op.UPSERT, ["z"], [[1.0, 2.0, 3.0, 4.0]]))
        deltas.append(put_delta(world, wide, writer="3" * 32))
        for delta in deltas:
            with pytest.raises(Corrupt):
                world.view()
            assert delta is not None
        outcome = world.compact()
        assert {name for name, _ in outcome.quarantined} == {str(delta) for delta in deltas}
        assert world.documents() == {"a": "1"}


def test_foreign_objects_are_left_alone() -> None:
    """What somebody else put under the deltas' prefix stops nobody, and is not deleted."""
    with World() as world:
        world.store.put(f"delta/{world.cid}/notes.txt", b"?")
        world.store.put("delta/README", b"?")
        world.upsert("a", 1)
        assert world.compactor().waiting() == [world.cid]
        world.compact()
        assert world.documents() == {"a": "1"}
        assert len(keys(world.store, "delta/")) == 3


def test_a_fold_over_many_pages_misses_nothing() -> None:
    """A listing of several pages into which writers keep putting is repeated until it is one consistent set."""
    with World() as world:
        for value in range(8):
            world.upsert(f"{value}", value)
        fourth = sorted(keys(world.store, layout.DELTA_ROOT))[3]
        puts = []

        def between(page: int) -> None:
            if len(puts) < 2:
                # A delta that sorts before the page that was just read, and then one behind all: the second without the first
                # would be an effect without its cause.
                early = DeltaId(1, f"{len(puts)}" * 32, 0, "0" * 16)
                body = encode_delta(world.cid, operations(Op.UPSERT, [f"x{len(puts)}"], vectors(1, 9), ["early"]))
                early = replace(early, digest=body_digest(body))
                world.store.put(layout.delta_key(world.cid, early), body)
                puts.append(early)
                world.upsert(f"y{len(puts)}", 9)

        listed = list_deltas(Paging(world.store, 3, between), world.cid)
        names = {delta.id for delta in listed}
        written = sorted((d.modified_us, d.id) for d in list_deltas(world.store, world.cid))
        shown = [delta_id in names for _, delta_id in written]
        assert shown == sorted(shown, reverse=True), "a delta is missing that is older than one that is shown"
        assert len(puts) == 2
        assert fourth in {layout.delta_key(world.cid, name) for name in names}


def test_two_compactors_fold_each_delta_once() -> None:
    """Of two that fold the same deltas, one publishes, and the other starts again and finds nothing left."""
    with World() as world:
        world.upsert("a", 1)

        class Interfering(EveryCallStore):
            done = False

            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if verb == "put" and key.startswith("segment/") and not self.done:
                    self.done = True
                    world.compact()
                return request()

        outcome = world.compactor(Interfering(world.store)).run_once(world.cid)
        assert (outcome.folded, outcome.version) == (0, 1)
        assert world.documents() == {"a": "1"}
        verify(world.store, world.cid)


def test_who_always_loses_gives_up_with_conflict() -> None:
    """A compactor that is overtaken again and again says so, and has published nothing."""
    with World() as world:
        world.upsert("a", 1)

        class Overtaking(EveryCallStore):
            value = 1

            def call(self, verb, key, request):  # type: ignore[no-untyped-def]
                if verb == "put" and key.startswith("segment/"):
                    self.value += 1
                    world.upsert("b", self.value)
                    world.compact()
                    world.upsert("c", self.value)
                return request()

        store = Overtaking(world.store)
        with pytest.raises(Conflict):
            world.compactor(store).run_once(world.cid)
        world.compact()
        assert world.documents() == {"a": "1", "b": f"{store.value}", "c": f"{store.value}"}
        verify(world.store, world.cid)

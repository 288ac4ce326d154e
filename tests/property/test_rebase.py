"""Two jobs on one collection at once: whatever the one publishes while the other works, the result is that of some order of the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from tests.worlds import World, keys, vectors

from chromalith.compaction.compactor import Compactor
from chromalith.compaction.leasing import Right
from chromalith.compaction.merge_job import write_merge
from chromalith.compaction.next_version import child_of
from chromalith.compaction.outcome import Outcome
from chromalith.compaction.restore import Restorer
from chromalith.compaction.retarget import retarget
from chromalith.compaction.sweep import run_sweep
from chromalith.compaction.verify import verify
from chromalith.coord.collections import Collections
from chromalith.coord.lease import HeldBy
from chromalith.coord.pointer import Published, publish, read_current, read_manifest
from chromalith.coord.store_date import store_date
from chromalith.errors import Bug, Conflict, NotFound, Unavailable
from chromalith.model.folded import DAY_US, FoldedSet, State
from chromalith.model.ids import DeltaId, JobId
from chromalith.model.invariants import Change
from chromalith.model.manifest import AsideRef, BucketsRef, FileRef, FoldedPartRef, Manifest, Quarantined
from chromalith.model.rebase import Abandon, CarryDeletes, PublishOnto, StartAgain, rebase_fold, rebase_merge, within
from chromalith.model.retention import Retention
from chromalith.store.port import Store
from chromalith.store.wrappers import EveryCallStore

IDS = "abcdef"
NO_ROWS = np.empty(0, np.uint32)


# -- the pure decision -------------------------------------------------------------------------------------------------

COUNTERS = st.dictionaries(st.sampled_from("wxyz"), st.sets(st.integers(0, 12)), max_size=3)


def folded_set(counters: dict[str, set[int]], days: Sequence[int] = (0,)) -> FoldedSet:
    """A set with these counters by writer, folded by some version on one of some days."""
    result = FoldedSet()
    for at, (writer, values) in enumerate(sorted(counters.items())):
        for value in sorted(values):
            delta = DeltaId(0, writer * 32, value, "0" * 16)
            result = result.add([(delta, State.FOLDED)], version=1 + value % 3, date_us=days[(at + value) % len(days)] * DAY_US)
    return result


@given(COUNTERS, COUNTERS)
def test_within_is_inclusion(part: dict[str, set[int]], whole: dict[str, set[int]]) -> None:
    """One folded set is within another exactly if each of its counters is, however the runs are cut."""
    both = {writer: part.get(writer, set()) | whole.get(writer, set()) for writer in {*part, *whole}}
    expected = all(values <= whole.get(writer, set()) for writer, values in part.items())
    assert within(folded_set(part, (0, 1)), folded_set(whole)) is expected
    assert within(folded_set(part), folded_set(both, (3, 4, 5)))
    assert within(folded_set(both).settle(9), folded_set(both, (3, 4, 5)))


JOB, FILE = JobId(3, "a" * 32), FileRef(1, "0" * 64)


def two_versions() -> tuple[World, Manifest]:
    world = World()
    world.upsert("ab", 1)
    world.compact()
    return world, world.current()


CHANGES: dict[str, dict[str, Any]] = {
    "segments": {"segments": ()},
    "next_seq": {"next_seq": 99},
    "dimension": {"dimension": 4},
    "quarantined": {"quarantined": (Quarantined("d", "why"),)},
    "aside": {"aside": (AsideRef(JOB, 1),)},
    "buckets": {"buckets": BucketsRef(JOB, FILE)},
    "restores": {"restores": ((2, 0),)},
    "folded": {"folded": folded_set({"w": {1}})},
    "folded_parts": {"folded_parts": (FoldedPartRef(JOB, 1, 1, 1, FILE),)},
    "boundary": {"boundary": 4},
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_fold_starts_again_when_what_it_built_on_has_changed(name: str) -> None:
    """Each thing that a fold's result follows from, changed alone, sends it back to the LIST."""
    world, read = two_versions()
    with world:
        assert isinstance(rebase_fold([JOB], read, replace(read, version=2, **CHANGES[name])), StartAgain)


def test_a_fold_is_published_onto_what_changes_nothing_for_it() -> None:
    """A version that only raises horizon and boundary, and tidies the folded set, costs a fold no work."""
    world, read = two_versions()
    with world:
        for folded in (read.folded, read.folded.settle(5), FoldedSet()):
            now = replace(
                read, version=9, kind="sweep", boundary=3, horizon=2, folded=folded, published=(), write_id="f" * 32, created_us=5
            )
            assert rebase_fold([JOB], read, now) == PublishOnto()


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_merge_from_below_the_boundary_is_abandoned(base: int, boundary: int) -> None:
    """Whatever else is the same."""
    decision = rebase_merge([JOB], {JOB: NO_ROWS}, {JOB: NO_ROWS}, {JOB: np.arange(3)}, base=base, boundary=boundary)
    assert isinstance(decision, Abandon) is (base < boundary)
    if base >= boundary:
        assert decision == PublishOnto()


def test_a_merge_carries_what_died() -> None:
    """Rows of an input that died since it was read die where they are in the output."""
    other = JobId(4, "b" * 32)
    read = {JOB: np.array([0], np.uint32), other: NO_ROWS}
    now = {JOB: np.array([0, 2], np.uint32), other: np.array([1], np.uint32)}
    rows = {JOB: np.array([-1, 3, 1], np.int64), other: np.array([2, 0], np.int64)}
    decision = rebase_merge([JOB, other], read, now, rows, base=4, boundary=4)
    assert isinstance(decision, CarryDeletes)
    assert decision.rows.tolist() == [0, 1]


def test_a_retargeted_fold_is_measured_by_its_own_version() -> None:
    """What it folded is remembered under the version that was published, not under the number that a sweep took: else the grace of its
    deltas would be measured from the sweep's publish."""
    with World() as world:
        receipt = world.upsert("ab", 1)
        read = read_current(world.store, world.cid)
        store = At(world.store, 0, lambda: raise_boundary(world, 0))
        store.choose = lambda verb, key: verb == "put" and key.startswith("snapshot/") and key.endswith(".json")
        assert world.compactor(store).run_once(world.cid).published == [2]
        current = world.current()
        run = current.folded.find(receipt.delta)
        assert run is not None
        assert (current.version, run.version) == (2, 2)
        assert len(keys(world.store, "segment/", "records.parquet")) == 1, "it did the work again"
        assert [version for version, _ in current.published] == [1]
        assert world.documents() == {"a": "1", "b": "1"}
        verify(world.store, world.cid)
        part = FoldedPartRef(JOB, 1, 1, 1, FILE)
        finished = replace(current, version=1, parent=read.manifest.key, folded_parts=(part,))
        moved = retarget(finished, read_current(world.store, world.cid), world.clock)
        assert moved.folded_parts == (replace(part, version=3),)


# -- real jobs ---------------------------------------------------------------------------------------------------------


class Inline(Executor):
    """Runs each piece of work when it is submitted: a run makes its calls in one order."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class At(EveryCallStore):
    """Before one of its actor's calls, something else happens: at the ``number``-th, or the first that ``choose`` says."""

    def __init__(self, inner: Store, number: int, happens: Callable[[], object]) -> None:
        super().__init__(inner)
        self.number = number
        self.happens = happens
        self.choose: Callable[[str, str], bool] = lambda verb, key: self.calls == self.number
        self.calls = 0
        self.done = False

    def call(self, verb, key, request):  # type: ignore[no-untyped-def]
        self.calls += 1
        if not self.done and self.choose(verb, key):
            self.done = True
            self.happens()
        return request()


Write = tuple[str, str, int]
"""An operation on some ids: ``upsert`` or ``delete``, which ids, the value."""
WRITES = st.tuples(st.sampled_from(["upsert", "upsert", "delete"]), st.text(IDS, min_size=1, max_size=3), st.integers(1, 99)).map(
    lambda write: (write[0], "".join(sorted(set(write[1]))), write[2])
)


class Story:
    """A world, and what was written to it: what the records must be follows from the chain of versions, by a dictionary."""

    def __init__(self, batches: Sequence[Sequence[Write]]) -> None:
        self.world = World()
        self.writer = self.world.writer()
        self.written: dict[DeltaId, Write] = {}
        for batch in batches:
            for write in batch:
                self.write(write)
            self.fold(self.world.store)

    def write(self, write: Write) -> None:
        op, ids, value = write
        if op == "upsert":
            receipt = self.world.upsert(ids, value, writer=self.writer)
        else:
            receipt = self.writer.write(self.world.cid, "delete", list(ids))
        self.written[receipt.delta] = write

    def compactor(self, store: Store) -> Compactor:
        world = self.world
        return Compactor(
            store, Collections(store, world.catalog), world.clock, world.settings, executor=lambda threads, name: Inline()
        )

    def fold(self, store: Store) -> None:
        self.compactor(store).run_once(self.world.cid)

    def merge(self, store: Store, chosen: int) -> None:
        """Merge the segments whose bits are set in ``chosen``; all if there are none of them."""
        compactor, current = self.compactor(store), read_current(store, self.world.cid)
        segments = range(len(current.manifest.segments))
        positions = [position for position in segments if chosen >> position & 1] or list(segments)
        if not positions:
            return
        writer = compactor._writer(current)
        merged = write_merge(store, writer, current.manifest, positions)
        right = Right(lambda: store_date(store, self.world.cid, self.world.clock), lambda rows: None, _nobody)
        compactor._merges._publish(merged, writer, right, Outcome(self.world.cid))

    def restore(self, store: Store, version: int) -> None:
        current = read_current(store, self.world.cid).manifest.version
        session = self.world.session()
        restorer = Restorer(store, self.world.clock, session.writer.put, executor=lambda threads, name: Inline())
        restorer.run(self.world.cid, version % (current + 1))

    # -- what must come out ----------------------------------------------------------------------------------------------

    def chain(self) -> list[Manifest]:
        manifests = [self.world.current()]
        while (parent := manifests[-1].parent) is not None:
            manifests.append(read_manifest(self.world.store, parent))
        return manifests[::-1]

    def expected(self) -> dict[str, str]:
        """Replay the chain: each fold applies what it folded, in the order of writing; each restore goes back; others change nothing."""
        states: list[dict[str, str]] = []
        taken: Counter[DeltaId] = Counter()
        before = FoldedSet()
        for manifest in self.chain():
            state = dict(states[-1]) if states else {}
            new = [delta for delta in self.written if delta in manifest.folded and delta not in before]
            taken.update(new)
            if manifest.kind == "restore":
                state = dict(states[manifest.restores[-1][1]])
                assert all(manifest.folded.find(delta).state is State.ASIDE for delta in new)  # type: ignore[union-attr]
            else:
                assert not new or manifest.kind == "fold"
                for delta in new:
                    apply(state, self.written[delta])
            states.append(state)
            before = manifest.folded
        assert set(taken) == set(self.written), "a delta was never taken in"
        assert set(taken.values()) <= {1}, "a delta was taken in twice"
        return states[-1]


def _nobody() -> HeldBy:
    raise AssertionError("no lease is held")


def apply(state: dict[str, str], write: Write) -> None:
    op, ids, value = write
    for record in ids:
        if op == "delete":
            state.pop(record, None)
        else:
            state[record] = f"{value:g}"


def raise_boundary(world: World, by: int) -> None:
    """What a sweep publishes, with a boundary raised by ``by``, at most to its own version. It deletes nothing."""
    current = read_current(world.store, world.cid)
    child = child_of(current, world.clock, "sweep", store_date(world.store, world.cid, world.clock), None)
    child = replace(child, boundary=min(child.version, child.boundary + by))
    assert isinstance(publish(world.store, world.clock, current, child, Change()), Published)


def sweep(world: World) -> None:
    """A real sweep that trusts no job to be alive, and keeps every version."""
    run_sweep(
        world.store,
        world.clock,
        world.cid,
        Retention(keep_versions=1000, job_grace_s=0.0),
        executor=lambda threads, name: Inline(),
    )


JOBS = st.one_of(
    st.tuples(st.just("fold"), st.just(0)),
    st.tuples(st.just("merge"), st.integers(0, 15)),
    st.tuples(st.just("restore"), st.integers(0, 9)),
    st.tuples(st.just("boundary"), st.integers(0, 9)),
    st.tuples(st.just("sweep"), st.just(0)),
    st.tuples(st.just("write and fold"), st.integers(1, 99)),
)
WORKERS = st.one_of(
    st.tuples(st.just("fold"), st.just(0)),
    st.tuples(st.just("merge"), st.integers(0, 15)),
    st.tuples(st.just("restore"), st.integers(0, 9)),
)


def do(story: Story, store: Store, job: tuple[str, int]) -> None:
    name, number = job
    match name:
        case "fold":
            story.fold(store)
        case "merge":
            story.merge(store, number)
        case "restore":
            story.restore(store, number)
        case "boundary":
            raise_boundary(story.world, number)
        case "sweep":
            sweep(story.world)
        case "write and fold":
            story.write(("upsert", "af", number))
            story.fold(store)


@settings(max_examples=120, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink])
@given(
    batches=st.lists(st.lists(WRITES, min_size=1, max_size=3), min_size=1, max_size=4),
    waiting=st.lists(WRITES, max_size=2),
    outer=WORKERS,
    inner=st.lists(JOBS, min_size=1, max_size=3),
    at=st.integers(1, 45),
)
def test_two_jobs_at_once_come_out_as_in_some_order(
    batches: list[list[Write]], waiting: list[Write], outer: tuple[str, int], inner: list[tuple[str, int]], at: int
) -> None:
    """A job that is overtaken at any of its calls by folds, merges, restores and sweeps: each delta is taken in once, and records, their
    order and checksums are what the chain of versions says."""
    for what in overtaken(batches, waiting, outer, inner, at):
        event(what)


def overtaken(
    batches: Sequence[Sequence[Write]],
    waiting: Sequence[Write],
    outer: tuple[str, int],
    inner: Sequence[tuple[str, int]],
    at: int,
) -> list[str]:
    """One case: ``inner`` jobs are done before the ``at``-th call of the ``outer``. Returns what happened, for statistics."""
    events: list[str] = []
    story = Story(batches)
    with story.world as world:
        for write in waiting:
            story.write(write)
        store = At(world.store, at, lambda: [do(story, world.store, job) for job in inner])
        version = world.current().version
        try:
            do(story, store, outer)
        except (Conflict, NotFound, Unavailable) as error:  # it gives up: that is always allowed
            events.append(f"{outer[0]} gave up: {type(error).__name__}")
        events.append(f"{outer[0]} overtaken: {store.done and world.current().version > version}")
        story.fold(world.store)
        expected = story.expected()
        assert list(world.documents().items()) == list(expected.items())
        verify(world.store, world.cid)
        assert_checksums(world, expected)
        story.merge(world.store, 0)
        sweep(world)
        assert list(world.documents().items()) == list(expected.items())
        verify(world.store, world.cid)
    return events


def assert_checksums(world: World, expected: dict[str, str]) -> None:
    """Those of a collection that was only ever told the final records."""
    with World() as other:
        for record, text in expected.items():
            value = float(text)
            other.writer().write(other.cid, "upsert", [record], vectors(1, value), documents=[text])
        other.compact()
        now, then = world.current(), other.current()
        assert (now.live, now.content, now.embedding) == (then.live, then.content, then.embedding)


def test_the_harness_sees_a_lost_delete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebase that drops the deletes which arrived meanwhile is found out by the property above."""
    from chromalith.compaction import merge_job

    def dropping(*args: Any, **kwargs: Any) -> Any:
        found = rebase_merge(*args, **kwargs)
        return PublishOnto() if isinstance(found, CarryDeletes) else found

    monkeypatch.setattr(merge_job, "rebase_merge", dropping)
    with pytest.raises(Bug, match="I4"):
        two_fixed("merge", "write and fold")


def test_the_harness_sees_a_fold_that_does_not_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that is published onto another fold's version, as if nothing had changed, is found out."""
    from chromalith.compaction import compactor

    monkeypatch.setattr(compactor, "rebase_fold", lambda *args: PublishOnto())
    with pytest.raises(Bug, match="I3|I4"):
        two_fixed("fold", "write and fold")


def two_fixed(outer: str, inner: str) -> None:
    """The property on one case, at calls all over it."""
    for at in range(4, 41, 4):
        overtaken([[("upsert", "abc", 1)], [("upsert", "de", 2)]], [("upsert", "a", 3)], (outer, 0), [(inner, 7)], at)


def test_the_fixed_cases_hold() -> None:
    """The two cases above, without a defect."""
    two_fixed("merge", "write and fold")
    two_fixed("fold", "write and fold")

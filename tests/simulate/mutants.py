"""Defects that are put into the running product, and the simulator as the one that must notice.

A mutant is a context in which some function of the product is wrong. :func:`kill` runs histories until one of them fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from chromalith.clock import Clock
from chromalith.compaction import compactor, fold_job, merge_job, restore, sweep
from chromalith.compaction.folded_writer import FoldedWriter
from chromalith.coord import listing, pointer
from chromalith.coord.collections import Collections
from chromalith.coord.listing import list_deltas
from chromalith.errors import Unavailable, Unknown
from chromalith.model import rebase
from chromalith.model.folded import FoldedSet, State
from chromalith.model.ids import DeltaId
from chromalith.model.manifest import Manifest
from chromalith.model.order import settled_prefix
from chromalith.model.rebase import CarryDeletes, PublishOnto, rebase_merge
from chromalith.read import reader
from chromalith.read.reader import CollectionReader
from chromalith.store.port import Condition, Matches, PreconditionFailed, Store
from chromalith.store.readback import Overtaken, put_resolved
from chromalith.testing.simulator.run import Result, run_history
from chromalith.write import writer
from chromalith.write.writer import DeltaWriter

Mutant = Callable[[], AbstractContextManager[None]]


def kill(mutant: Mutant, profile: str | None, seeds: Iterable[int]) -> int | None:
    """The first seed whose history fails with the mutant in place; ``None``: it lives."""
    found = first_failure(mutant, profile, seeds)
    return None if found is None else found.seed


def first_failure(mutant: Mutant, profile: str | None, seeds: Iterable[int]) -> Result | None:
    """As :func:`kill`: what failed."""
    with mutant():
        for seed in seeds:
            result = run_history(seed, profile)
            if result.violation is not None:
                return result
    return None


def swapped(*changes: tuple[Any, str, Any]) -> AbstractContextManager[None]:
    """Attributes of modules and classes with other values."""

    @contextmanager
    def inside() -> Iterator[None]:
        with ExitStack() as stack:
            for place, name, value in changes:
                stack.callback(setattr, place, name, getattr(place, name))
                setattr(place, name, value)
            yield

    return inside()


def publish_without_the_condition() -> AbstractContextManager[None]:
    def put(store: Store, key: str, body: bytes, condition: Condition, clock: Clock) -> str:
        if isinstance(condition, Matches) and key.endswith("pointer.txt"):
            return store.put(key, body)
        return put_resolved(store, key, body, condition, clock)  # type: ignore[arg-type]

    return swapped((pointer, "put_resolved", put))


def publish_under_a_lease_instead_of_the_condition() -> AbstractContextManager[None]:
    """What the origin did: the lease is trusted to keep others away."""
    return publish_without_the_condition()


def read_the_pointer_then_list() -> AbstractContextManager[None]:
    def pointer_then_list(self: Any, cid: Any, held: Any, *, whole: bool) -> Any:
        found = self._read_pointer(cid, held, whole=whole)
        return list_deltas(self._store, cid), found

    return swapped((CollectionReader, "_list_then_pointer", pointer_then_list))


def parallel_however_long() -> AbstractContextManager[None]:
    return swapped((reader, "PARALLEL_READ_MAX_S", 1e9))


def forget_folded_ids_with_their_objects() -> AbstractContextManager[None]:
    right = FoldedWriter.remember

    def remember(self: Any, child: Manifest, deltas: Iterable[tuple[DeltaId, State]], *, listed: Sequence[DeltaId]) -> Manifest:
        there = {(delta.writer, delta.counter) for delta in listed}
        runs = {
            w: tuple(run for run in runs if any((w, counter) in there for counter in range(run.start, run.stop)))
            for w, runs in child.folded.runs.items()
        }
        return right(self, replace(child, folded=FoldedSet(runs)), deltas, listed=listed)

    return swapped((FoldedWriter, "remember", remember))


def no_settle() -> AbstractContextManager[None]:
    def choose(ordered: Any, *, date_us: int, settle_s: float, deltas_max: int, bytes_max: int) -> Any:
        return settled_prefix(ordered, date_us=date_us + 10**9, settle_s=0, deltas_max=deltas_max, bytes_max=bytes_max)

    return swapped((compactor, "settled_prefix", choose))


def a_fold_chosen_by_id() -> AbstractContextManager[None]:
    def choose(ordered: Any, *, date_us: int, settle_s: float, deltas_max: int, bytes_max: int) -> Any:
        settled = [each for each in ordered if each.modified_us <= date_us - settle_s * 1e6]
        chosen = sorted(settled, key=lambda each: str(each.id))[:deltas_max]
        return sorted(chosen)

    return swapped((compactor, "settled_prefix", choose))


def ignore_the_boundary() -> AbstractContextManager[None]:
    """Neither a rebase nor a publish asks how old the objects are that it names."""

    def rebase_without(*arguments: Any, base: int, boundary: int) -> Any:
        return rebase_merge(*arguments, base=base, boundary=0)

    return swapped(
        (pointer, "named_jobs", lambda manifest: set()),
        (rebase, "_below", lambda added, boundary: False),
        (merge_job, "rebase_merge", rebase_without),
    )


def a_sweep_that_publishes_no_boundary() -> AbstractContextManager[None]:
    right = sweep.publish

    def publish(store: Any, clock: Any, parent: Any, child: Any, change: Any) -> Any:
        return right(store, clock, parent, replace(child, boundary=parent.manifest.boundary), change)

    return swapped((sweep, "publish", publish))


def a_sweep_that_publishes_no_horizon() -> AbstractContextManager[None]:
    right = sweep.publish

    def publish(store: Any, clock: Any, parent: Any, child: Any, change: Any) -> Any:
        return right(store, clock, parent, replace(child, horizon=parent.manifest.horizon), change)

    return swapped((sweep, "publish", publish))


def folded_ids_expire_while_their_objects_are_there() -> AbstractContextManager[None]:
    right = FoldedSet.expire
    return swapped((FoldedSet, "expire", lambda self, *, date_us, listed: right(self, date_us=date_us, listed=())))


def a_rebase_that_drops_deletes() -> AbstractContextManager[None]:
    def rebase_lossy(*arguments: Any, base: int, boundary: int) -> Any:
        decision = rebase_merge(*arguments, base=base, boundary=boundary)
        return PublishOnto() if isinstance(decision, CarryDeletes) else decision

    return swapped((merge_job, "rebase_merge", rebase_lossy))


def one_page_of_a_listing_believed() -> AbstractContextManager[None]:
    right = listing._list_once

    class First:
        def __init__(self, store: Store) -> None:
            self._store = store

        def list(self, prefix: str) -> Any:
            yield from list(self._store.list(prefix))[:1]

    return swapped((listing, "_list_once", lambda store, cid: right(First(store), cid)))  # type: ignore[arg-type]


def a_listing_of_pages_taken_for_a_snapshot() -> AbstractContextManager[None]:
    right = listing._list_once
    return swapped((listing, "_list_once", lambda store, cid: (right(store, cid)[0], 1)))


def a_lost_reply_taken_for_a_failure() -> AbstractContextManager[None]:
    """Answers are believed: no reading back."""

    def put(store: Store, key: str, body: bytes, condition: Condition, clock: Clock) -> str:
        try:
            return store.put(key, body, condition)
        except PreconditionFailed as error:
            raise Overtaken("believed", current=None, ambiguous=False) from error
        except Unknown as error:
            raise Unavailable("believed") from error

    return swapped((writer, "put_resolved", put))


def a_deleted_collection_takes_writes() -> AbstractContextManager[None]:
    """The answer whether the collection still exists is not waited for."""
    return swapped((Collections, "refresh", lambda self, cid: self.known(cid) or self.get(cid)))


def no_void_delta() -> AbstractContextManager[None]:
    def give_up(self: Any, key: str, body: bytes, cause: Exception) -> None:
        raise Unavailable("did not happen, they say") from cause

    return swapped((DeltaWriter, "_give_up", give_up))


def a_restore_with_the_old_folded_set() -> AbstractContextManager[None]:
    right = restore.publish

    def publish(store: Any, clock: Any, parent: Any, child: Any, change: Any, *, restored: Any = None) -> Any:
        child = replace(child, folded=restored.folded, folded_parts=restored.folded_parts)
        return right(store, clock, parent, child, type(change)((), change.live, change.content, change.embedding), restored=restored)

    return swapped((restore, "publish", publish))


def tags_listed_before_the_horizon_only() -> AbstractContextManager[None]:
    right = sweep.protected
    return swapped((sweep, "protected", lambda before, after: right(before, before)))


def no_causality_between_processes() -> AbstractContextManager[None]:
    return swapped((DeltaWriter, "saw", lambda self, hlc: True))


def sweep_folded_deltas_at_once() -> AbstractContextManager[None]:
    right = compactor.sweepable
    return swapped((compactor, "sweepable", lambda current, folded, listed, date_us, grace_s: right(current, folded, listed, date_us, 0)))


def own_writes_forgotten() -> AbstractContextManager[None]:
    return swapped((CollectionReader, "_own_writes_in", lambda self, cid, held, level: True))


def a_fold_after_a_fold_that_goes_on() -> AbstractContextManager[None]:
    return swapped((compactor, "rebase_fold", lambda added, read, now: PublishOnto()))


def sequence_numbers_given_anew() -> AbstractContextManager[None]:
    """An update moves its record to the end."""
    right = fold_job.fold

    def fold(stored: Any, batches: Any, next_seq: int, **rest: Any) -> Any:
        folded = right(stored, batches, next_seq, **rest)
        records = {
            key: None if record is None else replace(record, seq=folded.next_seq + at)
            for at, (key, record) in enumerate(folded.records.items())
        }
        return replace(folded, records=records, next_seq=folded.next_seq + len(records))

    return swapped((fold_job, "fold", fold))


MUTANTS: dict[str, tuple[Mutant, str]] = {
    each.__name__.replace("_", " "): (each, profile)
    for each, profile in (
        (publish_without_the_condition, "racing"),
        (publish_under_a_lease_instead_of_the_condition, "leasing"),
        (read_the_pointer_then_list, "overtaking"),
        (parallel_however_long, "overtaking"),
        (forget_folded_ids_with_their_objects, "writing"),
        (no_settle, "settling"),
        (a_fold_chosen_by_id, "racing"),
        (ignore_the_boundary, "sweeping"),
        (a_sweep_that_publishes_no_boundary, "sweeping"),
        (a_sweep_that_publishes_no_horizon, "sweeping"),
        (folded_ids_expire_while_their_objects_are_there, "aging"),
        (a_rebase_that_drops_deletes, "merging"),
        (one_page_of_a_listing_believed, "writing"),
        (a_listing_of_pages_taken_for_a_snapshot, "paging"),
        (a_lost_reply_taken_for_a_failure, "writing"),
        (no_void_delta, "flaky"),
        (a_deleted_collection_takes_writes, "deleting"),
        (a_restore_with_the_old_folded_set, "restoring"),
        (tags_listed_before_the_horizon_only, "sweeping"),
        (no_causality_between_processes, "causal"),
        (sweep_folded_deltas_at_once, "writing"),
        (own_writes_forgotten, "levels"),
        (a_fold_after_a_fold_that_goes_on, "racing"),
        (sequence_numbers_given_anew, "writing"),
    )
}

"""``migrate verify``: are the two sides equal? All records, by checksum where that is enough, and by field where it is not.

1. Both sides are asked for their checksums by bucket (:mod:`chromalith.model.buckets`). A Chromalith version without an overlay knows them:
   where both know them and they are equal, no record is read.
2. Else the ids of both sides are taken, and divided by bucket into :data:`PARTS` parts. Of each part, the records are read; where one side
   knows its checksums, only those of the other, and then both sides' records of the buckets that differ.
3. A part's result is an object: a run that is killed goes on with the parts that are left (:mod:`.diff_kept`).
4. What differs is looked at again, :data:`LOOKS` times in all, a second apart. While two sides are live they differ for a moment with
   each write. What differs still and stands in the journal is *in flight*: the reconciliation will decide, and the cutover waits for
   it. The rest stands.
5. With ``repair``, what stands is mended (:mod:`chromalith.migrate.mend`) and compared again.

``missing`` is what the source has and the target has not, ``extra`` the reverse, whichever of them counts.

A collection that one side lacks, and what a collection itself is, are looked at again in the same way, as clients create and delete
collections, too.

Memory: the ids of both sides and what one run keeps of them: 280 MB, measured at its peak, for a million records on each side with ids
of 33 characters (sides that hold nothing themselves, records of 4 dimensions, no difference). Beside that the records of
:data:`WORKERS` pieces of each side, and every difference that was found, until the end.
The habits (resumable, a second look, samples, counts by kind) are those of Vitess' VDiff.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chromalith.coord.register import Register
from chromalith.errors import ChromalithError, Invalid, NotFound
from chromalith.migrate.diff_kept import Found, KeptParts, hashed, hashes_of, parts_prefix
from chromalith.migrate.diff_order import out_of_place, put_in_order
from chromalith.migrate.diff_parts import PIECE, Meter, Parts, definition_of_both, look_again
from chromalith.migrate.diff_report import CollectionReport, VerifyReport
from chromalith.migrate.entries import Entry
from chromalith.migrate.journal import Journal
from chromalith.migrate.mend import Mender
from chromalith.migrate.permission import Refused
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, SideCollection, Sides
from chromalith.migrate.records import Difference
from chromalith.migrate.state import State
from chromalith.migrate.states import States, change_of
from chromalith.model.buckets import BUCKETS, bucket_of
from chromalith.store.port import Store
from chromalith.threads import NewExecutor
from chromalith.transfer.port import Progress, silent

PARTS = 16
"""Of a collection; each is an object, and what a killed run does again."""
LOOKS = 3
LOOKS_MAX = 10
"""While the journal has ids that differ."""
LOOK_WAIT_S = 1.0
RESUME_S = 3_600.0
"""What a run found longer ago is no evidence; it begins anew."""
WORKERS = 4


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for.

    Attributes:
        collections: only these; ``None``: all that the migration moves.
        deep: read the records also where checksums agree.
        repair: write what differs from the side that counts.
        order: compare the order of insertion, too.
        again: begin anew, also if an interrupted run could go on.
    """

    collections: tuple[str, ...] | None = None
    deep: bool = False
    repair: bool = False
    order: bool = False
    again: bool = False


class Verifier:
    """Compares the two sides of one migration. One thread at a time; it uses several.

    Args:
        place: of the migration.
        sides: both.
        journal: of the migration; one of its own if not given.
        executor: where threads come from.
        look_wait_s: between two looks at what differs.
    """

    def __init__(
        self,
        place: Place,
        sides: Sides,
        journal: Journal | None = None,
        *,
        executor: NewExecutor = ThreadPoolExecutor,
        look_wait_s: float = LOOK_WAIT_S,
    ) -> None:
        self._place = place
        self._sides = sides
        self._states = States(place)
        self._journal = Journal(place, client="chromalith migrate verify") if journal is None else journal
        self._executor = executor
        self._look_wait_s = look_wait_s
        self._resumed = 0

    def run(self, options: Options | None = None, *, progress: Progress = silent) -> VerifyReport:
        """Compare, and write the result into the migration's state.

        Raises ``NotFound`` (no such migration, no such collection), ``Invalid`` (a repair where tools must not write), ``Unavailable``."""
        asked = options or Options()
        state = self._states.get()
        self._journal.timing = state.timing
        if asked.repair and not state.is_dual:
            raise Invalid(
                f"nothing is repaired while one side is written only phase={state.phase}",
                hint="`chromalith migrate dual` comes first",
            )
        clock = self._place.clock
        began_s, self._resumed = clock.monotonic_s(), 0
        run, at_us = self._begin(state, asked)
        meter = Meter(progress)
        found = tuple(self._collection(run, name, state, asked, meter) for name in self._names(state, asked))
        report = VerifyReport(found, state.epoch, at_us, clock.monotonic_s() - began_s, self._resumed)
        self._end(run, report, asked)
        return report

    # -- the run -----------------------------------------------------------------------------------------------------

    def _register(self) -> Register:
        return Register(self._place.store, self._place.prefix("verify") + "run.json", self._place.clock)

    def _begin(self, state: State, asked: Options) -> tuple[str, int]:
        """The id of the run and when it began: of the interrupted one, if it was the same question, not long ago."""
        question = {
            "epoch": state.epoch,
            "deep": asked.deep,
            "collections": asked.collections and list(asked.collections),
        }
        register = self._register()
        held, now_us = register.read().value, self._place.clock.now_us()
        goes_on = held is not None and not asked.again and not held.get("finished") and held.get("question") == question
        if goes_on and held is not None and now_us - int(held["began_us"]) < RESUME_S * 1_000_000:
            return str(held["run"]), int(held["began_us"])
        run = self._place.clock.random_hex(16)
        register.update(lambda before: {"run": run, "question": question, "finished": False, "began_us": now_us})
        remove_all(self._place.store, self._place.prefix("verify", "parts"), self._place.prefix("verify", "parts", run))
        return run, now_us

    def _end(self, run: str, report: VerifyReport, asked: Options) -> None:
        def finish(before: dict[str, Any] | None) -> dict[str, Any] | None:
            return {**before, "finished": True} if before is not None and before.get("run") == run else None

        self._register().update(finish)
        if asked.collections is not None:  # a part of the migration proves nothing about the rest
            return

        def note(now: State) -> State | None:
            summary, noted = report.summary(), dict(now.verify)
            later = (int(noted.get("epoch", 0)), int(noted.get("at_us", 0))) > (report.epoch, report.at_us)
            if later or noted == summary:  # one that began after this one, or this one, whose write was lost from sight
                return None
            said = (
                "equal"
                if report.clean
                else ", ".join(f"{report.total(what)} {what}" for what in ("missing", "extra", "different"))
                if any(report.total(what) for what in ("missing", "extra", "different"))
                else "the collections themselves, or the order of their records, differ"
            )
            return now.changed(change_of(self._place.clock, "verify", now.phase, now.phase, said), verify=summary)

        self._states.change(note)

    def _names(self, state: State, asked: Options) -> list[str]:
        there = list(dict.fromkeys([*self._sides.source.names(), *self._sides.target.names()]))
        moved = there if state.collections is None else list(state.collections)
        if asked.collections is None:
            return moved
        for name in asked.collections:
            if name not in moved:
                raise NotFound(
                    f"this migration has no such collection name={name!r}",
                    hint=f"there are {', '.join(sorted(moved)[:20])}",
                )
        return list(asked.collections)

    # -- a collection ------------------------------------------------------------------------------------------------

    def _collection(self, run: str, name: str, state: State, asked: Options, meter: Meter) -> CollectionReport:
        for look in range(1, LOOKS + 1):
            try:
                return self._looked(run, name, state, asked, meter)
            except NotFound:  # it was dropped, and perhaps made again, while it was compared
                if look == LOOKS:
                    raise
                remove_all(self._place.store, parts_prefix(self._place, run, name))
        raise AssertionError

    def _looked(self, run: str, name: str, state: State, asked: Options, meter: Meter) -> CollectionReport:
        source, target, definition = self._both(name)
        if source is None or target is None:
            report = self._one_sided(name, source, target, definition)
            if not asked.repair or (source is None and target is None):
                return report
            report, source, target = self._repair_whole(report)
            if source is None or target is None:
                return report
            definition = definition_of_both(source, target)
        report = self._compare(run, name, source, target, definition, asked, meter)
        if asked.repair and (report.standing or report.definition):
            report = self._repair(report, source, target)
        return self._order(report, source, target, state, asked) if asked.order else report

    def _both(self, name: str) -> tuple[SideCollection | None, SideCollection | None, tuple[str, ...]]:
        """A collection on both sides, and what of itself differs, when that has settled: clients create, delete and describe it, too."""
        look = 1
        while True:
            source, target = (_find(self._sides, role, name) for role in Role)
            found: tuple[str, ...] = ()
            if source is not None and target is not None:
                found = definition_of_both(source, target)
            elif source is not None or target is not None or self._wanted(name):
                found = ("collection",)
            if not found or look >= LOOKS_MAX or (look >= LOOKS and not self._catalog_is_busy(name)):
                return source, target, found
            look += 1
            self._place.clock.sleep(self._look_wait_s)

    def _compare(
        self,
        run: str,
        name: str,
        source: SideCollection,
        target: SideCollection,
        definition: tuple[str, ...],
        asked: Options,
        meter: Meter,
    ) -> CollectionReport:
        known = (None, None) if asked.deep else (source.buckets(), target.buckets())
        if known[0] is not None and known[0] == known[1]:
            counts = source.count(), target.count()
            if counts[0] == counts[1]:  # the sums were of one moment, the counts of another
                meter.expect(counts[0])
                meter.done(counts[0])
                return CollectionReport(name, *counts, matching=counts[0], definition=definition, unread=True)
        source_ids, target_ids = source.ids(), target.ids()
        union = list(dict.fromkeys([*source_ids, *target_ids]))
        counts = len(source_ids), len(target_ids)
        lonely = np.setxor1d(hashes_of(source_ids), hashes_of(target_ids), assume_unique=True)
        del source_ids, target_ids
        meter.expect(len(union))
        parts = _parted(union)
        compare = Parts(source, target, known, lonely, meter.done)
        kept = KeptParts(self._place, run, source, target)

        def part(number: int) -> tuple[Found, bool]:
            before = kept.get(number)
            if before is not None:
                return compare.rest(parts[number], before), True
            found = compare.part(parts[number])
            kept.keep(number, found)
            return found, False

        with self._executor(min(WORKERS, PARTS), "chromalith-verify") as threads:
            done = list(threads.map(part, range(PARTS)))
        self._resumed += sum(before for _, before in done)
        standing = [each for found, _ in done for each in found.differences]
        standing, in_flight = self._settle(name, standing, source, target)
        matching = max(0, len(union) - len(standing) - len(in_flight))
        return CollectionReport(name, *counts, matching, tuple(standing), tuple(in_flight), definition)

    def _settle(
        self, name: str, standing: list[Difference], source: SideCollection, target: SideCollection
    ) -> tuple[list[Difference], list[str]]:
        """What still differs after several looks: what stands, and the ids that the journal has."""
        busy: set[str] = set()
        for look in range(1, LOOKS_MAX):
            if not standing or (look >= LOOKS and not busy):
                break
            self._place.clock.sleep(self._look_wait_s)
            # Before the look: what is mended in between is seen to be equal. After it, a note might be gone that explained a difference.
            busy = {i for entry in self._journalled(name) for i in entry.ids}
            standing = look_again(source, target, [each.id for each in standing])
            busy &= {each.id for each in standing}
        return [each for each in standing if each.id not in busy], sorted(busy)

    def _catalog_is_busy(self, name: str) -> bool:
        return any(entry.is_catalog for entry in self._journalled(name))

    def _journalled(self, name: str) -> list[Entry]:
        entries, _ = self._journal.read(self._journal.entries().touched)
        return [entry for found in entries.values() for entry in found if entry.collection == name]

    # -- repair ------------------------------------------------------------------------------------------------------

    def _repair(self, report: CollectionReport, source: SideCollection, target: SideCollection) -> CollectionReport:
        mender = Mender(self._journal, self._states, self._sides)
        reasons: list[str] = []
        if "metadata" in report.definition and (reason := mender.catalog.mend(report.name, deleted=False).reason):
            reasons.append(reason)
        ids = [each.id for each in report.standing]
        mended = mender.mend(report.name, ids)
        left, in_flight = self._settle(report.name, look_again(source, target, ids), source, target)
        repaired = len(ids) - len(left) - len(in_flight)
        # A collection's metadata is that of the moment it was opened, so it is opened again.
        fresh = [_find(self._sides, role, report.name) for role in Role]
        return replace(
            report,
            source_records=source.count(),
            target_records=target.count(),
            matching=report.matching + repaired,
            standing=tuple(left),
            in_flight=tuple(sorted({*report.in_flight, *in_flight})),
            definition=definition_of_both(fresh[0] or source, fresh[1] or target),
            repaired=repaired,
            reasons=tuple(dict.fromkeys([*reasons, *mended.reasons])),
        )

    def _one_sided(
        self, name: str, source: SideCollection | None, target: SideCollection | None, definition: tuple[str, ...]
    ) -> CollectionReport:
        counts = [None if side is None else side.count() for side in (source, target)]
        standing: tuple[Difference, ...] = ()
        if source is not None:
            standing = tuple(Difference(i, "missing") for i in source.ids())
        elif target is not None:
            standing = tuple(Difference(i, "extra") for i in target.ids())
        return CollectionReport(name, counts[0], counts[1], standing=standing, definition=definition)

    def _wanted(self, name: str) -> bool:
        chosen = self._states.get().collections
        return chosen is not None and name in chosen

    def _repair_whole(
        self, report: CollectionReport
    ) -> tuple[CollectionReport, SideCollection | None, SideCollection | None]:
        settled = Mender(self._journal, self._states, self._sides).catalog.mend(report.name, deleted=False)
        if settled.reason is not None:
            return replace(report, reasons=(settled.reason,)), None, None
        source, target = (_find(self._sides, role, report.name) for role in Role)
        if source is None and target is None:
            return CollectionReport(report.name, None, None), None, None
        return report, source, target

    def _order(
        self, report: CollectionReport, source: SideCollection, target: SideCollection, state: State, asked: Options
    ) -> CollectionReport:
        misplaced = out_of_place(source.ids(), target.ids())
        if not misplaced or not asked.repair or report.standing or report.in_flight:
            return replace(report, out_of_place=misplaced)
        pair = {Role.SOURCE: source, Role.TARGET: target}
        rows = min(PIECE, *(self._sides[role].limits.records_per_write for role in Role))
        try:
            moved = put_in_order(
                self._journal, self._states, state.main, pair[state.main], pair[state.main.other], rows
            )
        except (Refused, ChromalithError) as error:
            return replace(report, out_of_place=misplaced, reasons=(*report.reasons, str(error)))
        left = look_again(source, target, source.ids())
        return replace(
            report,
            out_of_place=out_of_place(source.ids(), target.ids()),
            standing=tuple(left),
            repaired=report.repaired + moved,
        )


def remove_all(store: Store, prefix: str, but: str | None = None) -> None:
    """Remove the objects below ``prefix``, except those below ``but``."""
    for page in store.list(prefix):
        for entry in page:
            if but is None or not entry.key.startswith(but):
                store.delete(entry.key)


def _parted(ids: Sequence[str]) -> list[list[str]]:
    """The ids by part: each has all ids of some buckets."""
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for record_id, bucket in zip(ids, bucket_of(hashed(ids)).tolist(), strict=True):
        parts[bucket * PARTS // BUCKETS].append(record_id)
    return parts


def _find(sides: Sides, role: Role, name: str) -> SideCollection | None:
    with suppress(NotFound):
        return sides[role].collection(name)
    return None

"""``migrate verify``: are the two sides equal? All records, by checksum where that is enough, and by field where it is not.

1. Both sides are asked for their checksums by bucket (:mod:`chromalith.model.buckets`). A Chromalith version without an overlay knows them:
   where both know them and they are equal, no record is read.
2. Else the ids of both sides are taken, and divided by bucket into :data:`PARTS` parts. Of each part, the records are read; where one side
   knows its checksums, only those of the other, and then both sides' records of the buckets that differ.
3. A part's result is an object: a run that is killed goes on with the parts that are left.
4. What differs is looked at again, :data:`LOOKS` times in all, a second apart. While two sides are live they differ for a moment with
   each write. What differs still and stands in the journal is *in flight*: the reconciliation will decide, and the cutover waits for
   it. The rest stands.
5. With ``repair``, what stands is mended (:mod:`chromalith.migrate.mend`) and compared again.

``missing`` is what the source has and the target has not, ``extra`` the reverse, whichever of them counts.

Memory: the ids of both sides (about 170 bytes each, so 340 MB for a million on both), and the records of :data:`WORKERS` chunks.
The habits (resumable, a second look, samples, counts by kind) are those of Vitess' VDiff.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chromalith.coord.register import Register, decode, encode
from chromalith.errors import ChromalithError, Corrupt, Invalid, NotFound
from chromalith.migrate.diff_order import out_of_place, put_in_order
from chromalith.migrate.diff_report import CollectionReport, Found, VerifyReport
from chromalith.migrate.journal import Journal
from chromalith.migrate.mend import Mender, space_of
from chromalith.migrate.mend_catalog import described
from chromalith.migrate.permission import Refused
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, SideCollection, Sides
from chromalith.migrate.records import Difference, differences
from chromalith.migrate.state import State
from chromalith.migrate.states import States, change_of
from chromalith.model.buckets import BUCKETS, Buckets, bucket_of
from chromalith.model.checksum import content_digest, embedding_digest
from chromalith.model.segment import id_hash
from chromalith.threads import NewExecutor
from chromalith.transfer.port import Batch, Progress, silent

PARTS = 16
"""Of a collection; each is an object, and what a killed run does again."""
LOOKS = 3
LOOKS_MAX = 10
"""While the journal has ids that differ."""
LOOK_WAIT_S = 1.0
RESUME_S = 3_600.0
"""What a run found longer ago is no evidence; it begins anew."""
WORKERS = 4
PIECE = 2_000


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
        meter = _Meter(progress)
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
        prefix = self._place.prefix("verify", "parts")
        for page in self._place.store.list(prefix):
            for entry in page:
                if not entry.key.startswith(f"{prefix}{run}/"):
                    self._place.store.delete(entry.key)
        return run, now_us

    def _end(self, run: str, report: VerifyReport, asked: Options) -> None:
        def finish(before: dict[str, Any] | None) -> dict[str, Any] | None:
            return {**before, "finished": True} if before is not None and before.get("run") == run else None

        self._register().update(finish)
        if asked.collections is not None:  # a part of the migration proves nothing about the rest
            return

        def note(now: State) -> State | None:
            if now.verify.get("at_us") == report.at_us:
                return None
            said = (
                "equal"
                if report.clean
                else ", ".join(f"{report.total(what)} {what}" for what in ("missing", "extra", "different"))
            )
            return now.changed(
                change_of(self._place.clock, "verify", now.phase, now.phase, said), verify=report.summary()
            )

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

    def _collection(self, run: str, name: str, state: State, asked: Options, meter: _Meter) -> CollectionReport:
        pair = {role: _find(self._sides, role, name) for role in Role}
        source, target = pair[Role.SOURCE], pair[Role.TARGET]
        if source is None or target is None:
            report = self._one_sided(name, source, target)
            if not asked.repair or (source is None and target is None):
                return report
            report, source, target = self._repair_whole(report, state)
            if source is None or target is None:
                return report
        report = self._compare(run, name, source, target, asked, meter)
        if asked.repair and (report.standing or report.definition):
            report = self._repair(report, source, target)
        return self._order(report, source, target, state, asked) if asked.order else report

    def _compare(
        self, run: str, name: str, source: SideCollection, target: SideCollection, asked: Options, meter: _Meter
    ) -> CollectionReport:
        definition = _definition(source, target)
        known = (None, None) if asked.deep else (source.buckets(), target.buckets())
        if known[0] is not None and known[0] == known[1]:
            counts = source.count(), target.count()
            if counts[0] == counts[1]:  # the sums were of one moment, the counts of another
                meter.whole(counts[0])
                return CollectionReport(name, *counts, matching=counts[0], definition=definition, unread=True)
        source_ids, target_ids = source.ids(), target.ids()
        union = list(dict.fromkeys([*source_ids, *target_ids]))
        meter.expect(len(union))
        parts: list[list[str]] = [[] for _ in range(PARTS)]
        buckets = bucket_of(id_hash(union)) if union else np.empty(0, np.uint8)
        for record_id, bucket in zip(union, buckets.tolist(), strict=True):
            parts[bucket * PARTS // BUCKETS].append(record_id)
        compare = _Parts(source, target, known)

        def part(number: int) -> Found:
            key = f"{self._place.prefix('verify', 'parts', run)}{_h(self._place, name)}-{number:02d}.json"
            found = self._kept(key)
            if found is None:
                found = compare.part(parts[number])
                self._place.store.put(key, encode(found.encode()))
            meter.done(len(parts[number]))
            return found

        with self._executor(min(WORKERS, PARTS), "chromalith-verify") as threads:
            found = list(threads.map(part, range(PARTS)))
        standing = [each for one in found for each in one.differences]
        standing, in_flight = self._settle(name, standing, source, target)
        matching = len(union) - len(standing) - len(in_flight)
        return CollectionReport(
            name, len(source_ids), len(target_ids), max(0, matching), tuple(standing), tuple(in_flight), definition
        )

    def _kept(self, key: str) -> Found | None:
        try:
            found = Found.decode(decode(key, self._place.store.get(key).body))
        except NotFound:
            return None
        except (Corrupt, KeyError, TypeError, ValueError):
            return None  # looked at again
        self._resumed += 1
        return found

    def _settle(
        self, name: str, standing: list[Difference], source: SideCollection, target: SideCollection
    ) -> tuple[list[Difference], list[str]]:
        """What still differs after several looks: what stands, and the ids that the journal has."""
        busy: set[str] = set()
        for look in range(1, LOOKS_MAX):
            if not standing or (look >= LOOKS and not busy):
                break
            self._place.clock.sleep(self._look_wait_s)
            busy = self._journalled(name)  # before the look: what is mended meanwhile is seen to be equal
            standing = _again(source, target, [each.id for each in standing])
            busy &= {each.id for each in standing}
        return [each for each in standing if each.id not in busy], sorted(busy)

    def _journalled(self, name: str) -> set[str]:
        entries, _ = self._journal.read(self._journal.entries().touched)
        return {i for found in entries.values() for entry in found if entry.collection == name for i in entry.ids}

    # -- repair ------------------------------------------------------------------------------------------------------

    def _repair(self, report: CollectionReport, source: SideCollection, target: SideCollection) -> CollectionReport:
        mender = Mender(self._journal, self._states, self._sides)
        reasons: list[str] = []
        if "metadata" in report.definition and (reason := mender.catalog.mend(report.name, deleted=False).reason):
            reasons.append(reason)
        ids = [each.id for each in report.standing]
        mended = mender.mend(report.name, ids)
        left = _again(source, target, ids)
        repaired = len(ids) - len(left)
        fresh = [
            _find(self._sides, role, report.name) for role in Role
        ]  # a collection's metadata is that of its last look
        definition = _definition(fresh[0] or source, fresh[1] or target)
        return replace(
            report,
            source_records=source.count(),
            target_records=target.count(),
            matching=report.matching + repaired,
            standing=tuple(left),
            definition=definition,
            repaired=repaired,
            reasons=tuple(dict.fromkeys([*reasons, *mended.reasons])),
        )

    def _one_sided(self, name: str, source: SideCollection | None, target: SideCollection | None) -> CollectionReport:
        counts = [None if side is None else side.count() for side in (source, target)]
        one = source or target
        kind = "missing" if target is None else "extra"
        standing = tuple(Difference(i, kind) for i in one.ids()) if one is not None else ()  # type: ignore[arg-type]
        definition = ("collection",) if one is not None or self._wanted(name) else ()
        return CollectionReport(name, counts[0], counts[1], standing=standing, definition=definition)

    def _wanted(self, name: str) -> bool:
        chosen = self._states.get().collections
        return chosen is not None and name in chosen

    def _repair_whole(
        self, report: CollectionReport, state: State
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
        rows = min(self._sides[role].limits.records_per_write for role in Role)
        try:
            moved = put_in_order(
                self._journal, self._states, state.main, pair[state.main], pair[state.main.other], rows
            )
        except (Refused, ChromalithError) as error:
            return replace(report, out_of_place=misplaced, reasons=(*report.reasons, str(error)))
        left = _again(source, target, source.ids())
        return replace(
            report,
            out_of_place=out_of_place(source.ids(), target.ids()),
            standing=tuple(left),
            repaired=report.repaired + moved,
        )


class _Parts:
    """Compares parts of one collection."""

    def __init__(
        self, source: SideCollection, target: SideCollection, known: tuple[Buckets | None, Buckets | None]
    ) -> None:
        self._source = source
        self._target = target
        self._known = known

    def part(self, ids: Sequence[str]) -> Found:
        known = self._known[0] or self._known[1]
        if known is None or (self._known[0] is not None and self._known[1] is not None):
            suspects = list(ids)
            if self._known[0] is not None and self._known[1] is not None:
                suspects = _of_buckets(ids, set(self._known[0].differing(self._known[1])))
        else:
            other = self._target if self._known[0] is not None else self._source
            suspects = _of_buckets(ids, self._differing(ids, known, other))
        found: list[Difference] = []
        for start in range(0, len(suspects), PIECE):
            found += _again(self._source, self._target, suspects[start : start + PIECE])
        return Found(len(ids) - len(found), tuple(found))

    @staticmethod
    def _differing(ids: Sequence[str], known: Buckets, other: SideCollection) -> set[int]:
        """The buckets of ``ids`` in which what ``other`` holds does not add up to what is known of its opposite."""
        sums = Buckets.empty()
        for start in range(0, len(ids), PIECE):
            sums = sums + sums_of(other.read(ids[start : start + PIECE]))
        mine = set(bucket_of(id_hash(ids)).tolist()) if len(ids) else set()
        return mine & set(sums.differing(known))


@dataclass(slots=True)
class _Meter:
    progress: Progress
    seen: int = 0
    total: int = 0

    def expect(self, records: int) -> None:
        self.total += records
        self.progress(self.seen, self.total)

    def done(self, records: int) -> None:
        self.seen += records
        self.progress(self.seen, self.total)

    def whole(self, records: int) -> None:
        self.expect(records)
        self.done(records)


def sums_of(batch: Batch) -> Buckets:
    """The checksums by bucket of some records."""
    if not len(batch):
        return Buckets.empty()
    columns = zip(batch.ids, batch.documents, batch.uris, batch.metadatas, strict=True)
    content = np.frombuffer(b"".join(content_digest(*record) for record in columns), np.uint8).reshape(-1, 32)
    rows = zip(batch.ids, batch.embeddings, strict=True)
    embedding = np.frombuffer(b"".join(embedding_digest(i, row) for i, row in rows), np.uint8).reshape(-1, 32)
    return Buckets.of(id_hash(batch.ids), content, embedding)


def _of_buckets(ids: Sequence[str], wanted: set[int]) -> list[str]:
    if not wanted or not len(ids):
        return []
    return [i for i, bucket in zip(ids, bucket_of(id_hash(ids)).tolist(), strict=True) if bucket in wanted]


def _again(source: SideCollection, target: SideCollection, ids: Sequence[str]) -> list[Difference]:
    """What differs among ``ids`` now."""
    if not ids:
        return []
    return differences(source.read(ids), target.read(ids), space_of(source, target))


def _definition(source: SideCollection, target: SideCollection) -> tuple[str, ...]:
    found = []
    if source.definition.space != target.definition.space:
        found.append("space")
    if described(source) != described(target):
        found.append("metadata")
    return tuple(found)


def _find(sides: Sides, role: Role, name: str) -> SideCollection | None:
    with suppress(NotFound):
        return sides[role].collection(name)
    return None


def _h(place: Place, name: str) -> str:
    return place.collection_prefix("x", name).rstrip("/").rpartition("/")[2]

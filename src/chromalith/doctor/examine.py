"""The examination: every check, in the order of the report. A check is one function from what was found to findings.

1. List what is in the store (or what belongs to one collection), and read the names.
2. Ask the place: the probe writes under ``probe/``, and gives the store's date. Everything else only reads.
3. Open each collection: its pointer, then its manifest.
4. Run the checks of the store and the machine, then those of each collection.

A check that could not be made is a finding too (``not_checked``): an examination never says that something is well because it
could not look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from chromalith.clock import Clock
from chromalith.coord.catalog import Named
from chromalith.coord.databases import DEFAULT_DATABASE, DEFAULT_TENANT
from chromalith.coord.lease_table import LeaseTable
from chromalith.doctor import (
    bucket,
    cache_health,
    catalog_checks,
    compaction_checks,
    delta_checks,
    history_checks,
    installation,
    store_health,
)
from chromalith.doctor.catalog_checks import Names
from chromalith.doctor.codes import Group
from chromalith.doctor.examination import CollectionCase, Examination, open_case
from chromalith.doctor.finding import Finding, Verdict, verdict
from chromalith.doctor.inventory import take_inventory
from chromalith.errors import ChromalithError, Corrupt, NotFound, Unavailable
from chromalith.model.ids import CollectionId
from chromalith.store.port import Store

THREADS = 16

PLACE_CHECKS: tuple[Callable[[Examination], Iterable[Finding]], ...] = (
    store_health.check_probe,  # first: what it sees of the clock dates the others
    store_health.check_clock,
    store_health.check_timestamps,
    store_health.check_store_object,
    store_health.check_directory,
    bucket.check_bucket,
)
MACHINE_CHECKS: tuple[Callable[[Examination], Iterable[Finding]], ...] = (
    installation.check_python,
    installation.check_libraries,
    cache_health.check_cache_writable,
    cache_health.check_cache_size,
    cache_health.check_cache_room,
    cache_health.check_cached_files,
    cache_health.check_cache_strangers,
)
COLLECTION_CHECKS: tuple[Callable[[Examination, CollectionCase], Iterable[Finding]], ...] = (
    history_checks.check_pointer,
    history_checks.check_manifest,
    history_checks.check_went_back,
    history_checks.check_forked,
    history_checks.check_objects,
    installation.check_indexes,
    delta_checks.check_unreadable,
    delta_checks.check_backlog,
    delta_checks.check_late,
    delta_checks.check_folded_kept,
    delta_checks.check_put_aside,
    compaction_checks.check_leases,
    compaction_checks.check_folded_set,
    compaction_checks.check_sweep,
)
_ORDER = {group: position for position, group in enumerate(Group)}


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination found.

    Attributes:
        store: its canonical URL.
        collections: how many were looked at.
        checks: how many checks were made, those of each collection counted.
        wrote: whether the probe wrote (under ``probe/``, and removed it again).
        findings: by group, and in a group by collection.
        settle_s, skew_s: the store's clock: how long its timestamps take to settle, and how far it is ahead of this machine's (``None``:
            the probe was left out), seconds.
    """

    store: str
    collections: int
    checks: int
    wrote: bool
    findings: tuple[Finding, ...]
    settle_s: float
    skew_s: float | None

    @property
    def verdict(self) -> Verdict:
        """The worst that was found."""
        return verdict(self.findings)


def examine(
    store: Store,
    clock: Clock,
    *,
    cache_dir: Path,
    cache_bytes_max: int,
    only: Named | None = None,
    home: tuple[str, str] = (DEFAULT_TENANT, DEFAULT_DATABASE),
    storage_options: Mapping[str, object] | None = None,
    writes: bool = True,
    leases: LeaseTable | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Report:
    """Look at a store, at its collections, and at this machine.

    Args:
        store, clock: where, and time and chance.
        cache_dir, cache_bytes_max: this machine's cache.
        only: look at this collection only, not at the catalog.
        home: the tenant and the database whose collections are called by their bare names.
        storage_options: those that the store was opened with.
        writes: whether the probe may write under ``probe/``.
        leases: where compactors keep their leases; ``None``: in the store.
        progress: told what is looked at.

    Raises:
        Unavailable: the store could not be reached.
        Invalid: it may not be listed, or is too large to look at in one go.
    """
    progress("listing the store")
    examined = Examination(store, clock, cache_dir, cache_bytes_max, storage_options or {}, writes, leases=leases)
    examined.inventory = take_inventory(store, only.collection.id if only else None)
    findings: list[Finding] = []
    progress("probing the store")
    for check in PLACE_CHECKS[:1]:
        findings += _made(lambda check=check: check(examined))  # type: ignore[misc]
    names, alive = _names(examined, only, home, findings)
    progress("reading collections")
    with ThreadPoolExecutor(THREADS, "chromalith-doctor") as pool:
        examined.collections = list(
            pool.map(lambda cid: open_case(store, cid, names.get(cid), examined.inventory.of(cid)), alive)
        )
    examined.collections = [each for each in examined.collections if not isinstance(each.pointer, NotFound)]  # deleted meanwhile
    for check in (*PLACE_CHECKS[1:], *MACHINE_CHECKS):
        findings += _made(lambda check=check: check(examined))  # type: ignore[misc]
    for case in examined.collections:
        progress(f"examining {case.label}")
        for look in COLLECTION_CHECKS:
            findings += _made(lambda look=look, case=case: look(examined, case), case.label)  # type: ignore[misc]
    findings.sort(key=lambda each: (_ORDER[each.group], each.collection or ""))
    return Report(
        store=store.url,
        collections=len(examined.collections),
        checks=len(PLACE_CHECKS) + len(MACHINE_CHECKS) + len(examined.collections) * len(COLLECTION_CHECKS) + (0 if only else 2),
        wrote=examined.tried is not None,
        findings=tuple(findings),
        settle_s=store.settle_s,
        skew_s=None if examined.tried is None else round(sum(examined.tried.skew_us) / 2e6, 3),
    )


def _names(
    examined: Examination, only: Named | None, home: tuple[str, str], findings: list[Finding]
) -> tuple[Mapping[CollectionId, str], list[CollectionId]]:
    """Names by id, and the collections to look at; what is wrong with the catalog is added to ``findings``."""
    if only is not None:
        return {only.collection.id: only.name}, [only.collection.id]
    inventory = examined.inventory
    names: Names = catalog_checks.read_names(examined.store, inventory.catalog, home)
    alive, found = catalog_checks.check_collection_objects(examined.store, inventory, names, examined.date_us)
    findings += [*names.findings, *found, *catalog_checks.check_foreign(inventory)]
    return names.collections, alive


def _made(check: Callable[[], Iterable[Finding]], collection: str | None = None) -> Iterator[Finding]:
    """What a check finds. What stops it is a finding; a store that cannot be reached ends the examination."""
    try:
        yield from check()
    except Unavailable:
        raise
    except Corrupt as error:
        yield Finding("object_corrupt", error.message, error.hint or "restore it from the bucket's versions", collection)
    except ChromalithError as error:
        yield Finding("not_checked", f"a check ended early: {error.message}", error.hint or "run doctor again", collection)

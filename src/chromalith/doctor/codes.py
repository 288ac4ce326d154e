"""Every code that a finding can have: append-only, because scripts branch on it. ``docs/doctor.md`` is this table for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """``error``: something is lost, damaged, or does not work; ``warning``: it will hurt; ``info``: good to know."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Group(StrEnum):
    """What a finding is about, in the order of the report."""

    INSTALL = "install"
    CACHE = "cache"
    STORE = "store"
    BUCKET = "bucket"
    CATALOG = "catalog"
    HISTORY = "history"
    DELTAS = "deltas"
    COMPACTION = "compaction"


@dataclass(frozen=True, slots=True)
class Code:
    """What a code stands for."""

    severity: Severity
    group: Group
    meaning: str


def _codes(group: Group, **codes: tuple[Severity, str]) -> dict[str, Code]:
    return {name: Code(severity, group, meaning) for name, (severity, meaning) in codes.items()}


_I, _W, _E = Severity.INFO, Severity.WARNING, Severity.ERROR

CODES: dict[str, Code] = {
    **_codes(
        Group.INSTALL,
        python_unsupported=(_E, "this Python is older than the oldest that is supported"),
        library_unsupported=(_W, "an installed library is outside the versions that are supported"),
        index_kind_unknown=(_E, "a version's index cannot be opened by this installation"),
        index_library_newer=(_W, "a version's index was built by a newer library than the one installed"),
    ),
    **_codes(
        Group.CACHE,
        cache_not_writable=(_E, "the cache directory cannot be written: reads fail"),
        cache_over_size=(_I, "the cache is larger than its limit; the next download evicts"),
        cache_disk_full=(_W, "the disk of the cache has less free space than the current versions need"),
        cache_file_corrupt=(_W, "a cached file is not what its manifest says"),
        cache_foreign_files=(_I, "the cache directory holds files or links that are not the cache's"),
    ),
    **_codes(
        Group.STORE,
        not_checked=(_I, "a check was left out, with the reason"),
        store_empty=(_I, "there is no collection in the store yet"),
        store_breaks_promise=(_E, "the store failed a check of the probe: it must not be used"),
        store_refuses_writes=(_W, "the probe could not write: this machine can only read, or not even that"),
        store_object_missing=(_W, "`store.json` is gone, though there are collections"),
        store_object_corrupt=(_E, "`store.json` cannot be read"),
        store_newer_format=(_E, "a newer release wrote `store.json`"),
        clock_skewed=(_W, "this machine's clock and the store's differ by more than a minute"),
        timestamps_coarse=(_W, "the store's timestamps are whole seconds, but it says that they settle at once"),
        directory_on_network=(_W, "a directory store stands on a network file system"),
        directory_symlinks=(_I, "a directory store holds symbolic links"),
    ),
    **_codes(
        Group.BUCKET,
        versioning_off=(_I, "the bucket keeps no old versions of overwritten and deleted objects"),
        versions_never_expire=(_I, "the bucket keeps old versions for ever: what is swept still costs"),
        lifecycle_deletes_live_data=(_E, "a lifecycle rule deletes objects that Chromalith still needs"),
        lifecycle_archives_live_data=(_E, "a lifecycle rule moves objects to a class that cannot be read at once"),
    ),
    **_codes(
        Group.CATALOG,
        catalog_object_corrupt=(_E, "an object of the catalog cannot be read"),
        collection_object_corrupt=(_E, "a collection's object cannot be read"),
        collection_object_missing=(_E, "a name leads to a collection whose object is gone"),
        collection_name_dangling=(_W, "a name leads to a collection that was deleted: a crash during a delete"),
        collection_unnamed=(_I, "a collection has no name: a creator or a fork crashed, or is still at work"),
        collection_deleted_not_swept=(_I, "a deleted collection's objects are still stored"),
        data_of_no_collection=(_W, "there are objects of a collection that has no collection object"),
        foreign_objects=(_W, "objects under Chromalith's prefixes were not written by it"),
    ),
    **_codes(
        Group.HISTORY,
        pointer_missing=(_E, "a collection has no pointer"),
        pointer_corrupt=(_E, "the pointer's body is not one of Chromalith's"),
        pointer_went_back=(_E, "the pointer names a version that was published before another one that is known to be published"),
        history_forked=(_E, "two published versions have one number: a pointer was put back, and a version was published on it"),
        manifest_missing=(_E, "the pointer names a manifest that is gone"),
        manifest_corrupt=(_E, "the current manifest cannot be read, or was altered"),
        manifest_newer_format=(_E, "a newer release wrote the current manifest"),
        object_missing=(_E, "an object that the current version needs is gone"),
        object_corrupt=(_E, "an object that a check had to read is damaged"),
        object_size_differs=(_E, "an object that the current version needs has another size"),
    ),
    **_codes(
        Group.DELTAS,
        deltas_waiting_many=(_W, "so many deltas wait that a listing takes more than one page"),
        deltas_waiting_long=(_W, "a delta has waited for over an hour: is any compactor running?"),
        deltas_late=(_I, "a delta appeared after later ones had been folded; it is folded, but out of its order"),
        deltas_folded_kept=(_W, "folded deltas are not swept: listings are longer than they need be"),
        delta_corrupt=(_E, "a waiting delta cannot be read: default reads raise `Corrupt` until a fold quarantines it"),
        delta_newer_format=(_E, "a waiting delta has a newer format: no fold goes past it"),
        deltas_quarantined=(_W, "deltas are quarantined: they were acknowledged, and are not applied"),
        deltas_aside=(_I, "deltas that a restore set aside are kept"),
    ),
    **_codes(
        Group.COMPACTION,
        lease_held=(_I, "somebody says that it is compacting"),
        lease_stale=(_W, "a lease was not renewed for long: its holder has probably died"),
        lease_corrupt=(_W, "a lease object cannot be read"),
        folded_set_large=(_W, "the folded set is larger than a busy collection's should be"),
        sweep_overdue=(_W, "many versions are stored that retention does not keep: nobody sweeps"),
    ),
}  # fmt: skip

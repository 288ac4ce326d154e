"""Checks of what keeps a collection small: leases, the folded set, and sweeps."""

from __future__ import annotations

import json
from collections.abc import Iterator

from chromalith.coord.lease_table import UNREADABLE
from chromalith.coord.object_leases import ObjectLeases
from chromalith.doctor.examination import CollectionCase, Examination
from chromalith.doctor.finding import Finding
from chromalith.errors import Unavailable
from chromalith.model import layout
from chromalith.model.manifest import Manifest
from chromalith.model.retention import KEEP_AGE_S, KEEP_VERSIONS

STALE_LEASE_TIMES = 10
"""A holder that works writes its record every third of a lease time."""
FOLDED_BYTES_MAX = 3 * 2**20
"""What a million deltas and 100,000 writers in 30 days take."""
UNSWEPT_VERSIONS_MAX = 1_000
"""Manifests that retention does not keep: beyond these a listing of them takes more than one page."""


def check_leases(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Who says that it is at work, and whether it still is."""
    leases = examined.leases or ObjectLeases(examined.store, examined.clock)
    for key in (layout.lease_key(case.cid), layout.merge_lease_key(case.cid)):
        try:
            seen = leases.look(key)
        except Unavailable as error:  # a lease table that does not answer is not the store, which is looked at all the same
            yield Finding("not_checked", f"a lease could not be looked at: {error.message}", "run doctor again", case.label)
            return
        if seen is None or seen.record.released:
            continue
        merging = key == layout.merge_lease_key(case.cid)
        record = seen.record
        if record.owner == UNREADABLE:
            yield Finding(
                "lease_corrupt",
                f"a lease cannot be read key={key}",
                "nothing needs to be done: compactors wait one lease time, then take it over",
                case.label,
            )
            continue
        age_s = 0.0 if seen.modified_us is None else (examined.date_us - seen.modified_us) / 1e6
        told = f"purpose={record.purpose} owner={record.owner} unchanged_s={age_s:.0f}"
        if age_s > STALE_LEASE_TIMES * max(record.lease_s, 1.0):
            yield Finding(
                "lease_stale",
                f"a lease is held, but was not renewed: its holder has probably died {told}",
                "the next compactor takes it over after waiting; at once:"
                f" chromalith lock break {case.label} --expect-owner '{record.owner}'{' --merge' if merging else ''}",
                case.label,
            )
        else:
            yield Finding("lease_held", f"a lease is held {told}", "nothing needs to be done", case.label)


def check_folded_set(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """How large the memory of what was folded is."""
    if not isinstance(case.manifest, Manifest):
        return
    inline = len(json.dumps(case.manifest.folded.to_json(), separators=(",", ":")))
    parts = sum(part.file.size for part in case.manifest.folded_parts)
    if inline + parts > FOLDED_BYTES_MAX:
        yield Finding(
            "folded_set_large",
            f"the folded set is large bytes={inline + parts} parts={len(case.manifest.folded_parts)} limit={FOLDED_BYTES_MAX}",
            "let writers live longer: each process that writes costs an entry for 30 days, each call of a living one almost nothing",
            case.label,
        )


def check_sweep(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether versions that retention does not keep are swept."""
    if not isinstance(case.manifest, Manifest):
        return
    newest = case.manifest.version - KEEP_VERSIONS
    oldest_us = examined.date_us - round(2 * KEEP_AGE_S * 1_000_000)
    kept = [each for version, found in case.has.manifests.items() if version <= newest for each in found if each.modified_us < oldest_us]
    if len(kept) > UNSWEPT_VERSIONS_MAX:
        yield Finding(
            "sweep_overdue",
            f"{len(kept)} manifests of old versions are stored limit={UNSWEPT_VERSIONS_MAX}",
            f"chromalith sweep {case.label} shows what would go; run chromalith sweep --delete once a day",
            case.label,
        )

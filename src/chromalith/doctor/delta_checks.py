"""Checks of a collection's deltas: what waits, what cannot be folded, and what was put aside."""

from __future__ import annotations

from collections.abc import Iterator

from chromalith.doctor.examination import CollectionCase, Examination
from chromalith.doctor.finding import Finding
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.delta import decode_delta
from chromalith.model.manifest import Manifest

PAGE = 1_000
"""The entries of one page of a listing on S3: with more, each default read makes several requests, more than once."""
WAITING_S_MAX = 3_600
READ_MAX = 16
"""How many waiting deltas are read, oldest first: a fold meets them in this order."""
NAMED_MAX = 5


def check_backlog(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether deltas are folded as fast as they come."""
    waiting = case.waiting(examined.store)
    compact = f"chromalith compact {case.label}, and see that a compactor runs (chromalith compact --watch)"
    if len(waiting) > PAGE:
        yield Finding("deltas_waiting_many", f"{len(waiting)} deltas wait to be folded limit={PAGE}", compact, case.label)
    oldest_s = (examined.date_us - min((each.modified_us for each in waiting), default=examined.date_us)) / 1e6
    if oldest_s > WAITING_S_MAX:
        yield Finding(
            "deltas_waiting_long",
            f"a delta has waited for {oldest_s / 3600:.1f} hours deltas={len(waiting)}",
            compact,
            case.label,
        )


def check_late(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether a waiting delta is older than one that was folded already: the store showed it too late."""
    waiting = case.waiting(examined.store)
    if not waiting:
        return
    calls = {each.id for each in waiting}
    quarantined = {each.delta for each in case.manifest.quarantined} if isinstance(case.manifest, Manifest) else set()
    folded_us = max((each.modified_us for each in case.has.deltas if each.id not in calls and str(each.id) not in quarantined), default=0)
    late = [each for each in waiting if each.modified_us < folded_us]
    if late:
        yield Finding(
            "deltas_late",
            f"{len(late)} deltas appeared after later ones had been folded first={late[0].id}",
            "nothing is lost; where one id was written by two processes at about the same time, their order may have changed once",
            case.label,
        )


def check_unreadable(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether the oldest waiting deltas can be read."""
    for each in case.waiting(examined.store)[:READ_MAX]:
        key = layout.delta_key(case.cid, each.id)
        try:
            decode_delta(case.cid, each.id, examined.store.get(key).body)
        except NotFound:
            continue  # folded and swept meanwhile
        except Corrupt as error:
            yield Finding(
                "delta_corrupt",
                error.message,
                f"restore {key} from the bucket's versions; or chromalith compact {case.label} quarantines it, and reads go on without it",
                case.label,
            )
        except Invalid as error:
            yield Finding("delta_newer_format", error.message, "upgrade chromalith where compactors run", case.label)
            return  # a fold stops here


def check_folded_kept(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether deltas go when they are folded."""
    kept = len(case.has.deltas) - len(case.waiting(examined.store))
    if kept > PAGE and isinstance(case.manifest, Manifest):
        yield Finding(
            "deltas_folded_kept",
            f"{kept} folded deltas are still listed limit={PAGE}",
            f"chromalith compact {case.label} sweeps those that were folded over a minute ago; is it allowed to delete?",
            case.label,
        )


def check_put_aside(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether there are deltas that are kept, but not applied."""
    if not isinstance(case.manifest, Manifest):
        return
    quarantined = case.manifest.quarantined
    if quarantined:
        named = "; ".join(f"{each.delta}: {each.reason}" for each in quarantined[:NAMED_MAX])
        yield Finding(
            "deltas_quarantined",
            f"{len(quarantined)} deltas are quarantined {named}",
            f"chromalith delta list {case.label} shows them; restore the bytes from the bucket's versions, then"
            f" chromalith delta replay {case.label} lets them be folded; chromalith delta drop {case.label} gives them up",
            case.label,
        )
    aside = sum(each.deltas for each in case.manifest.aside)
    if aside:
        yield Finding(
            "deltas_aside",
            f"{aside} deltas that {len(case.manifest.aside)} restores set aside are kept",
            f"chromalith delta list {case.label} shows them, chromalith delta replay {case.label} --all applies them again",
            case.label,
        )

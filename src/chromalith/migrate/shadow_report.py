"""What shadow reads found, over all clients, as one JSON value: for ``chromalith migrate shadow`` and the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from chromalith.migrate import presence
from chromalith.migrate.latencies import Histogram
from chromalith.migrate.looking import looked_at
from chromalith.migrate.mismatches import Mismatches
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.shadow_stats import Counts, ShadowStats, summed

PERCENTILES = (50, 95, 99)


def stats_of_all(place: Place, since: int) -> tuple[ShadowStats, int]:
    """The sum over all clients that ever said something since ``since``, live or not, and how many these are.

    A client that has not yet seen that counting began anew still says old numbers: they are left out. Raises ``Unavailable``, ``Corrupt``.
    """
    found = [ShadowStats.decode(each.shadow) for each in presence.read_all(looked_at(place)[0]) if each.shadow]
    counted = [each for each in found if each.since >= since]
    return summed(counted), len(counted)


def report(
    place: Place, since: int, *, limit: int, verb: str | None = None, collection: str | None = None
) -> dict[str, Any]:
    """The whole answer; ``limit``: of the newest mismatches; ``verb`` and ``collection`` choose. Raises ``Unavailable``, ``Corrupt``."""
    stats, clients = stats_of_all(place, since)
    mismatches = Mismatches(place)
    rows = {key: each for key, each in stats.counts.items() if verb in (None, key[0]) and collection in (None, key[1])}
    stored = mismatches.count()
    few = verb is None and collection is None
    newest = mismatches.newest(limit if few else stored)
    chosen = [
        each for each in newest if verb in (None, each["verb"]) and collection in (None, each["collection"])
    ]  # fmt: skip
    return {
        "name": place.name,
        "since_epoch": since,
        "clients": clients,
        **_counted(sum(rows.values(), Counts())),
        "by": [
            {"verb": key[0], "collection": key[1], **_counted(each)} for key, each in sorted(rows.items())
        ],
        "lately": asdict(stats.lately),
        "latency": list(_latencies(stats, verb)),
        "failures": dict(stats.failures),
        "kept": stored,
        "mismatched_reads": chosen[:limit],
    }  # fmt: skip


def _counted(counts: Counts) -> dict[str, Any]:
    return {"agreement": counts.agreement, "judged": counts.judged, **asdict(counts)}


def _latencies(stats: ShadowStats, verb: str | None) -> Iterable[dict[str, Any]]:
    """By verb and side, of pairs and of the callers' own reads."""
    for of, latencies in (("pairs", stats.pairs), ("reads", stats.reads)):
        for (name, role), histogram in sorted(latencies.items()):
            if verb in (None, name):
                yield {"of": of, "verb": name, "side": role.value, "calls": histogram.total, **percentiles(histogram)}


def percentiles(histogram: Histogram) -> dict[str, float | None]:
    """``p50_ms``, ``p95_ms`` and ``p99_ms``."""
    found = {percent: histogram.percentile_s(percent) for percent in PERCENTILES}
    return {f"p{percent}_ms": None if each is None else round(1000 * each, 3) for percent, each in found.items()}


def latency_sides(stats: ShadowStats) -> dict[Role, Histogram]:
    """Each side's over all verbs: of pairs, or where there are none of all reads."""
    return {role: stats.latency(role) for role in Role}

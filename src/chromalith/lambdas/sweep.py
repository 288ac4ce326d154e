"""The sweep handler: deletes what no kept version names, of one collection or of the whole store. Once a day is often enough.

What is kept is said by the settings ``CHROMALITH_KEEP_VERSIONS``, ``CHROMALITH_KEEP_AGE_S`` and ``CHROMALITH_JOB_GRACE_S``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from chromalith.compaction.sweep import SweepOutcome
from chromalith.guide import CHROMADB_BUCKET, DELTA_BUCKET, STORE, bucket_url
from chromalith.lambdas.payloads import Sweep, check_object, read
from chromalith.lambdas.runs import TOLD_MAX, names_of
from chromalith.lambdas.runtime import Invocation, entry
from chromalith.model.retention import Retention
from chromalith.sweeping import sweep_session

VARIABLES = (CHROMADB_BUCKET, DELTA_BUCKET, STORE)


def sweep(run: Invocation, payload: Any) -> dict[str, Any]:
    """Sweep, or say what a sweep would delete; see ``docs/lambdas.md`` for both shapes."""
    check_object(payload)
    asked = Sweep() if payload.get("source") in ("aws.events", "aws.scheduler") else read(Sweep, payload)
    settings = run.kept.settings
    outcomes = sweep_session(
        run.kept.store.session,
        bucket_url(None, VARIABLES),
        asked.collection,
        Retention(settings.keep_versions, settings.keep_age_s, settings.job_grace_s),
        delete=not asked.dry_run,
        tenant=asked.tenant,
        database=asked.database,
        time_left=run.time_left,
    )
    names = names_of(run, asked.tenant, asked.database)
    shown = [_told(each, names.get(each.collection) if each.collection else None) for each in outcomes if _says_something(each)]
    answer = {
        "status": "success",
        "dry_run": asked.dry_run,
        "objects": sum(each["objects"] for each in shown),
        "bytes": sum(each["bytes"] for each in shown),
        "out_of_time": any(each.out_of_time for each in outcomes),
        "collections": shown[:TOLD_MAX],
        "collections_not_shown": max(0, len(shown) - TOLD_MAX),
    }
    run.log.info("swept", extra={name: answer[name] for name in ("dry_run", "objects", "bytes", "out_of_time")})
    return answer


def _says_something(outcome: SweepOutcome) -> bool:
    return bool(outcome.garbage or outcome.skipped or outcome.out_of_time)


def _told(outcome: SweepOutcome, name: str | None) -> dict[str, Any]:
    """``objects`` and ``bytes`` are what was found to be garbage; where ``deleted`` and not ``out_of_time``, all of it is gone."""
    return {
        "collection": name,
        "id": outcome.collection,
        "version": outcome.version,
        "versions_kept": outcome.versions,
        "deleted": outcome.deleted,
        "objects": len(outcome.garbage),
        "bytes": sum(each.size for each in outcome.garbage),
        "reasons": dict(Counter(str(each.reason) for each in outcome.garbage)),
        "skipped": list(outcome.skipped),
        "out_of_time": outcome.out_of_time,
    }


handler = entry("sweep", sweep, variables=VARIABLES)

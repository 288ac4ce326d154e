"""What observers are told of a run: how it ended, and what waits, from what the run came to know anyway.

How it is counted:

- *One event for each run of one collection*, an idle one too: that it looked and found nothing to do is a success. A run that left
  everything (``left``) to the holder of the lease, or to a later one that has more time, is none: so if a lease is never given back, or
  there is never enough time, no success is counted, while the deltas that wait are. A caller that then waits for the lease runs again,
  and is counted again.
- *What was published counts, however the run ended*, and once: a fold may be published before a merge fails. Of a publish whose ending
  nobody knows nothing is counted, because it may not have been.
- *What waits is told by every run that could list the deltas*, whether it then failed or had no lease: an alarm on their number or
  age must not fall silent with what it is to tell of. Under the lease the number is exact. Without, only the part of the folded set that is
  in the manifest is looked at, because the rest would cost a request; and if the manifest can't be read, every delta that is listed counts.
  Each of these errs to too many. A delta waits until the fold that took it is *published*: one that fails takes nothing away.
- *A look at the whole store that finds no delta says so* (:class:`~chromalith.observe.events.Looked`). So a compactor that is alive always
  says what waits, and one that is dead is known by its silence.
- *A collection that was deleted is no failure*, and nothing is said of it.
- Races, bytes, records and what is quarantined come from what was read and written: nothing is asked of the store for them.
- Ages are by this machine's clock, because the store's date is not known to whoever writes nothing. They are for people: nothing is decided
  by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chromalith.clock import Clock
from chromalith.compaction.outcome import Outcome
from chromalith.errors import ChromalithError, Kind, NotFound
from chromalith.observe.events import Compacted, CompactionFailed
from chromalith.observe.hooks import Observer


@contextmanager
def observed(observe: Observer, clock: Clock, outcome: Outcome) -> Iterator[None]:
    """Tell ``observe`` how the block ended that fills ``outcome``; what it raised is raised."""
    began_s = clock.monotonic_s()
    try:
        yield
    except NotFound:
        raise  # the collection was deleted
    except Exception as error:
        kind = error.kind if isinstance(error, ChromalithError) else Kind.BUG
        observe(CompactionFailed(**_run(outcome, clock, began_s), kind=kind))
        raise
    left = outcome.idle and (outcome.held_by is not None or outcome.out_of_time)
    observe(Compacted(**_run(outcome, clock, began_s), left=left))


def _run(outcome: Outcome, clock: Clock, began_s: float) -> dict[str, Any]:
    oldest_us = outcome.oldest_waiting_us
    age_s = 0.0 if oldest_us is None else max(0.0, (clock.now_us() - oldest_us) / 1e6)
    return {
        "collection": outcome.collection,
        "seconds": clock.monotonic_s() - began_s,
        "published": len(outcome.published),
        "deltas": outcome.folded,
        "lost_races": outcome.lost_races,
        "backlog": outcome.waiting if outcome.looked else None,
        "oldest_delta_s": age_s if outcome.looked else None,
        "quarantined": outcome.quarantined_now,
        "bytes_written": outcome.bytes_written,
        "live": outcome.live,
    }

"""Leases: the advisory right to compact. A lease saves work and protects nothing: the conditional publish does (P6).

One record for each collection and purpose, in a :class:`~chromalith.coord.lease_table.LeaseTable` (objects of the store, or DynamoDB),
changed by conditional writes only. The protocol:

1. *Acquire.* Nothing there: write, if it is so still. Released: overwrite what was read. Held by another: watch. If the record stays
   the very same (witness and token) for the lease time *that it states*, measured on the observer's own monotonic clock from the end of
   the first look to the start of the last, its holder is taken for dead, and its record is overwritten. No clock of another
   machine is read, so no skew of clocks can break a live lease or keep a dead one.
2. *Beat*: every third of the lease time the holder overwrites its own last record with a new token. A beat that finds another's record,
   a released one or none marks the lease lost, for good: it never takes back. (Without that condition a holder that had
   overslept would overwrite its successor.)
3. *Release*: overwrite the own record with ``released``. Never a delete: after one, a late beat that was only conditional on "mine" could
   bring the lease back, and a write of a new record could not tell a second from a first.
4. *Break*: a person overwrites a record whose owner they named.

The right can be believed by two at once: a holder that was suspended for longer than the lease time goes on working until its
next beat. Then both publish, one of them loses the race and rebases or starts again, and nothing else happens.

The owner is readable (host, process, nonce), and the nonce is drawn anew for each acquisition: so "mine" means this very tenure, also
to a heartbeat in another process (:mod:`chromalith.coord.heartbeat`). The idea of the token and the observer is that of the awslabs
DynamoDB lock client.
"""

from __future__ import annotations

import os
import platform
import threading
from dataclasses import dataclass, replace

from chromalith.clock import Clock
from chromalith.coord.lease_table import LEASE_S, UNREADABLE, LeaseRecord, LeaseTable, Overtaken, Seen, Witness
from chromalith.errors import Conflict, Invalid, Unavailable, Unknown

BEATS = 3
"""Beats in a lease time: two can fail before anybody takes the holder for dead."""
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Who else holds a lease.

    Attributes:
        owner, purpose: as in the record.
        wait_s: how much longer its record must stay unchanged before this observer takes over.
        alive: whether this observer saw it beat: then there is no point in waiting for it to die.
    """

    owner: str
    purpose: str
    wait_s: float
    alive: bool


@dataclass(frozen=True, slots=True)
class _Sighting:
    record: LeaseRecord
    witness: Witness
    since_s: float
    alive: bool


class Sightings:
    """What an observer has seen of other holders, by key of the lease. Share one between rounds, so that no round has to wait.

    Args:
        clock: its monotonic time is the only time that a lease is judged by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, _Sighting] = {}

    def judge(self, key: str, seen: Seen, asked_s: float) -> HeldBy:
        """What is known of a holder whose record was just read; ``asked_s``: the monotonic time before that request was made."""
        with self._lock:
            old = self._seen.get(key)
            if old is None or old.witness != seen.witness or old.record != seen.record:
                alive = old is not None and old.record.owner == seen.record.owner
                old = _Sighting(seen.record, seen.witness, self._clock.monotonic_s(), alive)
                self._seen[key] = old
        wait_s = max(0.0, seen.record.lease_s - max(0.0, asked_s - old.since_s))
        return HeldBy(seen.record.owner, seen.record.purpose, wait_s, old.alive)

    def forget(self, key: str) -> None:
        """Nobody else holds it any more."""
        with self._lock:
            self._seen.pop(key, None)


def this_process() -> str:
    """The first part of this process's owner names: host and process, for people."""
    return f"{platform.node() or 'unknown'}/{os.getpid()}"


class Lease:
    """One lease, as one would-be holder sees it.

    Args:
        table, key, clock: which, and time and chance.
        purpose: ``fold`` or ``merge``.
        owner: host and process, in words; a nonce is added with each acquisition.
        lease_s: for how long others must see the record unchanged before they take over.
        sightings: what this process saw of other holders before.
    """

    def __init__(
        self,
        table: LeaseTable,
        key: str,
        clock: Clock,
        *,
        purpose: str,
        owner: str | None = None,
        lease_s: float = LEASE_S,
        sightings: Sightings | None = None,
    ) -> None:
        self._table = table
        self._key = key
        self._clock = clock
        self._purpose = purpose
        self._owner = owner or this_process()
        self._lease_s = lease_s
        self._sightings = sightings or Sightings(clock)

    def try_acquire(self) -> Tenure | HeldBy:
        """Acquire it now, or say who holds it. Never waits. Raises ``Unavailable``."""
        held = HeldBy(UNREADABLE, self._purpose, self._lease_s, False)
        for _ in range(_ATTEMPTS):
            asked_s = self._clock.monotonic_s()
            seen = self._table.look(self._key)
            if seen is not None and not seen.record.released:
                held = self._sightings.judge(self._key, seen, asked_s)
                if held.wait_s > 0:
                    return held
            tenure = self._take(seen)
            if tenure is not None:
                self._sightings.forget(self._key)
                return tenure
        return held

    def acquire(self, timeout_s: float) -> Tenure | HeldBy:
        """Acquire it, waiting until it is released, its holder is taken for dead or seen to be alive, or the time is over.

        Raises ``Unavailable``."""
        stop_s = self._clock.monotonic_s() + timeout_s
        while True:
            found = self.try_acquire()
            rest_s = stop_s - self._clock.monotonic_s()
            if isinstance(found, Tenure) or found.alive or rest_s <= 0:
                return found
            self._clock.sleep(min(rest_s, found.wait_s, max(0.01, self._lease_s / (4 * BEATS))))

    def _take(self, seen: Seen | None) -> Tenure | None:
        owner = f"{self._owner}/{self._clock.random_hex(8)}"
        record = LeaseRecord(owner, self._clock.random_hex(32), self._lease_s, self._purpose, False)
        try:
            witness = self._table.write(self._key, record, None if seen is None else seen.witness)
        except Overtaken:
            return None
        except Unknown as error:  # if it was applied after all, it stands unchanged, and others wait one lease time for nobody
            raise Unavailable(f"the lease could not be written key={self._key}", hint="try again") from error
        return Tenure(self._table, self._key, self._clock, record, witness)


class Tenure:
    """A lease that this process holds, until it is released or lost. Safe to share between threads.

    Args:
        table, key, clock: which, and chance.
        record: the own record; its owner is what makes it this tenure's.
        witness: of the last own write.
    """

    def __init__(self, table: LeaseTable, key: str, clock: Clock, record: LeaseRecord, witness: Witness) -> None:
        self._table = table
        self._key = key
        self._clock = clock
        self._record = record
        self._witness = witness
        self._lock = threading.Lock()
        self._over = False
        self._dated = False
        self._lost_to: Seen | None = None

    @property
    def key(self) -> str:
        return self._key

    @property
    def record(self) -> LeaseRecord:
        """The record as it was acquired; the token changes with each beat."""
        return self._record

    @property
    def lost(self) -> bool:
        """Whether a beat found another's record in its place. Until a beat looks, a lease that was taken over seems held."""
        return self._over

    @property
    def lost_to(self) -> HeldBy:
        """Who holds it, or broke it, as far as is known."""
        seen = self._lost_to
        owner = seen.record.owner if seen is not None else UNREADABLE
        return HeldBy(owner, self._record.purpose, self._record.lease_s, alive=True)

    def beat(self) -> bool:
        """Say that the holder is alive; whether the lease is still held. Raises ``Unavailable``: nothing is known, and nothing is lost."""
        with self._lock:
            return self._write(released=False)

    def date_us(self) -> int | None:
        """The store's date, after a beat; ``None`` if the lease is lost.

        Microseconds since 1970-01-01 UTC by the store's clock. The write that acquired the lease serves for the first date's beat.
        """
        if (self._dated or self.lost) and not self.beat():
            return None
        self._dated = True
        date_us = self._table.date_us(self._key)
        if date_us is None:
            with self._lock:
                self._over = True
        return date_us

    def release(self) -> None:
        """Let others have it. Does nothing if it is lost; raises nothing: a record that can't be released runs out."""
        with self._lock:
            try:
                self._write(released=True)
            except (Unavailable, Invalid):  # also credentials that ended meanwhile: the work that was done stays done
                pass
            finally:
                self._over = True

    def _write(self, *, released: bool) -> bool:
        for _ in range(_ATTEMPTS):
            if self._over:
                return False
            record = replace(self._record, token=self._clock.random_hex(32), released=released)
            try:
                self._witness = self._table.write(self._key, record, self._witness)
                return True
            except Overtaken as error:
                seen = error.seen
            except Unknown as error:
                raise Unavailable(f"a beat was lost from sight key={self._key}", hint="the next one tells") from error
            if seen is None or seen.record.released or seen.record.owner != self._record.owner:
                self._over, self._lost_to = True, seen
                return False
            self._witness = seen.witness  # this very tenure's, by its heartbeat in another process
            if not released:
                return True  # and as fresh as ours would have been
        raise Unavailable(f"the lease changes too fast key={self._key}", hint="the next beat tells")


def break_lease(table: LeaseTable, key: str, clock: Clock, *, expected_owner: str, by: str | None = None) -> Seen | None:
    """Release somebody else's lease: what it was, or ``None`` if nobody holds it.

    The holder finds out at its next beat and is not interrupted; what it publishes is decided by the pointer, as ever.

    Raises ``Conflict`` if the owner is another than the one expected, or beats faster than it can be broken.
    """
    for _ in range(_ATTEMPTS * BEATS):
        seen = table.look(key)
        if seen is None or seen.record.released:
            return None
        if seen.record.owner != expected_owner:
            raise Conflict(
                f"the lease has another owner owner={seen.record.owner} expected={expected_owner}",
                hint="see `chromalith lock status`",
            )
        record = replace(seen.record, owner=by or this_process(), token=clock.random_hex(32), released=True)
        try:
            table.write(key, record, seen.witness)
        except Overtaken:
            continue  # it has just beaten
        return seen
    raise Conflict(f"the holder beats all the time key={key}", hint="try again")

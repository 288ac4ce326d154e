"""What a backfill looks at while it works: its migration's state, its lease, and whether it must end."""

from __future__ import annotations

import threading

from chromalith.coord.lease import Tenure
from chromalith.errors import Conflict, LeaseHeld, Unavailable
from chromalith.migrate.phases import Phase
from chromalith.migrate.state import State
from chromalith.migrate.states import Seen, States

LOOK_S = 1.0
LEASE_S = 15.0
"""So long a backfill that is said again waits for one that was killed."""
BEAT_S = 4.0


class Ended(Exception):
    """The copy ends, because another of its threads failed. Never leaves this package."""


class Watch:
    """Looks now and then, on behalf of all threads of one backfill.

    Args:
        states: of the migration.
        run: which backfill this is.
        tenure: its lease.
    """

    def __init__(self, states: States, run: str, tenure: Tenure) -> None:
        self._states = states
        self._run = run
        self._tenure = tenure
        self._clock = states.place.clock
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._look_s = self._beat_s = self._clock.monotonic_s()
        self._paused: str | None = None
        self.stop = threading.Event()
        """Set: every thread ends before its next request."""

    def tick(self) -> str | None:
        """Why the copy is paused, if it is.

        Raises ``Conflict`` (the migration went on without this backfill), ``LeaseHeld`` (another took over), :class:`Ended`."""
        if self.stop.is_set():
            raise Ended
        if self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._paused

    def _look(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._beat_s >= BEAT_S:
            self._beat_s = now_s
            try:
                if not self._tenure.beat():
                    raise LeaseHeld(
                        f"another backfill took over owner={self._tenure.lost_to.owner}",
                        hint="let it work, or end it and say `chromalith migrate backfill` again",
                    )
            except Unavailable:
                pass  # nothing is known, and no safety rests on it
        if self._seen is None or now_s - self._look_s >= LOOK_S:
            try:
                self._seen = self._states.look(self._seen)
            except Unavailable:
                return  # each chunk asks for itself before it writes
            self._look_s = self._clock.monotonic_s()
            self._paused = "the migration is paused (`chromalith migrate resume`)" if self._goes_on().paused else None

    def _goes_on(self) -> State:
        state = None if self._seen is None else self._seen.state
        return check_goes_on(state, self._run)


def check_goes_on(state: State | None, run: str) -> State:
    """The state, if this backfill is what it names. Raises ``Conflict`` if it is not any more."""
    if state is None or state.phase is not Phase.BACKFILL or state.backfill.get("run") != run:
        phase = "none" if state is None else str(state.phase)
        raise Conflict(
            f"the migration went on without this backfill phase={phase}",
            hint="nothing is lost: `chromalith migrate status` says where it stands",
        )
    return state

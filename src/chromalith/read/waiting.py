"""Read after: wait until a state has what a session token stands for, and never longer than asked.

1. Look, as the read level would anyway (a bounded level may have it without a request).
2. It is there if the overlay has the delta, or another one of the same call (a retried call is one call), or if the version has folded it.
   It never will be if a restore set it aside, if it stands for no operation, or if it is quarantined: then say so at once.
3. Else wait a little, longer each time, and look again: now in the store, whatever the level. After the timeout: ``Unavailable``.

A token names a write that was acknowledged, so at the default level the first look finds it; the weaker levels wait for their staleness, or
for a fold. What polls is bounded by a second: one LIST and one conditional GET each.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from chromalith.clock import Clock
from chromalith.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from chromalith.model.folded import FoldedLookup
from chromalith.model.folded import State as Fate
from chromalith.model.ids import DeltaId
from chromalith.model.session_token import SessionToken
from chromalith.read.view import State

DEFAULT_TIMEOUT_S = 10.0
POLL_FIRST_S = 0.05
POLL_MAX_S = 1.0
POLL_GROWTH = 1.6


def wait_until_seen(
    token: SessionToken,
    look: Callable[[bool], State],
    seen_in: Callable[[State], bool],
    clock: Clock,
    *,
    timeout_s: float,
    hint: str,
) -> State:
    """The first state that has what ``token`` stands for.

    Args:
        token: what to wait for.
        look: a state to look at; told whether it must be asked of the store now.
        seen_in: whether it is in a state; raises where it never will be.
        clock: for waiting.
        timeout_s: how long at most, seconds; 0 looks once more in the store, and does not wait.
        hint: what to do when it is over.

    Raises ``Unavailable`` after the timeout, ``Invalid`` (the timeout), and what ``look`` and ``seen_in`` raise.
    """
    if not timeout_s >= 0 or math.isinf(timeout_s):
        raise Invalid(f"not a time to wait timeout_s={timeout_s}", hint="give seconds, 0 or more")
    ends_s = clock.monotonic_s() + timeout_s
    state = look(False)
    pause_s = POLL_FIRST_S
    while not seen_in(state):
        state = look(True)
        if seen_in(state):
            break
        left_s = ends_s - clock.monotonic_s()
        if left_s <= 0:
            raise Unavailable(f"what the session token stands for was not seen in time timeout_s={timeout_s:g} token={token}", hint=hint)
        clock.sleep(min(left_s, clock.uniform(pause_s / 2, pause_s)))
        pause_s = min(pause_s * POLL_GROWTH, POLL_MAX_S)
    return state


def is_seen(token: SessionToken, state: State, folded: FoldedLookup, is_void: Callable[[DeltaId], bool]) -> bool:
    """Whether ``state`` has what ``token`` stands for. Asks for folded parts only if the overlay has not.

    Raises ``Conflict`` (set aside by a restore), ``NotFound`` (it stands for no operation), ``Corrupt`` (quarantined).
    """
    call = (token.delta.writer, token.delta.counter)
    for delta in state.overlay:
        if (delta.writer, delta.counter) == call:
            if is_void(delta):
                raise _void(token)
            return True
    run = folded.find_all([token.delta])[0]
    if run is None:
        quarantined = {each.delta: each.reason for each in state.manifest.quarantined}
        if str(token.delta) in quarantined:
            raise Corrupt(
                f"what the session token stands for is quarantined token={token}: {quarantined[str(token.delta)]}",
                hint="the delta is kept and not applied; write the call again",
            )
        return False
    if run.state is Fate.ASIDE:
        raise Conflict(
            f"what the session token stands for was set aside by a restore token={token}",
            hint="write it again, or `chromalith delta replay` what the restore set aside",
        )
    if run.state is Fate.VOID:
        raise _void(token)
    return True


def _void(token: SessionToken) -> NotFound:
    return NotFound(
        f"the session token stands for a call that its writer gave up token={token}", hint="it did not happen: write it again"
    )

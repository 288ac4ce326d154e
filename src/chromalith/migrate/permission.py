"""May a tool of the migration write now? Asked after its entry of the journal is open, never before (:mod:`chromalith.migrate.mend`)."""

from __future__ import annotations

from chromalith.migrate.state import State
from chromalith.migrate.states import States


class Refused(Exception):
    """The state doesn't allow tools to write now; the text says why. Never leaves this package."""


def permit(states: States, freeze_id: str | None) -> State:
    """The state, read now.

    Args:
        states: where it is.
        freeze_id: of the freeze that the caller published itself, and that must stand; ``None``: there must be none.

    Raises ``Refused`` if tools must not write on it, ``Unavailable``, ``Corrupt``.
    """
    state = states.find()
    if state is None or not state.is_dual:
        raise Refused("writes don't go to both sides now")
    if freeze_id is None and state.freeze is not None:
        raise Refused(f"writes are frozen by `{state.freeze.verb}`")
    if freeze_id is not None and (state.freeze is None or state.freeze.id != freeze_id):
        raise Refused("the freeze was cancelled")
    return state

"""Removing what a migration kept in its store, after its end. The state goes last: a removal that was cut short can be said again."""

from __future__ import annotations

from chromalith.errors import Conflict
from chromalith.migrate.phases import ENDED
from chromalith.migrate.places import Place
from chromalith.migrate.states import States


def remove(place: Place, *, with_state: bool) -> None:
    """Delete everything below the migration's prefix, then (``with_state``) its state.

    Raises ``Unavailable``; ``Conflict``: another one of this name has begun, since somebody else has forgotten the one that had ended."""
    for page in place.store.list(place.prefix()):
        _check_ended(place)
        for entry in page:
            place.store.delete(entry.key)
    if with_state:
        _check_ended(place)
        place.store.delete(place.state_key)


def _check_ended(place: Place) -> None:
    state = States(place).find()
    if state is not None and state.phase not in ENDED:
        raise Conflict(
            f"a migration of this name has begun meanwhile name={place.name!r} phase={state.phase}",
            hint="look with `chromalith migrate status`",
        )

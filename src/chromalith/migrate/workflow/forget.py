"""Removing what a migration kept in its store, after its end. The state goes last: a removal that was cut short can be said again."""

from __future__ import annotations

from chromalith.migrate.places import Place


def remove(place: Place, *, with_state: bool) -> None:
    """Delete everything below the migration's prefix, then (``with_state``) its state. Raises ``Unavailable``."""
    for page in place.store.list(place.prefix()):
        for entry in page:
            place.store.delete(entry.key)
    if with_state:
        place.store.delete(place.state_key)

"""Observers: functions of an event. They can slow nothing down much and break nothing: what one raises is logged and dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable

from chromalith.observe.events import Event

Observer = Callable[[Event], None]
"""Called in the thread that did the work, after it was done. It must return at once: whoever has more to do hands the event on."""

_log = logging.getLogger(__name__)


def silent(event: Event) -> None:
    """Nobody looks."""


def together(*observers: Observer) -> Observer:
    """One observer of several, none of which can keep the others, or the work, from going on."""
    return silent if not observers else lambda event: _tell(observers, event)


def _tell(observers: tuple[Observer, ...], event: Event) -> None:
    for observer in observers:
        try:
            observer(event)
        except Exception:  # what was done is done: a metric that can't be counted must not make it look undone
            _log.warning("an observer failed event=%s", type(event).__name__, exc_info=True)

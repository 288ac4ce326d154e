"""``--at``: a version's number, a tag, or a time, as the commands that read the past take it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from chromalith.coord.history import Moment, version_of
from chromalith.coord.pointer import read_current
from chromalith.coord.tags import find_tag
from chromalith.errors import Invalid, NotFound
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.session import Session

At = Annotated[
    str | None,
    typer.Option("--at", metavar="WHEN", help="An older version: its number, a tag, or a time such as 2026-01-31T12:00:00Z."),
]


def moment_of(session: Session, cid: CollectionId, text: str) -> Moment:
    """What ``text`` means. Digits are a version; of what could be a tag or a time, a tag that exists comes first.

    Raises ``Invalid`` for a time without a time zone.
    """
    if text.isdecimal():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    with suppress(NotFound):
        return find_tag(session.store, cid, text).name
    if found.tzinfo is None:
        raise Invalid(f"the time has no time zone at={text}", hint="write 2026-01-31T12:00:00Z, or +01:00 in place of the Z")
    return found


def manifest_of(session: Session, cid: CollectionId, text: str | None) -> Manifest:
    """The version that ``text`` names; the current one if it is ``None``. Raises ``NotFound``, ``Invalid``."""
    if text is None:
        return read_current(session.store, cid).manifest
    return version_of(session.store, cid, moment_of(session, cid, text))

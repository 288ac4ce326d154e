"""``--at``: a version's number, a tag, or a time, as the commands that read the past take it."""

from __future__ import annotations

from typing import Annotated

import typer

from chromalith.coord import history
from chromalith.coord.history import Moment, version_of
from chromalith.coord.pointer import read_current
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.session import Session

At = Annotated[
    str | None,
    typer.Option("--at", metavar="WHEN", help="An older version: its number, a tag, or a time such as 2026-01-31T12:00:00Z."),
]


def moment_of(session: Session, cid: CollectionId, text: str) -> Moment:
    """What ``text`` means; see :func:`chromalith.coord.history.moment_of`."""
    return history.moment_of(session.store, cid, text)


def manifest_of(session: Session, cid: CollectionId, text: str | None) -> Manifest:
    """The version that ``text`` names; the current one if it is ``None``. Raises ``NotFound``, ``Invalid``."""
    if text is None:
        return read_current(session.store, cid).manifest
    return version_of(session.store, cid, moment_of(session, cid, text))

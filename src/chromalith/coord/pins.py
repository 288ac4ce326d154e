"""``at=``: which older versions whoever reads the past was given, and what each collection's is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from chromalith.coord.catalog import Catalog
from chromalith.coord.history import Moment, version_of
from chromalith.errors import Invalid, NotFound
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.store.port import Store

At = datetime | str | Mapping[str, int | str]
"""A moment or a tag, for all collections; or versions (or tags) by collection name: one that is not named is read as it is."""


def check_at(at: object) -> None:
    """Raise ``Invalid`` if ``at`` cannot say when."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise Invalid(f"the moment has no time zone at={at.isoformat()}", hint="use datetime(..., tzinfo=timezone.utc)")
    elif not (isinstance(at, str) and _names_a_version(at)) and not (isinstance(at, Mapping) and all(map(_names_a_version, at.values()))):
        raise Invalid(
            f"not a moment, not a tag, and not versions by collection name at={at!r}", hint="give a datetime, a tag's name, or {'words': 7}"
        )


def _names_a_version(when: object) -> bool:
    if isinstance(when, str):
        return bool(when) and not when.isdecimal()  # no tag is a number: a version was meant
    return isinstance(when, int) and not isinstance(when, bool) and when >= 0


class Pins:
    """The pinned version of each collection, looked up once. Safe to share between threads.

    Args:
        store, catalog: where they are.
        at: what to read.
        tenant, database: where the names in ``at`` are looked up.

    Raises ``Invalid`` for an ``at`` that cannot say when.
    """

    def __init__(self, store: Store, catalog: Catalog, at: At, tenant: str, database: str) -> None:
        check_at(at)
        self._store = store
        self._catalog = catalog
        self._at = at
        self._tenant = tenant
        self._database = database
        self._known: dict[CollectionId, Manifest | None] = {}
        self._names_checked = False

    def manifest(self, cid: CollectionId) -> Manifest | None:
        """The pinned version of a collection; ``None`` if it is not pinned.

        Raises ``NotFound``: no such version or tag (any more), none that is so old, or no such collection.
        """
        if cid not in self._known:
            when = self._moment(cid)
            try:
                self._known[cid] = None if when is None else version_of(self._store, cid, when)
            except NotFound as error:
                if isinstance(when, str) and _is_a_time(when):
                    raise NotFound(error.message, hint="a time is given as a datetime; a text is the name of a tag") from error
                raise
        return self._known[cid]

    def _moment(self, cid: CollectionId) -> Moment | None:
        if isinstance(self._at, Mapping):
            self._check_names(self._at)
            return self._at.get(self._catalog.lookup_id(self._tenant, self._database, cid).name)
        return self._at

    def _check_names(self, wanted: Mapping[str, int | str]) -> None:
        """Once: a name that is misspelt must not be read as it is now."""
        if self._names_checked:
            return
        database = self._catalog.databases.peek(self._tenant, self._database)
        known = {} if database is None else database.collections
        missing = [name for name in wanted if name not in known]
        if missing:
            raise NotFound(f"no such collection in at= name={missing[0]!r}", hint=f"there are: {', '.join(sorted(known)) or 'none'}")
        self._names_checked = True


def _is_a_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True

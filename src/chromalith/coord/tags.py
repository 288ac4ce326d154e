"""Tags: names that keep a version from being swept. One register object for each name of a collection.

A tag and a sweep race without meeting, so both go in a fixed order:

1. *Tag*: write the tag, then read the pointer. It holds only if its version is not below the horizon: else a sweep that published a
   higher horizon may have listed the tags before this one was there. A tag that was checked is marked ``held``: only then may
   anybody rely on it. One that does not hold is released.
2. *Untag*: the version moves to the tag's list of released ones; the object is overwritten, never deleted.
3. *Sweep*: list the tags (T1), publish boundary and horizon, list the tags again (T2), and keep what is live in either, *and
   what was released between the two* (:func:`protected`). A restore that had read the tag while it was live read the pointer
   before that: if T1 already shows the release, the sweep's publish comes after what the restore read, and the restore loses the
   race. Without this, a restore could publish a version whose objects a sweep was just deleting.

``docs/decisions/0006`` has the model that this was checked with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from chromalith.clock import Clock
from chromalith.coord.collection_object import check_format
from chromalith.coord.pointer import read_current
from chromalith.coord.register import Register, decode
from chromalith.errors import Conflict, Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model import manifest_fields as fields
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.store.port import Store

FORMAT = 1
NAME_CHARACTERS_MAX = 512
RELEASED_MAX = 64
"""Released versions that one tag remembers until a sweep forgets them: 64 re-taggings between two sweeps."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag.

    Attributes:
        name: what people call it.
        version, manifest: the version that it names, and its manifest's key; ``None`` once it is released.
        held: whether it was seen to hold after it was written: only then may anybody rely on it.
        purpose: ``user``, or ``fork``: written by a fork for as long as it copies.
        created_us: when it was written, by its writer's clock, microseconds since 1970-01-01 UTC. It rises each time the name is given
            again, whatever the clocks say: so whoever wrote a tag can tell it from a later one of the same version.
        released: manifest keys of versions that it named before, until a sweep forgets them.
    """

    name: str
    version: int | None
    manifest: str | None
    held: bool
    purpose: str
    created_us: int
    released: tuple[str, ...] = ()

    def value(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "manifest": self.manifest,
            "held": self.held,
            "purpose": self.purpose,
            "created_us": self.created_us,
            "released": list(self.released),
        }

    @classmethod
    def of(cls, key: str, value: Mapping[str, Any]) -> Tag:
        """From decoded JSON. Raises ``Corrupt``, ``Invalid`` (a newer format)."""
        check_format(key, value, FORMAT)
        try:
            version, manifest = value["version"], value["manifest"]
            if manifest is not None and layout.parse_manifest_key(fields.text(manifest))[1] != version:
                raise ValueError(f"its manifest is not of its version version={version}")
            return cls(
                name=str(value["name"]),
                version=None if manifest is None else fields.number(version),
                manifest=manifest,
                held=fields.flag(value["held"]),
                purpose=str(value["purpose"]),
                created_us=fields.number(value["created_us"]),
                released=tuple(fields.text(each) for each in fields.entries(value["released"])),
            )
        except (KeyError, TypeError, ValueError) as error:  # Invalid is a ValueError
            raise Corrupt(f"not a tag key={key}", hint="restore it from the bucket's versions") from error


def list_tags(store: Store, cid: CollectionId) -> list[Tag]:
    """Every tag of a collection, released ones too, by key: one LIST, and one GET for each."""
    found: list[Tag] = []
    for page in store.list(layout.tag_prefix(cid)):
        found += [Tag.of(entry.key, decode(entry.key, store.get(entry.key).body)) for entry in page]
    return found


def find_tag(store: Store, cid: CollectionId, name: str) -> Tag:
    """The tag, if it names a version and holds. Raises ``NotFound``."""
    key = layout.tag_key(cid, name)
    try:
        tag = Tag.of(key, decode(key, store.get(key).body))
    except NotFound:
        tag = None
    if tag is None or tag.manifest is None or not tag.held:
        raise NotFound(f"no such tag collection={cid} tag={name!r}", hint="see `chromalith snapshot list`")
    return tag


def put_tag(
    store: Store,
    clock: Clock,
    cid: CollectionId,
    name: str,
    manifest: Manifest,
    *,
    purpose: str = "user",
    witness: str | None = None,
) -> Tag:
    """Keep a version under a name; the same again does nothing.

    ``witness``: another tag that the caller has seen to hold this version. It is read again after the write: if it still does, the new
    tag holds below the horizon too, because a sweep that does not list the new one yet lists the witness.

    Raises ``Conflict`` (the name stands for another version), ``NotFound`` (the version may have been swept already),
    ``Invalid`` (the name).
    """
    if not name or len(name) > NAME_CHARACTERS_MAX:
        raise Invalid(f"a tag's name has 1 to {NAME_CHARACTERS_MAX} characters characters={len(name)}", hint="choose another name")
    if name.isdecimal():
        raise Invalid(f"a tag's name must not be a number tag={name!r}", hint=f"it would be taken for a version: say v{name}")
    register = Register(store, layout.tag_key(cid, name), clock)

    def change(value: dict[str, Any] | None) -> dict[str, Any]:
        old = None if value is None else Tag.of(register.key, value)
        if old is not None and old.manifest is not None and old.manifest != manifest.key:
            raise Conflict(
                f"the tag names another version tag={name!r} version={old.version}",
                hint="`chromalith snapshot untag` it first, or choose another name",
            )
        if old is not None and old.manifest == manifest.key:
            return old.value()
        released = tuple(key for key in (old.released if old is not None else ()) if key != manifest.key)
        created_us = clock.now_us() if old is None else max(clock.now_us(), old.created_us + 1)
        return Tag(name, manifest.version, manifest.key, False, purpose, created_us, released).value()

    written = Tag.of(register.key, register.update(change) or {})
    if written.held:  # every sweep since then has seen it: to check it again would release it once the horizon has passed the version
        return written
    horizon = read_current(store, cid).manifest.horizon
    if manifest.version < horizon and not (witness is not None and _holds(store, cid, witness, manifest)):
        release_tag(store, clock, cid, name, only=written)
        raise NotFound(
            f"the version may have been swept already version={manifest.version} horizon={horizon}",
            hint="see `chromalith snapshot list`",
        )

    def hold(value: dict[str, Any] | None) -> dict[str, Any] | None:
        # Released meanwhile, and given again to the same version, it is another tag: a sweep may have passed between the two.
        if value is None or not _is(Tag.of(register.key, value), written):
            raise Conflict(f"the tag was changed while it was written tag={name!r}", hint="look, then tag again")
        return {**value, "held": True}

    held = register.update(hold)
    return Tag.of(register.key, held or {})


def _holds(store: Store, cid: CollectionId, name: str, manifest: Manifest) -> bool:
    try:
        return find_tag(store, cid, name).manifest == manifest.key
    except NotFound:
        return False


def _is(found: Tag, written: Tag) -> bool:
    return (found.manifest, found.created_us) == (written.manifest, written.created_us)


def release_tag(store: Store, clock: Clock, cid: CollectionId, name: str, *, only: Tag | None = None) -> bool:
    """Let the version that a tag names be swept; whether it named one.

    ``only``: the tag as its writer wrote it, who found that it does not hold. One that somebody gave the name since, or has seen to hold,
    stays.
    """
    register = Register(store, layout.tag_key(cid, name), clock)
    named = False

    def change(value: dict[str, Any] | None) -> dict[str, Any] | None:
        nonlocal named
        old = None if value is None else Tag.of(register.key, value)
        if old is None or old.manifest is None or (only is not None and (old.held or not _is(old, only))):
            return None
        named = True
        released = (*(key for key in old.released if key != old.manifest), old.manifest)
        if len(released) > RELEASED_MAX:
            raise Conflict(
                f"the tag was moved too often since the last sweep tag={name!r}",
                hint="run `chromalith sweep`, or take another name",
            )
        return Tag(name, None, None, False, old.purpose, old.created_us, released).value()

    register.update(change)
    return named


def forget_released(store: Store, clock: Clock, cid: CollectionId, before: Collection[Tag]) -> None:
    """Drop the released versions that a finished sweep had already seen released in its first listing."""
    for seen in before:
        if not seen.released:
            continue
        gone = set(seen.released)

        def change(value: dict[str, Any] | None, gone: set[str] = gone) -> dict[str, Any] | None:
            return None if value is None else {**value, "released": [key for key in value["released"] if key not in gone]}

        Register(store, layout.tag_key(cid, seen.name), clock).update(change)


def protected(before: Collection[Tag], after: Collection[Tag]) -> set[str]:
    """The manifest keys that a sweep must keep, from its listings before and after its publish. Chooses; deletes nothing."""
    live = {tag.manifest for tag in (*before, *after) if tag.manifest is not None}
    seen_released = {key for tag in before for key in tag.released}
    return live | {key for tag in after for key in tag.released if key not in seen_released}

"""What a sweep sees of a collection: its tags, its objects, its published versions. Reads only, and no manifest twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from chromalith.compaction.garbage import Footprint, manifest_version
from chromalith.coord.pointer import Current, read_current, read_manifest
from chromalith.coord.register import decode
from chromalith.coord.tags import Tag
from chromalith.errors import ChromalithError, NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import Manifest
from chromalith.store.cache import Swept
from chromalith.store.port import Entry, Store


@dataclass(frozen=True, slots=True)
class Look:
    """What was listed and read of a collection, in this order: tags with their timestamps, objects, the current version."""

    tags: Sequence[tuple[Tag, int]]
    entries: Sequence[Entry]
    current: Current

    @property
    def published_us(self) -> dict[int, int]:
        """When the versions from the horizon on were published, by the store's clock: their manifests are written just before.

        Of a version with rivals the latest manifest counts: that keeps more.
        """
        manifest = self.current.manifest
        found = {manifest.version: self.current.pointer.modified_us}
        for entry in self.entries:
            version = manifest_version(entry.key)
            if version is not None and manifest.horizon <= version < manifest.version:
                found[version] = max(found.get(version, 0), entry.modified_us)
        return found


class Eyes:
    """Looks at one collection, as often as a sweep needs to.

    Args:
        store, cid: at what.
        pool: for reading manifests side by side.
        progress: told how many of how many manifests are read.
    """

    def __init__(self, store: Store, cid: CollectionId, pool: Executor, progress: Callable[[int, int], None]) -> None:
        self._store = store
        self._cid = cid
        self._pool = pool
        self._progress = progress
        self._footprints: dict[str, Footprint] = {}
        self._shared: dict[str, str] = {}

    def look(self, entries: Sequence[Entry] | None = None) -> Look:
        """The present state. ``entries``: the objects below :func:`swept_prefixes`, if they are listed already."""
        tags = self.tags()
        if entries is None:
            entries = [entry for prefix in swept_prefixes(self._cid) for page in self._store.list(prefix) for entry in page]
        current = read_current(self._store, self._cid)
        self.remember(current.manifest)
        return Look(tags, entries, current)

    def tags(self) -> list[tuple[Tag, int]]:
        """The tags, released ones too, with their timestamps: one LIST, and one GET for each."""
        entries = [entry for page in self._store.list(layout.tag_prefix(self._cid)) for entry in page]
        return [(Tag.of(e.key, decode(e.key, self._store.get(e.key).body)), e.modified_us) for e in entries]

    def stock(self, entries: Iterable[Entry]) -> str | None:
        """What ``stock.txt`` names; read only where there is a stock snapshot."""
        if not any(layout.parse_stock_key(entry.key) is not None for entry in entries):
            return None
        try:
            return self._store.get(layout.stock_key(self._cid)).body.decode("utf-8", "replace").strip()
        except NotFound:
            return None

    def chain(self, look: Look, floor: int) -> list[Footprint]:
        """The published versions from the current one down to ``floor``.

        All manifests of that range are read at once, those of lost races too: which of them were published, only their children say.

        Raises ``Swept`` if one of the chain is gone, ``Corrupt`` if one can't be read.
        """
        top = look.current.manifest.version
        listed = [e.key for e in look.entries if (v := manifest_version(e.key)) is not None and floor <= v <= top]
        wanted = [key for key in listed if key not in self._footprints]
        for done, manifest in enumerate(self._pool.map(self._try_manifest, wanted), 1):
            self._progress(done, len(wanted))
            if manifest is not None:
                self.remember(manifest)
        found = [self._footprints[look.current.manifest.key]]
        while found[-1].version > floor and (parent := found[-1].parent) is not None:
            found.append(self.read(parent))
        return found

    def read(self, key: str) -> Footprint:
        """What a manifest names. Raises ``Swept``, ``Corrupt``, ``Invalid``."""
        if key not in self._footprints:
            try:
                self.remember(read_manifest(self._store, key))
            except NotFound as error:
                raise Swept(f"a manifest was swept by another sweep key={key}") from error
        return self._footprints[key]

    def remember(self, manifest: Manifest) -> None:
        """Need not read this one."""
        if manifest.key not in self._footprints:
            self._footprints[manifest.key] = Footprint.of(manifest, self._shared)

    def _try_manifest(self, key: str) -> Manifest | None:
        # What is wrong with it matters only if it is one of the chain: then `read` meets it again, and raises.
        try:
            return read_manifest(self._store, key)
        except ChromalithError:
            return None


def swept_prefixes(cid: CollectionId) -> tuple[str, ...]:
    """Where the objects of a live collection lie that a sweep may delete. Deltas are the prompt sweep's."""
    return (
        layout.segment_prefix(cid),
        layout.snapshot_prefix(cid),
        layout.folded_prefix(cid),
        layout.aside_root(cid),
    )

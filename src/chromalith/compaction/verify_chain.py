"""The cheap half of ``verify``: the chain of kept versions and the objects that they name, without reading a record.

1. The tags, then the pointer, *then* the listings: so whatever a kept version names is listed, unless a sweep overtook this.
2. The chain of manifests from the pointer to its horizon, and those that tags hold below it. Each for itself (I4, I6), and each
   against its parent (I2, I3, I7, I8; I4 where records must not change).
3. Every object that one of them names is listed with its size (I5); the checksums by bucket add up to the totals (I4)
   (:mod:`chromalith.compaction.kept_objects`).

Requests: the pages of the listings, and for each kept version its manifest and, where it has one of its own, the 16 KiB of its buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future

from chromalith.compaction.findings import Findings, Progress
from chromalith.compaction.kept_objects import Chain, Named, check_buckets, check_listed
from chromalith.coord.folded_parts import Folded, FoldedParts, check_remembered
from chromalith.coord.pointer import read_manifest, read_pointer
from chromalith.coord.register import decode
from chromalith.coord.tags import Tag
from chromalith.errors import Corrupt, Invalid
from chromalith.model import layout
from chromalith.model.checksum import Setsum
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.model.manifest import Manifest
from chromalith.store.port import Store

AHEAD = 16
"""Manifests that are fetched ahead: at 300 KB each 5 MB, and a day of a fold every ten seconds is 8,640 of them."""
_RECORDS_UNCHANGED = ("merge", "sweep")


class ChainCheck:
    """One walk over one collection. Findings go to ``findings``.

    Args:
        store, cid: where, and which.
        findings: what does not hold.
        pool: fetches manifests ahead; ``None``: one after the other.
        progress: see there.
    """

    def __init__(
        self, store: Store, cid: CollectionId, findings: Findings, pool: Executor | None, progress: Progress
    ) -> None:
        self._store = store
        self._cid = cid
        self._findings = findings
        self._pool = pool
        self._progress = progress
        self._parts = FoldedParts.from_store(store)
        self._chain = Chain()

    def run(self) -> Chain:
        """Walk, and return what was seen. Raises ``NotFound`` (the collection was deleted), ``Invalid`` (a newer format)."""
        chain, cid = self._chain, self._cid
        tags = self._tags()
        try:
            chain.pointer_key = read_pointer(self._store, cid).manifest_key
        except Corrupt as error:
            self._findings.add("I2", error.message, key=layout.pointer_key(cid))
        for prefix in (layout.snapshot_prefix(cid), layout.segment_prefix(cid), layout.folded_prefix(cid), layout.aside_root(cid)):
            chain.sizes |= self._listed(prefix)
        if chain.pointer_key is not None:
            self._walk(chain.pointer_key)
        for tag in tags:
            self._tagged(tag)
        if chain.quarantined:
            chain.sizes |= self._listed(layout.delta_prefix(cid))
        check_listed(chain, self._findings)
        check_buckets(self._store, cid, chain, self._findings, self._pool, self._progress)
        return chain

    def _tags(self) -> list[Tag]:
        found = []
        for key in self._listed(layout.tag_prefix(self._cid)):
            with self._findings.catching("I5", key=key, versions=()):
                tag = Tag.of(key, decode(key, self._store.get(key).body))
                if tag.held and tag.manifest is not None:
                    found.append(_checked(tag, key))
        return found

    def _listed(self, prefix: str) -> dict[str, int]:
        return {entry.key: entry.size for page in self._store.list(prefix) for entry in page}

    # -- the chain -----------------------------------------------------------------------------------------------------

    def _walk(self, pointer_key: str) -> None:
        child: Manifest | None = None
        horizon = 0
        for key, read in self._manifests(pointer_key):
            version = layout.parse_manifest_key(key)[1]
            manifest: Manifest | None = None
            with self._findings.catching("I5", key=key, versions=[version]):
                manifest = read()
                self._take(manifest)
            if manifest is not None and child is not None and manifest.key == child.parent:
                self._check_pair(manifest, child)
            if key == pointer_key:
                self._chain.current = manifest
                horizon = manifest.horizon if manifest is not None else 0
            if version <= horizon:
                return
            child = manifest
        if child is not None and child.version != 0:
            self._findings.add("I2", f"a version without a parent version={child.version}", key=child.key, versions=[child.version])

    def _manifests(self, key: str | None) -> Iterator[tuple[str, Callable[[], Manifest]]]:
        """The chain of keys, newest first, with how to read each: by the parent that a manifest names, or, below one that can't
        be read, by the listing, if only one manifest has the next lower version."""
        by_version: dict[int, list[str]] = {}
        for listed in self._chain.sizes:
            try:
                by_version.setdefault(layout.parse_manifest_key(listed)[1], []).append(listed)
            except Invalid:
                continue  # the pointer, the buckets, a stock snapshot
        top = max(by_version, default=0)
        fetch = self._ahead(by_version)
        while key is not None:
            version = layout.parse_manifest_key(key)[1]
            seen: list[Manifest] = []

            def read(key: str = key, version: int = version, seen: list[Manifest] = seen) -> Manifest:
                seen.append(fetch(key, version))
                return seen[0]

            yield key, read
            self._progress("manifests", top - version + 1, top + 1)
            below = by_version.get(version - 1, [])
            if seen:
                key = seen[0].parent
            else:
                key = below[0] if len(below) == 1 else None
                if not key and version:
                    return

    def _ahead(self, by_version: Mapping[int, list[str]]) -> Callable[[str, int], Manifest]:
        pool, store = self._pool, self._store
        if pool is None:
            return lambda key, version: read_manifest(store, key)
        begun: dict[str, Future[Manifest]] = {}

        def fetch(key: str, version: int) -> Manifest:
            for lower in range(version - 1, max(version - AHEAD, 0) - 1, -1):
                for each in by_version.get(lower, [])[:2]:
                    if each not in begun:
                        begun[each] = pool.submit(read_manifest, store, each)
            future = begun.pop(key, None)
            for each in [each for each in begun if layout.parse_manifest_key(each)[1] >= version]:
                del begun[each]  # rivals
            return read_manifest(store, key) if future is None else future.result()

        return fetch

    def _tagged(self, tag: Tag) -> None:
        key = tag.manifest or ""
        version = layout.parse_manifest_key(key)[1]
        if self._chain.kept.get(version) == key or any(finding.key == key for finding in self._findings.found):
            return
        with self._findings.catching("I5", key=key, versions=[version]):
            self._take(read_manifest(self._store, key))

    # -- one version ---------------------------------------------------------------------------------------------------

    def _take(self, manifest: Manifest) -> None:
        """Note what a version names, and check it for itself."""
        chain, version = self._chain, manifest.version
        chain.kept[version] = manifest.key
        for key, ref in manifest.objects.items():
            there = chain.named.setdefault(key, Named(ref, []))
            there.versions.append(version)
            if there.ref != ref:
                self._findings.add("I5", f"two versions say different things of one object key={key}", key=key, versions=[version])
        for each in manifest.aside:
            chain.aside.setdefault(layout.aside_prefix(self._cid, each.id), (each.deltas, []))[1].append(version)
        # Of the current version only: what is not quarantined any more may be folded, and then swept from delta/.
        for corrupt in manifest.quarantined if manifest.key == chain.pointer_key else ():
            with self._findings.catching("I5", key=manifest.key, versions=[version]):
                chain.quarantined.setdefault(_delta_key(self._cid, corrupt.delta), []).append(version)
        if manifest.buckets is not None:
            chain.buckets.setdefault(manifest.buckets, []).append((version, manifest.content, manifest.embedding))
        content, embedding = Setsum(), Setsum()
        for segment in manifest.segments:
            content, embedding = content + segment.content, embedding + segment.embedding
            if not 0 <= segment.live <= segment.rows:
                self._findings.add(
                    "I6", f"segment={segment.id} rows={segment.rows} live={segment.live}", key=manifest.key, versions=[version]
                )
        if (content, embedding) != (manifest.content, manifest.embedding):
            message = f"the segments' checksums do not add up to the total version={version}"
            self._findings.add("I4", message, key=manifest.key, versions=[version])

    def _check_pair(self, parent: Manifest, child: Manifest) -> None:
        """I2, I3, I4, I7 and I8 between a version and its parent."""

        def require(holds: bool, invariant: str, message: str) -> None:
            if not holds:
                self._findings.add(invariant, f"{message} version={child.version}", key=child.key, versions=[child.version])

        require(child.version == parent.version + 1, "I2", f"the parent has another version parent={parent.version}")
        require(child.next_seq >= parent.next_seq, "I7", f"next_seq={child.next_seq} parent={parent.next_seq}")
        rising = child.boundary >= parent.boundary and child.horizon >= parent.horizon
        require(rising, "I8", f"boundary={child.boundary} horizon={child.horizon} parent={parent.boundary}, {parent.horizon}")
        if child.kind in _RECORDS_UNCHANGED:
            same = (child.content, child.embedding, child.live) == (parent.content, parent.embedding, parent.live)
            require(same, "I4", f"a {child.kind} changed the records")
        with self._findings.catching("I3", key=child.key, versions=[child.version]):
            check_remembered(parent, child, self._parts)
            again = _folded_again(parent, child, self._parts)
            require(again is None, "I3", f"a delta was folded again {again}")


def _folded_again(parent: Manifest, child: Manifest, parts: FoldedParts) -> str | None:
    """The first delta that ``child`` itself folded, or set aside, and that its parent had taken in already."""
    new = [
        DeltaId(0, writer, counter, "")
        for writer, runs in child.folded.runs.items()
        for run in runs
        if run.version == child.version
        for counter in range(run.start, run.stop)
    ]
    for delta, run in zip(new, Folded(parent, parts).find_all(new), strict=True):
        if run is not None:
            return f"writer={delta.writer} counter={delta.counter}"
    return None


def _checked(tag: Tag, key: str) -> Tag:
    try:
        layout.parse_manifest_key(tag.manifest or "")
    except Invalid as error:
        raise Corrupt(f"a tag names what is no manifest key={key}", key=key) from error
    return tag


def _delta_key(cid: CollectionId, delta: str) -> str:
    try:
        return layout.delta_key(cid, DeltaId.parse(delta))
    except Invalid as error:
        raise Corrupt(f"a manifest names what is no delta delta={delta!r}") from error

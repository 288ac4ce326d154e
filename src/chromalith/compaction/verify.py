"""Verify: does what is stored keep the invariants? The cheap form looks at the chain, the deep one at every byte.

``examine`` with ``deep`` off: :mod:`chromalith.compaction.verify_chain`, requests in proportion to the kept versions and no record
read. With ``deep`` on, also:

1. Each segment of the current version (or of a named one), read whole: :mod:`chromalith.compaction.verify_segment`.
2. That version: each live id once (I1), the checksums of segments and totals (I4), the counts (I6), the sequence numbers (I7), and
   the checksums by bucket, recomputed from the records (I4).
3. Whatever else a kept version names, read and hashed (I5), and the deltas that were set aside or quarantined, read.

All findings are collected, not only the first. Nothing is repaired here, and nothing is written. A sweep that overtakes it makes it
start again.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor

from chromalith.compaction.bucket_sidecar import read_buckets
from chromalith.compaction.findings import Cure, Findings, Progress, VerifyReport
from chromalith.compaction.kept_objects import Chain, cure_of
from chromalith.compaction.verify_chain import ChainCheck
from chromalith.compaction.verify_segment import SegmentCheck
from chromalith.coord.catalog import Catalog
from chromalith.coord.pointer import read_manifest, read_pointer
from chromalith.engine.space import Space, check_space
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.buckets import Buckets
from chromalith.model.delta import decode_delta
from chromalith.model.ids import CollectionId
from chromalith.model.invariants import SegmentRows, breaches
from chromalith.model.manifest import FileRef, Manifest
from chromalith.model.segment import id_hash
from chromalith.store.port import Store

_RESTARTS_MAX = 5
_PART_BYTES = 16 * 2**20


def verify(store: Store, cid: CollectionId) -> VerifyReport:
    """Check a collection deeply. Raises ``Corrupt`` with the first finding; else as :func:`examine`."""
    report = examine(store, cid, deep=True)
    for finding in report.findings:
        raise Corrupt(f"{finding.invariant} broken: {finding.message}", hint="see `chromalith verify COLLECTION --deep`", key=finding.key)
    return report


def examine(
    store: Store,
    cid: CollectionId,
    *,
    deep: bool = False,
    version: int | None = None,
    pool: Executor | None = None,
    progress: Progress = lambda step, done, total: None,
) -> VerifyReport:
    """Check every kept version of a collection, and report all that does not hold.

    Args:
        deep: read and hash everything that they name, and recompute one version from its records.
        version: which one; the current one if not given.
        pool: for requests side by side; ``None``: one after the other.
        progress: told what is being read.

    Raises ``NotFound`` (no such collection or version), ``Invalid`` (a newer format), ``Unavailable``, ``Corrupt`` only if versions
    come and go faster than they can be read.
    """
    space = check_space(Catalog(store).get(cid).space)
    for _ in range(_RESTARTS_MAX):
        findings = Findings()
        chain = ChainCheck(store, cid, findings, pool, progress).run()
        chosen = _chosen(store, chain, version)
        if deep:
            _Deep(store, cid, chain, findings, progress).run(chosen, space)
        if findings.missing and _overtaken(store, cid, chain):
            continue
        return _report(cid, chain, chosen, findings, deep)
    raise Corrupt(f"versions come and go faster than they can be read collection={cid}", hint="stop the compaction, then verify")


def _chosen(store: Store, chain: Chain, version: int | None) -> Manifest | None:
    if version is None or (chain.current is not None and chain.current.version == version):
        return chain.current
    if version not in chain.kept:
        raise NotFound(
            f"no such version version={version} kept={min(chain.kept, default=0)}..{max(chain.kept, default=0)}",
            hint="see `chromalith snapshot list`",
        )
    return read_manifest(store, chain.kept[version])


def _overtaken(store: Store, cid: CollectionId, chain: Chain) -> bool:
    """Whether another version is current by now: then what was missing may have been swept with right."""
    if chain.pointer_key is None:
        return False
    try:
        return read_pointer(store, cid).manifest_key != chain.pointer_key
    except Corrupt:
        return False


def _report(cid: CollectionId, chain: Chain, chosen: Manifest | None, findings: Findings, deep: bool) -> VerifyReport:
    segments = () if chosen is None else chosen.segments
    return VerifyReport(
        cid,
        chosen.version if chosen is not None else layout.parse_manifest_key(chain.pointer_key)[1] if chain.pointer_key else 0,
        0 if chosen is None else chosen.live,
        len(segments),
        sum(segment.index is not None for segment in segments),
        tuple(sorted(chain.kept)),
        len(chain.named),
        sum(named.ref.size for named in chain.named.values()),
        deep,
        tuple(findings.found),
        findings.newest_whole(chain.kept),
    )


class _Deep:
    """The part of a deep verify that reads everything."""

    def __init__(self, store: Store, cid: CollectionId, chain: Chain, findings: Findings, progress: Progress) -> None:
        self._store = store
        self._cid = cid
        self._chain = chain
        self._findings = findings
        self._progress = progress
        self._affected = {key: named.versions for key, named in chain.named.items()}
        # What the listing showed to be missing or of another size was found already; reading it would find it a second time.
        self._known = {finding.key for finding in findings.found}

    def run(self, chosen: Manifest | None, space: Space) -> None:
        read = set() if chosen is None else self._version(chosen, space)
        rest = [(key, named.ref) for key, named in self._chain.named.items() if key not in read | self._known]
        for done, (key, ref) in enumerate(rest, start=1):
            cure, segment = cure_of(key, self._chain.current, self._affected[key])
            with self._findings.catching("I5", key=key, versions=self._affected[key], cure=cure, segment=segment):
                _check_hash(self._store, key, ref)
            self._progress("objects of other versions", done, len(rest))
        self._deltas()

    def _version(self, manifest: Manifest, space: Space) -> set[str]:
        """Recompute a version from its records; the keys that were read for it."""
        before = len(self._findings.found)
        known = {finding.key for finding in self._findings.found if manifest.version in finding.versions}
        rows: list[SegmentRows | None] = []
        for done, segment in enumerate(manifest.segments, start=1):
            checked = SegmentCheck(self._store, self._cid, segment, space, self._findings, self._affected, known).run()
            rows.append(checked)
            self._progress("segments", done, len(manifest.segments))
        whole = [each for each in rows if each is not None]
        for invariant, message in breaches(manifest, whole):
            self._findings.add(invariant, message, key=manifest.key, versions=[manifest.version])
        if len(whole) == len(rows) and len(self._findings.found) == before:
            self._buckets(manifest, whole)
        return {key for segment in manifest.segments for key in segment.objects(self._cid)}

    def _buckets(self, manifest: Manifest, rows: list[SegmentRows]) -> None:
        ref = manifest.buckets
        if ref is None:
            return
        key = layout.buckets_key(self._cid, ref.id)
        if key in self._known:
            return
        found = Buckets.empty()
        for part in rows:
            found = found + Buckets.of(id_hash(part.ids), part.content, part.embedding)
        versions = self._affected.get(key, [manifest.version])
        cure = Cure.BUCKETS if self._chain.current is not None and self._chain.current.buckets == ref else None
        with self._findings.catching("I4", key=key, versions=versions, cure=cure):
            differing = found.differing(read_buckets(self._store, self._cid, ref))
            if differing:
                raise Corrupt(f"I4 broken: buckets are not those of the records key={key} buckets={len(differing)}")

    def _deltas(self) -> None:
        for prefix, (_, versions) in self._chain.aside.items():
            for key in [key for key in self._chain.sizes if key.startswith(prefix)]:
                with self._findings.catching("I5", key=key, versions=versions):
                    _check_aside(self._store, key)
        for key, versions in self._chain.quarantined.items():
            if key not in self._known:
                with self._findings.catching("I5", key=key, versions=versions):
                    self._store.get(key)


def _check_hash(store: Store, key: str, ref: FileRef) -> None:
    """Read an object in parts, so that a large one is never in memory, and compare its hash."""
    sha256, size = hashlib.sha256(), 0
    while size < ref.size:
        body = store.get_range(key, size, min(size + _PART_BYTES, ref.size))
        sha256.update(body)
        size += len(body)
        if not body:
            break
    if (size, sha256.hexdigest()) != (ref.size, ref.sha256):
        raise Corrupt(f"a stored object is not what its manifest says key={key} size={size} expected={ref.size}", key=key)


def _check_aside(store: Store, key: str) -> None:
    try:
        cid, _, _, delta = layout.parse_aside_key(key)
        decode_delta(cid, delta, store.get(key).body)
    except Invalid as error:
        raise Corrupt(f"not a delta that was set aside key={key}", key=key) from error

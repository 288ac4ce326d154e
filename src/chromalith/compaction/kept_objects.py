"""What the kept versions of a collection name, object by object; and whether it is there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from chromalith.compaction.bucket_sidecar import read_buckets
from chromalith.compaction.findings import Cure, Findings, Progress
from chromalith.model import layout
from chromalith.model.checksum import Setsum
from chromalith.model.ids import CollectionId, JobId
from chromalith.model.manifest import BucketsRef, FileRef, Manifest
from chromalith.store.port import Store


@dataclass(slots=True)
class Named:
    """An object that kept versions name: what it must be, and which versions."""

    ref: FileRef
    versions: list[int]


@dataclass(slots=True)
class Chain:
    """What the walk saw.

    Attributes:
        current: the current version; ``None`` if its manifest can't be read.
        pointer_key: the manifest that the pointer names; ``None`` if the pointer can't be read.
        kept: manifest keys by version, of all that were read.
        named: every object that they name.
        sizes: every listed object's size.
        aside: the set-aside copies that they name: for each prefix how many, and which versions.
        quarantined: the corrupt deltas that the current version keeps, by key.
        buckets: the bucket checksums that they name, with each version's totals.
    """

    current: Manifest | None = None
    pointer_key: str | None = None
    kept: dict[int, str] = field(default_factory=dict)
    named: dict[str, Named] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    aside: dict[str, tuple[int, list[int]]] = field(default_factory=dict)
    quarantined: dict[str, list[int]] = field(default_factory=dict)
    buckets: dict[BucketsRef, list[tuple[int, Setsum, Setsum]]] = field(default_factory=dict)


def check_listed(chain: Chain, findings: Findings) -> None:
    """I5 as far as a listing tells: each object is there, and has its size."""
    for key, named in chain.named.items():
        size = chain.sizes.get(key)
        if size == named.ref.size:
            continue
        findings.missing |= size is None
        what = "an object is missing" if size is None else f"an object has another size size={size}"
        cure, segment = cure_of(key, chain.current, named.versions)
        message = f"{what} key={key} expected={named.ref.size}"
        findings.add("I5", message, key=key, versions=named.versions, cure=cure, segment=segment)
    for prefix, (deltas, versions) in chain.aside.items():
        found = sum(key.startswith(prefix) for key in chain.sizes)
        if found < deltas:
            findings.missing = True
            message = f"set-aside deltas are missing key={prefix} found={found} expected={deltas}"
            findings.add("I5", message, key=prefix, versions=versions)
    for key, versions in chain.quarantined.items():
        if key not in chain.sizes:
            findings.missing = True
            findings.add("I5", f"a quarantined delta is missing key={key}", key=key, versions=versions)


def check_buckets(
    store: Store, cid: CollectionId, chain: Chain, findings: Findings, pool: Executor | None, progress: Progress
) -> None:
    """I4: the checksums by bucket add up to the totals of each version that names them. One GET of 16 KiB for each sidecar."""
    refs = list(chain.buckets)

    def check(ref: BucketsRef) -> None:
        stated = chain.buckets[ref]
        key = layout.buckets_key(cid, ref.id)
        if chain.sizes.get(key) != ref.file.size:
            return  # found already
        versions = [version for version, _, _ in stated]
        cure, _ = cure_of(key, chain.current, versions)
        with findings.catching("I4", key=key, versions=versions, cure=cure):
            total = read_buckets(store, cid, ref).total()
            wrong = [version for version, content, embedding in stated if (content, embedding) != total]
            if wrong:
                findings.add("I4", f"the buckets do not add up to the total key={key}", key=key, versions=wrong, cure=cure)

    for done, _ in enumerate(map(check, refs) if pool is None else pool.map(check, refs), start=1):
        progress("buckets", done, len(refs))


def cure_of(key: str, current: Manifest | None, versions: Sequence[int]) -> tuple[Cure | None, JobId | None]:
    """How damage to ``key`` can be repaired: only in the current version, and only of what is a function of the records."""
    if current is None or current.version not in versions:
        return None, None
    if current.buckets is not None and key == layout.buckets_key(current.collection, current.buckets.id):
        return Cure.BUCKETS, None
    for segment in current.segments:
        derived = [layout.segment_file_key(current.collection, segment.id, layout.IDS_FILE)]
        if segment.index is not None:
            derived.append(layout.segment_file_key(current.collection, segment.id, layout.index_file(segment.index.kind)))
        if key in derived:
            return Cure.SEGMENT, segment.id
    return None, None

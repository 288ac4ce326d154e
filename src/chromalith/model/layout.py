"""Every object key, built and parsed in one place.

The kind comes first, so that lifecycle rules and access policies are prefixes. ``h`` is the first 32 hexadecimal digits of
SHA-256, so that any tenant's or database's name makes a safe key. The tree is listed in ``docs/format.md``.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from chromalith.errors import Invalid
from chromalith.model.ids import VERSION_DIGITS, CollectionId, DeltaId, JobId, collection_id

DELTA_ROOT = "delta/"
SEGMENT_ROOT = "segment/"
SNAPSHOT_ROOT = "snapshot/"
COLLECTION_ROOT = "collection/"
CATALOG_ROOT = "catalog/"
PROBE_ROOT = "probe/"
FOLDED_ROOT = "folded/"
TAG_ROOT = "tag/"
LEASE_ROOT = "lease/"
QUARANTINE_ROOT = "quarantine/"

OWN_ROOTS = (
    DELTA_ROOT, SEGMENT_ROOT, SNAPSHOT_ROOT, COLLECTION_ROOT, CATALOG_ROOT, PROBE_ROOT, FOLDED_ROOT, TAG_ROOT, LEASE_ROOT, QUARANTINE_ROOT,
)  # fmt: skip
"""Where objects of ours are; ``migration/`` is not among them: what lies there is a person's."""

RECORDS_FILE = "records.parquet"
IDS_FILE = "ids.parquet"


def h(name: str) -> str:
    """The safe form of a name: the first 32 hexadecimal digits of SHA-256 of its UTF-8. Raises ``Invalid`` if it has none."""
    return hashlib.sha256(check_name(name).encode()).hexdigest()[:32]


def check_name(name: str) -> str:
    """``name``, if it can be written down: half of a surrogate pair has no UTF-8, else anything goes. Raises ``Invalid``."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"a name is not valid Unicode name={name!r:.100}", hint="it holds half of a surrogate pair") from error
    return name


def store_key() -> str:
    return "store.json"


def tenant_key(tenant: str) -> str:
    return f"{CATALOG_ROOT}{h(tenant)}/tenant.json"


def database_key(tenant: str, database: str) -> str:
    return f"{CATALOG_ROOT}{h(tenant)}/{h(database)}.json"


def collection_key(cid: CollectionId) -> str:
    return f"{COLLECTION_ROOT}{cid}.json"


def delta_prefix(cid: CollectionId) -> str:
    return f"{DELTA_ROOT}{cid}/"


def delta_key(cid: CollectionId, delta: DeltaId) -> str:
    return f"{delta_prefix(cid)}{delta}.parquet"


# Each read lists the same waiting deltas again; parsing is a third of what a listed delta costs. 20,000 entries are about 10 MB.
@lru_cache(maxsize=20_000)
def parse_delta_key(key: str) -> tuple[CollectionId, DeltaId]:
    """The collection and the id in a delta's key, else ``Invalid``."""
    parts = key.split("/")
    if len(parts) != 3 or parts[0] != "delta" or not parts[2].endswith(".parquet"):
        raise Invalid(f"not the key of a delta key={key!r}", hint="objects under delta/ are written by Chromalith only")
    return collection_id(parts[1]), DeltaId.parse(parts[2].removesuffix(".parquet"))


def snapshot_prefix(cid: CollectionId) -> str:
    return f"{SNAPSHOT_ROOT}{cid}/"


def pointer_key(cid: CollectionId) -> str:
    return f"{snapshot_prefix(cid)}latest/pointer.txt"


def manifest_key(cid: CollectionId, version: int, write_id: str) -> str:
    return f"{snapshot_prefix(cid)}{version:0{VERSION_DIGITS}d}-{write_id}.json"


def parse_manifest_key(key: str) -> tuple[CollectionId, int, str]:
    """The collection, version and write id in a manifest's key, else ``Invalid``."""
    parts = key.split("/")
    if len(parts) == 3 and parts[0] == "snapshot" and parts[2].endswith(".json"):
        version, dash, write_id = parts[2].removesuffix(".json").partition("-")
        if dash and len(version) == VERSION_DIGITS and version.isdigit():
            return collection_id(parts[1]), int(version), write_id
    raise Invalid(f"not the key of a manifest key={key!r}")


def collection_in(key: str) -> CollectionId | None:
    """The collection that an object belongs to, by the second part of its key; ``None`` for one that belongs to none."""
    _, _, rest = key.partition("/")
    text = rest.partition("/")[0].partition(".")[0]
    try:
        return collection_id(text)
    except Invalid:
        return None


def parse_job_key(key: str) -> JobId | None:
    """The job that wrote an object which only a manifest leads to: a segment's file, deletes, a folded part, buckets, a set-aside delta.

    ``None`` for everything else. The job of a deletes object is the one that wrote *it*, not the one that wrote its segment.
    """
    match key.split("/"):
        case ["segment", _, job, file] if file in (RECORDS_FILE, IDS_FILE):
            name = job
        case ["segment", _, job, file] if file.startswith("index."):
            name = job
        case ["segment", _, _, "deletes", file] if file.endswith(".parquet"):
            name = file.removesuffix(".parquet")
        case ["folded", _, file] if file.endswith(".parquet"):
            name = file.removesuffix(".parquet")
        case ["snapshot", _, "buckets", file] if file.endswith(".bin"):
            name = file.removesuffix(".bin")
        case ["quarantine", _, "aside", job, _]:
            name = job
        case _:
            return None
    try:
        return JobId.parse(name)
    except Invalid:
        return None


def segment_prefix(cid: CollectionId) -> str:
    return f"{SEGMENT_ROOT}{cid}/"


def segment_file_key(cid: CollectionId, segment: JobId, name: str) -> str:
    return f"{segment_prefix(cid)}{segment}/{name}"


def index_file(kind: str) -> str:
    return f"index.{kind}"


def deletes_key(cid: CollectionId, segment: JobId, deletes: JobId) -> str:
    return f"{segment_prefix(cid)}{segment}/deletes/{deletes}.parquet"


def folded_prefix(cid: CollectionId) -> str:
    return f"{FOLDED_ROOT}{cid}/"


def folded_key(cid: CollectionId, part: JobId) -> str:
    """An older part of the folded set."""
    return f"{folded_prefix(cid)}{part}.parquet"


def buckets_prefix(cid: CollectionId) -> str:
    return f"{snapshot_prefix(cid)}buckets/"


def buckets_key(cid: CollectionId, buckets: JobId) -> str:
    """The checksums of a version by bucket of hashed id."""
    return f"{buckets_prefix(cid)}{buckets}.bin"


def tag_prefix(cid: CollectionId) -> str:
    return f"{TAG_ROOT}{cid}/"


def tag_key(cid: CollectionId, name: str) -> str:
    return f"{tag_prefix(cid)}{h(name)}.json"


def aside_root(cid: CollectionId) -> str:
    return f"{QUARANTINE_ROOT}{cid}/aside/"


def aside_prefix(cid: CollectionId, restore: JobId) -> str:
    """Where one restore keeps the deltas that it set aside."""
    return f"{aside_root(cid)}{restore}/"


def aside_key(cid: CollectionId, restore: JobId, position: int, delta: DeltaId) -> str:
    """A delta set aside; ``position`` is its place in the order, which a copy's own timestamp does not keep."""
    return f"{aside_prefix(cid, restore)}{position:08d}-{delta}.parquet"


def parse_aside_key(key: str) -> tuple[CollectionId, JobId, int, DeltaId]:
    """The collection, the restore, the place and the id in the key of a delta set aside, else ``Invalid``."""
    parts = key.split("/")
    if len(parts) == 5 and parts[0] == "quarantine" and parts[2] == "aside" and parts[4].endswith(".parquet"):
        position, dash, delta = parts[4].removesuffix(".parquet").partition("-")
        if dash and len(position) == 8 and position.isdigit():
            return collection_id(parts[1]), JobId.parse(parts[3]), int(position), DeltaId.parse(delta)
    raise Invalid(f"not the key of a delta set aside key={key!r}")


def lease_key(cid: CollectionId) -> str:
    """The lease of folds."""
    return f"{LEASE_ROOT}{cid}.json"


def merge_lease_key(cid: CollectionId) -> str:
    """The lease of merges: a long merge must not keep others from folding."""
    return f"{LEASE_ROOT}{cid}.merge.json"


def date_key(cid: CollectionId) -> str:
    """What is written to read the store's date from, by whoever holds no lease."""
    return f"{LEASE_ROOT}{cid}.date"


def date_key_beside(lease_key: str) -> str:
    """The :func:`date_key` of the collection whose lease of either kind has this key."""
    return f"{lease_key.removesuffix('.json').removesuffix('.merge')}.date"


def sweep_date_key() -> str:
    """As :func:`date_key`, of a sweep of the whole store."""
    return f"{LEASE_ROOT}sweep.date"


def stock_prefix(cid: CollectionId, version: int) -> str:
    """Where a complete Chroma directory of a version stands, for readers that are stock Chroma."""
    return f"{snapshot_prefix(cid)}{version:0{VERSION_DIGITS}d}/chroma/"


def parse_stock_key(key: str) -> tuple[int, str] | None:
    """The version that a file of a stock snapshot is of, and the prefix of the one run that wrote it; ``None`` for another key."""
    match key.split("/"):
        case ["snapshot", cid, version, "chroma", run, _, *_] if len(version) == VERSION_DIGITS and version.isdigit():
            return int(version), f"{SNAPSHOT_ROOT}{cid}/{version}/chroma/{run}/"
    return None


def stock_key(cid: CollectionId) -> str:
    """The object that names the newest complete stock snapshot."""
    return f"{snapshot_prefix(cid)}stock.txt"

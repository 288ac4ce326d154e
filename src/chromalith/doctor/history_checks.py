"""Checks of a collection's history: its pointer, its manifests, and whether what they need is there.

A pointer that somebody put back (from a bucket's versions, a backup, by hand) looks like a sound one: but the folded set goes back
with it, and the versions published since are out of the chain. What proves that a version was published:

1. A stored manifest names it as its parent: jobs build on the current version only, and a pointer names what is current.
2. An object's name carries it as its base: the version that its job read as the current one.
3. The cache of this machine holds such an object.

A manifest alone proves nothing: a lost race leaves one too.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import chain, islice

from chromalith.coord.history import published_keys
from chromalith.coord.pointer import Pointer, read_manifest, read_pointer
from chromalith.doctor.examination import CollectionCase, Examination
from chromalith.doctor.finding import Finding
from chromalith.doctor.store_health import directory_of
from chromalith.errors import ChromalithError, Invalid, NotFound
from chromalith.model import layout
from chromalith.model.ids import JobId
from chromalith.model.manifest import Manifest

MANIFESTS_READ_MAX = 256
NAMED_MAX = 5


def check_pointer(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether there is a pointer, and it can be read."""
    error = case.pointer
    if isinstance(error, Pointer | NotFound):
        return
    missing = isinstance(error.__cause__, NotFound)
    yield Finding(
        "pointer_missing" if missing else "pointer_corrupt", error.message, _put_back(examined, case, None), case.label
    )


def check_manifest(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether the manifest that the pointer names is there and sound."""
    error = case.manifest
    if isinstance(error, Manifest) or not isinstance(case.pointer, Pointer):
        return
    if isinstance(error, NotFound):
        code, remedy = "manifest_missing", "restore it from the bucket's versions; else " + _put_back(examined, case, None)
    elif isinstance(error, Invalid):
        code, remedy = "manifest_newer_format", "upgrade chromalith on this machine"
    else:
        code, remedy = "manifest_corrupt", "restore it from the bucket's versions; else " + _put_back(examined, case, None)
    yield Finding(code, error.message, remedy, case.label)


def check_went_back(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether the pointer names the newest version that is known to have been published."""
    if not isinstance(case.pointer, Pointer):
        return
    _, current, _ = layout.parse_manifest_key(case.pointer.manifest_key)
    by_parents = max((version for version, _ in _parents(examined, case, above=current)), default=-1)
    proofs = {
        "a manifest that was built on it": by_parents,
        "an object that a job wrote after reading it": case.has.base_max,
        "an object in this machine's cache": _cached_base(examined, case),
    }
    proof, version = max(proofs.items(), key=lambda item: item[1])
    if version > current:
        yield Finding(
            "pointer_went_back",
            f"the pointer names an earlier version than one that was published: {proof} proves it"
            f" pointer={current} published={version}",
            "stop compactors and sweeps, then " + _put_back(examined, case, current),
            case.label,
        )


def check_forked(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether every published version that is still retained is in the chain of the current one."""
    if not isinstance(case.manifest, Manifest):
        return
    current = case.manifest
    outside = [each for version, each in case.has.manifests.items() if current.horizon <= version <= current.version and len(each) > 1]
    outside += [each for version, each in case.has.manifests.items() if version == current.version + 1]
    if not outside:
        return
    published = published_keys(examined.store, case.cid)
    for entry in islice(chain(*outside), MANIFESTS_READ_MAX):
        _, version, _ = layout.parse_manifest_key(entry.key)
        if published.get(version) == entry.key:
            continue
        parent = _parent_of(examined, entry.key)
        if parent is None or version - 1 not in published or published[version - 1] == parent:
            continue
        yield Finding(
            "history_forked",
            f"version {version - 1} was published twice: {parent} is no longer in the chain chain={published[version - 1]}",
            "stop compactors and sweeps; nothing was deleted that a sweep has not; docs/doctor.md says how to put the branches together",
            case.label,
        )
        return


def check_objects(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether each object that the current version needs is there, with its size; ``verify --deep`` reads them too."""
    if not isinstance(case.manifest, Manifest) or not isinstance(case.pointer, Pointer):
        return
    missing, cut = [], []
    for key, ref in case.manifest.objects.items():
        entry = case.has.objects.get(key)
        if entry is None or entry.size != ref.size:
            try:
                size = examined.store.head(key).size  # the version may be newer than the listing
            except NotFound:
                missing.append(key)
                continue
            if size != ref.size:
                cut.append(f"{key} size={size} expected={ref.size}")
    if (missing or cut) and read_pointer(examined.store, case.cid).manifest_key != case.pointer.manifest_key:
        return  # overtaken by a merge and a sweep
    older = f"chromalith verify {case.label} --deep says what is damaged;"
    older += f" chromalith snapshot rollback {case.label} VERSION goes back to a sound one"
    for code, keys in (("object_missing", missing), ("object_size_differs", cut)):
        if keys:
            yield Finding(
                code,
                f"{len(keys)} objects of version {case.manifest.version} first={'; '.join(keys[:NAMED_MAX])}",
                f"restore them from the bucket's versions; {older}",
                case.label,
            )


def _parents(examined: Examination, case: CollectionCase, *, above: int) -> Iterator[tuple[int, str]]:
    """The versions, with keys, that stored manifests above a version name as their parents; newest first."""
    keys = [entry.key for version in sorted(case.has.manifests, reverse=True) if version > above for entry in case.has.manifests[version]]
    for key in keys[:MANIFESTS_READ_MAX]:
        parent = _parent_of(examined, key)
        if parent is not None:
            yield layout.parse_manifest_key(parent)[1], parent


def _parent_of(examined: Examination, key: str) -> str | None:
    """What a stored manifest names as its parent; ``None`` where it cannot be read."""
    try:
        return read_manifest(examined.store, key).parent
    except ChromalithError:
        return None


def _cached_base(examined: Examination, case: CollectionCase) -> int:
    """The greatest version that a job had read whose object this machine's cache holds."""
    home = examined.cache_dir / sha256(examined.store.url.encode()).hexdigest()[:32]
    folder = home / layout.segment_prefix(case.cid)
    found = -1
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            found = max(found, JobId.parse(path.name).base)
        except Invalid:
            continue
    return found


def _put_back(examined: Examination, case: CollectionCase, above: int | None) -> str:
    """How to make the pointer name the newest version that was published, or how to find out which that is."""
    stored = {version: entries for version, entries in case.has.manifests.items() if above is None or version > above}
    key = layout.pointer_key(case.cid)
    named = {parent for _, parent in _parents(examined, case, above=-1 if above is None else above)}
    for version in sorted(stored, reverse=True):
        # A manifest that is alone with its version is the published one, or the next one that was never published: then this
        # publishes it, and it was built on the version before. Of several the one that was built on was published.
        fit = [entry.key for entry in stored[version] if len(stored[version]) == 1 or entry.key in named]
        fit = [each for each in fit if _parent_of(examined, each) is not None or version == 0]
        if len(fit) == 1:
            write_id = layout.parse_manifest_key(fit[0])[2]
            absent = isinstance(getattr(case.pointer, "__cause__", None), NotFound)
            return f"put it back to version {version}: {_write_command(examined.store.url, key, (fit[0], write_id), absent)}"
    return f"restore {key} from the bucket's versions: the newest body whose first line names a manifest that is stored"


def _write_command(url: str, key: str, lines: tuple[str, str], absent: bool) -> str:
    """A shell command that writes the pointer's two lines. On S3 by condition: the bucket's policy may refuse any other write of it."""
    body = f"printf '%s\\n' {lines[0]} {lines[1]}"
    directory = directory_of(url)
    if directory is not None:
        return f"mkdir -p '{directory / key.rpartition('/')[0]}' && {body} > '{directory / key}'"
    if url.startswith("s3://"):
        bucket, _, prefix = url.partition("?")[0].removeprefix("s3://").partition("/")
        what = f"--bucket '{bucket}' --key '{prefix + '/' if prefix else ''}{key}'"
        condition = "--if-none-match '*'" if absent else f'--if-match "$(aws s3api head-object {what} --query ETag --output text)"'
        return f"{body} > pointer.txt && aws s3api put-object {what} --body pointer.txt {condition}"
    return f"write the lines {lines[0]} and {lines[1]} to {key}"

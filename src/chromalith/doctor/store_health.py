"""Checks of the place itself: the probe, the clocks, ``store.json``, and what a directory stands on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from chromalith.coord.catalog import STORE_FORMAT
from chromalith.coord.collection_object import check_format
from chromalith.coord.register import decode
from chromalith.doctor.examination import Examination
from chromalith.doctor.finding import Finding
from chromalith.errors import Corrupt, Invalid, NotFound, Unknown
from chromalith.model import layout
from chromalith.store.probe import try_out

SKEW_MAX_S = 60.0
"""S3 refuses requests at 15 minutes of skew; nothing in the protocol depends on it, but ages that people read do."""
NETWORK_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone"}
MOUNTS = Path("/proc/self/mounts")
_FILE = "file://"


def check_probe(examined: Examination) -> Iterator[Finding]:
    """Whether the store keeps the promises of the port, tried with small objects under ``probe/``."""
    directory = directory_of(examined.store.url)
    if not examined.writes:
        yield Finding("not_checked", "the probe was left out: it writes under probe/", "run it again without --read-only")
        return
    if directory is not None and not directory.exists():
        yield Finding(
            "not_checked",
            f"the probe was left out: the directory does not exist yet directory={directory}",
            "check the path; it is created with the first collection",
        )
        return
    try:
        examined.tried = try_out(examined.store, examined.clock)
    except (Invalid, Unknown) as error:
        yield Finding(
            "store_refuses_writes",
            f"nothing could be written under probe/: {error.message}",
            error.hint or "give this machine the right to write, or use --read-only where it shall only read",
        )
        return
    for name, failure in examined.tried.failed.items():
        yield Finding(
            "store_breaks_promise",
            f"{failure.message} failed={name}",
            failure.hint or "use another service, or a newer version of it",
        )


def check_clock(examined: Examination) -> Iterator[Finding]:
    """Whether this machine's clock and the store's agree to a minute."""
    if examined.tried is None:
        return
    lowest_s, highest_s = (bound / 1e6 for bound in examined.tried.skew_us)
    if lowest_s > SKEW_MAX_S or highest_s < -SKEW_MAX_S:
        skew_s = (lowest_s + highest_s) / 2
        yield Finding(
            "clock_skewed",
            f"the store's clock is {'ahead of' if skew_s > 0 else 'behind'} this machine's skew_s={skew_s:.1f}",
            "set this machine's clock (timedatectl set-ntp true); no data depends on it",
        )


def check_timestamps(examined: Examination) -> Iterator[Finding]:
    """Whether the store's timestamps are as fine as the fold's order needs."""
    tried = examined.tried
    if tried is not None and tried.report.whole_seconds and tried.report.settle_s == 0:
        yield Finding(
            "timestamps_coarse",
            f"timestamps are whole seconds, but are said to settle at once store={examined.store.url}",
            "use a file system with fine timestamps (ext4, xfs, btrfs, apfs, tmpfs)",
        )


def check_store_object(examined: Examination) -> Iterator[Finding]:
    """Whether ``store.json`` is there, readable, and of a format that this release knows."""
    key = layout.store_key()
    try:
        check_format(key, decode(key, examined.store.get(key).body), STORE_FORMAT)
    except NotFound:
        if examined.inventory.declared or examined.collections:
            yield Finding(
                "store_object_missing",
                "store.json is gone, though there are collections",
                "creating the next collection writes it again; if other objects are gone too, look for who deletes",
            )
        else:
            yield Finding(
                "store_empty",
                f"there is no collection in the store yet store={examined.store.url}",
                "check the URL, or create one: chromalith collections create NAME",
            )
    except Corrupt as error:
        yield Finding(
            "store_object_corrupt",
            error.message,
            f"restore {key} from the bucket's versions, or delete it: creating the next collection writes it again",
        )
    except Invalid as error:
        yield Finding("store_newer_format", error.message, "upgrade chromalith on this machine")


def check_directory(examined: Examination) -> Iterator[Finding]:
    """Whether a directory store stands on a file system whose locks and renames can be relied on, and holds no links."""
    directory = directory_of(examined.store.url)
    if directory is None:
        return
    kind = file_system(directory, MOUNTS.read_text() if MOUNTS.exists() else "")
    if kind in NETWORK_SYSTEMS:
        yield Finding(
            "directory_on_network",
            f"the store's directory is on a network file system directory={directory} kind={kind}",
            "move it to a local disk, or to object storage: flock and rename are not reliable there",
        )
    links = list(_links(directory))
    if links:
        yield Finding(
            "directory_symlinks",
            f"the store's directory holds symbolic links links={len(links)} first={links[0]}",
            "replace them by what they lead to: a write replaces a link to a file, and listings do not enter linked directories",
        )


def directory_of(url: str) -> Path | None:
    """The directory of a directory store's canonical URL, else ``None``."""
    return Path(unquote(url.removeprefix(_FILE))) if url.startswith(_FILE) else None


def file_system(path: Path, mounts: str) -> str | None:
    """The kind of file system that ``path`` stands on, by the text of ``/proc/self/mounts``; ``None`` if it does not say."""
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if path.is_relative_to(point) and (best is None or len(point) >= best[0]):
            best = (len(point), fields[2])
    return None if best is None else best[1]


def _links(directory: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(directory):
        for name in (*below, *names):
            path = Path(folder, name)
            if path.is_symlink():
                yield path

"""Checks of this machine's cache: whether it works, and whether its files are what they should be.

A cached file is trusted once its hash was checked at its arrival, so damage that came later (a disk, a person) is found only here. The
cache may be deleted as a whole at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chromalith.doctor.examination import Examination
from chromalith.doctor.finding import Finding
from chromalith.model.manifest import Manifest

HASHED_BYTES_MAX = 4 * 2**30
"""Hashing runs at about 1 GiB/s: some seconds at most."""
SPARE_BYTES = 2**30
NAMED_MAX = 5
"""How many of a list a message names."""
_HOME = 32  # hexadecimal digits: the directory of one store
_KINDS = {"segment", "snapshot", "folded", "delta", "quarantine", "overlay"}


def check_cache_writable(examined: Examination) -> Iterator[Finding]:
    """Whether a file can be written into the cache directory, or the directory be made."""
    place = examined.cache_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"doctor")
    except OSError as error:
        yield Finding(
            "cache_not_writable",
            f"the cache cannot be written directory={examined.cache_dir} reason={error.strerror}",
            "set CHROMALITH_CACHE_DIR to a directory that this user can write",
        )


def check_cache_size(examined: Examination) -> Iterator[Finding]:
    """Whether the cache is within its limit."""
    total = sum(path.lstat().st_size for path in _files(examined.cache_dir))
    if total > examined.cache_bytes_max:
        yield Finding(
            "cache_over_size",
            f"the cache is over its limit bytes={total} limit={examined.cache_bytes_max}",
            "nothing needs to be done; a larger CHROMALITH_CACHE_BYTES_MAX keeps more",
        )


def check_cache_room(examined: Examination) -> Iterator[Finding]:
    """Whether what the collections need from the store still fits the disk, with 1 GiB to spare."""
    place = examined.cache_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    home = _home(examined)
    needed = 0
    for case in examined.collections:
        if isinstance(case.manifest, Manifest):
            needed += sum(ref.size for key, ref in case.manifest.objects.items() if not (home / key).exists())
    free = shutil.disk_usage(place).free
    if free < min(needed, examined.cache_bytes_max) + SPARE_BYTES:
        yield Finding(
            "cache_disk_full",
            f"the disk of the cache is nearly full directory={examined.cache_dir} free_bytes={free} needed_bytes={needed}",
            "free some space, or set CHROMALITH_CACHE_DIR to a directory on a larger disk",
        )


def check_cached_files(examined: Examination) -> Iterator[Finding]:
    """Whether the cached files that current versions name have the size and the hash that they should, up to 4 GiB."""
    home = _home(examined)
    hashed = 0
    for case in examined.collections:
        if not isinstance(case.manifest, Manifest):
            continue
        for key, ref in case.manifest.objects.items():
            path = home / key
            if not path.is_file() or hashed > HASHED_BYTES_MAX:
                continue
            hashed += ref.size
            with path.open("rb") as file:
                sound = path.stat().st_size == ref.size and hashlib.file_digest(file, "sha256").hexdigest() == ref.sha256
            if not sound:
                yield Finding(
                    "cache_file_corrupt",
                    f"a cached file is not what its manifest says file={path}",
                    f"rm '{path}': it is downloaded again",
                    case.label,
                )


def check_cache_strangers(examined: Examination) -> Iterator[Finding]:
    """Whether the cache directory holds links, or files that are not below a store's own directory."""
    root = examined.cache_dir
    strange = []
    for path in _files(root):
        parts = path.relative_to(root).parts
        if path.is_symlink() or len(parts) < 3 or len(parts[0]) != _HOME or parts[1] not in _KINDS:
            strange.append(path)
    if strange:
        yield Finding(
            "cache_foreign_files",
            f"the cache directory holds what is not the cache's directory={root} files={len(strange)}"
            f" first={', '.join(str(path.relative_to(root)) for path in sorted(strange)[:NAMED_MAX])}",
            "they are left alone; give the cache a directory of its own (CHROMALITH_CACHE_DIR), so that it can be deleted as a whole",
        )


def _home(examined: Examination) -> Path:
    # As chromalith.store.cache places them.
    return examined.cache_dir / hashlib.sha256(examined.store.url.encode()).hexdigest()[:_HOME]


def _files(root: Path) -> Iterator[Path]:
    """Files and links below the cache directory, without following links."""
    for folder, below, names in os.walk(root):
        for name in [*names, *(each for each in below if Path(folder, each).is_symlink())]:
            path = Path(folder, name)
            if os.path.lexists(path):  # another process evicts
                yield path

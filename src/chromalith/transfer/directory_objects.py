"""A directory of files as objects below a prefix, with ``manifest.json`` last, and back. What the files are does not matter here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from chromalith.clock import Clock
from chromalith.errors import Corrupt, Invalid
from chromalith.store.keys import is_key
from chromalith.store.port import Store
from chromalith.transfer.bundle import as_prefix, checked_object, put_file, put_manifest, read_manifest

OBJECT_BYTES_MAX = 5 * 10**9  # what S3 takes in one PUT, the smallest such limit of the stores


def check_empty(store: Store, prefix: str) -> None:
    """Raise ``Invalid`` if there is anything below ``prefix``: the files of a directory have names of their own, which may be taken."""
    for page in store.list(as_prefix(prefix)):
        raise Invalid(
            f"the prefix is in use prefix={prefix} key={page[0].key}",
            hint="use another, or delete what an interrupted export left",
        )


def upload_directory(directory: Path, store: Store, prefix: str, about: Mapping[str, Any], clock: Clock) -> int:
    """Put every file of ``directory`` below ``prefix``, then the manifest with ``about`` and the files. Returns the bytes.

    The prefix must be unused, or the caller's own: an object that is there already is a ``Conflict``. One file at a time is in memory.
    Raises ``Invalid`` for a file that a store can't take.
    """
    root = as_prefix(prefix)
    files = []
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        key = path.relative_to(directory).as_posix()
        if not is_key(f"{root}{key}") or path.stat().st_size > OBJECT_BYTES_MAX:
            raise Invalid(
                f"a store can't take this file file={key} bytes={path.stat().st_size} limit={OBJECT_BYTES_MAX}",
                hint="export to Parquet instead",
            )
        files.append(put_file(store, root, key, path, clock))
    put_manifest(store, root, {**about, "files": files}, clock)
    return sum(file["bytes"] for file in files)


def download_directory(store: Store, prefix: str, directory: Path) -> dict[str, Any]:
    """The inverse: make ``directory`` from the objects that the manifest names, each checked. Returns the manifest.

    Raises ``NotFound`` if there is no manifest, ``Corrupt`` if an object is missing or has other bytes.
    """
    root = as_prefix(prefix)
    manifest = read_manifest(store, root)
    for file in manifest.get("files", ()):
        name = PurePosixPath(file["key"])
        if name.is_absolute() or ".." in name.parts:  # a manifest must not write elsewhere on this machine
            raise Corrupt(f"the manifest names a file outside its directory file={name}")
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(checked_object(store, f"{root}{name}", file))
    return manifest

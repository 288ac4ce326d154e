"""A file or a directory appears whole under its final name, or not at all.

It is written beside its final place under a name of chance, made durable, and renamed. What a killed process leaves is
that temporary sibling: ``.<name>.<16 hex digits>.part``, safe to delete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chromalith.clock import Clock
from chromalith.errors import Invalid, Unavailable

SUFFIX = ".part"


def check_free(path: Path) -> None:
    """Raise ``Invalid`` if there is a file, or a directory with something in it."""
    if path.is_dir():
        if any(path.iterdir()):
            raise Invalid(f"the target directory is not empty path={path}", hint="name a directory that does not exist")
    elif path.exists() or path.is_symlink():
        raise Invalid(f"the target exists path={path}", hint="name a file that does not exist, or remove this one")


@contextmanager
def placed(path: Path, clock: Clock) -> Iterator[Path]:
    """A path to write at; what stands there when the block ends is renamed to ``path``. Leaves nothing if the block raises.

    Raises ``Invalid`` as :func:`check_free`, at the start and again before the rename; ``Unavailable`` if the disk refuses.
    """
    check_free(path)
    part = path.with_name(f".{path.name}.{clock.random_hex(16)}{SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _sync(part)
        check_free(path)
        if path.is_dir():  # empty: a rename replaces it only where both are directories
            path.rmdir()
        part.rename(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise Unavailable(f"the target can't be written path={path}", hint=str(error)) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _sync(part: Path) -> None:
    """Without this, a machine that loses power after the rename could show a whole name over half a file."""
    if part.is_dir():
        for directory, _, names in os.walk(part):
            for name in names:
                _sync_file(Path(directory) / name)
            _sync_directory(Path(directory))
    else:
        _sync_file(part)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return  # other systems can't open a directory
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

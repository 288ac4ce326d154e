"""Reading a Chroma directory without touching it.

Opening one always writes to its ``chroma.sqlite3``. So that file is copied to a private place. The vectors need no copy
where Chroma has nothing left to write to them: its engine then only reads them, and a link does. Where it has
(operations that wait in its queue: up to 1,000 in normal use) it would write them *through* the link into the source,
so then the vectors are copied too.

The source must not be written meanwhile: a copy taken under a writer can be broken. It is looked at before and after,
and a change is a ``Conflict``.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from chromalith.errors import Conflict, Invalid

WRITTEN = "the Chroma directory was written while it was read"
"""How the error begins: who reads through a copy takes a new one then."""

DATABASE = "chroma.sqlite3"
MIGRATIONS_PROVEN = 18
"""Rows of ``migrations`` in a directory of Chroma 1.5.9. One with another number may be migrated when it is opened, vectors included."""

Fingerprint = dict[str, tuple[int, ...]]

_CHANGES = slice(24, 28)
"""Of an SQLite file: how many transactions have changed it, big-endian."""

_PENDING = """
SELECT count(*) FROM segments AS s JOIN embeddings_queue AS q ON q.topic LIKE '%/' || s.collection
LEFT JOIN max_seq_id AS m ON m.segment_id = s.id
WHERE s.scope = 'VECTOR' AND q.seq_id > coalesce(m.seq_id, -1)
"""


@contextmanager
def private_copy(source: Path) -> Iterator[Path]:
    """A directory that stock Chroma can open in place of ``source``; removed with the block.

    Raises ``Invalid`` if ``source`` is not a Chroma directory, ``Conflict`` if it changed before the block ended.
    """
    check_directory(source)
    before = fingerprint(source)
    with tempfile.TemporaryDirectory(prefix="chromalith-chroma-") as name:
        copy = Path(name) / "chroma"
        try:
            _copy(source, copy)
        except Exception:  # of what a writer left half done, or took away, nothing else can be said
            check_unchanged(source, before)
            raise
        check_unchanged(source, before)
        yield copy
        check_unchanged(source, before)


def _copy(source: Path, copy: Path) -> None:
    copy.mkdir()
    for extra in ("", "-journal", "-wal"):  # a journal that a crash left is rolled back in the copy
        path = source / f"{DATABASE}{extra}"
        if path.exists():
            shutil.copyfile(path, copy / path.name)
    link = is_flushed(copy / DATABASE)
    for directory in sorted(path for path in source.iterdir() if path.is_dir()):
        if link:
            (copy / directory.name).symlink_to(directory.resolve(), target_is_directory=True)
        else:
            shutil.copytree(directory, copy / directory.name)


def check_directory(source: Path) -> None:
    """Raise ``Invalid`` unless ``source`` holds a Chroma directory: opening anything else would *make* an empty one."""
    database = source / DATABASE
    if not database.is_file():
        raise Invalid(f"not a Chroma directory path={source}", hint=f"name the directory that has {DATABASE} in it")
    with database.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise Invalid(
                f"not an SQLite file file={database}", hint="the directory is damaged, or was not copied whole"
            )


def is_flushed(database: Path) -> bool:
    """Whether the vectors of every collection are on disk, in the present layout: then opening only reads them."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            (migrations,) = connection.execute("SELECT count(*) FROM migrations").fetchone()
            if migrations != MIGRATIONS_PROVEN:
                return False
            (pending,) = connection.execute(_PENDING).fetchone()
            return bool(pending == 0)
    except sqlite3.OperationalError:  # an older layout, without one of these tables
        return False
    except sqlite3.DatabaseError as error:
        raise Invalid(f"the SQLite file is damaged file={database.name}", hint=str(error)) from error


def fingerprint(source: Path) -> Fingerprint:
    """Size and time of change of every file. Access times are not in it: reading is allowed.

    And how often SQLite has changed its file, by its own count: times of change are only as fine as the kernel's clock tick."""
    found: Fingerprint = {}
    for path in sorted(source.rglob("*")):
        with suppress(FileNotFoundError):  # a journal that is there for a moment only
            stat = path.stat()
            if path.is_file():
                found[str(path.relative_to(source))] = stat.st_size, stat.st_mtime_ns
    found[DATABASE] = writes_of(source)
    return found


def writes_of(source: Path) -> tuple[int, ...]:
    """What changes with every write that Chroma acknowledges: it is in its SQLite file first."""
    found: list[int] = []
    for name in (DATABASE, f"{DATABASE}-wal"):  # Chroma does without the second, but others may have turned it on
        with suppress(FileNotFoundError), (source / name).open("rb") as file:
            stat = os.fstat(file.fileno())
            found += [stat.st_size, stat.st_mtime_ns, int.from_bytes(file.read(_CHANGES.stop)[_CHANGES], "big")]
    return tuple(found)


def check_not_written(source: Path, before: tuple[int, ...]) -> None:
    """Raise ``Conflict`` if anything was written to the directory since ``before`` (:func:`writes_of`). Costs one small read."""
    if writes_of(source) != before:
        raise _written(source, DATABASE)


def check_unchanged(source: Path, before: Fingerprint) -> None:
    """Raise ``Conflict`` if the directory is not as it was when ``before`` was taken."""
    after = fingerprint(source)
    if after != before:
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        raise _written(source, changed[0])


def _written(source: Path, file: str) -> Conflict:
    return Conflict(
        f"{WRITTEN} path={source} file={file}",
        hint="stop what writes to it, and try again; or read through a Chroma server",
    )

"""A bundle: collections as Parquet files below a prefix of a store, with a manifest that says what they add up to.

::

    <prefix>manifest.json                                written last: without it there is no bundle
    <prefix><collection>/<run>-<number>.parquet          the layout of chromalith.transfer.parquet, at most about 256 MiB each

``<collection>`` is its name, or the first 32 digits of the SHA-256 of a name that a key cannot have.

``manifest.json`` has ``format``, ``kind`` (``parquet``) and ``collections``: for each its ``name, configuration,
schema, metadata, version, records, content, embedding`` and its ``files`` in order, each with ``key`` (below the
prefix), ``rows``, ``bytes`` and ``sha256``. ``run`` is chance, so that two exports to one prefix at the same time can't
mix: the first manifest wins, the other export fails, and what it wrote is named by nothing.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.errors import Corrupt, Invalid, NotFound
from chromalith.model import layout
from chromalith.model import manifest_fields as fields
from chromalith.model.checksum import Setsum
from chromalith.store.keys import check_key, is_key
from chromalith.store.port import Absent, PreconditionFailed, Store
from chromalith.store.readback import put_resolved
from chromalith.transfer.export import check_written
from chromalith.transfer.parquet import ParquetSource, ParquetWriter
from chromalith.transfer.port import ROWS_DEFAULT, Batch, Definition, Progress, Source, Sums, Written, silent

MANIFEST = "manifest.json"
FORMAT = 1
PART_BYTES_MAX = 256 * 2**20
"""After which a new file is begun: a part is put in one request, out of memory."""

NamedProgress = Callable[[str, int, int | None], None]
"""Called with the collection's name, its records done so far, and all of its records."""


def unheard(name: str, done: int, total: int | None) -> None:
    """The progress of whoever does not want to know."""


@dataclass(frozen=True, slots=True)
class Bundled:
    """One collection as a manifest describes it; ``files`` are the objects, in order."""

    name: str
    definition: Definition
    version: int | None
    records: int
    bytes: int
    sums: Sums
    files: tuple[Mapping[str, Any], ...]

    def value(self) -> dict[str, Any]:
        """As in ``manifest.json``."""
        return {
            "name": self.name,
            "configuration": dict(self.definition.configuration),
            "schema": self.definition.schema,
            "metadata": self.definition.metadata,
            "version": self.version,
            "records": self.records,
            "bytes": self.bytes,
            "content": str(self.sums.content),
            "embedding": str(self.sums.embedding),
            "files": [dict(file) for file in self.files],
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Bundled:
        """The inverse of :meth:`value`. Raises ``KeyError``, ``TypeError``, ``ValueError``."""
        files = [fields.mapping(file) for file in fields.entries(value["files"])]
        for file in files:
            check_key(fields.text(file["key"]))
            fields.number(file["bytes"])
            fields.sha256(file["sha256"])
        return cls(
            name=fields.text(value["name"]),
            definition=Definition.of_fields(value),
            version=None if value["version"] is None else fields.number(value["version"]),
            records=fields.number(value["records"]),
            bytes=fields.number(value["bytes"]),
            sums=Sums(Setsum.parse(value["content"]), Setsum.parse(value["embedding"])),
            files=tuple(files),
        )


def as_prefix(prefix: str) -> str:
    """``prefix`` with one slash at its end, or empty."""
    stripped = prefix.strip("/")
    return f"{stripped}/" if stripped else ""


def check_unused(store: Store, prefix: str) -> None:
    """Raise ``Invalid`` if there is a bundle already."""
    key = f"{as_prefix(prefix)}{MANIFEST}"
    try:
        store.head(key)
    except NotFound:
        return
    raise Invalid(f"there is an export already key={key}", hint="use another prefix, or delete that one first")


def export_bundle(
    sources: Iterable[Source], store: Store, prefix: str, *, clock: Clock = SYSTEM_CLOCK, progress: NamedProgress = unheard
) -> list[Bundled]:
    """Write collections below ``prefix``. Nothing counts until all are there: the manifest is put last, if there is none.

    Raises ``Invalid`` if there is one, ``Corrupt`` if a source is damaged, ``Unavailable``, ``Unknown``.
    """
    root = as_prefix(prefix)
    check_unused(store, root)
    run = clock.random_hex(8)
    bundled = []
    for source in sources:
        name, total = source.name, source.total()

        def told(done: int, of: int | None, name: str = name) -> None:
            progress(name, done, of)

        told(0, total)
        bundled.append(_export_one(source, store, root, run, clock, told))
    put_manifest(store, root, {"kind": "parquet", "collections": [each.value() for each in bundled]}, clock)
    return bundled


def put_manifest(store: Store, root: str, value: Mapping[str, Any], clock: Clock) -> None:
    """The last step of an export. Raises ``Invalid`` if another export was first."""
    body = json.dumps({"format": FORMAT, **value}, ensure_ascii=False, indent=1).encode()
    try:
        put_resolved(store, f"{root}{MANIFEST}", body, Absent(), clock=clock)
    except PreconditionFailed as error:
        raise Invalid(f"another export was first key={root}{MANIFEST}", hint="use another prefix") from error


def read_manifest(store: Store, prefix: str) -> dict[str, Any]:
    """``manifest.json`` of an export. Raises ``NotFound`` if there is none, ``Corrupt``, ``Invalid`` if a newer release wrote it."""
    key = f"{as_prefix(prefix)}{MANIFEST}"
    try:
        body = store.get(key).body
    except NotFound as error:
        raise NotFound(f"there is no export key={key}", hint="an export that was interrupted has no manifest: export again") from error
    try:
        value: dict[str, Any] = dict(fields.mapping(json.loads(body)))
        newer = fields.number(value["format"]) > FORMAT
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Corrupt(f"not the manifest of an export key={key}") from error
    if newer:
        raise Invalid(f"the export has a newer format key={key} format={value['format']} known={FORMAT}", hint="upgrade chromalith")
    return value


class Bundle:
    """The collections below a prefix."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._root = as_prefix(prefix)
        value = read_manifest(store, prefix)
        if value.get("kind") != "parquet":
            raise Invalid(
                f"the export is not of Parquet files prefix={prefix} kind={value.get('kind')}",
                hint="import it as a Chroma directory",
            )
        try:
            self.collections = [Bundled.of(each) for each in fields.entries(value["collections"])]
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"not the manifest of an export of Parquet files prefix={prefix}: {error}", hint="export again") from error

    def names(self) -> list[str]:
        """The names of the collections."""
        return [each.name for each in self.collections]

    def source(self, name: str) -> BundleSource:
        """One of them, to read. Raises ``NotFound``."""
        for each in self.collections:
            if each.name == name:
                return BundleSource(self._store, self._root, each)
        raise NotFound(f"no such collection in the export name={name!r} there={','.join(self.names())}")


class BundleSource:
    """One collection of a bundle. Each file is downloaded, checked and read before the next."""

    def __init__(self, store: Store, root: str, bundled: Bundled) -> None:
        self._store = store
        self._root = root
        self._bundled = bundled

    @property
    def name(self) -> str:
        return self._bundled.name

    @property
    def definition(self) -> Definition:
        return self._bundled.definition

    @property
    def version(self) -> int | None:
        return self._bundled.version

    @property
    def sums(self) -> Sums | None:
        return self._bundled.sums

    def total(self) -> int | None:
        return self._bundled.records

    def batches(self, rows: int) -> Iterator[Batch]:
        with tempfile.TemporaryDirectory(prefix="chromalith-import-") as directory:
            for file in self._bundled.files:
                path = Path(directory) / "part.parquet"
                path.write_bytes(checked_object(self._store, f"{self._root}{file['key']}", file))
                yield from ParquetSource(path).batches(rows)


class BundleTarget:
    """A prefix of a store as a target for one collection, as Parquet files."""

    def __init__(self, store: Store, prefix: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._prefix = prefix
        self._clock = clock

    def check(self) -> None:
        check_unused(self._store, self._prefix)

    def write(self, source: Source, progress: Progress = silent) -> Written:
        def told(name: str, done: int, total: int | None) -> None:
            progress(done, total)

        (bundled,) = export_bundle([source], self._store, self._prefix, clock=self._clock, progress=told)
        return Written(bundled.records, bundled.bytes, bundled.sums, "parquet")


def checked_object(store: Store, key: str, file: Mapping[str, Any]) -> bytes:
    """An object, checked against ``bytes`` and ``sha256`` of its entry. Raises ``Corrupt``, also if it is gone."""
    try:
        body = store.get(key).body
    except NotFound as error:
        raise Corrupt(f"a file of the export is missing key={key}", hint="export again") from error
    if len(body) != file["bytes"] or hashlib.sha256(body).hexdigest() != file["sha256"]:
        raise Corrupt(f"a file of the export has other bytes than were written key={key}", hint="export again")
    return body


def put_file(store: Store, root: str, key: str, path: Path, clock: Clock) -> dict[str, Any]:
    """Put a file below ``root``, and return its entry for the manifest."""
    body = path.read_bytes()
    put_resolved(store, f"{root}{key}", body, Absent(), clock=clock)
    return {"key": key, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def _folder(name: str) -> str:
    """The collection's name, or its hash where a key cannot have it: a name may have blanks, slashes, or any letter."""
    return name if is_key(name) and "/" not in name else layout.h(name)


def _export_one(source: Source, store: Store, root: str, run: str, clock: Clock, progress: Progress) -> Bundled:
    total, records, sums = source.total(), 0, Sums()
    files: list[dict[str, Any]] = []
    batches = source.batches(ROWS_DEFAULT)
    with tempfile.TemporaryDirectory(prefix="chromalith-export-") as directory:
        path = Path(directory) / "part.parquet"
        batch = next(batches, None)
        while batch is not None or not files:  # an empty collection has one empty file
            with ParquetWriter(path, source) as writer:
                while batch is not None and writer.size_bytes < PART_BYTES_MAX:
                    writer.append(batch)
                    progress(records + writer.records, total)
                    batch = next(batches, None)
            entry = put_file(store, root, f"{_folder(source.name)}/{run}-{len(files):05d}.parquet", path, clock)
            files.append({**entry, "rows": writer.records})
            records += writer.records
            sums = Sums(sums.content + writer.sums.content, sums.embedding + writer.sums.embedding)
    written = Written(records, sum(file["bytes"] for file in files), sums, "parquet")
    check_written(source, written)
    return Bundled(source.name, source.definition, source.version, records, written.bytes, sums, tuple(files))

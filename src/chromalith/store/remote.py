"""Stores across a network: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

One adapter over obstore (why: ``docs/decisions/0002-object-store-client.md``). Each verb is one HTTP request; the client
repeats none of them. What goes wrong is put into the port's words by :mod:`chromalith.store.remote_errors`, how the client is
configured and finds credentials is in :mod:`chromalith.store.remote_open`.

Three habits of the services and their client that this file evens out:

- The client lists by whole segments (``a/b`` means ``a/b/``). A prefix that ends within a segment is listed from its
  folder, beginning just before it, and cut off behind it: the same number of requests.
- Google compares generations, not entity tags. There an entity tag is ``<tag>@<generation>``, and a condition sends the
  generation, a conditional read the tag. Its listings do not tell generations, so their tags lack that part.
- Some servers sort a listing by folder. A page is therefore sorted here; keys whose names differ in a character below ``/``
  may still come in another page there, which our layout never has.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, NotModifiedError

from chromalith.errors import Invalid, NotFound
from chromalith.store.keys import check_key, check_prefix, is_key
from chromalith.store.port import Absent, Condition, Entry, ETag, Matches, Object, PreconditionFailed
from chromalith.store.remote_errors import Failure, Request

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Page = list[Entry]

PAGE_ENTRIES = {"s3": 1_000, "gs": 1_000, "az": 5_000}
"""The size of a full page at each service, so that a page here is one request there."""

SETTLE_S = 2.0
"""Timestamps there are whole seconds, taken before the object becomes visible: one second for each."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class RemoteStore:
    """Objects in one bucket or container. Safe to use from many threads, not after a fork.

    Args:
        client: obstore's store for the bucket, with its retries off.
        scheme: ``s3``, ``gs`` or ``az``.
        url: the canonical URL of the bucket.
    """

    def __init__(self, client: ObjectStore, scheme: str, url: str) -> None:
        self._client = client
        self._scheme = scheme
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    @property
    def settle_s(self) -> float:
        return SETTLE_S

    def get(self, key: str) -> Object:
        check_key(key)
        try:
            return self._object(key, obstore.get(self._client, key))
        except (BaseError, OSError) as error:
            raise self._failure("get", key, error) from error

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        check_key(key)
        try:
            return self._object(key, obstore.get(self._client, key, options={"if_none_match": self._split(etag)[0]}))
        except NotModifiedError:
            return None
        except (BaseError, OSError) as error:
            raise self._failure("get_if_changed", key, error) from error

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        check_key(key)
        if start < 0 or stop <= start:
            raise Invalid(f"the range is empty or begins before the object start={start} stop={stop} key={key}")
        try:
            return obstore.get_range(self._client, key, start=start, end=stop).to_bytes()
        except (BaseError, OSError) as error:
            raise self._failure("get_range", key, error) from error

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        check_key(key)
        mode: Any = "overwrite"
        if isinstance(condition, Absent):
            mode = "create"
        elif isinstance(condition, Matches):
            mode = self._version(key, condition.etag)
        try:
            return self._etag(obstore.put(self._client, key, body, mode=mode, use_multipart=False))
        except (BaseError, OSError) as error:
            raise self._failure("put", key, error, condition) from error

    def delete(self, key: str) -> None:
        check_key(key)
        try:
            obstore.delete(self._client, key)
        except (BaseError, OSError) as error:
            failure = self._failure("delete", key, error)
            if not isinstance(failure, NotFound):
                raise failure from error

    def head(self, key: str) -> Entry:
        check_key(key)
        try:
            return self._entry(obstore.head(self._client, key))
        except (BaseError, OSError) as error:
            raise self._failure("head", key, error) from error

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        check_prefix(prefix)
        return self._pages(prefix, start_after)

    def copy(self, source: str, target: str) -> None:
        check_key(source)
        check_key(target)
        try:
            obstore.copy(self._client, source, target)
        except (BaseError, OSError) as error:
            raise self._failure("copy", source, error) from error

    def _pages(self, prefix: str, start_after: str) -> Iterator[Page]:
        folder, _, beginning = prefix.rpartition("/")
        offset = max(start_after, _just_before(prefix) if beginning else "")
        chunks = iter(
            obstore.list(self._client, folder or None, offset=offset or None, chunk_size=PAGE_ENTRIES[self._scheme])
        )
        while True:
            try:
                chunk = next(chunks, None)
            except (BaseError, OSError) as error:
                raise self._failure("list", prefix, error) from error
            if chunk is None:
                return
            page = [
                self._entry(meta)
                for meta in chunk
                if meta["path"].startswith(prefix) and meta["path"] > start_after and is_key(meta["path"])
            ]
            if page:
                page.sort(key=_key)
                yield page
            if any(meta["path"] > prefix and not meta["path"].startswith(prefix) for meta in chunk):
                return

    def _object(self, key: str, result: Any) -> Object:
        meta = result.meta
        return Object(key, result.bytes().to_bytes(), self._etag(meta), _microseconds(meta["last_modified"]))

    def _entry(self, meta: Any) -> Entry:
        return Entry(meta["path"], meta["size"], self._etag(meta), _microseconds(meta["last_modified"]))

    def _etag(self, meta: Any) -> ETag:
        tag = meta.get("e_tag") or ""
        generation = meta.get("version") if self._scheme == "gs" else None
        return f"{tag}@{generation}" if generation else tag

    def _split(self, etag: ETag) -> tuple[str, str]:
        if self._scheme != "gs":
            return etag, ""
        tag, _, generation = etag.rpartition("@") if "@" in etag else (etag, "", "")
        return tag, generation

    def _version(self, key: str, etag: ETag) -> dict[str, str]:
        tag, generation = self._split(etag)
        if self._scheme == "gs" and not generation:
            # A tag from a listing: look up the generation that has it.
            try:
                current = self.head(key)
            except NotFound as error:
                raise PreconditionFailed(f"the object to overwrite is absent key={key} expected={etag}") from error
            found, generation = self._split(current.etag)
            if found != tag:
                raise PreconditionFailed(f"the object has changed key={key} expected={etag} etag={current.etag}")
        return {"e_tag": tag, "version": generation} if generation else {"e_tag": tag}

    def _failure(self, verb: str, key: str, error: Exception, condition: Condition = None) -> Exception:
        return Failure.of(error).in_port_words(Request(verb, key, condition, self._scheme, self._url))


def _just_before(prefix: str) -> str:
    """Something that sorts before each key that begins with ``prefix``, and after all keys that sort before those.

    No key has a character above ``z``, so nothing lies between ``…<previous character>~`` and ``prefix``."""
    return f"{prefix[:-1]}{chr(ord(prefix[-1]) - 1)}~"


def _key(entry: Entry) -> str:
    return entry.key


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND

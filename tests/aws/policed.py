"""A store that asks the policies about each request before it makes it, as S3 would: who the caller is decides what happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.aws.iam import Document, Request, allowed
from tests.aws.infra_program import NAMES

from chromalith.errors import NotFound
from chromalith.store.port import Absent, Condition, Entry, ETag, Matches, NotAllowed, Object, Store
from chromalith.store.wrappers import DelegatingStore

SECURE = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}


class PolicedStore(DelegatingStore):
    """``inner`` for one identity.

    Args:
        inner: the store.
        identity: what the caller may do.
        bucket: the bucket's own policy.
    """

    def __init__(self, inner: Store, identity: Sequence[Document], bucket: Document) -> None:
        super().__init__(inner)
        self._identity = identity
        self._bucket = bucket
        self.asked: set[tuple[str, str]] = set()

    def get(self, key: str) -> Object:
        return self._read(key, lambda: self.inner.get(key))

    def get_if_changed(self, key: str, etag: ETag) -> Object | None:
        return self._read(key, lambda: self.inner.get_if_changed(key, etag))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        return self._read(key, lambda: self.inner.get_range(key, start, stop))

    def head(self, key: str) -> Entry:
        return self._read(key, lambda: self.inner.head(key))

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        context = {"s3:if-none-match": "*"} if isinstance(condition, Absent) else {}
        if isinstance(condition, Matches):
            context = {"s3:if-match": condition.etag}
        self._ask("s3:PutObject", key, context)
        return self.inner.put(key, body, condition)

    def delete(self, key: str) -> None:
        self._ask("s3:DeleteObject", key)
        self.inner.delete(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        folder, slash, _ = prefix.rpartition("/")  # what the adapter of remote stores sends
        self._ask("s3:ListBucket", None, {"s3:prefix": folder + slash} if folder else {})
        return self.inner.list(prefix, start_after=start_after)

    def copy(self, source: str, target: str) -> None:
        self._ask("s3:GetObject", source)
        self._ask("s3:PutObject", target)  # a copy has no condition
        self.inner.copy(source, target)

    def _read(self, key: str, read: Callable[[], Any]) -> Any:
        self._ask("s3:GetObject", key)
        try:
            return read()
        except NotFound:
            self._ask("s3:ListBucket", None, {"s3:prefix": key})  # whoever may not list gets 403 for what is absent
            raise

    def _ask(self, action: str, key: str | None, context: dict[str, str] | None = None) -> None:
        resource = NAMES.bucket_arn if key is None else f"{NAMES.bucket_arn}/{key}"
        request = Request(action, resource, SECURE | (context or {}))
        self.asked.add((action, (key or (context or {}).get("s3:prefix", "")).partition("/")[0]))
        if not allowed(request, self._identity, [self._bucket]):
            raise NotAllowed(f"403 {request}", key=key or "")

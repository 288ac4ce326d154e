"""A stock Chroma server behind a proxy that keeps Chroma Cloud's published quotas: the nearest to Cloud that runs here.

The gap. Cloud's own refusals may have another wording or status, it may count bytes differently, it indexes with SPANN,
it limits concurrent requests; none of that was ever tried. What this shows is that our requests stay within the quotas.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RECORDS = 300
KEY_BYTES = 36
DOCUMENT_BYTES = 16_384


@dataclass
class CloudLike:
    """A running proxy: its port, and what it saw."""

    port: int
    requests: list[tuple[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def cloud_like(server_url: str, key: str) -> Iterator[CloudLike]:
    """The proxy, for the time of the block. Requests without ``key`` are denied."""
    found = CloudLike(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.requests.append((self.command, self.path))
            if self.headers.get("x-chroma-token") != key:
                return self.answer(401, {"error": "AuthorizationError", "message": "no such key"})
            reason = quota(self.path, json.loads(body)) if body else None
            if reason is not None:
                found.refused.append(reason)
                return self.answer(400, {"error": "QuotaError", "message": reason})
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(server_url + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return self.answer(answer.status, answer.read())
            except urllib.error.HTTPError as error:
                return self.answer(error.code, error.read())

        def answer(self, status: int, value: Any) -> None:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    found.port = proxy.server_address[1]
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


def quota(path: str, body: dict[str, Any]) -> str | None:
    """Why a request is over the quotas, or ``None``."""
    verb = path.partition("?")[0].rpartition("/")[2]
    ids = body.get("ids") or []
    if verb in ("add", "update", "upsert", "delete") and len(ids) > RECORDS:
        return f"{verb} of {len(ids)} records"
    if verb == "get" and (len(ids) > RECORDS or (not ids and not (body.get("limit") or RECORDS + 1) <= RECORDS)):
        return f"get of {len(ids)} ids, limit {body.get('limit')}"
    for document in body.get("documents") or []:
        if document is not None and len(document.encode()) > DOCUMENT_BYTES:
            return "a document is too long"
    for metadata in body.get("metadatas") or []:
        if any(len(name.encode()) > KEY_BYTES for name in metadata or {}):
            return "a metadata key is too long"
    return None

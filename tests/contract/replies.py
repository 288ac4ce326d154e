"""A proxy before a real server of S3 or DynamoDB that can lose or falsify replies: what networks and load balancers do."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """What happens to one request: ``forward`` it or not, then answer ``status`` with ``code`` (or ``body``), or drop the connection."""

    forward: bool = True
    status: int = 0
    code: str = ""
    drop: bool = False
    twice: bool = False
    body: bytes = b""


PASS = Reply()
APPLIED_THEN_DROPPED = Reply(drop=True)
DROPPED = Reply(forward=False, drop=True)
REPEATED = Reply(twice=True)


def applied_then(status: int) -> Reply:
    return Reply(status=status)


def refused_with(status: int, code: str = "") -> Reply:
    return Reply(forward=False, status=status, code=code)


@dataclass
class Proxy:
    """Where to connect, what to answer next (``PASS`` when nothing is scripted), and what arrived."""

    endpoint: str = ""
    script: list[Reply] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)


@contextmanager
def proxy_before(backend: str) -> Iterator[Proxy]:
    proxy = Proxy()
    target = urlsplit(backend)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.seen.append(self.command)
            reply = proxy.script.pop(0) if proxy.script else PASS
            status, headers, content = reply.status, [], b""
            for _ in range((2 if reply.twice else 1) if reply.forward else 0):
                connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=20)
                connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
                response = connection.getresponse()
                content, headers = response.read(), response.getheaders()
                status = reply.status or response.status
                connection.close()
            if reply.drop:
                self.close_connection = True
                return
            if reply.status:
                headers, content = [], reply.body or b"<?xml version='1.0'?><Error><Code>%s</Code></Error>" % reply.code.encode()
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length", "0")
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD" and status != 304:
                self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

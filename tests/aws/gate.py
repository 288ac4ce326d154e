"""A gate before an S3 server: it counts the requests of a function, and holds back the one that a test waits for.

A request is held *before* it reaches the server, or *after* the server has done it and before the reply is passed on. What is held can be
let through later (a reply that is late, or a request that arrives after its sender has died) or thrown away.
"""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

HELD_S_MAX = 120
_OF_THE_CONNECTION = {"content-length", "connection", "transfer-encoding"}

When = Literal["before", "after"]


@dataclass(frozen=True)
class Request:
    """What arrived: the method, and the key below the bucket."""

    method: str
    key: str


class Held:
    """The first request that matches. ``arrived`` is set once it is held."""

    def __init__(self, matches: Callable[[Request], bool], when: When) -> None:
        self.matches = matches
        self.when = when
        self.arrived = threading.Event()
        self._decided = threading.Event()
        self._pass = False

    def let_through(self) -> None:
        """Go on as if nothing had been."""
        self._pass = True
        self._decided.set()

    def throw_away(self) -> None:
        """Close the connection; what has not reached the server never will."""
        self._decided.set()

    def passes(self) -> bool:
        """Hold the calling thread until it is decided; whether to go on."""
        self.arrived.set()
        self._decided.wait(HELD_S_MAX)
        return self._pass


@dataclass
class Gate:
    """Where to connect, what has arrived, and what will be held."""

    endpoint: str = ""
    seen: list[Request] = field(default_factory=list)
    _holds: list[Held] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, method: str, part: str, when: When = "before") -> Held:
        """Hold the next request with this method and this in its key; only that one."""
        held = Held(lambda request: request.method == method and part in request.key, when)
        with self._lock:
            self._holds.append(held)
        return held

    def count(self, start: int = 0) -> int:
        """Requests since the one of number ``start``."""
        return len(self.seen) - start

    def admit(self, request: Request) -> Held | None:
        """Note a request; what holds it, if anything does."""
        with self._lock:
            self.seen.append(request)
            found = next((held for held in self._holds if held.matches(request)), None)
            if found is not None:
                self._holds.remove(found)
            return found

    def open_all(self) -> None:
        """Hold nothing more."""
        with self._lock:
            holds, self._holds = self._holds, []
        for held in holds:
            held.throw_away()


@contextmanager
def gate_before(backend: str) -> Iterator[Gate]:
    """A gate before an endpoint, on a free port of this machine."""
    gate = Gate()
    target = urlsplit(backend)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            self._server = http.client.HTTPConnection(target.hostname or "", target.port, timeout=HELD_S_MAX)

        def finish(self) -> None:
            self._server.close()
            with suppress(OSError):  # its client may have been killed
                super().finish()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            _, _, key = urlsplit(self.path).path.lstrip("/").partition("/")
            held = gate.admit(Request(self.command, unquote(key)))
            if held is not None and held.when == "before" and not held.passes():
                self.close_connection = True
                return
            # The signature covers the name of the host that the client meant: it is passed on as it came.
            self._server.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
            response = self._server.getresponse()
            content = response.read()
            if held is not None and held.when == "after" and not held.passes():
                self.close_connection = True
                return
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            length = response.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # clients are killed here
    gate.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        gate.open_all()
        server.shutdown()
        thread.join()
        server.server_close()

"""Lambda's runtime API, as much of it as the real runtime client uses: ``next``, ``response``, ``error`` and ``init/error``.

docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. One object serves one process: a process that was killed while it asked for the
next event must not be given the one that is meant for its successor.
"""

from __future__ import annotations

import http.server
import json
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

_PREFIX = "/2018-06-01/runtime/"


@dataclass(frozen=True)
class Answer:
    """How an invocation ended: ``ok``, ``error`` (the function's own), ``init_error``, ``crashed`` or ``timed_out``; and with what."""

    how: str
    value: Any


@dataclass(frozen=True)
class _Event:
    request: str
    body: bytes
    deadline_ms: int
    arn: str


class RuntimeApi:
    """The server, on a free port of this machine."""

    def __init__(self) -> None:
        self._events: queue.Queue[_Event | None] = queue.Queue()
        self._answers: dict[str, Answer] = {}
        self._changed = threading.Condition()
        self._init_error: Answer | None = None
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # processes are killed here
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def send(self, request: str, event: Any, timeout_s: float, arn: str) -> None:
        """Queue an event for the process."""
        self._events.put(_Event(request, json.dumps(event).encode(), int((time.time() + timeout_s) * 1000), arn))

    def answer(self, request: str, timeout_s: float) -> Answer | None:
        """The answer to a request, or ``None`` if there is none within so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: request in self._answers, timeout_s)
            return self._answers.get(request)

    def init_error(self) -> Answer | None:
        """What the process said when it could not start."""
        return self._init_error

    def close(self) -> None:
        """Stop. A process that asks for the next event is left without a reply."""
        self._events.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _told(self, path: str, body: Any) -> None:
        with self._changed:
            if path == "init/error":
                self._init_error = Answer("init_error", body)
            else:
                _, request, how = path.split("/")
                self._answers[request] = Answer({"response": "ok"}.get(how, how), body)
            self._changed.notify_all()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body leave in one write: in two, the second waits 40 ms for the receiver to acknowledge the first.
            wbufsize = -1

            def do_GET(self) -> None:
                assert self.path == _PREFIX + "invocation/next", self.path
                event = api._events.get()
                if event is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Lambda-Runtime-Aws-Request-Id", event.request)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(event.deadline_ms))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", event.arn)
                self.send_header("Content-Length", str(len(event.body)))
                self.end_headers()
                self.wfile.write(event.body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                api._told(self.path.removeprefix(_PREFIX), json.loads(body or b"null"))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler

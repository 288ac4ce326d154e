"""Functions as Lambda runs them: the real runtime client, in a process that has the zip's content, Lambda's own packages and no others.

Two things stand in for the service, which hands events to that client over HTTP (the *runtime API*):

:class:`Emulator`  AWS's own emulator: one process at a time, time-outs, a fresh process after each.
:class:`Sandbox`   the same API in a few lines, for what the emulator can't do: many at once, an event that is under way while the test
                   looks, a process that is killed in the middle, an error while it starts.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.aws.lambda_package import base_python, emulator_binary, runtime_packages, unpacked_zip
from tests.aws.runtime_api import Answer, RuntimeApi
from tests.servers import ACCESS_KEY, SECRET_KEY

from chromalith.clock import SYSTEM_CLOCK

START_S_MAX = 60
FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:{name}"


@dataclass(frozen=True)
class Function:
    """What would be configured on AWS.

    Attributes:
        handler: as Lambda's setting has it, such as ``chromalith.lambdas.query.handler``.
        environment: its variables.
        timeout_s: after so many seconds an invocation is ended, with its process.
        disk: where its ephemeral disk stands in for ``/tmp``; a fresh process of the same sandbox finds it as it was.
    """

    handler: str
    environment: Mapping[str, str]
    disk: Path
    timeout_s: int = 60
    name: str = "test"
    code: Path = field(default_factory=unpacked_zip)

    def variables(self) -> dict[str, str]:
        """The whole environment of the process: what Lambda sets, then the function's own."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_s),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "LAMBDA_TASK_ROOT": str(self.code),
            "_HANDLER": self.handler,
            # In Lambda's order. The folder of the code is read-only there, so nothing may be written to it here either.
            "PYTHONPATH": f"{self.code}{os.pathsep}{runtime_packages()}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "CHROMALITH_CACHE_DIR": str(self.disk / "cache"),
            "TMPDIR": str(self.disk),
        } | dict(self.environment)

    def command(self) -> list[str]:
        """The runtime client, in a Python that knows no packages but those on the path above."""
        return [base_python(), "-S", "-s", "-m", "awslambdaric", self.handler]


class Emulator:
    """AWS's emulator with one function in it."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._log = function.disk / "emulator.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> None:
        """Start it, and wait until it listens. The function's own process starts with the first event."""
        self._port, api_port = _free_ports(2)
        command = [
            str(emulator_binary()), "--log-level", "warn", "--runtime-interface-emulator-address", f"127.0.0.1:{self._port}",
            "--runtime-api-address", f"127.0.0.1:{api_port}", *self._function.command(),
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._function.code, env=self._function.variables(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_S_MAX
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), timeout=2).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the emulator did not start\n{self.log_text()}")
            time.sleep(0.05)

    def invoke(self, event: Any) -> Any:
        """What the caller of ``Invoke`` gets: the answer, or an object with ``errorType`` and ``errorMessage``; or a text (a time-out)."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._function.timeout_s + START_S_MAX)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", body=json.dumps(event))
            body = connection.getresponse().read().decode()
        finally:
            connection.close()
        with suppress(ValueError):
            return json.loads(body)
        return body

    def function_pid(self) -> int | None:
        """Of the function's process that is alive, if one is: the emulator's child."""
        assert self._process is not None
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it may have ended meanwhile
                _, _, fields = status.read_text().rpartition(")")
                if fields.split()[1] == str(self._process.pid) and fields.split()[0] != "Z":
                    return int(status.parent.name)
        return None

    def log_text(self) -> str:
        """What the function and the emulator printed."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """End it and its children."""
        if self._process is not None:
            _kill_group(self._process)


class Sandbox:
    """One sandbox: its disk stays, its process is replaced when it has ended. Any number may work at once.

    Between events the process is frozen, as Lambda does it: a thread that should have been waited for stands still.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self._api: RuntimeApi | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log = function.disk / "sandbox.log"

    @property
    def pid(self) -> int | None:
        """Of the process that is alive, if one is."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process is not None else None

    def invoke(self, event: Any) -> Answer:
        """One event, to its end. A fresh process is started if there is none."""
        return self.end(self.begin(event))

    def begin(self, event: Any, request: str | None = None) -> str:
        """Hand out an event, and return its request's id at once. A ``request`` that is given is one that Lambda repeats."""
        if self.pid is None:
            self._start()
        assert self._api is not None
        self._signal(signal.SIGCONT)
        request = request or str(SYSTEM_CLOCK.random_uuid())
        self._api.send(request, event, self.function.timeout_s, FUNCTION_ARN.format(name=self.function.name))
        return request

    def end(self, request: str) -> Answer:
        """Wait for the answer to an event; after the function's time limit its process is ended, as Lambda does it."""
        assert self._api is not None
        assert self._process is not None
        deadline = time.monotonic() + self.function.timeout_s
        while (answer := self._api.answer(request, 0.05)) is None:
            if self._process.poll() is not None:
                return self._api.init_error() or Answer("crashed", f"exit status {self._process.returncode}")
            if time.monotonic() > deadline:
                self.kill()
                return Answer("timed_out", f"Task timed out after {self.function.timeout_s:.2f} seconds")
        self._signal(signal.SIGSTOP)
        return answer

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        if self._process is not None:
            _kill_group(self._process)

    def stop(self) -> None:
        """End the process and the API."""
        self.kill()
        if self._api is not None:
            self._api.close()

    def log_text(self) -> str:
        """What the function printed."""
        return self._log.read_text(errors="replace")

    def _signal(self, number: int) -> None:
        if self.pid is not None:
            os.killpg(self.pid, number)

    def _start(self) -> None:
        if self._api is not None:
            self._api.close()
        self._api = RuntimeApi()
        variables = self.function.variables() | {"AWS_LAMBDA_RUNTIME_API": self._api.address}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.function.command(), cwd=self.function.code, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip


@contextmanager
def emulated(function: Function) -> Iterator[Emulator]:
    """The function in AWS's emulator, stopped at the end."""
    function.disk.mkdir(parents=True, exist_ok=True)
    emulator = Emulator(function)
    try:
        emulator.start()
        yield emulator
    finally:
        emulator.stop()


@contextmanager
def sandboxed(function: Function) -> Iterator[Sandbox]:
    """The function in a sandbox of ours, stopped at the end."""
    function.disk.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox(function)
    try:
        yield sandbox
    finally:
        sandbox.stop()


def warmed_up(emulator: Emulator, event: dict[str, Any]) -> Any:
    """The answer to an event that may be given more than once, by a process that has started: on a busy machine that alone may time out."""
    for _ in range(10):
        if not isinstance(answer := emulator.invoke(event), str):
            return answer
    raise TimeoutError(f"it never starts in time: {answer}")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()

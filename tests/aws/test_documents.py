"""The commands in the documents that need an account: run with the real AWS CLI, in an emulated one in which the Pulumi program was run.

The blocks of one document run one after the other in one empty folder, in the order in which they stand there; other documents than the
runbook find its ``stack.env`` there. The account is these tests' own: drills (a pointer is deleted, a queue is emptied) would disturb
others. The functions are the real handlers, run by the emulator; what it does not enforce is in README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.aws.account import Account, Ministack, allow
from tests.aws.live_mocks import up
from tests.docs.blocks import AWS_TEST, ROOT, Block, commands

pytestmark = pytest.mark.xdist_group("documents")

STACK = "dev"
BLOCKS = [block for block in commands() if block.marker == AWS_TEST]
DOCUMENTS = sorted({block.path for block in BLOCKS})
RUNBOOK = ROOT / "docs" / "RUNBOOK.md"
STACK_ENV = next(block for block in BLOCKS if block.path == RUNBOOK)
BLOCK_S_MAX = 240
WRITTEN = 4
"""Records that the runbook's drills write: a, b, c, and the mistake that is set aside and replayed."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account of its own with the stack ``dev``, under the guide's names."""
    folder = tmp_path_factory.mktemp("account")
    package = folder / "lambda.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("README", "the emulator's functions take chromalith from this environment")
    server = Ministack(folder)
    try:
        server.start()
        up(server.root, STACK, {"packagePath": str(package), "alarmEmail": "ops@example.org"})
        yield server.root
    finally:
        server.stop()


def aws_cli(folder: Path) -> Path:
    """A folder with the ``aws`` command. Version 1 of it asks for queues at an old name of SQS, whatever ``AWS_ENDPOINT_URL`` says."""
    command = folder / "bin" / "aws"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).parent / "aws"}" --endpoint-url "$AWS_ENDPOINT_URL" "$@"\n')
    command.chmod(0o755)
    return command.parent


def test_there_are_documents_to_run() -> None:
    """The runbook's commands are run here."""
    assert "RUNBOOK.md" in {path.name for path in DOCUMENTS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """A folder for each document."""
    return {path: tmp_path_factory.mktemp(path.stem) for path in DOCUMENTS}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_each_block_runs(block: Block, deployed: Account, folders: dict[Path, Path]) -> None:
    """Every command for a deployed stack succeeds there, after those before it in its document."""
    folder = folders[block.path]
    environment = deployed.environment({"CHROMALITH_CACHE_DIR": str(folder / "cache"), "HOME": str(folder)})
    environment["PATH"] = f"{aws_cli(folder)}{os.pathsep}{environment['PATH']}"
    first = [] if block.path == RUNBOOK or (folder / "stack.env").exists() else [STACK_ENV]
    for each in (*first, block):
        ended = subprocess.run(
            each.command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BLOCK_S_MAX, check=False
        )
        print(f"{each}\n{ended.stdout}\n{ended.stderr}")
        assert ended.returncode == 0, f"{each}\n{each.text}\n{ended.stdout}\n{ended.stderr}"


def test_no_drill_loses_a_record(deployed: Account, tmp_path: Path) -> None:
    """After all that the runbook did to them, the records that it wrote are there."""
    environment = deployed.environment({"CHROMALITH_CACHE_DIR": str(tmp_path / "cache")})
    counted = subprocess.run(
        ["chromalith", "count", "words", "--store", f"s3://chromadb-vectors-{STACK}-{deployed.id}", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(counted.stdout)["count"] == WRITTEN


def test_the_doctors_command_brings_a_pointer_back(deployed: Account, tmp_path: Path) -> None:
    """What `doctor` prints for a pointer that went back or is gone works under the bucket's policy, which refuses `aws s3 cp`."""
    bucket = f"chromadb-vectors-{STACK}-{deployed.id}"
    own = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    admin = deployed.create_role("administrator", allow("s3:*", on=own))
    environment = admin.environment({"CHROMALITH_STORE": f"s3://{bucket}", "CHROMALITH_CACHE_DIR": str(tmp_path / "cache")})
    environment["PATH"] = f"{aws_cli(tmp_path)}{os.pathsep}{environment['PATH']}"

    def ran(command: str, code: int = 0) -> str:
        ended = subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == code, f"{command}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"id": "{name}", "embedding": [1, 0]}}\n')
    ran("chromalith collections create pears && chromalith import one.jsonl --as pears && sleep 3 && chromalith compact pears")
    shown = json.loads(ran("chromalith collections show pears --json"))
    key = f"snapshot/{shown['id']}/latest/pointer.txt"
    s3 = admin.client("s3")
    before = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    for name in ("two", "three"):  # what nothing was built on might as well be the manifest of a lost race
        ran(f"chromalith import {name}.jsonl --as pears && sleep 3 && chromalith compact pears")
    s3.put_object(Bucket=bucket, Key=key, Body=before, IfMatch=s3.head_object(Bucket=bucket, Key=key)["ETag"])
    for code in ("pointer_went_back", "pointer_missing"):
        findings = json.loads(ran("chromalith doctor pears --read-only --json", 5))["findings"]
        remedy = {each["code"]: each["remedy"] for each in findings}[code]
        ran(remedy.partition("version ")[2].partition(": ")[2])
        assert json.loads(ran("chromalith count pears --json"))["count"] == 3
        ran("chromalith verify pears")
        s3.delete_object(Bucket=bucket, Key=key)
    assert "AccessDenied" in subprocess.run(
        ["aws", "s3", "cp", "one.jsonl", f"s3://{bucket}/{key}"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    ).stderr

"""An AWS account of the tests' own: one emulator process on the loopback interface, with signatures and policies enforced.

``tests/aws/conftest.py`` makes these known to every test here:

``ministack``    the server process, for the session (each xdist worker has its own)
``account``      its account as root; ``account.create_role(…)`` and ``account.assume(…)`` give the same account as a role

A test makes names of its own (``account.new_name("queue")``), because the account lives as long as the session. What the emulator does
not enforce, or drops silently, is listed in ``tests/aws/README.md``, with what asserts it instead.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.servers import ACCESS_KEY, SECRET_KEY

from chromalith.clock import SYSTEM_CLOCK

ACCOUNT_ID = "123456789012"
REGION = "us-east-1"
START_S_MAX = 60
PROJECT = Path(__file__).resolve().parents[2]
TRUST = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")
"""How boto3 and the AWS CLI, and the store's client, are told whom to trust."""
_OWN_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV")
"""What the emulator, and the functions that it runs, see of this process's environment: nothing that could change their behaviour."""


@dataclass(frozen=True)
class Credentials:
    """Who signs."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Account:
    """The account as one identity sees it: root, or a role.

    Attributes:
        endpoint: where every service answers.
        credentials: whose requests they are.
        identity: the identity's ARN, for messages.
    """

    endpoint: str
    credentials: Credentials
    identity: str = f"arn:aws:iam::{ACCOUNT_ID}:root"
    id: str = ACCOUNT_ID
    region: str = REGION

    def client(self, service: str) -> Any:
        """A boto3 client of this identity, made once. It does not retry: a refusal is asserted, not waited for."""
        return _client(self, service)

    @property
    def storage_options(self) -> dict[str, object]:
        """For ``open_store`` and all that takes ``storage_options``: objects in this account's own S3."""
        options: dict[str, object] = {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.credentials.access_key_id,
            "secret_access_key": self.credentials.secret_access_key,
        }
        if self.credentials.session_token:
            options["session_token"] = self.credentials.session_token
        return options

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a child process that works as this identity: the AWS CLI, ``chromalith``, a producer."""
        own = {name: os.environ[name] for name in _OWN_VARIABLES if name in os.environ}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}"
        return own | aws_variables(self) | dict(more or {})

    def new_name(self, what: str) -> str:
        """A name that nothing else in this account has."""
        return f"{what}-{SYSTEM_CLOCK.random_hex(8)}"

    def create_role(self, name: str, *policies: Mapping[str, Any], service: str = "lambda.amazonaws.com") -> Account:
        """Create a role with ``policies`` (documents) inline; the account as that role. Functions and root may assume it."""
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}},
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{self.id}:root"}},
            ],
        }
        iam = self.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        for number, policy in enumerate(policies):
            iam.put_role_policy(RoleName=name, PolicyName=f"policy-{number}", PolicyDocument=json.dumps(policy))
        return self.assume(name)

    def assume(self, role: str) -> Account:
        """The account as a role (its name or ARN) sees it."""
        arn = role if role.startswith("arn:") else f"arn:aws:iam::{self.id}:role/{role}"
        given = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        credentials = Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
        return replace(self, credentials=credentials, identity=arn)

    def role_arn(self, name: str) -> str:
        return f"arn:aws:iam::{self.id}:role/{name}"


def aws_variables(account: Account) -> dict[str, str]:
    """The environment variables by which boto3, the AWS CLI and the store's client find the account."""
    found = {
        "AWS_ENDPOINT_URL": account.endpoint,
        "AWS_REGION": account.region,
        "AWS_DEFAULT_REGION": account.region,
        "AWS_ACCESS_KEY_ID": account.credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": account.credentials.secret_access_key,
        "AWS_EC2_METADATA_DISABLED": "true",  # never ask the network who we are
        "AWS_PAGER": "",
    }
    found |= {name: os.environ[name] for name in TRUST if name in os.environ}
    if account.credentials.session_token:
        found["AWS_SESSION_TOKEN"] = account.credentials.session_token
    return found


def allow(*actions: str, on: str | list[str], condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A policy document of one statement."""
    statement: dict[str, Any] = {"Effect": "Allow", "Action": list(actions), "Resource": on}
    if condition:
        statement["Condition"] = dict(condition)
    return {"Version": "2012-10-17", "Statement": [statement]}


@functools.lru_cache(maxsize=256)
def _client(account: Account, service: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        service,
        endpoint_url=account.endpoint,
        region_name=account.region,
        aws_access_key_id=account.credentials.access_key_id,
        aws_secret_access_key=account.credentials.secret_access_key,
        aws_session_token=account.credentials.session_token,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=120, s3={"addressing_style": "path"}),
    )


class Ministack:
    """The emulator's process, with all of its files in one folder. Its functions run in child processes from this environment.

    Args:
        folder: for its log, its temporary files and the unpacked code of functions.
        variables: what it, and so each of its functions, sees in the environment besides its own settings.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.log = folder / "ministack.log"
        self._folder = folder
        self._variables = dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None
        port, self._plain_port = free_port(), free_port()
        # Those of the S3 servers too: a process then needs one pair for objects there, and for the queue and the table here.
        root = Credentials(ACCESS_KEY, SECRET_KEY)
        self.root = Account(f"https://127.0.0.1:{port}", root)
        self.without_tls = replace(self.root, endpoint=f"http://127.0.0.1:{self._plain_port}")
        self._settings = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            "MINISTACK_REGION": REGION,
            "AUTH": "true",
            "USE_SSL": "1",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "AWS_ACCESS_KEY_ID": root.access_key_id,
            "AWS_SECRET_ACCESS_KEY": root.secret_access_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "TMPDIR": str(folder),
        }

    def start(self) -> None:
        """Start it, and wait until root is known there by its signature."""
        own = {name: os.environ[name] for name in _OWN_VARIABLES if name in os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.aws.emulator", str(self._plain_port)],
                cwd=PROJECT,
                env=own | self._variables | self._settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.without_tls.endpoint}/_ministack/health", timeout=2).close()
                trust(self._folder / "ministack-tls" / "ca-bundle.pem", self._folder / "ministack-tls" / "server.crt")
                if self.root.client("sts").get_caller_identity()["Account"] != ACCOUNT_ID:
                    raise RuntimeError("the emulator answers for another account")
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"the emulator did not start code={self._process.poll()}\n{self.log_text()[-2_000:]}")

    def log_text(self) -> str:
        """All that it logged, its functions' output included."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stop(self) -> None:
        """End it with its functions."""
        if self._process is None:
            return
        # A session of its own makes its children one group, so that none outlives the tests. Nothing is kept: no goodbye.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)


def trust(bundle: Path, certificate: Path) -> None:
    """Let this process, and those that it starts, trust ``certificate`` beside what it trusts anyway."""
    before = ssl.get_default_verify_paths()
    known = Path(before.cafile or before.openssl_cafile)
    bundle.write_bytes((known.read_bytes() if known.exists() else b"") + b"\n" + certificate.read_bytes())
    for name in TRUST:
        os.environ[name] = str(bundle)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def refused(error: pytest.ExceptionInfo[Any]) -> str:
    """The code of a refusal; fails for any other error of a service, so that a test can't take a broken call for a refused one."""
    response = error.value.response
    code = str(response["Error"]["Code"])
    assert re.search(r"AccessDenied|NotAuthorized|^403$", code), response["Error"]
    return code

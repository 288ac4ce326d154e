"""The stack that the unchanged Pulumi program made in the emulated account, once for the session: the fixture ``deployed``."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from tests.aws.account import Account
from tests.aws.live_mocks import LiveMocks, up

STACK = "dev"
FUNCTIONS = ("producer", "compactor", "query", "sweep", "health")


@dataclass(frozen=True)
class Deployed:
    """What ``pulumi up`` left behind.

    Attributes:
        account: as root.
        mocks: what was made.
        outputs: as ``pulumi stack output`` says them.
    """

    account: Account
    mocks: LiveMocks
    outputs: dict[str, Any]

    @property
    def bucket(self) -> str:
        return str(self.outputs["bucket"])

    @property
    def queue_url(self) -> str:
        return str(self.outputs["queue_url"])

    def role(self, name: str) -> str:
        """The name of a function's role."""
        return f"chromadb-{name}-{STACK}-{self.account.region}"

    @contextmanager
    def as_role(self, name: str) -> Iterator[Account]:
        """The account as a function's role sees it. No person may be one: root lets itself in for as long as the block lasts."""
        iam, role = self.account.client("iam"), self.role(name)
        theirs = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        own = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{self.account.id}:root"}, "Action": "sts:AssumeRole"}


        iam.update_assume_role_policy(
            RoleName=role, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [*theirs["Statement"], own]})
        )
        try:
            yield self.account.assume(role)
        finally:
            iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(theirs))


EMBEDDING = '''
"""Texts to vectors, for tests: a word's letters, counted."""


def embed(texts):
    return [[float(text.count(letter)) for letter in "abcdeor "] for text in texts]
'''
DIMENSION = 8


@pytest.fixture(scope="session")
def deployed(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The stack ``dev``. Its functions take chromalith from this environment: their zip holds an embedding function."""
    package = tmp_path_factory.mktemp("package") / "lambda.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("letters.py", EMBEDDING)
    config = {"packagePath": str(package), "alarmEmail": "ops@example.org", "embed": "letters:embed"}
    mocks, outputs = up(account, STACK, config)
    return Deployed(account, mocks, outputs)

"""Servers for the tests of what runs on AWS. Each xdist worker starts those that its own tests ask for, once.

A module that needs the emulated account says ``pytestmark = pytest.mark.xdist_group("account")``, so that one worker runs all of these, and
one emulator is started. The fixtures of ``tests/servers.py`` (``seaweed``, ``moto``, …) are known here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from tests.aws.account import Account, Ministack
from tests.aws.deployed import deployed

__all__ = ["deployed"]

collect_ignore = ["dynamodb_local"]
"""Its server needs Java: `make test-dynamodb`."""


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """The emulator of an AWS account, with signatures and policies enforced."""
    server = Ministack(tmp_path_factory.mktemp("ministack"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def account(ministack: Ministack) -> Account:
    """The emulated account, as root."""
    return ministack.root


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups for ``--dist loadgroup``. xdist writes them into the ids of the tests, where pytest 9.2 no longer looks: each test would go
    to any worker, and each worker start every server. So the group is read from the module that a test is in."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def group_of(module: str) -> str:
        found = re.search(r'^pytestmark.*xdist_group\("([^"]+)"\)', (config.rootpath / module).read_text(encoding="utf-8"), re.MULTILINE)
        return found[1] if found else module

    class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0])

    return ByGroup(config, log)

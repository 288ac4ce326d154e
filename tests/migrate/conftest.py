"""What tests of the client begin with; and what takes longer than `make test` may is left to `make migrate-live`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromadb
import pytest
from chromadb.config import Settings
from tests.long_forms import leave_out_what_is_slow
from tests.migrate.client_world import World, words, world

from chromalith.migrate.phases import Phase


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out_what_is_slow(config, items, Path(__file__).parent)


@pytest.fixture(params=["chromalith", "stock"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """In phase dual, with the collection ``words`` on both sides."""
    source = None
    if request.param == "stock":
        source = chromadb.PersistentClient(str(tmp_path / "source"), Settings(anonymized_telemetry=False))
    try:
        with world(source) as two:
            words(two.client)
            two.mirror()
            two.become(Phase.DUAL)
            yield two
    finally:
        if source is not None:
            source.close()

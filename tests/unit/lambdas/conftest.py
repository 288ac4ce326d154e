"""A store for the handlers of one test, named by the environment as in Lambda, and nothing that an earlier test left warm."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.lambdas.invocations import forget_what_is_warm

from chromalith.lambdas import runtime


@pytest.fixture(autouse=True)
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A directory store, which ``CHROMADB_BUCKET`` and ``DELTA_BUCKET`` name."""
    for name in list(os.environ):
        if name.startswith(("CHROMALITH_", "AWS_", "DELTA_", "CHROMADB_", "POWERTOOLS_")):
            monkeypatch.delenv(name)
    url = str(tmp_path / "store")
    monkeypatch.setenv("CHROMADB_BUCKET", url)
    monkeypatch.setenv("DELTA_BUCKET", url)
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    forget_what_is_warm()
    yield url
    forget_what_is_warm()


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The handlers' log, by line, as CloudWatch gets it."""
    handler = runtime._logger.registered_handler
    stream = io.StringIO()
    before = handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    handler.setStream(before)

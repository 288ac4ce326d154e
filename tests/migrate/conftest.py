"""What takes longer than `make test` may is run by `make migrate-live`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.long_forms import leave_out_what_is_slow


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out_what_is_slow(config, items, Path(__file__).parent)

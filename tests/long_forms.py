"""Long forms of tests: marked ``slow``, and run only when ``-m`` asks for them, because `make test` has a budget of minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

ASKED_FOR_BY = "make migrate-live"


def leave_out_what_is_slow(config: pytest.Config, items: list[pytest.Item], folder: Path) -> None:
    """Skip the slow tests below ``folder``, unless ``-m`` names them; what is skipped is listed with its reason."""
    if "slow" in config.option.markexpr:
        return
    for item in items:
        if folder in item.path.parents and item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason=f"long: {ASKED_FOR_BY}"))

"""Examining a world, for the tests of doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.worlds import World

from chromalith.clock import Clock
from chromalith.doctor.examine import Report, examine
from chromalith.doctor.finding import Finding
from chromalith.store.port import Store


def examined(store: Store, clock: Clock, cache_dir: Path | str = "/nonexistent", **options: Any) -> Report:
    """An examination with a cache of its own."""
    options = {"cache_bytes_max": 2**40} | options
    return examine(store, clock, cache_dir=Path(cache_dir), **options)


def findings(world: World, cache_dir: Path, **options: Any) -> dict[str, Finding]:
    """What a doctor finds in a world, by code."""
    return {each.code: each for each in examined(world.store, world.clock, cache_dir, **options).findings}

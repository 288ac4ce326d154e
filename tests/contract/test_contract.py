"""The shipped contract, run on every adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromalith.clock import SYSTEM_CLOCK
from chromalith.store.directory import DirectoryStore
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import CountingStore, LatencyStore, PrefixStore
from chromalith.testing.contract import StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore(SYSTEM_CLOCK)


class TestDirectory(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return DirectoryStore(tmp_path / "store", SYSTEM_CLOCK)


class TestOpened(StoreContract):
    """What ``open_store`` returns, with all its wrappers, and a prefix."""

    @pytest.fixture
    def store(self) -> Store:
        return open_store(f"memory://contract-{SYSTEM_CLOCK.random_hex(8)}/some/prefix")


class TestWrapped(StoreContract):
    """Wrappers around a store that holds other things too."""

    @pytest.fixture
    def store(self) -> Store:
        inner = MemoryStore(SYSTEM_CLOCK)
        for key in ("pre", "pre-fix/a", "prefix", "prefix/inner-other", "zzz/a"):
            inner.put(key, b"not ours")
        return CountingStore(LatencyStore(PrefixStore(inner, "prefix/inner"), SYSTEM_CLOCK, 0.0))


@pytest.mark.server
class TestSeaweedFS(StoreContract):

    @pytest.fixture
    def store(self, seaweed_store: Store) -> Store:
        return seaweed_store


@pytest.mark.server
class TestMoto(StoreContract):
    contenders = 6

    @pytest.fixture
    def store(self, moto_store: Store) -> Store:
        return moto_store

"""The package's public names: one list, complete, and cheap to import."""

from __future__ import annotations

import importlib
import types

import pytest

import chromalith

PUBLIC = {
    "Client", "Writer", "Reader", "compact", "sweep", "rollback", "SweepOutcome", "wait_for", "last_token", "ReadLevel", "Receipt",
    "Records", "View", "Outcome", "CompactionSettings", "EmfObserver", "OtelObserver",
    "produce_embedding_delta", "query_chromadb_snapshot", "query_snapshot_count", "get_latest_snapshot",
    "MigratingClient", "sticky",
    "ChromalithError", "Conflict", "LeaseHeld", "Unknown", "Unavailable", "NotFound", "Invalid", "Corrupt", "Bug", "__version__",
}  # fmt: skip


def test_all_is_exactly_this() -> None:
    """A name is public when it is in this test; taking one away is a decision, not an accident."""
    assert set(chromalith.__all__) == PUBLIC
    assert len(chromalith.__all__) == len(PUBLIC)
    assert set(dir(chromalith)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_name_leads_somewhere(name: str) -> None:
    """Every public name can be had, and is not a module; what can be called says what it does."""
    found = getattr(chromalith, name)
    assert not isinstance(found, types.ModuleType)
    if callable(found):
        assert found.__doc__


def test_compact_stays_the_function() -> None:
    """``chromalith.compact`` is a function whatever was imported: no module may take its name."""
    importlib.import_module("chromalith.compaction.merge_job")
    assert callable(chromalith.compact)


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        _ = chromalith.Klient

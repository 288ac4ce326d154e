"""Metrics as a program asks for them: an observer given to whatever opens a store, or the setting ``CHROMALITH_METRICS``."""

from __future__ import annotations

import gc
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.observe.test_emf import check

import chromalith
from chromalith import guide
from chromalith.cli.app import run
from chromalith.errors import Invalid
from chromalith.observe.configured import EXPORTERS, configured
from chromalith.observe.emf import EmfObserver
from chromalith.observe.events import Compacted, DeltaWritten, Event, Looked, Queried
from chromalith.observe.hooks import silent
from chromalith.observe.otel import OtelObserver
from chromalith.settings import Settings


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CHROMALITH_METRICS", raising=False)
    with chromalith.Writer(str(tmp_path / "store")) as writer:
        writer.create("words")
    return str(tmp_path / "store")


def use(url: str, **watched: Any) -> None:
    """A write, a compaction and a query, by the public verbs."""
    with chromalith.Writer(url, **watched) as writer:
        writer.upsert("words", ids=["a"], embeddings=[[1.0, 2.0]])
    chromalith.compact(url, **watched)
    with chromalith.Reader(url, **watched) as reader:
        reader.query("words", query_embeddings=[1.0, 2.0], n_results=1)


def metrics(text: str) -> list[tuple[str, dict[str, list[float]]]]:
    return [check(json.loads(line)) for line in text.splitlines() if line.startswith('{"_aws"')]


def test_an_observer_is_told_by_every_verb(url: str) -> None:
    """Writer, compact and Reader each take one."""
    told: list[Event] = []
    use(url, observe=told.append)
    assert [type(event) for event in told] == [DeltaWritten, Looked, Compacted, Queried]


def test_a_chroma_client_tells_too(url: str) -> None:
    """Its writes and its queries; a client with another observer is told apart, and one with the same shares the open store."""
    first: list[Event] = []
    second: list[Event] = []
    tell = first.append
    with chromalith.Client(url, observe=tell) as client, chromalith.Client(url, observe=second.append) as other:
        client.get_collection("words").upsert(["a"], embeddings=[[1.0, 2.0]])
        client.get_collection("words").query(query_embeddings=[[1.0, 2.0]], n_results=1)
        with chromalith.Client(url, observe=tell) as same:
            assert same._server is client._server
        assert other._server is not client._server
        gc.collect()
        other.get_collection("words").get()
    assert [type(event) for event in first] == [DeltaWritten, Queried]
    assert [type(event) for event in second] == [Queried]


def test_the_setting_needs_no_code(url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """With ``emf``, the verbs write their lines to standard error, and nothing to standard output."""
    monkeypatch.setenv("CHROMALITH_METRICS", "emf")
    monkeypatch.setattr(guide, "_warm", {})
    use(url)
    guide.produce_embedding_delta(["b"], [[1.0, 3.0]], bucket=url)
    guide.query_chromadb_snapshot(query_embeddings=[1.0, 2.0], bucket=url)
    for warm in guide._warm.values():
        warm.session.close()
    with chromalith.Client(url) as client:
        client.get_collection("words").get()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert [namespace.partition("/")[2] for namespace, _ in metrics(captured.err)] == [
        "Producer", "Compaction", "Query", "Producer", "Query", "Query",
    ]  # fmt: skip


def test_an_observer_that_is_given_replaces_the_setting(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is counted twice."""
    monkeypatch.setenv("CHROMALITH_METRICS", "emf")
    told: list[Event] = []
    use(url, observe=told.append)
    use(url, observe=silent)
    assert len(told) == 4
    assert metrics(capfd.readouterr().err) == []


def test_off_is_the_default(url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """And then nobody looks."""
    with caplog.at_level(logging.WARNING):
        use(url)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert configured(Settings().metrics) is silent


def test_the_setting_names_an_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three; another is refused by name."""
    assert isinstance(configured("emf"), EmfObserver)
    assert isinstance(configured("otel"), OtelObserver)
    assert Settings.model_fields["metrics"].annotation.__args__ == ("off", "emf", "otel")  # type: ignore[union-attr]
    assert set(EXPORTERS) == {"off", "emf", "otel"}
    with pytest.raises(Invalid, match="CHROMALITH_METRICS='statsd'"):
        configured("statsd")
    monkeypatch.setenv("CHROMALITH_METRICS", "statsd")
    with pytest.raises(ValidationError):
        Settings()


def test_a_commands_data_stays_data(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` prints one JSON value, whatever is measured."""
    with chromalith.Writer(url) as writer:
        writer.upsert("words", ids=["a"], embeddings=[[1.0, 2.0]])
    monkeypatch.setenv("CHROMALITH_METRICS", "emf")
    capsys.readouterr()
    assert run(["compact", "--store", url, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["outcomes"][0]["deltas_folded"] == 1
    ((namespace, said),) = metrics(captured.err)
    assert (namespace, said["DeltasFolded"], said["CompactionSuccess"]) == ("ChromaDB/Compaction", [1], [1])

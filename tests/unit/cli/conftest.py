"""A shell with an empty store, and nothing of this machine's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.cli.commands import EMBEDDINGS, Shell

from chromalith import Writer


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store that ``CHROMALITH_STORE`` names, in a folder that is the current one."""
    for name in list(os.environ):
        if name.startswith(("CHROMALITH_", "AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    url = str(tmp_path / "store")
    monkeypatch.setenv("CHROMALITH_STORE", url)
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    return url


@pytest.fixture
def words(store: str) -> str:
    """A collection ``words`` of three records that are not folded yet."""
    with Writer(store) as writer:
        writer.create("words", space="cosine")
        writer.upsert(
            "words",
            ids=["a", "b", "c"],
            embeddings=EMBEDDINGS,
            documents=["apple", "bread", "radio"],
            metadatas=[{"year": 2024}, {"year": 1990}, {"year": 2024}],
        )
    return "words"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)

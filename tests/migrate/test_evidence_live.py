"""A real migration, from start to complete, by the verbs and with two clients: what the checklist and the report say of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.migrate.test_report import Page
from tests.unit.cli.commands import Shell

import chromalith

READS = 120


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def urls(tmp_path: Path) -> tuple[str, str]:
    """A source with some records, and an empty target, both directory stores; the state is the target's."""
    source, target = f"chromalith:{tmp_path / 'source'}", f"chromalith:{tmp_path / 'target'}"
    with closing(chromalith.Client(str(tmp_path / "source"))) as client:
        words = client.create_collection("words")
        words.add(
            ids=[f"old-{n}" for n in range(50)], embeddings=[[n, 1.0, 0.0] for n in range(50)], documents=["x"] * 50
        )
    return source, target


@pytest.fixture
def clients(urls: tuple[str, str], tmp_path: Path) -> Iterator[list[Any]]:
    opened = [chromalith.MigratingClient(*urls, state=str(tmp_path / "target"), app=f"shop-{n}") for n in range(2)]
    yield opened
    for client in opened:
        client.close()


def use(clients: list[Any], name: str, reads: int = 0) -> None:
    """Each client writes, and reads, as an application would."""
    for number, client in enumerate(clients):
        words = client.get_collection("words")
        words.upsert(ids=[f"{name}-{number}"], embeddings=[[1.0, float(number), 2.0]], documents=[name])
        for n in range(reads):
            words.query(query_embeddings=[[float(n), 1.0, 0.0]], n_results=3)
            time.sleep(0.02)  # not faster than the other side can be asked: what is too much is dropped


@pytest.mark.slow
def test_the_whole_way(shell: Shell, clients: list[Any], urls: tuple[str, str], tmp_path: Path) -> None:
    """At the beginning nothing is met; at the end all that can be shown here is, and the report says it in words."""
    state = ["--state", str(tmp_path / "target")]
    given = ["--writes-per-s", "0.01", "--reads-per-s", "0.1", "--paid", "500"]

    def verb(*words: str) -> None:
        said = shell("migrate", *words, *state)
        assert said.code == 0, said.err

    def outcomes() -> dict[str, str]:
        said = shell("migrate", "checklist", *state, *given, "--json")
        assert said.code == 4
        return {item["id"]: item["outcome"] for item in said.json["items"]}

    verb("start", "--source", urls[0], "--target", urls[1], "--state-age-max", "1")
    before = outcomes()
    assert {name for name, outcome in before.items() if outcome == "met"} <= {"clients"}
    verb("dual")
    use(clients, "dual")
    verb("backfill")
    use(clients, "copied")
    verb("verify")
    verb("ramp", "--shadow", "100", "--force", "clients")
    use(clients, "ramp", READS)
    for client in clients:  # what they saw is told at once when they are closed; else within ten seconds
        client.close()
    verb("reconcile")
    verb("verify")
    verb("ramp", "--reads", "50", "--force", "clients", "--force", "latency")
    verb("switch", "--force", "clients", "--force", "latency")
    again = [chromalith.MigratingClient(*urls, state=str(tmp_path / "target"), app=f"shop-{n}") for n in range(2)]
    use(again, "after", 3)
    for client in again:
        client.close()
    verb("reconcile")
    verb("verify")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text("import chromalith\nchromalith.MigratingClient('a', 'b')\n")
    verb("complete", "--yes", "--force", "clients")
    verb("scan", str(tmp_path / "code"), "--record")
    after = outcomes()
    assert {name for name, outcome in after.items() if outcome != "met"} <= {
        "infrastructure",
        "performance",
        "several",
    }  # both clients are of this process
    assert {"producers", "code", "data", "cost", "dual", "copied", "agreement", "cleaned", "counts"} <= {
        name for name, outcome in after.items() if outcome == "met"
    }
    assert shell("migrate", "report", *state, *given, "--output", tmp_path / "r.html").code == 0
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert "58 records were compared" in text
    assert "shop-1" in text
    assert "cutover" in text

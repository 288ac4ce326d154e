"""`chromalith migrate backfill`: what it prints, that it goes on, waits and refuses; and phase 5 of the guide, by way of a bucket."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.docs.shapes import documented, same, shape
from tests.migrate.backfill_world import differing, fill, until
from tests.servers import ChromaServer
from tests.unit.lambdas.invocations import Context, forget_what_is_warm

from chromalith import Reader, Writer
from chromalith.cli.app import run
from chromalith.lambdas.compactor import handler
from chromalith.migrate.opening import open_side
from chromalith.migrate.places import Place
from chromalith.migrate.states import States
from chromalith.store.url import open_store

ROOT = Path(__file__).resolve().parents[2]
FAST = ["--state-age-max", "1"]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stock Chroma directory with two collections, and this test's store as ``CHROMALITH_STORE``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_STORE", "./store")
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", "./cache")
    side = open_side("chroma:./chroma")
    fill(side, "words", 120, space="cosine")
    fill(side, "lines", 30)
    side.close()
    return "./chroma"


def command(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["migrate", *arguments, "--json"]) == code, capsys.readouterr().err
    out = capsys.readouterr().out
    return json.loads(out) if out else None


def test_a_directory_is_copied_by_the_commands_alone(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "start", "--source", source, "--target", "./store", *FAST)
    assert command(capsys, "backfill", code=2) is None, "not before the clients write to both sides"
    command(capsys, "dual")
    planned = command(capsys, "backfill", "--dry-run")
    assert planned["result"] == "planned"
    assert {each["name"]: (each["records"], each["target_records"]) for each in planned["collections"]} == {
        "words": (120, 0),
        "lines": (30, 0),
    }
    with Reader("./store") as reader:
        assert reader.count("words") == 0, "a dry run copies nothing"
    done = command(capsys, "backfill")
    assert same(shape(done), documented("migrate backfill"))
    assert [done[name] for name in ("collections", "records", "copied", "gone", "rejected")] == [2, 150, 150, 0, 0]
    again = command(capsys, "backfill")
    assert again["already"] is True
    assert again["copied"] == 150
    assert command(capsys, "backfill", "--again")["equal"] == 150
    here, there = open_side(source, write=False), open_side("./store")
    assert all(differing(here.collection(name), there.collection(name)) == [] for name in ("words", "lines"))
    assert command(capsys, "status")["phase"] == "backfill"
    for side in (here, there):
        side.close()


def test_a_dry_run_of_what_would_be_refused_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A collection that got another dimension at the target is named, and the exit code is that of a refusal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_STORE", "./store")
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", "./cache")
    with Writer("./source") as writer:
        writer.create("words")
    command(capsys, "start", "--source", "chromalith:./source", "--target", "./store", *FAST)
    for side, embedding in (("./source", [1.0, 2.0]), ("./store", [1.0, 2.0, 3.0])):
        with Writer(side) as writer:
            writer.upsert("words", ids=["a"], embeddings=[embedding])
    command(capsys, "dual")
    planned = command(capsys, "backfill", "--dry-run", code=3)
    assert planned["result"] == "refused"
    assert "dimension" in planned["collections"][0]["problem"]
    command(capsys, "backfill", code=2)


def test_pause_and_resume_are_said_from_another_process(
    chroma_server: ChromaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_STORE", "./store")
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", "./cache")
    database = chroma_server.new_database()
    side = open_side(chroma_server.url, database=database)
    fill(side, "words", 60)
    url = f"{chroma_server.url}?database={database}"
    command(capsys, "start", "--source", url, "--target", "./store", *FAST)
    command(capsys, "dual")
    command(capsys, "pause")
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run(["migrate", "backfill"])))
    thread.start()
    until(lambda: "paused" in capsys.readouterr().err)
    assert codes == []
    assert run(["migrate", "resume"]) == 0
    thread.join(60)
    assert codes == [0]
    there = open_side("./store")
    assert differing(side.collection("words"), there.collection("words")) == []
    for each in (side, there):
        each.close()


def test_settings_that_mean_nothing_are_refused(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "start", "--source", source, "--target", "./store", *FAST)
    command(capsys, "dual")
    for options in (["--rate", "0"], ["--max-source-ms", "-1"], ["--workers", "0"]):
        command(capsys, "backfill", *options, code=2)
    assert States(Place(open_store("./store"))).get().phase == "dual"


def test_phase_5_of_the_guide_moves_a_directory_by_way_of_the_bucket(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Export with the guide's script and arguments, the guide's payload to the compactor, and counts that are equal, not nearly so."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("CHROMADB_BUCKET", str(tmp_path / "store"))
    monkeypatch.setenv("DELTA_BUCKET", str(tmp_path / "store"))
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    sys.modules.pop("export_chromadb_to_s3", None)
    import export_chromadb_to_s3 as script  # type: ignore[import-not-found, unused-ignore]

    bucket = f"file://{tmp_path / 'store'}"
    assert script.main(["--source-path", source, "--bucket", bucket, "--prefix", "snapshot/migration/"]) == 0
    forget_what_is_warm()
    answer = handler({"source": "migration", "snapshot_path": "snapshot/migration/"}, Context())
    forget_what_is_warm()
    assert answer["status"] == "success"
    assert {each["collection"]: (each["records"], each["verified"]) for each in answer["imports"]} == {
        "words": (120, True),
        "lines": (30, True),
    }
    here, there = open_side(source, write=False), open_side("./store")
    for name in ("words", "lines"):
        assert here.collection(name).count() == there.collection(name).count()
        assert differing(here.collection(name), there.collection(name)) == []
        assert there.collection(name).buckets() is not None, "all of it is folded"
    for side in (here, there):
        side.close()

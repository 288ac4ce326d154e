"""A side that is away for a while: the source's server is killed and comes back; the target's store is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.migrate.live.crew import DONE, TRY_AGAIN
from tests.migrate.live.scene import LONG, WALK, Size, scene
from tests.servers import ACCESS_KEY, SECRET_KEY, ChromaServer, Weed

pytestmark = pytest.mark.server


@pytest.mark.parametrize("rounds", [pytest.param(1, id="few", marks=LONG), pytest.param(4, id="long", marks=LONG)])
def test_the_source_killed_and_started_again_in_each_phase(
    rounds: int, own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """Calls may fail while it is away and is the authority; nothing that was acknowledged is lost, and the walk goes on."""
    with scene(own_chroma_server, tmp_path, Size(calls=20)) as on:
        on.operator.follow()
        for name, steps in WALK:
            for verb, *arguments in steps:
                for _ in range(rounds):
                    own_chroma_server.kill()
                    on.operator.run(verb, *arguments, codes=(DONE, TRY_AGAIN, 1), again=1)
                    own_chroma_server.start()
                    on.application.work(on.size.calls)
                on.step(verb, *arguments)
            if name == "verify":
                on.check(name)
        since = time.monotonic()
        own_chroma_server.kill()
        on.application.work(on.size.calls)
        own_chroma_server.start()
        assert on.application.refused(since) == [], (
            "after the switch the source's failure is nobody's but the journal's"
        )
        on.end()


@pytest.fixture
def weed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weed:
    """A store that can be taken away, and credentials for it in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    (tmp_path / "weed").mkdir()
    return Weed(tmp_path / "weed")


def _target(weed: Weed) -> str:
    return f"s3://{weed.server.new_bucket()}/lake?endpoint={weed.server.endpoint}&region=us-east-1"


@pytest.mark.parametrize("calls", [pytest.param(20, marks=LONG)])
def test_the_targets_store_away_for_a_while_reaches_no_caller(
    calls: int, weed: Weed, own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """With the state in another store: while the source is the authority, every write is acknowledged; then the target catches up."""
    try:
        weed.start()
        with scene(
            own_chroma_server, tmp_path / "app", Size(calls=calls), target=_target(weed), state=str(tmp_path / "state")
        ) as on:
            on.operator.follow()
            on.to("dual")
            since = time.monotonic()
            weed.kill()
            on.application.work(on.size.calls)
            failed = on.operator.run("backfill", codes=(TRY_AGAIN, 1), again=1)
            assert failed.output.strip(), "it says why"
            assert on.application.refused(since) == []
            weed.start()
            on.step("backfill")
            on.step("verify")
            on.check("verify")
            since = time.monotonic()
            weed.kill()
            on.application.work(on.size.calls)
            assert on.application.refused(since) == []
            weed.start()
            on.end()
    finally:
        weed.stop()


@pytest.mark.parametrize("seconds", [pytest.param(2.0, marks=LONG)])
def test_the_targets_store_with_the_state_in_it_away_for_a_while(
    seconds: float, weed: Weed, own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """Then writes are refused, before they are made: nothing acknowledged is lost, in any phase, and both sides are equal."""
    try:
        weed.start()
        with scene(own_chroma_server, tmp_path / "app", Size(calls=20), target=_target(weed)) as on:
            on.operator.follow()
            for name, _ in WALK:
                weed.kill()
                time.sleep(seconds)
                weed.start()
                on.application.work(on.size.calls)
                for verb, *arguments in dict(WALK)[name]:
                    on.step(verb, *arguments)
            on.end()
    finally:
        weed.stop()

"""Shadow reads through the migrating client, from a stock Chroma server to a Chromalith store, as an application sees them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.migrate.client_world import World, vectors
from tests.migrate.shadow_world import LONG_S, raising
from tests.migrate.test_comparators import NONSENSE
from tests.servers import ChromaServer

import chromalith
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Unavailable
from chromalith.migrate.mismatches import Mismatches
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role
from chromalith.migrate.presence import read_all
from chromalith.migrate.shadow import ShadowSettings
from chromalith.migrate.shadow_report import stats_of_all
from chromalith.migrate.shadow_stats import Counts, ShadowStats

pytestmark = pytest.mark.server

SETTINGS = ShadowSettings(recheck_s=0.02, cpu_share_max=1.0, time_limit_s=LONG_S)
READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda words: words.get(ids=["id-1", "id-2"], include=["documents", "metadatas", "embeddings"]),
    "all": lambda words: words.get(where={"n": {"$gte": 0}}),
    "query": lambda words: words.query(query_embeddings=vectors(2, 7), n_results=5),
    "count": lambda words: words.count(),
    "peek": lambda words: words.peek(3),
}


@pytest.fixture(params=["l2", "cosine", "ip"])
def space(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(chroma_server: ChromaServer, request: pytest.FixtureRequest) -> Iterator[World]:
    """Both sides hold the same 50 records, and every read is shadowed."""
    space = request.getfixturevalue("space") if "space" in request.fixturenames else "l2"
    source = chroma_server.client(chroma_server.new_database())
    target = chromalith.Client(f"memory://shadow-{SYSTEM_CLOCK.random_hex(12)}")
    world = World(source, target, shadow=SETTINGS)
    for client in (source, target):
        words = client.create_collection("words", configuration={"hnsw": {"space": space}}, embedding_function=None)
        words.add(
            ids=[f"id-{n}" for n in range(50)],
            embeddings=vectors(50),
            documents=[f"text {n}" for n in range(50)],
            metadatas=[{"n": n, "half": n / 2, "even": n % 2 == 0} for n in range(50)],
        )
    world.become(Phase.VERIFY, shadow=100)
    yield world
    world.close()
    target.close()


def words_of(made: World) -> Any:
    return made.client.get_collection("words", embedding_function=None)


def plainly(answer: Any) -> Any:
    """An answer whose arrays can be compared; the keys of metadata come in any order from a server."""
    if not isinstance(answer, dict):
        return answer
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in answer.items()}


def totals(made: World) -> Counts:
    shadow: Any = made.core.shadow
    assert shadow.flush(LONG_S) == 0
    return ShadowStats.decode(shadow.seen()).total


def misbehave(made: World, act: Callable[[], Any]) -> None:
    """Whatever is read from the target from now on, ``act`` answers."""
    server = made.core.sides.server(Role.TARGET)
    for verb in ("_get", "_query", "_count", "_peek"):
        setattr(server, verb, lambda *args, **kwargs: act())


def test_two_correct_databases_agree_on_every_kind_of_read(made: World, space: str) -> None:
    for read in READS.values():
        read(words_of(made))
    assert totals(made) == Counts(matches=len(READS))


@pytest.mark.parametrize("error", [ValueError("x"), Unavailable("gone"), SystemExit(1)], ids=repr)
def test_a_target_that_raises_does_not_reach_the_caller(made: World, error: BaseException) -> None:
    expected = {name: plainly(read(made.plain(Role.SOURCE).get_collection("words"))) for name, read in READS.items()}
    misbehave(made, lambda: raising(error))
    assert {name: plainly(read(words_of(made))) for name, read in READS.items()} == expected
    assert totals(made) == Counts(errors=len(READS))


def test_a_target_that_answers_nonsense_does_not_reach_the_caller(made: World) -> None:
    expected = plainly(READS["get"](made.plain(Role.SOURCE).get_collection("words")))
    for nonsense in NONSENSE:
        misbehave(made, lambda nonsense=nonsense: nonsense)
        assert plainly(READS["get"](words_of(made))) == expected
    found = totals(made)
    assert found.mismatches + found.unchecked + found.errors == len(NONSENSE)


def test_a_target_that_hangs_does_not_reach_the_caller(made: World) -> None:
    hang = threading.Event()
    words = words_of(made)
    misbehave(made, lambda: hang.wait(LONG_S))
    for _ in range(100):
        assert words.count() == 50
    shadow: Any = made.core.shadow
    assert shadow.flush(0.0) == SETTINGS.workers + SETTINGS.queue_max
    assert ShadowStats.decode(shadow.seen()).total == Counts(dropped=100 - SETTINGS.workers - SETTINGS.queue_max)
    hang.set()


def test_a_record_that_differs_is_found_and_stored_without_its_text(made: World) -> None:
    made.plain(Role.TARGET).get_collection("words").update(
        ids=["id-1"], embeddings=vectors(50)[1:2], documents=["very secret"]
    )
    READS["get"](words_of(made))
    assert totals(made) == Counts(mismatches=1, stored=1)
    (record,) = Mismatches(made.place).newest(10)
    assert [each["detail"] for each in record["differences"]] == ["id='id-1' document"]
    assert record["client"] == made.core.client
    assert "secret" not in str(record)


def test_lost_records_show_in_queries_and_counts(made: World) -> None:
    made.plain(Role.TARGET).get_collection("words").delete(ids=[f"id-{n}" for n in range(25)])
    for name in ("query", "count"):
        READS[name](words_of(made))
    assert totals(made) == Counts(mismatches=2, stored=2)


def test_a_read_from_before_the_end_is_not_held_against_a_side_that_was_let_go(made: World) -> None:
    """It was taken while both sides were written, and is compared when one is not any more: the difference says nothing."""

    def late() -> Any:
        if made.states.get().phase is not Phase.COMPLETE:
            made.become(Phase.COMPLETE)
        return 7

    misbehave(made, late)
    READS["count"](words_of(made))
    assert totals(made) == Counts(dropped=1)


def test_what_was_found_travels_in_the_presence(made: World) -> None:
    READS["count"](words_of(made))
    totals(made)
    made.client.close()
    (presence,) = [each for each in read_all(made.place) if each.id == made.core.client]
    assert ShadowStats.decode(presence.shadow).total == Counts(matches=1)
    stats, clients = stats_of_all(made.place, 0)
    assert (stats.total, clients) == (Counts(matches=1), 1)
    assert stats.latency(Role.SOURCE, "count").total == stats.latency(Role.TARGET, "count").total == 1

"""Each client says what it did, often enough for gates, and in nobody's way."""

from __future__ import annotations

import json

import pytest
from tests.migrate.client_world import breakable, vectors, words, world

from chromalith.clock import ManualClock
from chromalith.errors import Unavailable
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.presence import EVERY_S, LIVE_S, Announcer, Presence, live, read_all
from chromalith.migrate.tally import MINUTES_MAX, Tally
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Fault, FaultyStore
from chromalith.testing.in_line import InLineExecutor


def announcer(place: Place, client: str = "c1") -> Announcer:
    return Announcer(
        place, client, lambda: Presence(client, app="shop"), executor=lambda workers, name: InLineExecutor()
    )


def test_a_presence_is_written_when_used_when_the_state_changed_and_at_the_end() -> None:
    """At once, then every ten seconds of use; sooner only for another epoch; never after the end."""
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock), lambda call: None, clock)
    one = announcer(Place(store, clock=clock))
    writes = []
    for advance, epoch in [(0, 1), (EVERY_S - 1, 1), (1, 1), (0, 1), (0.1, 2), (0, 2), (EVERY_S, 2)]:
        clock.advance(advance)
        one.touch(epoch)
        writes.append(sum(call.verb == "put" for call in store.calls))
    assert writes == [1, 1, 2, 2, 3, 3, 4]
    one.stop()
    one.stop()
    one.touch(3)
    assert sum(call.verb == "put" for call in store.calls) == 5


def test_who_is_live_is_told_by_the_stores_dates() -> None:
    """Not those that were closed, not those that said nothing for a minute; all are kept."""
    clock = ManualClock()
    place = Place(MemoryStore(clock), clock=clock)
    old, ended, now = (announcer(place, client) for client in ("old", "ended", "now"))
    old.touch(1)
    clock.advance(LIVE_S + 1)
    for each in (ended, now):
        each.touch(1)
    ended.stop()
    assert [each.id for each in live(place)] == ["now"]
    assert {each.id: each.ended for each in read_all(place)} == {"old": False, "ended": True, "now": False}
    assert {each.id: each.seen_s > LIVE_S for each in read_all(place)} == {"old": True, "ended": False, "now": False}


def test_the_dead_of_a_long_migration_cost_no_request() -> None:
    """A thousand workers that lived for a minute each: whoever asks which clients live reads those that may."""
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock), lambda call: None, clock)
    place = Place(store, clock=clock)
    for number in range(1_000):
        announcer(place, f"old{number}").touch(1)
    clock.advance(LIVE_S + 1)
    announcer(place, "now").touch(1)
    before = len(store.calls)
    assert [each.id for each in live(place)] == ["now"]
    assert [call.verb for call in store.calls[before:]].count("get") == 1


def test_a_store_that_fails_is_no_concern_of_the_client() -> None:
    """Nothing is raised; reading them raises."""
    clock = ManualClock()
    place = Place(FaultyStore(MemoryStore(clock), lambda call: Fault.BEFORE, clock), clock=clock)
    one = announcer(place)
    one.touch(1)
    one.stop()
    with pytest.raises(Unavailable):
        read_all(place)


def test_what_another_release_wrote_is_read_as_far_as_it_is_known() -> None:
    """Fields that are new are left out; another format and what is no presence is no client."""
    body = json.loads(Presence("c", writes={"source": 3}).encode())
    assert Presence.decode(json.dumps({**body, "new": 1}).encode()) == Presence("c", writes={"source": 3})
    assert Presence.decode(json.dumps({**body, "format": 2}).encode()) is None
    assert Presence.decode(b"nonsense") is Presence.decode(b"[]") is None


def test_a_client_says_what_it_did() -> None:
    """Its state, its counts by side, its failures: after it was closed too."""
    with world(app="shop") as made:
        collection = words(made.client, 2)
        made.mirror()
        made.become(Phase.DUAL)
        target = breakable(made, Role.TARGET)
        collection.upsert(ids=["a"], embeddings=vectors(1))

        def fail(*args: object, **named: object) -> None:
            raise OSError("gone")

        target.act["_upsert"] = fail
        collection.upsert(ids=["b"], embeddings=vectors(1))
        collection.count()
        epoch = made.states.get().epoch
        made.client.close()
        (one,) = read_all(made.place)
    assert (one.id, one.app, one.ended, one.epoch, one.phase) == (made.core.client, "shop", True, epoch, "dual")
    assert one.writes == {"source": 4, "target": 1}
    assert one.reads == {"source": 1, "target": 0}
    assert (one.second_failures, one.last_failure) == (1, "OSError")
    assert sum(one.write_minutes.values()) == 4
    assert one.chromalith
    assert one.chromadb
    assert one.pid
    assert one.started_us <= one.seen_us


def test_minutes_are_bounded() -> None:
    """The latest are kept."""
    tally = Tally()
    for minute in range(MINUTES_MAX + 50):
        tally.called(minute * 60_000_000)
        tally.called(minute * 60_000_000 + 59_999_999)
    assert tally.minutes == dict.fromkeys(range(50, MINUTES_MAX + 50), 2)

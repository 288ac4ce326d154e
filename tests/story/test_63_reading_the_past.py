"""``at=``: any version that is kept can be read, by moment, tag or number, and says so when it is not kept any more."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.restores import SHORT, with_history
from tests.story.sweeps import in_line
from tests.worlds import DATABASE, NAME, TENANT, World, documents, keys

from chromalith import Client, Invalid, NotFound, Reader, Writer, compact
from chromalith.compaction.next_version import child_of
from chromalith.compaction.sweep import run_sweep
from chromalith.coord.history import manifest_at, published_keys, version_of
from chromalith.coord.pins import At, Pins, check_at
from chromalith.coord.pointer import LostRace, publish, read_current
from chromalith.coord.tags import put_tag
from chromalith.model.invariants import Change
from chromalith.model.retention import Retention
from chromalith.restoring import rollback
from chromalith.session import Session
from chromalith.store.url import open_store
from chromalith.testing.faulty import Call, Crash, Fault, FaultyStore


def test_a_version_by_moment_tag_or_number() -> None:
    """Each names the version that it must; a moment the one that was current then."""
    with with_history() as world:
        put_tag(world.store, world.clock, world.cid, "second", manifest_at(world.store, world.cid, 2))
        world.clock.advance(1)
        now = datetime.fromtimestamp(world.clock.now_us() / 1e6, UTC)
        moments = ((now, 3), (now - timedelta(hours=1), 2), (now - timedelta(minutes=61), 1))
        for when, expected in ((2, 2), ("second", 2), *moments):
            assert version_of(world.store, world.cid, when).version == expected, when
        with pytest.raises(NotFound, match="that old"):
            version_of(world.store, world.cid, now - timedelta(hours=9))
        world.upsert("b", 1)
        view = world.session().reader.view_of(version_of(world.store, world.cid, "second"))
        assert documents(view) == {"a": "2"}
        assert view.overlay == ()


def test_a_view_of_a_version_that_is_swept() -> None:
    """It answers from what it has hydrated; what it has not is NotFound, with the oldest version that is kept."""
    with with_history() as world:
        held, late = world.session(), world.session()
        views = [each.reader.view_of(manifest_at(world.store, world.cid, 1)) for each in (held, late)]
        assert documents(views[0]) == {"a": "1"}
        world.clock.advance(100)
        run_sweep(world.store, world.clock, world.cid, SHORT)
        assert documents(views[0]) == {"a": "1"}
        oldest = min(published_keys(world.store, world.cid))
        with pytest.raises(NotFound, match="was swept") as gone:
            views[1].get()
        assert f"version {oldest}" in (gone.value.hint or "")
        with pytest.raises(NotFound) as gone:
            manifest_at(world.store, world.cid, 1)
        assert f"version {oldest}" in (gone.value.hint or "")


def test_the_history_while_others_publish() -> None:
    """A history that is read while versions are published has no hole in it, wherever they are published."""
    for number in range(1, 5):
        with with_history() as world:

            def publish(call: Call, world: World = world, number: int = number) -> Fault | None:
                if call.number == number:
                    for value in (8, 9):
                        world.upsert("a", value)
                        world.compact()
                return None

            found = published_keys(FaultyStore(world.store, publish, world.clock), world.cid)
            assert sorted(found) in ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5])


def test_a_lost_race_is_never_taken_for_history() -> None:
    """A sweep begins while the history is listed, and stops between a published manifest and its rival: the rival is no version."""
    with World() as world:
        for value in range(6):
            if value == 2:
                read = read_current(world.store, world.cid)
            world.upsert("a", value)
            world.compact()
        rival = child_of(read, world.clock, "merge", world.clock.now_us(), None)
        assert isinstance(publish(world.store, world.clock, read, rival, Change()), LostRace)
        assert rival.version == 3
        began = False

        def crash(call: Call) -> Fault | None:
            return Fault.CRASH_BEFORE if call.verb == "delete" and call.key == rival.key else None

        def sweep(call: Call) -> Fault | None:
            nonlocal began
            if call.verb == "list" and not began:
                began = True
                with suppress(Crash):
                    dying = FaultyStore(world.store, crash, world.clock)
                    run_sweep(dying, world.clock, world.cid, Retention(keep_versions=3, keep_age_s=0, job_grace_s=0), executor=in_line)
            return None

        assert list(published_keys(FaultyStore(world.store, sweep, world.clock), world.cid)) == [6, 5, 4]
        assert began
        assert rival.key in keys(world.store)


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), "", "7", 7, {"words": "7"}, {"words": -1}, {"words": True}, {"words": 1.5}])  # noqa: DTZ001
def test_what_cannot_say_when_is_refused(at: object) -> None:
    """A moment without a time zone, a number without a name, and whatever is no version."""
    with pytest.raises(Invalid):
        check_at(at)


def test_clients_and_readers_of_the_past(tmp_path: Path) -> None:
    """Client and Reader read tags and versions, by collection too; the client refuses every write."""
    url = str(tmp_path / "store")
    with Writer(url) as writer:
        for name in ("words", "others"):
            writer.create(name)
        for value in ("old", "new"):
            for name in ("words", "others"):
                writer.upsert(name, ids=["a"], embeddings=[[1, 0]], documents=[value])
            compact(url)
            if value == "old":
                with Session(open_store(url)) as session:
                    cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
                    put_tag(session.store, session.clock, cid, "first", version_of(session.store, cid, 1))
    expected: list[tuple[At, str | None]] = [
        ("first", None), ({"words": "first"}, "new"), ({"words": 1}, "new"), ({"words": 1, "others": 1}, "old")
    ]  # fmt: skip
    for at, others in expected:
        with Reader(url, at=at, cache_dir=tmp_path / "cache") as reader:
            assert reader.get("words").documents == ["old"]
            assert reader.count("words") == 1
            if others is None:
                with pytest.raises(NotFound, match="no such tag"):
                    reader.get("others")
            else:
                assert reader.get("others").documents == [others]
        with Client(url, at=at, cache_dir=tmp_path / "cache") as client:
            words = client.get_collection("words", embedding_function=None)
            assert words.get()["documents"] == ["old"]
            with pytest.raises(Exception, match="read-only"):
                words.delete(["a"])


def test_rolling_back_in_python(tmp_path: Path) -> None:
    """``rollback`` by name: a dry run changes nothing; then the old records are back, with the replay but for what was excepted."""
    url = str(tmp_path / "store")
    with Writer(url) as writer:
        writer.create("words")
        writer.upsert("words", ids=["a"], embeddings=[[1, 0]])
        compact(url)
        bad = writer.upsert("words", ids=["b"], embeddings=[[1, 0]])
        writer.upsert("words", ids=["c"], embeddings=[[1, 0]])
    with Reader(url, cache_dir=tmp_path / "cache") as reader:
        planned = rollback(url, "words", 1, dry_run=True)
        assert (planned.version, len(planned.plan.aside)) == (None, 2)
        assert reader.get("words").ids == ["a", "b", "c"]
        done = rollback(url, "words", 1, replay=True, excepted=[str(bad.delta)])
        assert done.version == 2
        assert reader.get("words").ids == ["a", "c"]
        with pytest.raises(NotFound):
            rollback(url, "wrods", 1)


def test_a_misspelt_name_is_not_read_as_it_is_now() -> None:
    """A collection that ``at=`` names and that is not there is an error, whichever collection is read; so is a time given as text."""
    with World() as world:
        world.upsert("a", 1)
        world.compact()
        session = world.session()
        pins = Pins(world.store, session.catalog, {"wordz": 1}, TENANT, DATABASE)
        with pytest.raises(NotFound, match="wordz") as caught:
            pins.manifest(world.cid)
        assert NAME in str(caught.value.hint)
        named = Pins(world.store, session.catalog, {NAME: 1}, TENANT, DATABASE).manifest(world.cid)
        assert named is not None
        assert named.version == 1
        with pytest.raises(NotFound) as caught:
            Pins(world.store, session.catalog, "2026-01-01T00:00:00+00:00", TENANT, DATABASE).manifest(world.cid)
        assert "datetime" in str(caught.value.hint)

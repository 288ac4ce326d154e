"""Who may read a migration's store, and not write it, gets its status and every plan; nobody changes anything by another clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import chromadb
import pytest
from tests.migrate.test_workflow_cli import Shell
from tests.migrate.workflow_world import World

import chromalith
from chromalith.cli import migrate_common
from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Invalid
from chromalith.migrate.evidence.gather import gather
from chromalith.migrate.journal import Journal
from chromalith.migrate.opening import open_side
from chromalith.migrate.phases import Phase, Verb
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.presence import PART, Presence
from chromalith.migrate.states import States, change_of
from chromalith.migrate.workflow.parts import StoreParts
from chromalith.migrate.workflow.status import status_of
from chromalith.migrate.workflow.verbs import Workflow
from chromalith.store.port import NotAllowed, Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import EveryCallStore


class ReadOnly(EveryCallStore):
    """A store as somebody sees it who may read only."""

    def call(self, verb: str, key: str, request: Any) -> Any:
        if verb in ("put", "delete", "copy"):
            raise NotAllowed(f"denied verb={verb}", key=key)
        return request()


@pytest.fixture
def world() -> World:
    """In phase verify, compared, with a client that lives and a call that waits in the journal."""
    world = World()
    world.start()
    world.workflow().dual()
    place = Place(world.store, clock=world.clock)
    found = {"at_us": world.clock.now_us(), "clean": True, "epoch": world.state.epoch}
    change = change_of(world.clock, "test", "dual", "verify")
    world.states.change(lambda now: now.changed(change, phase=Phase.VERIFY, backfill={"finished": True}, verify=found))
    world.states.change(lambda now: replace(now, verify={**found, "epoch": now.epoch}))
    journal = Journal(place, linger_s=0)
    journal.open("words", ["a"], authority=Role.SOURCE, op="upsert")
    journal.stop()
    world.store.put(f"{place.prefix(PART)}c1.json", Presence("c1", epoch=world.state.epoch).encode())
    world.clock.advance(3)
    return world


def test_the_checklist_and_the_report_want_no_right_to_write(world: World) -> None:
    """The evidence of who may only read is that of everybody."""
    free, denied = (gather(Place(store, clock=world.clock)) for store in (world.store, ReadOnly(world.store)))
    assert denied.producers == free.producers
    assert denied.producers
    assert free.lag is not None
    assert denied.lag is not None
    assert (denied.lag.entries, denied.lag.open, denied.unreadable) == (free.lag.entries, free.lag.open, [])


def tool(world: World, store: Store) -> Workflow:
    """With the real parts."""
    place = Place(store, clock=world.clock)
    return Workflow(place, world.sides, parts=StoreParts(place, lambda: world.sides), who="reader")


def test_the_status_wants_no_right_to_write(world: World) -> None:
    """It says that the ages are by this machine's clock, and tells all else as it would be."""
    free, denied = (status_of(tool(world, store)) for store in (world.store, ReadOnly(world.store)))
    assert (free.pop("own_clock"), denied.pop("own_clock")) == (False, True)
    assert denied["lag"]["open"] == free["lag"]["open"] == 1
    assert denied["lag"]["oldest_s"] == pytest.approx(3, abs=1)
    assert [each["id"] for each in denied["clients"]] == [each["id"] for each in free["clients"]] == ["c1"]
    assert [(each["verb"], each["ready"]) for each in denied["next"]] == [
        (each["verb"], each["ready"]) for each in free["next"]
    ]


@pytest.mark.parametrize("verb", [Verb.SWITCH, Verb.RAMP, Verb.ROLLBACK, Verb.CANCEL, Verb.VERIFY])
def test_a_dry_run_wants_no_right_to_write(world: World, verb: Verb) -> None:
    """Its gates are those that a writer sees; those that go by ages say by whose clock."""
    options: dict[str, Any] = {"writes": 50.0} if verb is Verb.RAMP else {}
    name = "enter_verify" if verb is Verb.VERIFY else str(verb)
    free, denied = (
        getattr(tool(world, store), name)(dry_run=True, **options).plan
        for store in (world.store, ReadOnly(world.store))
    )
    assert [(each.name, each.passed) for each in denied.gates] == [(each.name, each.passed) for each in free.gates]
    assert denied.steps == free.steps
    said = {each.name for each in denied.gates if "this machine's clock" in each.reason}
    assert said == {each.name for each in free.gates} & {"lag", "clients"}
    assert not any("this machine's clock" in each.reason for each in free.gates)


def test_what_changes_something_goes_by_the_store_s_date(world: World) -> None:
    """Denied the date, a real verb does not judge by this machine's clock: it stops before its gates say anything."""
    before = world.state
    denied = tool(world, DatesDenied(world.store))
    with pytest.raises(NotAllowed):
        denied.switch(force=("shadow", "latency"))
    denied.evidence(looking=True).lag  # noqa: B018  # a look before it changes nothing about that
    with pytest.raises(NotAllowed):
        denied.ramp(writes=50.0)
    assert world.state == before


class DatesDenied(EveryCallStore):
    """Everything may be written but the object that asks for the date."""

    def call(self, verb: str, key: str, request: Any) -> Any:
        if verb == "put" and key.endswith("date.json"):
            raise NotAllowed("denied", key=key)
        return request()


def test_the_commands_of_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status`, `shadow`, `history`, `reconcile --dry-run` and the plans of verbs, over a store that denies every write."""
    monkeypatch.chdir(tmp_path)
    for name in ("source", "target"):
        chromalith.Client(f"./{name}").get_or_create_collection("words").add(ids=["a"], embeddings=[[1.0]])
    shell = Shell(capsys)
    monkeypatch.setenv("CHROMALITH_STORE", "./target")
    start = ["start", "--source", "./source", "--target", "./target", "--force", "records"]
    assert shell(*start, "--dry-run")[0] == 0
    assert shell(*start)[0] == 0
    States(Place(open_store("./target"))).change(
        lambda now: now.changed(change_of(SYSTEM_CLOCK, "test", "direct", "verify"), phase=Phase.VERIFY)
    )
    place = Place(open_store("./target"))
    place.store.put(f"{place.prefix(PART)}c1.json", Presence("c1").encode())
    monkeypatch.setattr(migrate_common, "open_store", lambda *args, **options: ReadOnly(open_store(*args, **options)))
    assert shell.json("status")["own_clock"] is True
    assert "this machine's clock" in shell("status")[2]
    assert shell.json("shadow")["judged"] == 0
    assert shell.json("history")["changes"]
    assert "this machine's clock" in shell("reconcile", "--dry-run")[2]
    for verb in (["switch"], ["ramp", "--reads", "10"], ["rollback"], ["cancel"], ["dual"], ["pause"]):
        code, out, err = shell(*verb, "--dry-run")
        assert "denied" not in out + err, verb
        assert code in (0, 2, 3), (verb, out, err)
    assert shell("rollback")[0] not in (0, 3)


@pytest.mark.parametrize("there", [False, True])
def test_a_dry_run_leaves_a_chroma_directory_as_it_is(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`start` and `backfill` do not make the directory of the target, and do not write to one that is there."""
    monkeypatch.chdir(tmp_path)
    for name in ("source", "target") if there else ("source",):
        client = chromadb.PersistentClient(name)
        if name == "source":
            client.get_or_create_collection("words").add(ids=["a"], embeddings=[[1.0]])
        client.close()
    shell = Shell(capsys)
    start = ["start", "--source", "chroma:./source", "--target", "chroma:./target", "--state", "./state"]
    before = _files(tmp_path)
    assert shell.json(*start, "--dry-run")["found"][0]["target_records"] is None
    assert _files(tmp_path) == before
    assert shell(*start)[0] == 0
    change = change_of(SYSTEM_CLOCK, "test", "direct", "backfill")
    States(Place(open_store("./state"))).change(lambda now: now.changed(change, phase=Phase.BACKFILL))
    before = _files(tmp_path)
    shown = shell.json("backfill", "--dry-run", "--state", "./state")
    assert [(each["name"], each["records"], each["target_records"]) for each in shown["collections"]] == [
        ("words", 1, 0)
    ]
    assert _files(tmp_path) == before


def test_a_directory_with_other_files_is_refused_by_a_dry_run_too(tmp_path: Path) -> None:
    """It is what the real run would say."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("dear")
    with pytest.raises(Invalid, match="not a Chroma directory"):
        open_side(f"chroma:{tmp_path / 'letters'}", look=True)


def _files(path: Path) -> dict[str, bytes]:
    """All files but those of the state, which the store's lock file is among."""
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in path.rglob("*")
        if each.is_file() and "state" not in each.relative_to(path).parts
    }

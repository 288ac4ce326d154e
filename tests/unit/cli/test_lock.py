"""``lock`` and the leases of ``compact``, as a script sees them."""

from __future__ import annotations

import pytest
from tests.lease_places import in_store
from tests.unit.cli.commands import Shell

from chromalith.cli import compaction
from chromalith.clock import SYSTEM_CLOCK
from chromalith.coord.lease import Lease, Tenure
from chromalith.model import layout
from chromalith.session import Session
from chromalith.store.url import open_store


def taken(url: str, *, merge: bool = False, lease_s: float = 30.0) -> Tenure:
    """Somebody else holds a lease of the collection ``words``."""
    store = open_store(url)
    with Session(store) as session:
        cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
    key = layout.merge_lease_key(cid) if merge else layout.lease_key(cid)
    found = Lease(in_store(store), key, SYSTEM_CLOCK, purpose="fold", owner="elsewhere/1", lease_s=lease_s).try_acquire()
    assert isinstance(found, Tenure)
    return found


def test_nobody_has_compacted_yet(shell: Shell, words: str, store: str) -> None:
    assert shell("lock", "status", "--json").json == {"place": f"objects of {open_store(store).url}", "leases": []}
    assert "nobody has compacted" in shell("lock", "status").err


def test_who_holds_what(shell: Shell, words: str, store: str) -> None:
    """Both leases are shown, by collection and for all."""
    shell("compact")
    merge = taken(store, merge=True)
    for arguments in ((), ("words",)):
        leases = {each["purpose"]: each for each in shell("lock", "status", *arguments, "--json").json["leases"]}
        assert leases["fold"]["state"] == "released"
        assert leases["merge"]["state"] == "held"
        assert leases["merge"]["owner"] == merge.record.owner
        assert leases["merge"]["lease_s"] == 30.0
        assert merge.record.owner in shell("lock", "status", *arguments).out
    assert shell("lock", "status", "wrods").code == 1


def test_only_the_owner_that_was_named_is_broken(shell: Shell, words: str, store: str) -> None:
    """Another owner's lease is left alone, with exit code 3; breaking twice is no error."""
    tenure = taken(store)
    owner = tenure.record.owner
    refused = shell("lock", "break", "words", "--expect-owner", "elsewhere/1/00000000", "--json")
    assert refused.code == 3
    assert refused.error["kind"] == "conflict"
    assert owner in refused.error["message"]
    assert tenure.beat()
    assert shell("lock", "break", "words", "--merge", "--expect-owner", owner, "--json").json["result"] == "already_released"
    assert tenure.beat()
    assert shell("lock", "break", "words", "--expect-owner", owner).out == "broken words fold\n"
    assert not tenure.beat()
    assert shell("lock", "break", "words", "--expect-owner", owner, "--json").json["result"] == "already_released"
    assert shell("compact", "words", "--json").json["outcomes"][0]["deltas_folded"] == 1


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch, words: str, store: str) -> Tenure:
    """Somebody else holds the fold's lease, and beats whenever this process waits."""
    tenure = taken(store)
    sleep = SYSTEM_CLOCK.sleep

    def and_beat(self: object, seconds: float) -> None:
        sleep(min(seconds, 0.01))
        tenure.beat()

    monkeypatch.setattr(type(SYSTEM_CLOCK), "sleep", and_beat)
    return tenure


def test_compact_says_who_is_at_it(shell: Shell, beating: Tenure) -> None:
    """For the one collection that was named: exit code 3. For all: what was left is said, and that is no failure."""
    one = shell("compact", "words", "--json")
    assert one.code == 3
    assert one.error["kind"] == "lease_held"
    assert beating.record.owner in one.error["message"]
    every = shell("compact", "--json")
    assert every.code == 0
    (outcome,) = every.json["outcomes"]
    assert (outcome["result"], outcome["held_by"]) == ("held", beating.record.owner)
    assert shell("compact", "--ignore-lease", "--json").json["outcomes"][0]["deltas_folded"] == 1
    assert beating.beat()


def test_compact_takes_over_from_the_dead(shell: Shell, words: str, store: str) -> None:
    """A run that nobody repeats waits for the lease time, and then does the work of who was killed."""
    taken(store, lease_s=0.5)
    assert shell("compact", "words", "--json").json["outcomes"][0]["deltas_folded"] == 1


def test_watching_does_not_wait(shell: Shell, words: str, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher says once that somebody else is at it, goes on, and takes over in the round after the lease time."""
    tenure = taken(store, lease_s=0.5)
    rounds = 0

    sleep = SYSTEM_CLOCK.sleep

    def counted(self: object, seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        sleep(seconds)
        seen = in_store(open_store(store)).look(tenure.key)
        if rounds > 60 or (seen is not None and seen.record.released):
            raise KeyboardInterrupt

    monkeypatch.setattr(type(compaction.SYSTEM_CLOCK), "sleep", counted)
    said = shell("compact", "words", "--watch", "--every", "0.1")
    assert said.code == 130
    assert said.err.count(tenure.record.owner) == 1
    assert "compacted words version 1" in said.out
    assert rounds >= 4

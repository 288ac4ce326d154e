"""`chromalith migrate`: the command line parses and prints what the workflow does; exit codes and JSON are as docs/cli.md says."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromadb.api.client import AdminClient
from tests.docs.shapes import SECTIONS, documented, same, shape
from tests.servers import ChromaServer

import chromalith
from chromalith import Writer
from chromalith.cli.app import run
from chromalith.cli.output import moment
from chromalith.clock import SYSTEM_CLOCK
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.presence import PART, Presence
from chromalith.migrate.states import States, change_of
from chromalith.migrate.workflow.verbs import Workflow
from chromalith.store.url import open_store

QUICK = ["--state-age-max", "1", "--freeze-limit", "20"]


class Shell:
    """The command line, in an empty directory with a Chromalith store as the source and another as the target."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = run(["migrate", *arguments])
        told = self._capsys.readouterr()
        return code, told.out, told.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints with --json."""
        got, out, err = self(*arguments, "--json")
        assert got == code, (out, err)
        return json.loads(out or err)

    def compared(self) -> None:
        """As a clean comparison now, of a finished copy."""
        states = States(Place(open_store("./target")))
        found = {"at_us": SYSTEM_CLOCK.now_us(), "clean": True, "epoch": states.get().epoch}
        change = change_of(SYSTEM_CLOCK, "test", "", "")
        states.change(lambda now: now.changed(change, backfill={"finished": True}, verify=found))

    @property
    def phase(self) -> Phase:
        return States(Place(open_store("./target"))).get().phase


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", "./cache")
    with Writer("./source") as writer:
        writer.create("words", space="cosine")
        writer.upsert("words", ids=["a", "b"], embeddings=[[1, 0], [0, 1]], documents=["x", "y"])
    return Shell(capsys)


def started(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that was started; its store is the environment's. No client follows it, so nobody must wait for one for long."""
    shell.json("start", "--source", "./source", "--target", "./target", *QUICK)
    monkeypatch.setenv("CHROMALITH_STORE", "./target")
    hurried = lambda now: replace(now, timing=replace(now.timing, state_age_max_s=0.01))  # noqa: E731
    States(Place(open_store("./target"))).change(hurried)


def test_the_whole_way(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb, planned and done, ends in its phase; what it prints as JSON has the documented shape."""
    start = ["start", "--source", "./source", "--target", "./target", *QUICK]
    assert shell.json(*start, "--dry-run")["result"] == "planned"
    begun = shell.json(*start)
    assert (begun["result"], begun["created"], begun["phase"]) == ("started", ["words"], "direct")
    assert shell.json(*start)["result"] == "already_started"
    assert same(shape(begun), documented("migrate start")), shape(begun)
    started(shell, monkeypatch)
    shape_of_verbs = documented("migrate start")
    for verb, options, phase in (
        ("dual", [], "dual"),
        ("pause", [], "dual"),
        ("resume", [], "dual"),
        ("rollback", [], "direct"),
        ("dual", [], "dual"),
    ):
        planned, done = shell.json(verb, *options, "--dry-run"), shell.json(verb, *options)
        assert planned["plan"] == done["plan"], verb
        assert (planned["result"], done["phase"]) == ("planned", phase)
        assert same(shape(done), shape_of_verbs), verb
    assert shell("backfill")[0] == 0
    assert shell("verify")[0] == 0
    assert shell.phase is Phase.VERIFY
    for verb, options, phase in (
        ("ramp", ["--shadow", "10", "--reads", "25", "--writes", "50"], "ramp"),
        ("switch", ["--force", "shadow", "--force", "latency"], "cutover"),
        ("complete", ["--yes"], "complete"),
        ("forget", ["--yes"], "complete"),
    ):
        if verb == "complete":
            assert shell.json(verb, *options, code=3)["error"]["kind"] == "conflict"  # not compared since the switch
            assert shell("verify")[0] == 0
        planned, done = shell.json(verb, *options, "--dry-run"), shell.json(verb, *options)
        assert planned["plan"]["steps"] == done["plan"]["steps"], verb
        assert done["phase"] == phase
        assert same(shape(done), shape_of_verbs), verb
        told = shell.json("status")
        assert same(shape(told), documented("migrate status")), shape(told)
    told = shell.json("history")
    assert same(shape(told), documented("migrate history"))
    assert any("forced shadow" in change["note"] for change in told["changes"])


def test_every_verb_of_the_group_says_its_shape() -> None:
    """Those whose JSON is that of `start` say so, so that nobody has to guess."""
    for verb in ("dual", "ramp", "switch", "complete", "rollback", "cancel", "pause", "resume", "forget"):
        assert "JSON as of" in " ".join(SECTIONS[f"migrate {verb}"].split()), verb


def test_a_refused_verb_ends_with_3(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the dry run and the verb: the reason is in the plan, and in the error with what to do."""
    started(shell, monkeypatch)
    assert shell("dual")[0] == 0
    code, _, err = shell("switch")
    assert code == 2
    assert "legal here: dual, backfill" in err
    flow = Workflow(Place(open_store("./target")))
    flow.enter_backfill()
    shell.compared()
    flow.enter_verify()
    planned = shell.json("switch", "--dry-run", code=3)
    assert planned["result"] == "refused"
    failed = [gate["name"] for gate in planned["plan"]["gates"] if not gate["passed"]]
    assert failed == ["shadow", "latency"]
    error = shell.json("switch", code=3)["error"]
    assert error["kind"] == "conflict"
    assert "shadow: 0 reads were compared" in error["message"]
    assert shell.phase is Phase.VERIFY


def test_what_a_person_sees(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan as numbered sentences, the status with what comes next, the history, steps on stderr while they are done."""
    code, out, _ = shell("start", "--source", "./source", "--target", "./target", *QUICK, "--dry-run")
    assert code == 0
    assert "1. write the migration's state" in out
    assert "words" in out
    started(shell, monkeypatch)
    code, out, err = shell("dual")
    assert (code, out.splitlines()[-1]) == (0, "dual: default is in phase dual")
    assert "… wait" in err
    code, out, _ = shell("status")
    assert code == 0
    assert all(text in out for text in ("backfill", "rollback", "cancel", "nothing compared yet"))
    code, out, _ = shell("history")
    assert "every client follows" in out
    changes = States(Place(open_store("./target"))).get().history
    assert all(moment(change.at_us) in out for change in changes), "no moment is broken in two"


def test_a_person_sees_words_and_an_end(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what Python calls them; and of a migration that has ended what is left to do."""
    started(shell, monkeypatch)
    for verb in ("dual", "rollback"):
        shell(verb)
    shell.compared()
    _, out, _ = shell("status")
    assert "clean yes" in out
    assert "True" not in out
    shell("cancel")
    _, out, _ = shell("status")
    assert "it has ended; `chromalith migrate forget --yes`" in out


def test_wrong_calls(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """No store, no migration, one place twice, times that can't work, a percentage that is none: exit code 1 or 2, and a hint."""
    monkeypatch.delenv("CHROMALITH_STORE", raising=False)
    assert shell("status")[0] == 2
    code, _, err = shell("status", "--state", "./nothing")
    assert (code, "migrate start" in err) == (1, True)
    code, _, err = shell("start", "--source", "./source", "--target", "./source")
    assert (code, "the same" in err) == (2, True)
    code, _, err = shell("start", "--source", "./source", "--target", "./target", "--freeze-limit", "10")
    assert (code, "propagation" in err) == (2, True)
    started(shell, monkeypatch)
    assert shell("ramp", "--reads", "101")[0] == 2
    assert shell("cancel")[0] == 0
    assert shell.json("cancel")["result"] == "already_cancelled"
    assert shell.phase is Phase.CANCELLED


def test_one_place_under_two_names_is_refused(
    shell: Shell, chroma_server: ChromaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its collections are empty: the sides' own ids give it away."""
    database = chroma_server.new_database()
    chroma_server.client(database).create_collection("words")
    url = f"{chroma_server.url}?database={database}"
    monkeypatch.setenv("CHROMALITH_STORE", "./state")
    sides = ("--source", url, "--target", url.replace("127.0.0.1", "localhost"))
    error = shell.json("start", *sides, code=3)["error"]
    assert "one place under two names" in error["message"]
    assert "--force records" in error["hint"]
    assert States(Place(open_store("./state"))).find() is None
    assert shell.json("start", *sides, "--force", "records")["result"] == "started"


def test_a_source_that_is_no_store_is_refused(shell: Shell) -> None:
    """A path that was mistyped, and a folder of something else: not a source without collections."""
    Path("folder").mkdir()
    for source in ("./sourc", "./folder", "memory://nobody-wrote-this"):
        code, _, err = shell("start", "--source", source, "--target", "./target")
        assert (code, "no Chromalith store here" in err) == (2, True), source
    assert not Path("target").exists()


def test_storage_options_are_those_of_the_stores_that_take_them(shell: Shell) -> None:
    """A directory beside a bucket of a server of its own: the bucket is asked, the directory not refused."""
    sides = ("--source", "./source", "--target", "s3://bucket/vectors", "--state", "./state")
    keys = ("--option", "access_key_id=x", "--option", "secret_access_key=y", "--region", "r")
    code, _, err = shell("start", *sides, *keys, "--endpoint-url", "http://127.0.0.1:9", "--dry-run")
    assert "takes no storage options" not in err
    assert code == 3, err  # nobody answers there


def test_the_database_of_both_sides_is_the_option_s(shell: Shell) -> None:
    """`--tenant` and `--database` count for both sides, but for a URL that says its own."""
    AdminClient.from_system(chromalith.Client("./source")._system).create_database("other")
    chromalith.Client("./source", database="other").create_collection("pages")
    found = shell.json("start", "--source", "./source", "--target", "./target", "--database", "other", code=1)
    assert "database='other'" in found["error"]["message"]  # the target has no such one
    target = "./target?database=default_database"
    found = shell.json("start", "--source", "./source", "--target", target, "--database", "other", "--dry-run")
    assert [each["name"] for each in found["found"]] == ["pages"]


def test_start_says_how_clients_find_a_state_that_is_kept_elsewhere(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the state in the target nothing need be said; else a client opened without it would never follow."""
    monkeypatch.delenv("CHROMALITH_STORE", raising=False)
    start = ("start", "--source", "./source", "--target", "./target", *QUICK)
    assert "MigratingClient" not in shell(*start)[2]
    monkeypatch.setenv("CHROMALITH_STORE", "./elsewhere")
    _, _, err = shell(*start, "--name", "mine")
    assert "other commands" not in err
    assert "migration='mine', state='file://" in err
    assert "elsewhere" in err


def test_start_says_where_the_state_is_if_nobody_named_the_place(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It found the store by the sides; the verbs after it are not told the sides, and would find nothing."""
    monkeypatch.delenv("CHROMALITH_STORE", raising=False)
    _, _, err = shell("start", "--source", "./source", "--target", "./target", *QUICK)
    found = re.search(r"--state (\S+)", err)
    assert found is not None
    assert shell("status")[0] == 2
    assert shell("status", "--state", found[1])[0] == 0


def test_a_time_that_is_too_short_is_named(shell: Shell) -> None:
    """The one that is wrong, and what it must be."""
    start = ("start", "--source", "./source", "--target", "./target")
    assert "above 0" in shell(*start, "--second-write", "-4")[2]
    assert "at least 1" in shell(*start, "--state-age-max", "0.5")[2]


def test_the_status_tells_what_clients_failed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes of the second side, and reads of the target that the source answered: to a person, and as JSON."""
    started(shell, monkeypatch)
    place = Place(open_store("./target"))
    seen = Presence("c1", app="shop", epoch=9, second_failures=3, read_fallbacks=2)
    place.store.put(f"{place.prefix(PART)}c1.json", seen.encode())
    (client,) = shell.json("status")["clients"]
    assert (client["second_failures"], client["read_fallbacks"]) == (3, 2)
    out = " ".join(shell("status")[1].split())
    assert "1 live, 3 writes failed on the second side, 2 reads failed on the target" in out


def test_without_chromadb_the_commands_say_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens a side names the extra; what only looks at the state works."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "chromadb" else find(name, *more)
    )
    code, _, told = shell("start", "--source", "./a", "--target", "./b")
    assert code == 2
    assert "chromalith[chroma]" in told
    assert "no such migration" in shell("status", "--store", "./b")[2]

"""``chromalith demo``: the whole of Chromalith on real input, on a directory of this machine, checked by itself.

1. Writer processes embed the docstrings of the standard library, and write them at the same time. None waits for another.
2. A compactor folds what they wrote into segments, while they write and afterwards.
3. An unmodified ``chromadb`` client asks questions in plain words, with and without a filter.
4. A second process, started only now, asks the same through a reader without ``chromadb``.
   Just before that, the client writes a note: the second process finds it at once, though no compaction ran since.
5. The checks: nothing acknowledged is missing, nothing else is there, and both saw the same.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any

import numpy as np
import typer

from chromalith.cli.demo_workers import Done, Failed, Message, Saw, Wrote, read, write
from chromalith.cli.embedding import Embed, wordllama
from chromalith.cli.failures import DIFFERENCES
from chromalith.cli.invocation import Invocation, command
from chromalith.cli.output import Output, shown, size
from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.compactor import CompactionSettings, Outcome
from chromalith.errors import ChromalithError, Invalid, Unavailable
from chromalith.session import Session
from chromalith.wiring import DEFAULT_DATABASE, DEFAULT_TENANT, Writer, open_session

COLLECTION = "stdlib"
RECORDS = 6_000
WRITERS = 4
INDEX_THRESHOLD = 2_000  # below the usual 10,000, so that the demo has an index to show
POLL_S = 0.1
ROUND_S = 0.5  # between two runs of the compactor
SILENCE_MAX_S = 120.0  # a writer that says nothing for this long has died

QUESTIONS: tuple[tuple[str, dict[str, object] | None], ...] = (
    ("which function compresses a file?", None),
    ("wait until several threads have finished", None),
    ("pick a random element of a list", None),
    ("a queue that several threads can share", {"kind": "class"}),
)
NOTE_ID, NOTE = "demo.note", "Bread is baked in the morning."


@dataclass(slots=True)
class Run:
    """What happened so far.

    Attributes:
        ids: every id of an acknowledged call.
        calls: how many calls were acknowledged, and in how many bytes.
        call_s: how long each call took.
        versions: what the compactor published: version, records folded, segments merged.
        timings_s: by stage.
        answers: by question: the hits, and the milliseconds.
    """

    ids: list[str] = field(default_factory=list)
    calls: int = 0
    bytes: int = 0
    call_s: list[float] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        began_s = SYSTEM_CLOCK.monotonic_s()
        yield
        self.timings_s[stage] = round(SYSTEM_CLOCK.monotonic_s() - began_s, 3)


def declare(app: typer.Typer) -> None:
    """Add ``demo`` to the command line."""

    @command(app, "demo")
    def demo(
        run: Invocation,
        directory: Annotated[
            Path | None,
            typer.Option("--dir", help="Keep the store in this directory. Without it, it is removed at the end."),
        ] = None,
        records: Annotated[int, typer.Option("--records", min=100, help="How many texts to write, at most.")] = RECORDS,
        writers: Annotated[int, typer.Option("--writers", min=1, max=16, help="How many writer processes.")] = WRITERS,
    ) -> None:
        r"""Show what Chromalith does, in half a minute, on real texts and a directory of this machine.

        Several processes write the documentation inside this Python to one collection at the same time, a compactor folds it
        meanwhile, and a chromadb client asks questions in plain words. The demo checks itself, and fails if anything is missing.

        \b
        Example:
          chromalith demo
          chromalith demo --dir ./demo-store
        """
        if "store" in run.given:
            raise Invalid(
                "the demo takes no --store", hint="it runs on a directory of this machine: --dir PATH keeps it"
            )
        for package in ("chromadb", "wordllama"):
            if importlib.util.find_spec(package) is None:
                raise Invalid(
                    f"the demo needs a package that is not installed package={package}",
                    hint="pip install 'chromalith[demo]'",
                )
        with tempfile.TemporaryDirectory(prefix="chromalith-demo-") as scratch:
            place = Path(scratch, "store") if directory is None else directory
            ok = _demo(run.output, str(place), Path(scratch), records, writers, kept=directory is not None)
        if not ok:
            raise typer.Exit(DIFFERENCES)


def _demo(output: Output, url: str, scratch: Path, records: int, writers: int, *, kept: bool) -> bool:
    began = Run()
    tell = (lambda text, style=None: None) if output.as_json else output.line
    tell(f"Chromalith demo · store {url}" + ("" if kept else " (removed at the end)"), "bold")
    with closing(open_session(url, cache_dir=scratch / "cache")) as session:
        cid = _create(session, url)
        tell(f"\n1. {writers} processes write the documentation inside this Python to one collection, all at once.")
        with began.timed("write"):
            _write_and_fold(output, began, url, cid, session, records, writers)
        _tell_writes(tell, began)
        view = session.view(cid)
        stored = {"version": view.manifest.version, "records": view.count(), "segments": _segments(view.manifest)}
        _tell_stored(tell, began, stored)
        embed = wordllama()
        tell("\n3. An unmodified chromadb client asks in plain words.")
        with began.timed("query"):
            vectors, held = _ask(began, url, scratch, embed, tell)
        tell(
            "\n4. The client writes a note. No compaction runs. A second process, started now, opens the store without chromadb."
        )
        with began.timed("second_process"), output.progress("a second process reads"):
            saw = _second(url, scratch, vectors)
    checks = _checks(began, stored, held, saw)
    for name, passed in checks.items():
        tell(f"   {'ok    ' if passed else 'FAILED'} {_CHECKS[name]}", None if passed else "bold red")
    ok = all(checks.values())
    output.data(
        {
            "ok": ok, "store": url, "kept": kept, "collection": COLLECTION, "writers": writers, "calls": began.calls,
            "records_acknowledged": len(began.ids), "bytes_written": began.bytes, **stored, "versions": began.versions,
            "queries": began.answers, "timings_s": began.timings_s, "checks": checks,
        },
        lambda: _tell_next(tell, url, began, kept) if ok else None,
    )  # fmt: skip
    return ok


def _create(session: Session, url: str) -> Any:
    try:
        with Writer(url) as writer:
            return writer.create(COLLECTION, space="cosine").collection.id
    except ChromalithError as error:
        if session.catalog.count(DEFAULT_TENANT, DEFAULT_DATABASE) == 0:
            raise
        raise Invalid(
            f"the store has a collection of this name already name={COLLECTION} store={url}",
            hint=f"choose another --dir, or ask what is there: chromalith count {COLLECTION} --store {url}",
        ) from error


# -- 1 and 2: write, and fold meanwhile ------------------------------------------------------------------------------------


def _write_and_fold(output: Output, run: Run, url: str, cid: Any, session: Session, records: int, writers: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    messages = spawn.SimpleQueue()
    share = -(-records // writers)
    processes: list[BaseProcess] = [
        spawn.Process(target=write, args=(url, COLLECTION, worker, writers, share, messages), daemon=True)
        for worker in range(writers)
    ]
    for process in processes:
        process.start()
    written = Event()
    compactor = _Folding(session, cid, run, written)
    compactor.start()
    try:
        with output.progress("processes start", total=records) as advance:
            _follow(messages, processes, run, advance)
            written.set()
            advance(text="the last folds", total=len(run.ids))
            compactor.join()
    finally:
        written.set()
        for process in processes:
            process.terminate()
    compactor.join()
    if compactor.error is not None:
        raise compactor.error


def _follow(messages: Any, processes: list[BaseProcess], run: Run, advance: Any) -> None:
    """Note what the writers say until all are done. Raises ``Unavailable`` if one fails or falls silent."""
    done: set[int] = set()
    heard_s = SYSTEM_CLOCK.monotonic_s()
    while len(done) < len(processes):
        if messages.empty():
            dead = [p.exitcode for i, p in enumerate(processes) if i not in done and p.exitcode not in (None, 0)]
            if dead or SYSTEM_CLOCK.monotonic_s() - heard_s > SILENCE_MAX_S:
                raise Unavailable(
                    f"a writer process ended early exit_codes={dead}", hint="look at memory and disk, then run it again"
                )
            SYSTEM_CLOCK.sleep(POLL_S)
            continue
        message: Message = messages.get()
        heard_s = SYSTEM_CLOCK.monotonic_s()
        if isinstance(message, Wrote):
            run.ids += message.ids
            run.calls += 1
            run.bytes += message.bytes
            run.call_s.append(message.seconds)
            last = f" · version {run.versions[-1]['version']}" if run.versions else ""
            advance(len(message.ids), text=f"{len(processes)} processes write{last}")
        elif isinstance(message, Failed):
            raise Unavailable(
                f"a writer process failed worker={message.worker} reason={message.reason}",
                hint="run it again with --writers 1",
            )
        elif isinstance(message, Done):
            done.add(message.worker)


class _Folding(Thread):
    """The compactor, round after round until the writers are done and nothing waits."""

    def __init__(self, session: Session, cid: Any, run: Run, written: Event) -> None:
        super().__init__(name="chromalith-demo-compactor", daemon=True)
        self._compactor = session.compactor(CompactionSettings(index_threshold=INDEX_THRESHOLD), progress=self._note)
        self._cid = cid
        self._run = run
        self._written = written
        self._folded = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while True:
                last = self._written.is_set()
                self._folded = 0
                self._compactor.run_once(self._cid)
                if last:
                    return
                self._written.wait(ROUND_S)
        except Exception as error:
            self.error = error
            self._written.set()

    def _note(self, step: str, outcome: Outcome) -> None:
        if step in ("fold", "merge"):
            self._run.versions.append(
                {"version": outcome.version, "kind": step, "records": outcome.operations - self._folded}
            )
            self._folded = outcome.operations


# -- 3 and 4: ask ----------------------------------------------------------------------------------------------------------


def _ask(run: Run, url: str, scratch: Path, embed: Embed, tell: Any) -> tuple[list[np.ndarray[Any, Any]], set[str]]:
    """Ask the questions through chromadb, then write the note. Returns the vectors of both, and all ids that the client shows."""
    from chromalith.client.client import Client

    client = Client(url, cache_dir=scratch / "cache")
    collection = client.get_collection(COLLECTION)
    vectors = list(embed([question for question, _ in QUESTIONS]))
    for (question, where), vector in zip(QUESTIONS, vectors, strict=True):
        began_s = SYSTEM_CLOCK.monotonic_s()
        filtered: Any = where  # chromadb spells this type out
        found: Any = collection.query(query_embeddings=[vector], n_results=3, where=filtered)
        took_ms = 1000 * (SYSTEM_CLOCK.monotonic_s() - began_s)
        columns = zip(found["ids"][0], found["distances"][0], found["documents"][0], strict=True)
        hits = [{"id": i, "distance": float(d), "document": text} for i, d, text in columns]
        run.answers.append({"question": question, "where": where, "milliseconds": round(took_ms, 1), "hits": hits})
        tell(f"\n   “{question}”" + (f"  where {where}" if where else "") + f"   {took_ms:.0f} ms", "bold")
        for hit in hits:
            tell(f"   {hit['distance']:.3f}  {hit['id']:<34} {shown(hit['document'], 72)}")
    note = embed([NOTE])[0]
    collection.upsert(ids=[NOTE_ID], embeddings=[note], documents=[NOTE], metadatas=[{"kind": "note"}])
    run.ids.append(NOTE_ID)
    return [*vectors, note], set(collection.get(include=[])["ids"])


def _second(url: str, scratch: Path, vectors: list[np.ndarray[Any, Any]]) -> Saw:
    spawn = multiprocessing.get_context("spawn")
    messages = spawn.SimpleQueue()
    filters = [*(where for _, where in QUESTIONS), {"kind": "note"}]
    asked = [(vector.tolist(), where) for vector, where in zip(vectors, filters, strict=True)]
    process = spawn.Process(
        target=read, args=(url, COLLECTION, str(scratch / "second-cache"), asked, messages), daemon=True
    )
    process.start()
    try:
        waited = 0.0
        while messages.empty():
            if process.exitcode not in (None, 0) or waited > SILENCE_MAX_S:
                raise Unavailable(f"the second process ended early exit_code={process.exitcode}", hint="run it again")
            SYSTEM_CLOCK.sleep(POLL_S)
            waited += POLL_S
        message = messages.get()
    finally:
        process.terminate()
    if not isinstance(message, Saw):
        raise Unavailable(
            f"the second process failed reason={getattr(message, 'reason', message)}", hint="run it again"
        )
    return message


# -- 5: check, and tell ----------------------------------------------------------------------------------------------------

_CHECKS = {
    "count": "the version has as many records as were acknowledged",
    "ids": "every acknowledged id is there, and no other",
    "at_once": "the second process finds the note that nothing has folded yet",
    "second_count": "the second process counts the same",
    "second_answers": "the second process finds the same, at the same distances",
}


def _checks(run: Run, stored: dict[str, Any], held: set[str], saw: Saw) -> dict[str, bool]:
    ids = [[hit["id"] for hit in answer["hits"]] for answer in run.answers]
    distances = [[hit["distance"] for hit in answer["hits"]] for answer in run.answers]
    *their_ids, note_ids = saw.ids
    same = ids == their_ids and all(
        np.allclose(a, b, atol=1e-6) for a, b in zip(distances, saw.distances, strict=False)
    )
    return {
        "count": stored["records"] + 1 == len(run.ids) and stored["records"] > 0,  # the note is not in the version
        "ids": held == set(run.ids),
        "at_once": note_ids == [NOTE_ID],
        "second_count": saw.count == len(run.ids),
        "second_answers": same and all(ids),
    }


def _segments(manifest: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": str(s.id),
            "rows": s.rows,
            "live": s.live,
            "bytes": s.bytes,
            "index": None if s.index is None else s.index.kind,
        }
        for s in manifest.segments
    ]


def _tell_writes(tell: Any, run: Run) -> None:
    middle_ms = 1000 * float(np.median(run.call_s)) if run.call_s else 0.0
    tell(
        f"   {len(run.ids):,} records in {run.calls} calls, {size(run.bytes)}; half of the calls were durable within {middle_ms:.0f} ms"
    )
    tell(f"   {run.timings_s['write']:.1f} s in all, with reading, embedding and the start of the processes")


def _tell_stored(tell: Any, run: Run, stored: dict[str, Any]) -> None:
    folds = [each["version"] for each in run.versions if each["kind"] == "fold"]
    merges = len(run.versions) - len(folds)
    tell(
        f"\n2. Meanwhile a compactor folded them into segments: {len(folds)} folds and {merges} merges, each one conditional write."
    )
    tell(f"   version {stored['version']} has {stored['records']:,} records in {len(stored['segments'])} segments:")
    for segment in stored["segments"]:
        how = f"{segment['index']} index" if segment["index"] else "no index: too small to need one"
        tell(f"   {segment['live']:>7,} records  {size(segment['bytes']):>8}  {how}")


def _tell_next(tell: Any, url: str, run: Run, kept: bool) -> None:
    tell(f"\nDone in {sum(run.timings_s.values()):.0f} s. What to try next:", "bold")
    if kept:
        tell(f"   chromalith status --store {url}")
        tell(f"   chromalith query {COLLECTION} --text 'read a line of input' --store {url}")
        tell(f"   chromalith snapshot list {COLLECTION} --store {url}")
    else:
        tell("   chromalith demo --dir ./demo-store     keeps the store, to look around in it")
    tell("   chromalith --help                      all commands")
    tell("   README.md                              twenty lines of Python that do the same")

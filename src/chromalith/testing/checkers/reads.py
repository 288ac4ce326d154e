"""Whether an answered read says what it must, given what really happened to the store.

At the default level: what stood in the store when the read began is in the answer, folded or overlaid; the answer is
the version that the reader names plus exactly the overlay that it names, in the protocol's order. At the levels that
may lag: the answer is such a state, not older than the bound. At all of them: a process sees its own writes, and
versions never fall (P2, P3).
"""

from __future__ import annotations

from collections.abc import Iterable

from chromalith.testing.checkers.ledger import Landed, Ledger
from chromalith.testing.history import History, Read, Violation
from chromalith.testing.reference import Contents, Row


def check_read(ledger: Ledger, history: History, read: Read) -> None:
    """Raises ``Violation``."""
    if read.version >= len(ledger.versions):
        raise Violation(f"a read names a version that was never published read={_named(read)}")
    if ledger.ended_us is not None and ledger.ended_us < read.start_us - read.staleness_us:
        raise Violation(f"a deleted collection was read read={_named(read)}")
    version = ledger.versions[read.version]
    overlay = [ledger.deltas[delta] for delta in read.overlay]
    if [landed.place for landed in overlay] != sorted(landed.place for landed in overlay):
        raise Violation(f"an overlay is not in the order read={_named(read)} overlay={read.overlay}")
    if any(ledger.knows(version.manifest, landed) is not None for landed in overlay):
        raise Violation(f"an overlay holds what is folded already read={_named(read)}")
    if len({landed.call for landed in overlay}) != len(overlay):
        raise Violation(f"a call is applied twice read={_named(read)}")
    expected = version.contents
    for landed in overlay:
        expected = expected.apply(landed.changes or ())
    _compare(read, expected)
    oldest_us = read.start_us - read.staleness_us
    if read.version + 1 < len(ledger.versions) and ledger.versions[read.version + 1].at_us < oldest_us:
        raise Violation(f"a read is older than it may be read={_named(read)} current={ledger.current.manifest.version}")
    if read.level == "INDEX_AND_WAL":
        # A listing is of one moment. Whatever stood there before a call began that it shows, it shows too.
        began = [landed.write.start_us for landed in overlay if landed.write is not None]
        oldest_us = max([oldest_us, *began])
    if read.level != "INDEX_ONLY":
        stood = (landed for landed in ledger.deltas.values() if landed.at_us < oldest_us)
        _contains(ledger, read, stood, "stood in the store before what it shows")
    _contains(ledger, read, (ledger.deltas[delta] for delta in read.own), "was written by the same process")
    if read.token is not None:
        _contains(ledger, read, [ledger.deltas[read.token]], "was waited for")
    for earlier in reversed(history.reads):
        if earlier.process == read.process:
            if earlier.version > read.version:
                raise Violation(f"a reader went back read={_named(read)} earlier={earlier.version}")
            break


def _contains(ledger: Ledger, read: Read, must: Iterable[Landed], why: str) -> None:
    overlaid = {ledger.deltas[delta].call for delta in read.overlay}
    manifest = ledger.versions[read.version].manifest
    missing = [landed for landed in must if landed.call not in overlaid]
    runs = ledger.folded(manifest).find_all([landed.id for landed in missing])
    for landed, run in zip(missing, runs, strict=True):
        if run is None and ledger.knows(manifest, landed) is None:
            raise Violation(f"a read misses a delta that {why} read={_named(read)} delta={landed.id}")


def _compare(read: Read, expected: Contents) -> None:
    rows = {record_id: _without_seq(row) for record_id, row in expected.in_order().items()}
    if list(rows) != list(read.rows) or rows != dict(read.rows):
        raise Violation(f"a read does not say what it must read={_named(read)} found={dict(read.rows)} expected={rows}")
    if read.count != len(rows):
        raise Violation(f"a count is wrong read={_named(read)} count={read.count} expected={len(rows)}")


def _without_seq(row: Row) -> Row:
    return Row(0, row.embedding, row.document, row.uri, row.metadata)


def _named(read: Read) -> str:
    return f"{read.process}/{read.level}@{read.start_us} version={read.version} overlay={len(read.overlay)}"

"""Evidence that a person or a pipeline brings to a migration: kept in its store, never changed, never swept.

    migration/<h(name)>/evidence/<what>/<at_us>-<random>.json

One object for each time something was looked at: the newest counts, the older ones are its history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chromalith.errors import Corrupt, NotFound
from chromalith.migrate.evidence.commit import commit_of, tree_of
from chromalith.migrate.places import Place
from chromalith.migrate.scan.allow import by_rule
from chromalith.migrate.scan.finding import Scanned, Severity
from chromalith.migrate.states import whoami

SCAN = "scan"
RECORDS_MAX = 1_000
"""Records of one kind that are read; each is about 500 bytes, and a pipeline that records daily needs three years for so many."""


@dataclass(frozen=True, slots=True)
class Record:
    """One of them.

    Attributes:
        key: of its object.
        at_us: when, by the clock of who looked.
        by: ``user@host``.
        found: what, as its kind has it.
    """

    key: str
    at_us: int
    by: str
    found: Mapping[str, Any]


def record(place: Place, what: str, found: Mapping[str, Any]) -> Record:
    """Keep one. Raises ``Unavailable``, ``Unknown``."""
    at_us, by = place.clock.now_us(), whoami()
    key = f"{place.prefix('evidence', what)}{at_us:020d}-{place.clock.random_hex(8)}.json"
    body = json.dumps(
        {"what": what, "at_us": at_us, "by": by, "found": dict(found)}, ensure_ascii=False, allow_nan=False
    )
    place.store.put(key, body.encode())
    return Record(key, at_us, by, found)


def records(place: Place, what: str) -> list[Record]:
    """All of a kind, the oldest first. Raises ``Unavailable``, ``Corrupt``."""
    keys = [entry.key for page in place.store.list(place.prefix("evidence", what)) for entry in page]
    found = []
    for key in keys[-RECORDS_MAX:]:
        try:
            value = json.loads(place.store.get(key).body)
            found.append(Record(key, int(value["at_us"]), str(value["by"]), dict(value["found"])))
        except NotFound:  # forgotten meanwhile
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"not a record of evidence key={key}", hint="remove the object, and look again") from error
    return found


def scan_record(scanned: Scanned, path: Path) -> dict[str, Any]:
    """What is kept of a scan: counts, and enough to tell which code it was."""
    return {
        "root": tree_of(path),
        "commit": commit_of(path),
        "digest": scanned.digest,
        "files": scanned.files + scanned.notebooks,
        "lines": scanned.lines,
        "errors": scanned.count(Severity.ERROR),
        "warnings": scanned.count(Severity.WARNING),
        "allowed": len(scanned.findings) - len(scanned.open),
        "unreadable": len(scanned.unreadable),
        "rules": dict(by_rule(scanned.open)),
        "places": [each.place for each in scanned.open[:20]],
    }

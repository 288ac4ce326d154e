"""What must hold when everything has come to rest: late requests have landed or never will, and a compactor has folded
what waits.

No acknowledged operation is lost, none of which the caller was told that it did not happen has happened, and none
counts twice (the ledger has seen to that at each publish). The one order of all writes is that of each writer, of
cause and effect, and of time where it is a tick apart.
"""

from __future__ import annotations

from chromalith.testing.checkers.ledger import Ledger
from chromalith.testing.history import Answer, History, Violation, precedes


def check_final(ledger: Ledger, history: History, tick_us: int) -> None:
    """Raises ``Violation``. ``tick_us``: the resolution of the store's timestamps."""
    current = ledger.current.manifest
    by_write: dict[int, list[str]] = {}
    for text, landed in ledger.deltas.items():
        if landed.write is not None and landed.changes is not None:
            by_write.setdefault(landed.write.number, []).append(text)
    for write in history.writes:
        landed_as = by_write.get(write.number, [])
        if write.answer is Answer.REFUSED and landed_as:
            raise Violation(f"a call that did not happen has happened write={write.number} by={write.process} delta={landed_as}")
        if write.answer is Answer.ACKNOWLEDGED and (write.delta is None or write.delta not in landed_as):
            raise Violation(f"an acknowledged write was never stored write={write.number} by={write.process} delta={write.delta}")
        if len({ledger.deltas[text].call for text in landed_as}) > 1:
            raise Violation(f"one call became two write={write.number} by={write.process} deltas={landed_as}")
        late = ledger.marked_us is not None and write.start_us > ledger.marked_us
        if write.answer is Answer.ACKNOWLEDGED and late:
            raise Violation(f"a write was acknowledged into a deleted collection write={write.number} by={write.process}")
    _check_order(ledger, history, tick_us)
    for text, landed in ledger.deltas.items() if ledger.marked_us is None else ():
        if ledger.knows(current, landed) is None:
            raise Violation(f"a delta was neither folded nor set aside, and nothing hinders it delta={text}")


def _check_order(ledger: Ledger, history: History, tick_us: int) -> None:
    """That the protocol's order keeps the precedence that P2 promises."""
    places: dict[int, tuple[int, str]] = {}
    for landed in ledger.deltas.values():
        if landed.write is not None and landed.changes is not None:
            number = landed.write.number
            places[number] = min(places.get(number, landed.place), landed.place)
    for a in history.writes:
        for b in history.writes:
            if a.number in places and b.number in places and precedes(a, b, tick_us) and places[a.number] > places[b.number]:
                raise Violation(
                    f"the order turns two writes round first={a.number} by={a.process} at={places[a.number]}"
                    f" then={b.number} by={b.process} at={places[b.number]}"
                )

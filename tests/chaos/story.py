"""What the writers of the chaos test do, call by call: a pure function of (writer, call), so that any process can say what must be there.

Each writer has ids of its own, and a marker record that every upsert sets to the number of the call. Values differ from call
to call, records are deleted and come back: an operation that is lost, doubled or out of order changes what is left.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

POOL = 12
DIMENSION = 8


@dataclass(frozen=True)
class Written:
    """One call: ``op``, its ids, and the text and number that it gives them (no text for a delete)."""

    op: str
    ids: list[str]
    text: str


def call(writer: int, number: int) -> Written:
    """What a writer does in its call ``number`` (from 1)."""
    chance = random.Random(f"{writer} {number}")
    pool = [f"w{writer}-{n}" for n in range(POOL)]
    chosen = chance.sample(pool, chance.randint(1, 5))
    op = ("upsert", "add", "update", "delete")[chance.choice((0, 0, 0, 1, 2, 3))]
    if op == "upsert":
        chosen.append(marker(writer))
    return Written(op, chosen, f"{writer}:{number}")


def marker(writer: int) -> str:
    return f"w{writer}-marker"


def apply(state: dict[str, str], done: Written) -> None:
    """One call on what was there before: Chroma's semantics for texts."""
    for record in done.ids:
        if done.op == "delete":
            state.pop(record, None)
        elif done.op == "upsert" or (done.op == "add") != (record in state):
            state[record] = done.text


def states(writer: int, first: int, last: int) -> list[dict[str, str]]:
    """What a writer's records are after each of its calls ``first`` … ``last`` (0: none yet)."""
    state: dict[str, str] = {}
    found = [dict(state)] if first == 0 else []
    for number in range(1, last + 1):
        apply(state, call(writer, number))
        if number >= first:
            found.append(dict(state))
    return found


def vector(text: str) -> list[float]:
    """The embedding that goes with a text."""
    chance = random.Random(text)
    return [round(chance.uniform(-1, 1), 3) for _ in range(DIMENSION)]

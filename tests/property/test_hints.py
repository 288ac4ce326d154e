"""Hints save work and decide nothing: whatever is delivered, in which order and how often, the collection ends as without any message."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.worlds import World

from chromalith.compaction.hinted import consume
from chromalith.compaction.verify import verify
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId, DeltaId

NOBODY = CollectionId("00000000-0000-4000-8000-000000000000")
GARBAGE = ("", "poison", "[]", '{"format":9}', Hint(NOBODY, DeltaId(1, "a" * 32, 0, "b" * 16), 1, 1).encode())

write = st.tuples(st.just("write"), st.sampled_from(["upsert", "add", "update", "delete"]), st.sampled_from("abcd"))
deliver = st.tuples(st.just("deliver"), st.lists(st.integers(0, 11), max_size=8), st.sampled_from([0.0, 1.0, 60.0]))
garbage = st.tuples(st.just("garbage"), st.lists(st.sampled_from(range(len(GARBAGE))), min_size=1, max_size=3), st.just(60.0))
pause = st.tuples(st.just("pause"), st.sampled_from([0.5, 3.0, 100.0]), st.none())
compact = st.tuples(st.just("compact"), st.none(), st.none())
steps = st.lists(write | deliver | garbage | pause | compact, max_size=14)


class Told:
    """A world whose writes make hints, which are delivered or not."""

    def __init__(self, world: World, *, messages: bool) -> None:
        self.world, self.messages = world, messages
        self.hints: list[str] = []
        self.writer = world.writer()

    def step(self, kind: str, first: Any, second: Any) -> None:
        match kind:
            case "write":
                vectors = None if first == "delete" else [[float(len(self.hints)), 0.0, 0.0]]
                receipt = self.writer.write(self.world.cid, first, [second], vectors)
                self.hints.append(Hint(receipt.collection, receipt.delta, receipt.rows, receipt.bytes).encode())
            case "deliver":
                self.deliver([self.hints[at] for at in first if at < len(self.hints)], second)
            case "garbage":
                self.deliver([GARBAGE[at] for at in first] + self.hints[-1:], second)
            case "pause":
                self.world.clock.advance(first)
            case "compact":
                self.world.compact()

    def deliver(self, bodies: list[str], time_s: float) -> None:
        """What is called done is folded (or leaves nothing to do), and every message is called done or failed, once."""
        if not self.messages or not bodies:
            return
        world = self.world
        stop_s = world.clock.monotonic_s() + time_s
        messages = [(str(at), body) for at, body in enumerate(bodies)]
        found = consume(messages, world.compactor(), world.store, world.clock, time_left=lambda: stop_s - world.clock.monotonic_s())
        assert sorted([*found.done, *found.failed]) == sorted(message for message, _ in messages)
        folded = world.current().folded
        for message, body in messages:
            if message in found.done and body not in GARBAGE:
                assert Hint.decode(body).delta in folded


def ended(steps: list[tuple[str, Any, Any]], *, remote: bool, messages: bool) -> dict[str, Any]:
    """The collection after these steps and a scheduled compaction."""
    with World(remote=remote) as world:
        told = Told(world, messages=messages)
        for step in steps:
            told.step(*step)
        world.clock.advance(10)
        world.compact()
        assert world.compact().waiting == 0
        verify(world.store, world.cid)
        records = world.view().get(include=("embeddings",))
        assert records.embeddings is not None
        folded = len({Hint.decode(body).delta for body in told.hints if Hint.decode(body).delta in world.current().folded})
        content = str(world.current().content), str(world.current().embedding)
        return {"ids": records.ids, "vectors": [list(row) for row in records.embeddings], "folded": folded, "checksums": content}


@given(steps, st.booleans())
@settings(max_examples=60, deadline=None)
@example([("write", "upsert", "a"), ("deliver", [0], 1.0)], True)  # too young to be folded in the time that there is
def test_messages_change_nothing(steps: list[tuple[str, Any, Any]], remote: bool) -> None:
    """Any subset of the messages, doubled, late, in any order, between any writes, with garbage among them: the same records, in the same
    order, with the same checksums, and each delta folded once."""
    assert ended(steps, remote=remote, messages=True) == ended(steps, remote=remote, messages=False)

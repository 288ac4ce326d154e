"""Every interleaving of a few small processes on one store: for rules that are easier to get wrong than to write.

A process is a generator that yields one store call at a time and gets its answer. All that it knows is the answers so far, so two
interleavings that lead to one store and the same answers are one state: that is what makes all of them few enough to visit.

Calls: ``("get", key)``, ``("list", prefix)``, ``("put", key, value, condition)`` with ``None``, ``"absent"`` or the tag that a get
returned, and ``("delete", key)``. A get answers ``(value, tag)`` or ``None``; a put ``"ok"`` or ``"refused"``. Values are hashable.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

Call = tuple[Any, ...]
Process = Generator[Call, Any, Any]
Start = Callable[[], Process]
Stored = dict[str, tuple[Any, int]]
Judge = Callable[[Stored, Sequence[Any]], str | None]


class Violation(AssertionError):
    """A reachable end that must not be; the message has the calls that lead to it."""


def explore(initial: dict[str, Any], processes: Sequence[Start], judge: Judge) -> int:
    """Visit every end that the processes can reach; how many states there were.

    ``judge`` gets the store and what each process returned, and says what is wrong, or ``None``. Raises :class:`Violation`.
    """
    store: Stored = {key: (value, -1 - number) for number, (key, value) in enumerate(initial.items())}
    seen: set[object] = set()

    def visit(store: Stored, answers: tuple[tuple[Any, ...], ...], tag: int, path: tuple[str, ...]) -> None:
        state = (frozenset(store.items()), answers)
        if state in seen:
            return
        seen.add(state)
        calls = [_next_call(start, given) for start, given in zip(processes, answers, strict=True)]
        if all(done for done, _ in calls):
            wrong = judge(store, [value for _, value in calls])
            if wrong is not None:
                raise Violation(f"{wrong}: {'; '.join(path)}")
            return
        for number, (done, call) in enumerate(calls):
            if done:
                continue
            after = dict(store)
            answer = _apply(after, call, tag)
            given = (*answers[:number], (*answers[number], answer), *answers[number + 1 :])
            visit(after, given, tag + 1, (*path, f"{number}:{call[0]} {call[1]} -> {answer}"))

    visit(store, ((),) * len(processes), 0, ())
    return len(seen)


def _next_call(start: Start, answers: tuple[Any, ...]) -> tuple[bool, Any]:
    """Whether the process has ended, and its next call, or what it returned."""
    process = start()
    try:
        call = next(process)
        for answer in answers:
            call = process.send(answer)
    except StopIteration as end:
        return True, end.value
    return False, call


def _apply(store: Stored, call: Call, tag: int) -> Any:
    verb, key = call[0], call[1]
    if verb == "get":
        return store.get(key)
    if verb == "list":
        return tuple((k, store[k][0]) for k in sorted(store) if k.startswith(key))
    if verb == "delete":
        store.pop(key, None)
        return "ok"
    value, condition = call[2], call[3]
    held = store.get(key)
    if (condition == "absent" and held is not None) or (isinstance(condition, int) and (held is None or held[1] != condition)):
        return "refused"
    store[key] = (value, tag)
    return "ok"

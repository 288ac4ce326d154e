"""The executor without threads."""

from __future__ import annotations

import threading

import pytest

from chromalith.testing.faulty import Crash
from chromalith.testing.in_line import InLineExecutor


@pytest.mark.parametrize(("now", "order"), [(True, ["work", "caller"]), (False, ["caller", "work"])])
def test_work_runs_at_once_or_when_it_is_asked_for(now: bool, order: list[str]) -> None:
    """Either way in the caller's thread, once."""
    seen: list[str] = []
    threads: set[int] = set()
    pool = InLineExecutor(lambda: now)

    def work() -> int:
        seen.append("work")
        threads.add(threading.get_ident())
        return 7

    future = pool.submit(work)
    seen.append("caller")
    assert (future.result(), future.result(), seen) == (7, 7, order)
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("now", [True, False])
def test_an_error_is_kept_for_whoever_asks(now: bool) -> None:
    """As in a pool of threads."""
    future = InLineExecutor(lambda: now).submit(int, "no number")
    assert isinstance(future.exception(), ValueError)
    with pytest.raises(ValueError, match="no number"):
        future.result()


@pytest.mark.parametrize("now", [True, False])
def test_a_death_is_not_kept(now: bool) -> None:
    """A process that dies in its work dies there, and not when somebody looks."""

    def die() -> None:
        raise Crash("here")

    with pytest.raises(Crash):
        InLineExecutor(lambda: now).submit(die).result()


def test_what_nobody_asks_for_runs_when_the_pool_ends() -> None:
    """Unless it was to be cancelled."""
    seen: list[int] = []
    with InLineExecutor(lambda: False) as pool:
        pool.submit(seen.append, 1)
    other = InLineExecutor(lambda: False)
    other.submit(seen.append, 2)
    other.shutdown(cancel_futures=True)
    assert seen == [1]


def test_a_map_keeps_the_order_of_its_answers() -> None:
    """Whatever order the work ran in."""
    coins = iter([False, True, False, True])
    seen: list[int] = []
    answers = InLineExecutor(lambda: next(coins)).map(lambda n: seen.append(n) or n * n, range(4))
    assert list(answers) == [0, 1, 4, 9]
    assert seen == [1, 3, 0, 2]

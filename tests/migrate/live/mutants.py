"""The product with one rule left out, in real processes: the harness must notice. Named in the environment: ``LIVE_MUTANT=one,two``.

The application arms what is named as it starts; the operator's command line is ``python -m tests.migrate.live.mutants migrate …`` then.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chromalith.errors import Unavailable
from chromalith.migrate import dual, mend
from chromalith.migrate.port import Role
from chromalith.migrate.route import Route
from chromalith.migrate.workflow import steps

VARIABLE = "LIVE_MUTANT"
MODULE = "tests.migrate.live.mutants"
EACH = 5
"""One in so many writes is treated badly. Many of them are overwritten before anybody looks."""


def flaky_second() -> None:
    """No mutant of the product, but an outage that it must survive: the second write fails, and its note says so."""
    number = itertools.count(1)
    honest = dual.DualWriter._begin_second

    def begin(self: Any, call: dual.Write, timing: Any, each: Any) -> Any:
        if next(number) % 2:
            return honest(self, call, timing, each)

        def refused(role: Role, rows: Sequence[int] | None, second: bool) -> Any:
            raise Unavailable("the second side is away")

        return honest(self, dual.Write(call.collection, call.op, call.ids, refused), timing, each)

    dual.DualWriter._begin_second = begin  # type: ignore[method-assign]


def forget() -> None:
    """One in :data:`EACH` writes reaches the authority only, and no note says so."""
    number = itertools.count(1)
    honest = dual.DualWriter.write

    def write(self: Any, call: dual.Write, *, when_dual: dual.WhenDual | None = None) -> list[Any]:
        view = self._follower.writable()
        if view.is_dual(call.collection) and next(number) % EACH == 0:
            return [call.send(view.main(call.collection), None, False)]
        return honest(self, call, when_dual=when_dual)

    dual.DualWriter.write = write  # type: ignore[method-assign]


def refuse() -> None:
    """One in :data:`EACH` writes fails, and nothing is written: no record is lost, and the application is hurt."""
    number = itertools.count(1)
    honest = dual.DualWriter.write

    def write(self: Any, call: dual.Write, *, when_dual: dual.WhenDual | None = None) -> list[Any]:
        if next(number) % EACH == 0:
            raise Unavailable("not now")
        return honest(self, call, when_dual=when_dual)

    dual.DualWriter.write = write  # type: ignore[method-assign]


def flip_undrained() -> None:
    """A change of authority does not wait for writes under way, reconciles nothing, and does not look at what was touched."""
    for name in ("_finish_calls", "_drain", "_check"):
        setattr(steps.Walk, name, lambda self: None)


def wrong_side() -> None:
    """Repairs go from the second to the authority."""

    class Backwards(Route):
        def by_authority(self, ids: Sequence[str]) -> Mapping[Role, Any]:  # type: ignore[override]
            return {role.other: rows for role, rows in super().by_authority(ids).items()}

    mend.Route = Backwards  # type: ignore[misc, attr-defined]


MUTANTS: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (flaky_second, forget, refuse, flip_undrained, wrong_side)
}


def arm() -> None:
    """Leave out what the environment names."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(",")):
        MUTANTS[name]()


if __name__ == "__main__":
    from chromalith.cli import app

    arm()
    app.main(sys.argv[1:])

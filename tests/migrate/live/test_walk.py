"""The whole way while an application writes and reads: nothing lost, nothing doubled, and a way back from all before ``complete``."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.migrate.live.scene import LONG, WALK, Size, scene
from tests.servers import ChromaServer

pytestmark = pytest.mark.server
SIZES = [
    pytest.param(Size(), id="short"),
    pytest.param(Size(processes=5, pool=300, calls=400), id="long", marks=LONG),
]
ROLLBACKS = [pytest.param("cutover", Size(), False, id="cutover", marks=LONG)]
ROLLBACKS += [pytest.param(name, Size(), True, id=f"{name}-again", marks=LONG) for name, _ in WALK]
ROLLBACKS += [pytest.param("cutover", Size(processes=5, pool=300, calls=300), True, id="cutover-long", marks=LONG)]


@pytest.mark.parametrize("size", SIZES)
def test_every_phase_is_walked_while_the_application_works(
    size: Size, own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """After each phase both sides hold what the application was told, to the record; after ``complete`` the target alone does."""
    with scene(own_chroma_server, tmp_path, size) as on:
        on.operator.follow()
        on.check("start", target=False)
        on.step("dual")
        on.check("dual", target=False)
        for name, steps in WALK[1:]:
            for verb, *arguments in steps:
                on.step(verb, *arguments)
            on.check(name)
        on.operator.run("verify")
        with on.application.paused():
            on.drain()
            on.operator.run("complete", "--yes")
        on.application.work(size.calls)
        on.end(source=False)
        assert on.application.refused() == [], "nobody was told an error"


@pytest.mark.parametrize(("phase", "size", "again"), ROLLBACKS)
def test_rollback_from_each_phase_loses_nothing(
    phase: str, size: Size, again: bool, own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """The source holds everything, also what was written after the switch, and what a process that was killed just before left half
    done; ``again``: the way can be gone a second time, to the same end."""
    with scene(own_chroma_server, tmp_path, size) as on:
        on.operator.follow()
        on.to(phase)
        on.application.kill(0)
        on.application.start(0)
        on.step("rollback")
        on.check(f"rollback from {phase}", target=False)
        if again:
            on.to("cutover")
            on.check("the second walk")
        on.end(target=again)

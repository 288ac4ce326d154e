"""The live harness can fail: the product with one rule left out, in real processes, is found out by the judge and not by the product."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.migrate.live.mutants import VARIABLE
from tests.migrate.live.scene import FORCED, LONG, Scene, Size, scene
from tests.servers import ChromaServer

pytestmark = [pytest.mark.server, *LONG]
WORK = 120


def both_live(on: Scene) -> None:
    """Until both sides hold everything, and then some work. No ``verify``: that finds such things itself."""
    on.operator.follow()
    on.step("dual")
    on.step("backfill")
    on.application.work(WORK)
    on.check("backfill")


def flipped(on: Scene) -> None:
    """The authority changes while much is to be reconciled, and nobody does it in the background."""
    on.step("dual")
    on.step("backfill")
    on.operator.run("reconcile")
    on.operator.run("verify")
    on.application.work(WORK)
    on.step("ramp", "--reads", "0", "--writes", "100", *FORCED, "--force", "lag")
    on.check("ramp")


@pytest.mark.parametrize(
    ("mutant", "told"),
    [("forget", both_live), ("flaky_second,wrong_side", both_live), ("flaky_second,flip_undrained", flipped)],
)
def test_the_judge_notices_when_the_product_lacks_a_rule(
    mutant: str, told: Callable[[Scene], None], own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """A write of the second that no note names, a repair in the wrong direction, a change of authority that does not drain."""
    with (
        scene(own_chroma_server, tmp_path, Size(), environment={VARIABLE: mutant}) as on,
        pytest.raises(AssertionError, match=r"^after (backfill|ramp): \d+ faults"),
    ):
        told(on)


@pytest.mark.parametrize("told", [both_live, flipped])
def test_a_second_that_fails_half_the_time_is_no_loss(
    told: Callable[[Scene], None], own_chroma_server: ChromaServer, tmp_path: Path
) -> None:
    """The same ways with every rule in place: the judge finds nothing, and no caller was told an error."""
    with scene(own_chroma_server, tmp_path, Size(), environment={VARIABLE: "flaky_second"}) as on:
        told(on)
        assert on.application.refused() == []


def test_a_client_that_refuses_now_and_then_is_noticed(own_chroma_server: ChromaServer, tmp_path: Path) -> None:
    """Nothing is lost by it, so no record tells: the application must."""
    with scene(own_chroma_server, tmp_path, Size(), environment={VARIABLE: "refuse"}) as on:
        on.step("dual")
        assert "not now" in on.application.refused()[0]

"""``chromalith migrate status`` and ``history``: where a migration stands, and who did what. They read the state's store only."""

from __future__ import annotations

from typing import Any

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.migrate_common import NameOption, StateOption, workflow_of
from chromalith.cli.output import moment
from chromalith.migrate.looking import OWN_CLOCK
from chromalith.migrate.phases import ENDED
from chromalith.migrate.places import DEFAULT_NAME
from chromalith.migrate.workflow.status import history_of, status_of


def declare(group: typer.Typer) -> None:
    """Add ``status`` and ``history`` to the group."""

    @command(group, "status")
    def status(run: Invocation, name: NameOption = DEFAULT_NAME, state: StateOption = None) -> None:
        r"""Show where a migration stands, what was found, which clients follow it, and what can be done next.

        \b
        Example:
          chromalith migrate status
          chromalith migrate status --json
        """
        with workflow_of(run, state, name) as workflow:
            found = status_of(workflow)
        run.output.data(found, lambda: _tell(run, found))

    @command(group, "history")
    def history(run: Invocation, name: NameOption = DEFAULT_NAME, state: StateOption = None) -> None:
        r"""Show who changed what and when: every verb, freeze and overruled gate of a migration.

        \b
        Example:
          chromalith migrate history
          chromalith migrate history --json
        """
        with workflow_of(run, state, name) as workflow:
            found = history_of(workflow.states.get())
        run.output.data(found, lambda: _tell_history(run, found))


def _tell_history(run: Invocation, found: dict[str, Any]) -> None:
    rows = [
        (
            f"{each['epoch']}",
            moment(each["at_us"]),
            each["who"],
            each["verb"],
            each["before"],
            each["after"],
            each["note"],
        )
        for each in found["changes"]
    ]
    run.output.table(("epoch", "when", "who", "verb", "before", "after", "note"), rows, whole=("epoch", "when"))
    if found["dropped"]:
        run.output.line(f"{found['dropped']} older lines are not kept")


def _tell(run: Invocation, found: dict[str, Any]) -> None:
    percent, lag, shadow = found["percent"], found["lag"], found["shadow"]
    rows = [
        ("migration", f"{found['name']} in {found['store']}"),
        ("phase", f"{found['phase']} (epoch {found['epoch']})" + (", backfill paused" if found["paused"] else "")),
        ("source", _side(found["source"])),
        ("target", _side(found["target"])),
        ("collections", "all" if found["collections"] is None else ", ".join(found["collections"])),
        ("authority", found["authority"]),
        ("percent", f"reads {percent['reads']:g}, writes {percent['writes']:g}, shadow {percent['shadow']:g}"),
        ("freeze", _freeze(found["freeze"])),
        ("backfill", _summary(found["backfill"])),
        ("journal", _journal(lag, found["phase"])),
        ("last verify", _summary(found["verify"])),
        ("shadow", _shadow(shadow)),
        ("clients", _clients(found["clients"])),
    ]
    run.output.table(("", ""), rows)
    run.output.line("")
    if found["next"]:
        run.output.table(("next", "leads to", "in its way"), [_next(each) for each in found["next"]])
    else:
        run.output.line("it has ended; `chromalith migrate forget --yes` removes what it still keeps here")
    if found["own_clock"]:
        run.output.say(f"ages are {OWN_CLOCK}")


def _journal(lag: dict[str, Any], phase: str) -> str:
    if phase in ENDED:
        return f"{lag['entries']} notes are left, of no use any more" if lag["entries"] else "empty"
    missed = f", {lag['missed']} missed a side" if lag["missed"] else ""
    return f"{lag['entries']} calls not reconciled, {lag['open']} under way{missed}, oldest {lag['oldest_s']:.0f} s"


def _side(side: dict[str, str]) -> str:
    return f"{side['url']} ({side['kind']}, {side['tenant']}/{side['database']})"


def _freeze(freeze: dict[str, Any] | None) -> str:
    return (
        "no"
        if freeze is None
        else f"writes wait for {freeze['verb']} by {freeze['by']} since {moment(freeze['at_us'])}"
    )


def _summary(found: dict[str, Any]) -> str:
    """The plain values of a summary; moments as such."""
    if not found:
        return "none yet"
    plain = {name: value for name, value in found.items() if isinstance(value, str | int | float | bool)}
    return ", ".join(
        f"{name.removesuffix('_us').replace('_', ' ')} {_plain(name, value)}" for name, value in plain.items()
    )


def _plain(name: str, value: str | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_us"):
        return moment(int(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value


def _shadow(shadow: dict[str, Any]) -> str:
    if not shadow["compared"]:
        return "nothing compared yet"
    ratio = (
        ""
        if shadow["latency_ratio"] is None
        else f", target's median read {shadow['latency_ratio']:.2f} times the source's"
    )
    return f"{shadow['agreement']:.2%} of {shadow['compared']} agree{ratio}"


def _clients(clients: list[dict[str, Any]]) -> str:
    counts = (
        (sum(not client["follows"] for client in clients), "behind"),
        (sum(client["second_failures"] for client in clients), "writes failed on the second side"),
        (sum(client["read_fallbacks"] for client in clients), "reads failed on the target"),
    )
    return ", ".join([f"{len(clients)} live", *(f"{count} {what}" for count, what in counts if count)])


def _next(each: dict[str, Any]) -> tuple[str, str, str]:
    return (
        each["verb"],
        each["after"],
        "; ".join(f"{gate['name']}: {gate['reason']}" for gate in each["refused"]) or "nothing",
    )

"""``chromalith migrate``: the verbs that lead a migration from one phase to the next, and back. It parses and prints; the rest is
:mod:`chromalith.migrate.workflow`."""

from __future__ import annotations

from typing import Annotated

import typer

from chromalith.cli import (
    migrate_backfill,
    migrate_proof,
    migrate_reconcile,
    migrate_shadow,
    migrate_start,
    migrate_status,
    migrate_verify,
)
from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.cli.migrate_common import (
    DryRunOption,
    ForceOption,
    NameOption,
    StateOption,
    YesOption,
    workflow_of,
)
from chromalith.cli.migrate_print import print_outcome
from chromalith.migrate.places import DEFAULT_NAME
from chromalith.migrate.workflow.gates import GateLimits

PARTS = (
    migrate_start,
    migrate_status,
    migrate_backfill,
    migrate_verify,
    migrate_reconcile,
    migrate_proof,
    migrate_shadow,
)
"""Modules with further commands of the group; each has ``declare(group)``."""

_LIMITS = GateLimits()


def declare(app: typer.Typer) -> None:
    """Add ``migrate`` to the command line."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Move a running application from one Chroma to another, and back.",
        rich_markup_mode="rich",
    )
    accept_shared(group, _group)
    for part in PARTS:
        part.declare(group)
    for add in (
        _declare_dual,
        _declare_ramp,
        _declare_switch,
        _declare_complete,
        _declare_back,
        _declare_pauses,
        _declare_forget,
    ):
        add(group)
    app.add_typer(group, name="migrate")


def _group() -> None:
    """Move a running application from one Chroma to another, and back, without downtime.

    start, dual, backfill, verify, ramp, switch, complete; rollback from everywhere before complete.
    """


def _declare_dual(group: typer.Typer) -> None:
    @command(group, "dual")
    def dual(
        run: Invocation,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        force: ForceOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Writes go to both sides from now on: the source's answer counts. Returns when every client acts on it.

        \b
        Example:
          chromalith migrate dual --dry-run
          chromalith migrate dual
        """
        with workflow_of(run, state, name) as workflow:
            print_outcome(run, workflow.dual(force=force or (), dry_run=dry_run))


LagMax = Annotated[
    int, typer.Option("--max-lag", metavar="N", help="Gate `lag`: calls that may wait to be reconciled.")
]
VerifyAge = Annotated[
    float,
    typer.Option("--max-verify-age", metavar="SECONDS", help="Gate `verify`: how old the last comparison may be."),
]
Mismatches = Annotated[
    float, typer.Option("--max-mismatches", metavar="FRACTION", help="Gate `shadow`: of the compared reads, 0 to 1.")
]
ShadowMin = Annotated[
    int, typer.Option("--min-shadow", metavar="N", help="Gate `shadow`: compared reads that are wanted.")
]
Ratio = Annotated[
    float,
    typer.Option(
        "--max-latency-ratio", metavar="RATIO", help="Gate `latency`: the target's median read to the source's."
    ),
]


def _declare_ramp(group: typer.Typer) -> None:
    @command(group, "ramp")
    def ramp(
        run: Invocation,
        reads: Annotated[
            float | None, typer.Option("--reads", metavar="PERCENT", help="Of the reads, how many the target answers.")
        ] = None,
        writes: Annotated[
            float | None,
            typer.Option(
                "--writes",
                metavar="PERCENT",
                help="Of the ids, for how many the target's answer counts; freezes writes.",
            ),
        ] = None,
        shadow: Annotated[
            float | None,
            typer.Option(
                "--shadow",
                metavar="PERCENT",
                help="Of the reads, how many are repeated on the other side and compared.",
            ),
        ] = None,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        force: ForceOption = None,
        max_lag: LagMax = _LIMITS.lag_entries_max,
        max_verify_age: VerifyAge = _LIMITS.verify_age_max_s,
        max_mismatches: Mismatches = _LIMITS.mismatch_rate_max,
        max_latency_ratio: Ratio = _LIMITS.latency_ratio_max,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Let the target do a part of the work; 0 to 100, what is left out stays. Both sides get every write all the same.

        \b
        Example:
          chromalith migrate ramp --shadow 10
          chromalith migrate ramp --reads 25 --writes 100 --dry-run
        """
        limits = GateLimits(
            lag_entries_max=max_lag,
            verify_age_max_s=max_verify_age,
            mismatch_rate_max=max_mismatches,
            latency_ratio_max=max_latency_ratio,
        )
        with workflow_of(run, state, name, limits=limits) as workflow:
            print_outcome(run, workflow.ramp(reads, writes, shadow, force=force or (), dry_run=dry_run))


def _declare_switch(group: typer.Typer) -> None:
    @command(group, "switch")
    def switch(
        run: Invocation,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        force: ForceOption = None,
        max_lag: LagMax = _LIMITS.lag_entries_max,
        max_verify_age: VerifyAge = _LIMITS.verify_age_max_s,
        max_mismatches: Mismatches = _LIMITS.mismatch_rate_max,
        min_shadow: ShadowMin = _LIMITS.shadow_reads_min,
        max_latency_ratio: Ratio = _LIMITS.latency_ratio_max,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""The target becomes the side that counts, for everything; the source keeps receiving every write, so there is a way back.

        Writes wait for some seconds, 30 at most: then it cancels itself, and nothing has changed.

        \b
        Example:
          chromalith migrate switch --dry-run
          chromalith migrate switch
        """
        limits = GateLimits(
            lag_entries_max=max_lag,
            verify_age_max_s=max_verify_age,
            mismatch_rate_max=max_mismatches,
            shadow_reads_min=min_shadow,
            latency_ratio_max=max_latency_ratio,
        )
        with workflow_of(run, state, name, limits=limits) as workflow:
            print_outcome(run, workflow.switch(force=force or (), dry_run=dry_run))


def _declare_complete(group: typer.Typer) -> None:
    @command(group, "complete")
    def complete(
        run: Invocation,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        force: ForceOption = None,
        max_verify_age: VerifyAge = _LIMITS.verify_age_max_s,
        yes: YesOption = False,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Let go of the source: from now on it gets no write. Nothing in it is deleted. There is no way back.

        \b
        Example:
          chromalith migrate complete --dry-run
          chromalith migrate complete --yes
        """
        with workflow_of(run, state, name, limits=GateLimits(verify_age_max_s=max_verify_age)) as workflow:
            print_outcome(run, workflow.complete(yes=yes, force=force or (), dry_run=dry_run))


def _declare_back(group: typer.Typer) -> None:
    @command(group, "rollback")
    def rollback(
        run: Invocation,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        force: ForceOption = None,
        max_lag: LagMax = _LIMITS.lag_entries_max,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Back to the source alone, from every phase before complete, with everything that was written since.

        \b
        Example:
          chromalith migrate rollback --dry-run
          chromalith migrate rollback
        """
        with workflow_of(run, state, name, limits=GateLimits(lag_entries_max=max_lag)) as workflow:
            print_outcome(run, workflow.rollback(force=force or (), dry_run=dry_run))

    @command(group, "cancel")
    def cancel(
        run: Invocation,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        force: ForceOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Give a migration up before its switch, for good: the source alone. Another one needs a --name of its own.

        \b
        Example:
          chromalith migrate cancel --dry-run
          chromalith migrate cancel --name trial
        """
        with workflow_of(run, state, name) as workflow:
            print_outcome(run, workflow.cancel(force=force or (), dry_run=dry_run))


def _declare_pauses(group: typer.Typer) -> None:
    @command(group, "pause")
    def pause(
        run: Invocation, name: NameOption = DEFAULT_NAME, state: StateOption = None, dry_run: DryRunOption = False
    ) -> None:
        r"""Ask the backfill to wait, wherever it runs. Writes go on to both sides.

        \b
        Example:
          chromalith migrate pause
        """
        with workflow_of(run, state, name) as workflow:
            print_outcome(run, workflow.pause(dry_run=dry_run))

    @command(group, "resume")
    def resume(
        run: Invocation, name: NameOption = DEFAULT_NAME, state: StateOption = None, dry_run: DryRunOption = False
    ) -> None:
        r"""Let a paused backfill go on.

        \b
        Example:
          chromalith migrate resume
        """
        with workflow_of(run, state, name) as workflow:
            print_outcome(run, workflow.resume(dry_run=dry_run))


def _declare_forget(group: typer.Typer) -> None:
    @command(group, "forget")
    def forget(
        run: Invocation,
        name: NameOption = DEFAULT_NAME,
        state: StateOption = None,
        force: ForceOption = None,
        and_state: Annotated[
            bool,
            typer.Option(
                "--and-state",
                help="After complete, remove the state, too: a migrating client would go to the source then.",
            ),
        ] = False,
        yes: YesOption = False,
        dry_run: DryRunOption = False,
    ) -> None:
        r"""Remove what a migration that has ended kept in the store: journal, checkpoints, mismatches, evidence. No record is touched.

        \b
        Example:
          chromalith migrate forget --dry-run
          chromalith migrate forget --yes
        """
        with workflow_of(run, state, name) as workflow:
            print_outcome(run, workflow.forget(yes=yes, and_state=and_state, force=force or (), dry_run=dry_run))

"""The command line: ``chromalith COMMAND``. This file puts the commands together and ends the process with the right code.

stdout is data, stderr is narration. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 try again, 4 differences found, 5 corrupt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from chromalith.cli import (
    aws,
    collections,
    compaction,
    configuration,
    cost,
    deltas,
    demo,
    doctor,
    lock,
    migrate,
    queue,
    records,
    snapshots,
    sweep,
    transfer,
    verify,
)
from chromalith.cli.failures import DONE, INTERRUPTED, USAGE, report
from chromalith.cli.invocation import accept_shared

app = typer.Typer(
    name="chromalith",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"chromalith {version('chromalith')}")
        raise typer.Exit(DONE)


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """ChromaDB on object storage: many writers, no server, nothing lost.

    A store is named by --store URL or by CHROMALITH_STORE. Start with: chromalith demo
    """


accept_shared(app, _root)
for part in (
    demo, transfer, migrate, collections, records, compaction, snapshots, deltas, sweep, lock, queue, aws, verify, doctor, cost,
    configuration,
):  # fmt: skip
    part.declare(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on ``arguments`` (or the process's), and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run the command line, and return the exit code. Errors are printed, never raised."""
    try:
        code = app(args=list(arguments), prog_name="chromalith", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except typer.Exit as ending:
        return ending.exit_code
    except BrokenPipeError:  # the reader of our output has seen enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if not str(error) and getattr(error, "exit_code", None) == USAGE:
            return USAGE  # a group without a command: its help was printed
        return report(error, as_json="--json" in arguments)


if __name__ == "__main__":
    main()

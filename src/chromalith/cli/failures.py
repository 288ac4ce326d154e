"""From what went wrong to what a person reads and what a script branches on: one line, a hint, an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback

from pydantic import ValidationError

from chromalith.cli.output import printable
from chromalith.errors import ChromalithError, Invalid, Kind

DONE, FAILED, USAGE, TRY_AGAIN, DIFFERENCES, CORRUPT = range(6)
INTERRUPTED = 130

_CODES = {
    Kind.INVALID: USAGE,
    Kind.CONFLICT: TRY_AGAIN,
    Kind.LEASE_HELD: TRY_AGAIN,
    Kind.UNAVAILABLE: TRY_AGAIN,
    Kind.CORRUPT: CORRUPT,
}
DEBUG_VARIABLE = "CHROMALITH_DEBUG"


def report(error: Exception, *, as_json: bool) -> int:
    """Print ``error`` on stderr, and return the exit code that says what to do about it."""
    known = as_known(error)
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error, file=sys.stderr)
    message, hint = _one_line(known.message), known.hint and _one_line(known.hint)
    if as_json:
        print(json.dumps({"error": {"kind": str(known.kind), "message": message, "hint": hint}}), file=sys.stderr)
    else:
        print(f"error: {message}", file=sys.stderr)
        if hint:
            print(f"hint: {hint}", file=sys.stderr)
    return _CODES.get(known.kind, FAILED)


def as_known(error: Exception) -> ChromalithError:
    """``error`` as one of Chromalith's own. What nobody foresaw is a defect, and says how to report it."""
    if isinstance(error, ChromalithError):
        return error
    if hasattr(error, "format_message"):  # typer's and click's: the command line itself was wrong
        context = getattr(error, "ctx", None)
        return Invalid(
            error.format_message(),
            hint=f"`{context.command_path} --help` shows how" if context else "see `chromalith --help`",
        )
    if isinstance(error, ValidationError):
        wrong = error.errors()[0]
        return Invalid(
            f"a setting is wrong CHROMALITH_{str(wrong['loc'][0]).upper()}={wrong['input']}: {wrong['msg']}",
            hint="see `chromalith config`",
        )
    if isinstance(error, PermissionError):
        return Invalid(f"no permission path={error.filename}", hint="check who owns it, or choose another place")
    if isinstance(error, OSError):
        return _system(error)
    return ChromalithError(
        f"an unforeseen {type(error).__name__}: {error}",
        hint=f"run it again with {DEBUG_VARIABLE}=1 for the traceback, and report it",
    )


def _system(error: OSError) -> ChromalithError:
    class Failed(ChromalithError):
        kind = Kind.UNKNOWN

    what = error.strerror or str(error)
    return Failed(
        f"the system refused: {what.lower()} path={error.filename}", hint="look at the disk, then run it again"
    )


def _one_line(text: str) -> str:
    return " ".join(printable(text).split()).removesuffix(".")

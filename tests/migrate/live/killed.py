"""The command line, ended by SIGKILL at one call of a directory store: ``python -m tests.migrate.live.killed CALL before|after migrate …``.

Calls are counted over all stores and threads of the process. If there are fewer than ``CALL``, the command ends in its own way.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from chromalith.cli import app
from chromalith.store.directory import DirectoryStore

VERBS = ("get", "get_if_changed", "get_range", "put", "delete", "head", "list", "copy")


def arm(at: int, moment: str) -> None:
    """From now on, call ``at`` is the last: before it is made, or after it was applied."""
    lock, made = threading.Lock(), 0

    def deadly(verb: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(verb)
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal made
            with lock:
                made += 1
                mine = made == at
            if mine and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return verb(*arguments, **named)
            finally:  # also if it failed: much of what is asked for is not there
                if mine:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in VERBS:
        setattr(DirectoryStore, name, deadly(getattr(DirectoryStore, name)))


if __name__ == "__main__":
    arm(int(sys.argv[1]), sys.argv[2])
    app.main(sys.argv[3:])

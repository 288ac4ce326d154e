"""Fixtures that any test may use, which live in modules of their own, and what holds for every run of tests."""

from __future__ import annotations

import os
import signal

import pytest
from tests.servers import any_store, chroma_server, moto, moto_store, own_chroma_server, seaweed, seaweed_store

__all__ = ["any_store", "chroma_server", "moto", "moto_store", "own_chroma_server", "seaweed", "seaweed_store"]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So a shell starts what it runs in the background, and every process below inherits it: those that tests interrupt, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: much of the suite waits for servers and for processes of its own."""
    return 1 + (os.cpu_count() or 1)

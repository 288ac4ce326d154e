"""Loaded by every Python process that a test of Chroma's suite starts: a spawned child must meet the same client.

Python imports ``sitecustomize`` from ``PYTHONPATH`` at startup. Without this, ``test_persist`` and the concurrency tests
would write with our client and read with stock Chroma in the child, and fail for a reason that is nobody's.
"""

from __future__ import annotations

import os

if os.environ.get("CHROMALITH_SUITE"):
    import chroma_plugin

    chroma_plugin.install_lazily()

"""The pytest plug-in under which Chroma's own tests run on Chromalith, with no file of Chroma's edited.

1. ``chromadb.api.rust.RustBindingsAPI`` is rebound, so that every system that Chroma's fixtures build gets our ServerAPI
   (only with ``CHROMALITH_SUITE=ours``; ``stock`` leaves it, for the baseline).
2. The default embedding function, which downloads a model, becomes a hash of the text: the suite runs offline.
3. One check inside Chroma's state machines looks into the SQLite file of a persistent collection and counts the rows of
   its queue. There is no such file, so that check does nothing; the rest of these tests stays (``STOCK_INTERNALS``).
4. Chroma's tests of forks, which it skips without a cluster, run on ours (``CLUSTER_ONLY``).
5. Every outcome goes, with its reason, to the JSON file that ``CHROMALITH_SUITE_REPORT`` names; ``run.py`` compares it.

The module is also loaded in processes that the tests start (see ``startup/sitecustomize.py``), where only 1 and 2 apply.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

SUITE = os.environ.get("CHROMALITH_SUITE", "ours")
DIMENSION = 384
"""The dimension of the model that the hash stands in for."""

_outcomes: dict[str, dict[str, str]] = {}
_installed = False


def hash_embedding(text: str) -> list[float]:
    """A deterministic unit-free vector of ``DIMENSION`` floats in [-1, 1): equal texts get equal vectors."""
    stream = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * DIMENSION)
    return [int.from_bytes(stream[i : i + 2], "little") / 32768 - 1 for i in range(0, 2 * DIMENSION, 2)]


def install() -> None:
    """Rebind Chroma's local engine to ours, and its default embedding function to the hash. Idempotent."""
    global _installed
    if _installed:
        return
    _installed = True
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    import numpy as np
    from chromadb.utils.embedding_functions import onnx_mini_lm_l6_v2

    def embed(self: Any, input: Sequence[str]) -> list[Any]:  # the parameter's name is Chroma's protocol
        return [np.array(hash_embedding(text), dtype=np.float32) for text in input]

    onnx_mini_lm_l6_v2.ONNXMiniLM_L6_V2.__call__ = embed
    if SUITE == "ours":
        import chromadb.api.rust

        from chromalith.client.server_api import ChromalithAPI

        chromadb.api.rust.RustBindingsAPI = ChromalithAPI


class _AfterChroma(importlib.abc.MetaPathFinder):
    """Runs :func:`install` when ``chromadb`` is first imported, so that other children do not pay for importing it."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if name != "chromadb":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        run_module = spec.loader.exec_module

        def run_then_install(module: ModuleType) -> None:
            run_module(module)
            install()

        spec.loader.exec_module = run_then_install  # type: ignore[method-assign]
        return spec


def install_lazily() -> None:
    """Arrange for :func:`install` to run right after the first import of ``chromadb`` in this process."""
    if "chromadb" in sys.modules:
        install()
    else:
        sys.meta_path.insert(0, _AfterChroma())


STOCK_INTERNALS = ("log_size_below_max",)
"""Functions of ``chromadb.test.property.invariants`` that inspect stock Chroma's own files."""


def pytest_configure(config: Any) -> None:
    install()


CLUSTER_ONLY = ("test_fork_count_api.py", "test_fork.py")
"""Files of tests that Chroma runs on its cluster only, about what we have on any store."""


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Take away the condition of a cluster, and no other."""
    for item in items:
        if SUITE == "ours" and item.path.name in CLUSTER_ONLY:
            item.own_markers = [each for each in item.own_markers if "Kubernetes" not in str(each.kwargs.get("reason"))]


def pytest_collection_finish(session: Any) -> None:
    """Replace the checks of :data:`STOCK_INTERNALS`, once the test modules are imported."""
    invariants = sys.modules.get("chromadb.test.property.invariants")
    if SUITE == "ours" and invariants is not None:
        for name in STOCK_INTERNALS:
            assert callable(getattr(invariants, name)), f"Chroma no longer has the check {name}"
            setattr(invariants, name, lambda *arguments, **named: None)


def pytest_runtest_logreport(report: Any) -> None:
    """Keep one outcome per test: the call's, unless setup or teardown went wrong."""
    if report.when != "call" and report.outcome == "passed":
        return
    if report.when == "teardown" and report.outcome == "skipped":
        return
    outcome, reason = report.outcome, ""
    if hasattr(report, "wasxfail"):
        outcome, reason = ("xfailed" if report.outcome == "skipped" else "xpassed"), str(report.wasxfail)
    elif report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2])
    elif report.outcome == "failed":
        reason = str(report.longrepr).strip().splitlines()[-1][:300] if report.longrepr else ""
    _outcomes[report.nodeid] = {"outcome": outcome, "reason": reason}


def pytest_sessionfinish(session: Any) -> None:
    path = os.environ.get("CHROMALITH_SUITE_REPORT")
    if path:
        Path(path).write_text(json.dumps(_outcomes, indent=1, sort_keys=True), encoding="utf-8")

"""What a reader says beside its answers: which deltas are quarantined, and so not in them. Once each, to the log.

A warning of ``logging`` and no exception: the delta blocks nothing, and whoever asks for it by its token is told by an error
(:mod:`chromalith.read.waiting`). Without a handler, Python prints it to standard error.
"""

from __future__ import annotations

import logging

from chromalith.model.manifest import Manifest

_log = logging.getLogger(__name__)


class Telling:
    """Says each thing once. Safe to share between threads: at worst something is said twice."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def quarantined(self, manifest: Manifest) -> None:
        """Name the quarantined deltas of a version that were not named before."""
        for each in manifest.quarantined:
            if each.delta not in self._told:
                self._told.add(each.delta)
                _log.warning(
                    "a delta is quarantined, and not in what is read collection=%s delta=%s: %s (hint: chromalith delta list)",
                    manifest.collection,
                    each.delta,
                    each.reason,
                )

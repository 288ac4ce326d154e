"""The whole folded set of a version: the runs in its manifest, and the older parts, which are loaded when they are needed.

A delta is looked up inline first. Only if a listed delta is not there, the parts are read: once, because they are immutable, and known by
an id that never recurs. So a read at which nothing new is listed makes no request for them, and one with parts that were
read before makes none either.

A part that is gone means that a sweep overtook whoever read the manifest (``Swept``: read again); one that is not what the manifest
says is ``Corrupt``: it is never taken for empty, because what it holds would be folded again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Self

from chromalith.errors import Corrupt, NotFound
from chromalith.model import layout
from chromalith.model.folded import Run
from chromalith.model.folded_part import FoldedPart, decode_part, forgotten, together
from chromalith.model.ids import CollectionId, DeltaId, JobId
from chromalith.model.manifest import FileRef, FoldedPartRef, Manifest
from chromalith.store.cache import Swept
from chromalith.store.port import Store

HELD_INTERVALS_MAX = 4 * 2**20  # of 31 bytes: 130 MB, and four million deltas of as many writers in 30 days; what is over is read again
_KNOWN_MAX = 100_000  # answers that a version remembers: ten times as many deltas as a fold takes


class FoldedParts:
    """Decoded parts, the least recently used given up first. Safe to share between threads.

    Args:
        read: the bytes of an object; raises ``Swept`` if it is gone. What it returns is checked here.
    """

    def __init__(self, read: Callable[[str, FileRef], bytes]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._held: OrderedDict[JobId, FoldedPart] = OrderedDict()
        self._intervals = 0

    @classmethod
    def from_store(cls, store: Store) -> Self:
        """Parts that are read from the store itself."""

        def read(key: str, _: FileRef) -> bytes:
            try:
                return store.get(key).body
            except NotFound as error:
                raise Swept(f"a part of a folded set was swept while it was needed key={key}") from error

        return cls(read)

    def get(self, cid: CollectionId, ref: FoldedPartRef) -> FoldedPart:
        """A part. Raises ``Swept`` if it is gone, ``Corrupt`` if it is not what ``ref`` says, ``Invalid`` for a newer format."""
        with self._lock:
            if ref.id in self._held:
                self._held.move_to_end(ref.id)
                return self._held[ref.id]
        key = layout.folded_key(cid, ref.id)
        body = self._read(key, ref.file)
        if not ref.file.holds(body):
            raise Corrupt(
                f"a stored object is not what its manifest says key={key} size={len(body)} expected={ref.file.size}",
                hint="older versions may still be whole: see `chromalith snapshot list`",
                key=key,
            )
        part = decode_part(body, key)
        if len(part) != ref.intervals:
            raise Corrupt(f"a part of a folded set is not what its manifest says key={key} intervals={len(part)} expected={ref.intervals}")
        self.hold(ref, part)
        return part

    def hold(self, ref: FoldedPartRef, part: FoldedPart) -> None:
        """Keep a part that is known already: whoever wrote it need not read it."""
        with self._lock:
            if ref.id not in self._held:
                self._held[ref.id] = part
                self._intervals += len(part)
            while self._intervals > HELD_INTERVALS_MAX and len(self._held) > 1:
                self._intervals -= len(self._held.popitem(last=False)[1])


class Folded:
    """Which deltas a version has taken in: inline and in parts.

    Args:
        manifest: the version.
        parts: where its parts come from.
    """

    def __init__(self, manifest: Manifest, parts: FoldedParts) -> None:
        self._cid = manifest.collection
        self._inline = manifest.folded
        self._refs = manifest.folded_parts
        self._parts = parts
        self._known: dict[DeltaId, Run | None] = {}  # what the parts said: a reader asks for the same deltas again and again

    def find(self, delta: DeltaId) -> Run | None:
        """The run that holds a delta's (writer, counter), or ``None`` if it was never folded. Raises as :meth:`find_all`."""
        return self.find_all([delta])[0]

    def __contains__(self, delta: DeltaId) -> bool:
        return self.find(delta) is not None

    def find_all(self, deltas: Sequence[DeltaId]) -> Sequence[Run | None]:
        """For each delta its run, or ``None``. Reads parts only if one of the deltas is not inline.

        A run of a part has the part's version: that of the latest fold in it.

        Raises:
            Swept: a part is gone; the version is not current any more.
            Corrupt: a part is damaged.
            Invalid: a part was written by a newer release.
            Unavailable: the store can't be read.
        """
        found = list(self._inline.find_all(deltas))
        if not self._refs:
            return found
        known = self._known  # once: another thread may replace it at any moment
        asked = [delta for delta, run in zip(deltas, found, strict=True) if run is None and delta not in known]
        if asked:
            known = known | self._look(asked)
            self._known = known if len(known) <= _KNOWN_MAX else {}
        return [known[delta] if run is None else run for delta, run in zip(deltas, found, strict=True)]

    def _look(self, asked: Sequence[DeltaId]) -> dict[DeltaId, Run | None]:
        answers: dict[DeltaId, Run | None] = dict.fromkeys(asked)
        for ref in reversed(self._refs):  # the newest are the smallest, and hold what is asked for most often
            missing = [delta for delta, run in answers.items() if run is None]
            if not missing:
                break
            part = self._parts.get(self._cid, ref)
            for delta, position in zip(missing, part.positions(missing).tolist(), strict=True):
                if position >= 0:
                    answers[delta] = part.run(position, ref.version)
        return answers


def check_remembered(parent: Manifest, child: Manifest, parts: FoldedParts) -> None:
    """I3 between a version and its parent: what the parent had folded in the last 30 days, the child remembers, and nothing twice.

    Parts that both name are read only where the child has a new one. Raises ``Corrupt`` (also for a damaged part), ``Swept`` if a part
    is gone.
    """
    kept = {ref.id for ref in parent.folded_parts} & {ref.id for ref in child.folded_parts}

    def changed(manifest: Manifest) -> FoldedPart:
        refs = [ref for ref in manifest.folded_parts if ref.id not in kept]
        return together([FoldedPart.of(manifest.folded), *(parts.get(manifest.collection, ref) for ref in refs)])

    now = changed(child)
    if any(ref.id not in kept for ref in child.folded_parts):  # what was folded twice may be in the new part and in one that stayed
        together([now, *(parts.get(child.collection, ref) for ref in child.folded_parts if ref.id in kept)])
    lost = forgotten(changed(parent), now, date_us=child.created_us)
    if lost is not None:
        writer, run = lost
        raise Corrupt(
            f"I3 broken: folded deltas were forgotten version={child.version} writer={writer} counters={run.start}-{run.stop - 1}",
            hint="`chromalith snapshot list` shows the versions that are whole",
        )

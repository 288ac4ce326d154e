"""The ledger: every effect on a simulated store, entered as it happens, and judged there and then.

It knows what no actor knows: which delta landed when, which versions were published, what each must hold. What is expected is computed by
the reference model from the calls themselves; what is there is decoded from the stored bytes.

At a publish: the pointer names a manifest that is its predecessor's child (I2); everything that it names exists and
is what it says (I1, I4, I5, I6, I7); boundary and horizon have not fallen (I8); no folded delta is forgotten, and
none is folded twice (I3); what it holds is what a fold of exactly the newly folded deltas, in the order, makes of its
parent, and they come after all that were folded before; a merge and a sweep change nothing; a restore holds what the
version it names held. At a delete: no delta goes that is not folded, or whose fold was published less than the grace
ago; nothing goes that a retained version, or a tag that holds, names.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from chromalith.coord.collection_object import CollectionObject
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.pointer import DELETED
from chromalith.coord.register import decode
from chromalith.coord.tags import Tag
from chromalith.errors import ChromalithError, NotFound
from chromalith.model import layout
from chromalith.model.delta import VOID, decode_delta
from chromalith.model.folded import DAY_US, KEPT_DAYS, State
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.model.manifest import Manifest, decode_manifest
from chromalith.model.metadata import decode_metadata
from chromalith.model.operation import Operations
from chromalith.store.port import Object
from chromalith.testing.checkers.stored import Broken, Objects, Stored
from chromalith.testing.history import READING, SECOND_US, Violation, Write
from chromalith.testing.reference import EMPTY, Change, Contents

SELECTIONS_MAX = 256
"""Ways to tell which of several copies of a call a fold saw; more than that never happens in a history of a hundred calls."""


@dataclass(frozen=True, slots=True)
class Landed:
    """A delta that is, or was, in the store.

    Attributes:
        at_us: when it appeared; the simulation's time.
        modified_us: the store's timestamp.
        changes: what it stands for; ``None`` for a void one.
        write: the call that it carries, if a workload made it.
    """

    id: DeltaId
    at_us: int
    modified_us: int
    changes: tuple[Change, ...] | None
    write: Write | None

    @property
    def place(self) -> tuple[int, str]:
        """Its place in the protocol's order."""
        return (self.modified_us, str(self.id))

    @property
    def call(self) -> tuple[str, int]:
        """Deltas with the same are one call."""
        return (self.id.writer, self.id.counter)


@dataclass(frozen=True, slots=True)
class Version:
    """A published version: when (the simulation's time, and the store's timestamp of its pointer), and what it must hold."""

    manifest: Manifest
    at_us: int
    modified_us: int
    contents: Contents
    folded: tuple[Landed, ...] = ()


@dataclass(slots=True)
class Ledger:
    """Everything that happened to one collection of a store. See the module's docstring.

    Attributes:
        cid: the collection.
        objects: the store's objects, as they are now.
        grace_s: how long a folded delta must stay.
        keep_versions: how many of the newest versions no sweep may drop.
        marked_us, ended_us: when the collection was marked as deleted, and when its pointer became a tombstone.
        forgotten: calls whose entries expired, with the version that dropped them.
    """

    cid: CollectionId
    objects: Objects
    grace_s: float
    deltas: dict[str, Landed] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    keep_versions: int = 1
    marked_us: int | None = None
    ended_us: int | None = None
    forgotten: dict[tuple[str, int], int] = field(default_factory=dict)
    _stored: Stored | None = None
    _parts: FoldedParts | None = None
    _last_folded: tuple[int, str] = (0, "")

    def copy_of(self, objects: Objects) -> Ledger:
        """A ledger that begins with the same entries, for a store that begins with the same objects."""
        other = replace(
            self,
            objects=objects,
            deltas=dict(self.deltas),
            versions=list(self.versions),
            deleted=[],
            forgotten={},
            _stored=None,
            _parts=None,
        )
        other.stored.learn(self.stored)
        return other

    @property
    def stored(self) -> Stored:
        """The decoder of versions."""
        if self._stored is None:
            self._stored = Stored(lambda: self.objects)
        return self._stored

    @property
    def current(self) -> Version:
        """The current version."""
        return self.versions[-1]

    def folded(self, manifest: Manifest) -> Folded:
        """The folded set of a version."""
        if self._parts is None:
            self._parts = FoldedParts(lambda key, ref: self.stored.body(key))
        return Folded(manifest, self._parts)

    def knows(self, manifest: Manifest, landed: Landed) -> State | None:
        """What a version says became of a delta's call; what it has forgotten by right, was folded."""
        run = self.folded(manifest).find(landed.id)
        if run is not None:
            return run.state
        return State.FOLDED if self.forgotten.get(landed.call, manifest.version + 1) <= manifest.version else None

    # -- entries -----------------------------------------------------------------------------------------------------------

    def put(self, written: Object, at_us: int, author: object) -> None:
        """An object was written. Raises ``Violation``."""
        key = written.key
        if author == READING:
            raise Violation(f"a read wrote to the store key={key}")
        if key.startswith(layout.delta_prefix(self.cid)):
            self._landed(written, at_us, author)
        elif key == layout.pointer_key(self.cid):
            try:
                self._published(written, at_us)
            except (Broken, ChromalithError) as error:
                raise Violation(f"a version that was published is broken: {error}") from error
        elif key == layout.collection_key(self.cid):
            if CollectionObject.parse(key, written.body).deleted and self.marked_us is None:
                self.marked_us = at_us
        elif key.startswith(layout.tag_prefix(self.cid)):
            self._tagged(written)

    def _tagged(self, written: Object) -> None:
        tag = Tag.of(written.key, decode(written.key, written.body))
        if tag.held and tag.version is not None:
            manifest = self.versions[tag.version].manifest
            missing = [key for key in (manifest.key, *manifest.objects) if key not in self.objects]
            if missing or manifest.key != tag.manifest:
                raise Violation(f"a tag holds a version that is not whole tag={tag.name} version={tag.version} missing={missing[:1]}")

    def delete(self, key: str, at_us: int) -> None:
        """An object is about to be deleted. Raises ``Violation``."""
        if key not in self.objects:
            return
        self.deleted.append(key)
        if key.startswith(layout.delta_prefix(self.cid)):
            self._may_delete_delta(key, at_us)
            return
        for version in self.retained():
            if key in version.manifest.objects or key == version.manifest.key:
                raise Violation(
                    f"an object that a retained version names is deleted key={key} version={version.manifest.version}"
                    f" horizon={self.current.manifest.horizon} current={self.current.manifest.version}"
                )
            for aside in version.manifest.aside:
                if key.startswith(layout.aside_prefix(self.cid, aside.id)):
                    raise Violation(f"a delta that is set aside is deleted key={key} version={version.manifest.version}")
        if key in (layout.pointer_key(self.cid), layout.collection_key(self.cid)) or key.startswith(layout.TAG_ROOT):
            raise Violation(f"a root is deleted key={key}")

    def must_be_gone(self, error: NotFound) -> None:
        """Somebody was told that there is no such collection. Raises ``Violation`` if there is one."""
        if self.marked_us is None:
            raise Violation(f"a collection that nobody deleted was not found: {error}") from error

    def retained(self) -> list[Version]:
        """The versions that must be whole: from the horizon on, and those that a tag holds."""
        horizon = self.current.manifest.horizon
        tagged = set()
        for key, found in self.objects.items():
            if key.startswith(layout.tag_prefix(self.cid)):
                tag = Tag.of(key, decode(key, found.body))
                if tag.held and tag.manifest is not None:
                    tagged.add(tag.manifest)
        return [each for each in self.versions if each.manifest.version >= horizon or each.manifest.key in tagged]

    def _landed(self, written: Object, at_us: int, author: object) -> None:
        _, delta = layout.parse_delta_key(written.key)
        if str(delta) in self.deltas:
            if written.key not in self.deleted:
                raise Violation(f"a delta was overwritten key={written.key}")
            return  # a request that came twice, the second time after the delta was folded and swept: it must not count again
        write = author if isinstance(author, Write) else None
        changes: tuple[Change, ...] | None = None
        if written.body != VOID:
            changes = write.changes if write is not None else self._repeated(delta, written.body)
        self.deltas[str(delta)] = Landed(delta, at_us, written.modified_us, changes, write)

    def _repeated(self, delta: DeltaId, body: bytes) -> tuple[Change, ...]:
        """What a delta says that no workload wrote: a replay's, which says what another delta said."""
        changes = _decoded(self.cid, delta, body)
        if all(landed.changes != changes for landed in self.deltas.values()):
            raise Violation(f"a delta says what nobody wrote delta={delta} changes={changes}")
        return changes

    # -- publishes ---------------------------------------------------------------------------------------------------------

    def _published(self, written: Object, at_us: int) -> None:
        if self.ended_us is not None:
            raise Violation("something was published after the tombstone")
        if written.body.startswith(DELETED.encode()):
            if self.marked_us is None:
                raise Violation("a collection ended that was not deleted")
            self.ended_us = at_us
            return
        key = written.body.decode().splitlines()[0]
        manifest = decode_manifest(self.stored.body(key), key)
        if not self.versions:
            self.versions.append(Version(manifest, at_us, written.modified_us, EMPTY))
            return
        parent = self.current
        before = parent.manifest
        if manifest.version != before.version + 1 or manifest.parent != before.key:
            raise Violation(f"I2: a version does not follow its parent version={manifest.version} current={before.key}")
        if manifest.boundary < before.boundary or manifest.horizon < before.horizon:
            raise Violation(f"I8: boundary or horizon fell version={manifest.version}")
        if manifest.boundary > manifest.version:
            raise Violation(f"a boundary is above its own version version={manifest.version} boundary={manifest.boundary}")
        if manifest.kind == "sweep":
            self._keeps_enough(before, manifest)
        if manifest.quarantined:
            raise Violation(f"a sound delta was quarantined version={manifest.version} {manifest.quarantined}")
        self._has_set_aside(before, manifest)
        found = self.stored.contents(manifest)
        new = self._newly_known(before, manifest, at_us)
        fitting = [folded for expected, folded in self._expected(parent, manifest, new) if expected == found]
        if not fitting:
            raise Violation(
                f"I4: a version does not hold what it must version={manifest.version} kind={manifest.kind}"
                f" found={_shown(found)} parent={_shown(parent.contents)} new={[(str(d.id)[:24], s) for d, s in new]}"
            )
        in_order = [folded for folded in fitting if not folded or folded[0].place > self._last_folded]
        if not in_order:
            places = [landed.place for landed in fitting[0]]
            raise Violation(f"a fold changed the order version={manifest.version} places={places} after={self._last_folded}")
        folded = min(in_order, key=lambda folded: [landed.place for landed in folded[-1:]])  # of copies of a call, the first counts
        self._last_folded = folded[-1].place if folded else self._last_folded
        self.versions.append(Version(manifest, at_us, written.modified_us, found, folded))

    def _keeps_enough(self, before: Manifest, manifest: Manifest) -> None:
        """A sweep keeps the newest versions; those that sweeps published do not count."""
        counted = [each.manifest.version for each in self.versions if each.manifest.kind != "sweep"]
        kept = [version for version in counted if version >= manifest.horizon]
        if manifest.horizon > before.horizon and len(kept) < min(self.keep_versions, len(counted)):
            raise Violation(f"a sweep keeps too little version={manifest.version} horizon={manifest.horizon} keep={self.keep_versions}")

    def _has_set_aside(self, before: Manifest, manifest: Manifest) -> None:
        for ref in manifest.aside:
            prefix = layout.aside_prefix(self.cid, ref.id)
            if ref not in before.aside and sum(key.startswith(prefix) for key in self.objects) < ref.deltas:
                raise Violation(f"copies of what a restore set aside are missing version={manifest.version} prefix={prefix}")

    def _newly_known(self, before: Manifest, manifest: Manifest, at_us: int) -> list[tuple[Landed, State]]:
        """The deltas that this version knows and its parent does not."""
        known = list(self.deltas.values())
        was = self.folded(before).find_all([landed.id for landed in known])
        now = self.folded(manifest).find_all([landed.id for landed in known])
        result = []
        for landed, old, new in zip(known, was, now, strict=True):
            if old is not None and new is None and self._may_forget(landed, old.day, at_us):
                self.forgotten[landed.call] = manifest.version
                continue
            if old is not None and (new is None or new.state is not old.state):
                raise Violation(f"I3: a folded delta was forgotten version={manifest.version} delta={landed.id} was={old} now={new}")
            if old is None and new is not None:
                result.append((landed, new.state))
        return result

    def _may_forget(self, landed: Landed, day: int, at_us: int) -> bool:
        """Whether a version published now may have dropped a delta of that day from the folded set."""
        return day < at_us // DAY_US - KEPT_DAYS and layout.delta_key(self.cid, landed.id) not in self.objects

    def _expected(
        self, parent: Version, manifest: Manifest, new: Sequence[tuple[Landed, State]]
    ) -> list[tuple[Contents, tuple[Landed, ...]]]:
        """What the version may hold, with the deltas that it folded to that end."""
        states = {state for _, state in new}
        if manifest.kind == "restore":
            if states - {State.ASIDE}:
                raise Violation(f"a restore folded deltas version={manifest.version}")
            source = self.versions[manifest.restores[-1][1]]
            return [(Contents(source.contents.rows, parent.contents.next_seq), ())]
        if manifest.kind != "fold":
            if new:
                raise Violation(f"I3: a {manifest.kind} folded deltas version={manifest.version} deltas={[str(d.id) for d, _ in new]}")
            return [(parent.contents, ())]
        if State.ASIDE in states:
            raise Violation(f"a fold set deltas aside version={manifest.version}")
        # Several deltas can carry one call; a fold applies the first that it listed, and a later copy may have landed since.
        calls: dict[tuple[str, int], list[Landed]] = {}
        for landed, state in new:
            if state is (State.VOID if landed.changes is None else State.FOLDED):
                calls.setdefault(landed.call, []).append(landed)
        if len(calls) != len({landed.call for landed, _ in new}):
            raise Violation(f"a delta was entered in the wrong state version={manifest.version} new={[(str(d.id), s) for d, s in new]}")
        results = []
        for selection in itertools.islice(itertools.product(*calls.values()), SELECTIONS_MAX):
            folded = tuple(sorted(selection, key=lambda landed: landed.place))
            contents = parent.contents
            for landed in folded:
                contents = contents.apply(landed.changes or ())
            results.append((contents, folded))
        return results

    # -- deletes -----------------------------------------------------------------------------------------------------------

    def _may_delete_delta(self, key: str, at_us: int) -> None:
        _, delta = layout.parse_delta_key(key)
        landed = self.deltas[str(delta)]
        if self.knows(self.current.manifest, landed) is None:
            raise Violation(f"a delta that is not folded is deleted key={key}")
        first = next(each for each in self.versions if self.knows(each.manifest, landed) is not None)
        # Timestamps are whole seconds, taken up to a second before the commit: two of them differ by less than two seconds more.
        if at_us - first.at_us < (self.grace_s - 2) * SECOND_US:
            raise Violation(f"a delta is deleted before its grace is over key={key} after_s={(at_us - first.at_us) / SECOND_US:.1f}")


def _decoded(cid: CollectionId, delta: DeltaId, body: bytes) -> tuple[Change, ...]:
    """The operations in a delta, as the reference model has them."""
    operations: Operations | None = decode_delta(cid, delta, body).operations
    assert operations is not None
    result = []
    for row, (record_id, op) in enumerate(zip(operations.ids, operations.ops, strict=True)):
        has = operations.embeddings is not None and bool(operations.has_embedding[row])
        values = tuple(operations.embeddings[row].tolist()) if has and operations.embeddings is not None else None
        metadata = decode_metadata(operations.metadata[row])
        result.append(Change(op.label, record_id, values, operations.documents[row], operations.uris[row], metadata))
    return tuple(result)


def _shown(contents: Contents) -> dict[str, tuple[int, str | None]]:
    return {record_id: (row.seq, row.document) for record_id, row in contents.in_order().items()}

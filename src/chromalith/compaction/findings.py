"""What ``verify`` finds, and what it says when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import TracebackType

from chromalith.errors import Corrupt, NotFound
from chromalith.model.ids import CollectionId, JobId

Progress = Callable[[str, int, int], None]
"""Told what is being read, how much of it is done, and how much there is."""


class Cure(StrEnum):
    """How a finding can be repaired from what is whole."""

    SEGMENT = "rewrite the segment from its records"
    BUCKETS = "write the checksums by bucket again from the records"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold.

    Attributes:
        invariant: which of I1 to I8 it breaks (:mod:`chromalith.model.invariants`); ``derived``: an index or an id table is not that of
            its records.
        message: what, lowercase, values last.
        key: the object, if it is one.
        versions: the kept versions that are affected, ascending.
        cure: how it can be repaired; ``None``: not from what is there.
        segment: of :attr:`Cure.SEGMENT`, which.
    """

    invariant: str
    message: str
    key: str | None = None
    versions: tuple[int, ...] = ()
    cure: Cure | None = None
    segment: JobId | None = None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was looked at, and what was found.

    Attributes:
        collection, version: which, and its current version (the version that was read deeply, if one was named).
        live, segments, indexes: of that version.
        kept: the kept versions that were checked, ascending: from the horizon on, and tagged ones below it.
        objects, bytes: what these versions name, manifests not counted; read whole only by a deep verify.
        deep: whether all of it was read and hashed, and the version recomputed from its records.
        findings: everything that does not hold.
        whole: the newest kept version that no finding affects; ``None``: there is none.
    """

    collection: CollectionId
    version: int
    live: int
    segments: int
    indexes: int
    kept: tuple[int, ...]
    objects: int
    bytes: int
    deep: bool
    findings: tuple[Finding, ...]
    whole: int | None


@dataclass(slots=True)
class Findings:
    """Findings as they are collected.

    ``missing`` says whether an object was not there: then a sweep may have overtaken whoever looked for it.
    """

    found: list[Finding] = field(default_factory=list)
    missing: bool = False

    def add(
        self,
        invariant: str,
        message: str,
        *,
        key: str | None = None,
        versions: Iterable[int] = (),
        cure: Cure | None = None,
        segment: JobId | None = None,
    ) -> None:
        """One more."""
        self.found.append(Finding(invariant, message, key, tuple(sorted(versions)), cure, segment))

    def catching(
        self, invariant: str, *, key: str | None, versions: Iterable[int], cure: Cure | None = None, segment: JobId | None = None
    ) -> Catching:
        """A block whose ``Corrupt`` and ``NotFound``, about damaged and missing objects, become a finding."""
        return Catching(self, Finding(invariant, "", key, tuple(sorted(versions)), cure, segment))

    def newest_whole(self, kept: Iterable[int]) -> int | None:
        """The newest of ``kept`` that none affects."""
        affected = {version for finding in self.found for version in finding.versions}
        return max((version for version in kept if version not in affected), default=None)


@dataclass(frozen=True, slots=True)
class Catching:
    """See :meth:`Findings.catching`. A class, and not a generator: a type checker then knows that the block may end early."""

    findings: Findings
    template: Finding

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if isinstance(error, NotFound):
            self.findings.missing = True
            self.findings.found.append(replace(self.template, invariant="I5", message=error.message))
            return True
        if isinstance(error, Corrupt):
            named, broken, text = error.message.partition(" broken: ")  # it may name the invariant itself
            found = replace(self.template, message=error.message, key=error.key or self.template.key)
            self.findings.found.append(replace(found, invariant=named, message=text) if broken else found)
            return True
        return False

"""Checks of this installation: Python, and the libraries beside us."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from chromalith.doctor.examination import CollectionCase, Examination
from chromalith.doctor.finding import Finding
from chromalith.engine import usearch_index
from chromalith.model.manifest import Manifest

PYTHON_MIN = (3, 11)
WATCHED = ("chromadb", "pyarrow", "usearch", "obstore", "numpy")
KINDS = (usearch_index.KIND,)
"""The kinds of index that this release opens."""

_CLAUSE = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9][0-9.]*)")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def check_python(examined: Examination) -> Iterator[Finding]:
    """Whether this Python is supported."""
    if sys.version_info[:2] < PYTHON_MIN:
        yield Finding(
            "python_unsupported",
            f"this Python is too old python={sys.version.split()[0]} supported={'.'.join(map(str, PYTHON_MIN))}+",
            "install a newer Python, and chromalith in it",
        )


def check_libraries(examined: Examination) -> Iterator[Finding]:
    """Whether the libraries that matter are of the versions that this release declares."""
    for name, clauses in declared(requires("chromalith") or []).items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue  # an extra that is not installed
        if name in WATCHED and not satisfies(found, clauses):
            yield Finding(
                "library_unsupported",
                f"a library is not of a supported version library={name} version={found} supported={clauses}",
                f"pip install '{name}{clauses}'",
            )


def check_indexes(examined: Examination, case: CollectionCase) -> Iterator[Finding]:
    """Whether the current version's indexes can be opened here."""
    if not isinstance(case.manifest, Manifest):
        return
    indexes = {(each.index.kind, each.index.library) for each in case.manifest.segments if each.index is not None}
    for kind, library in sorted(indexes):
        if kind not in KINDS:
            yield Finding(
                "index_kind_unknown",
                f"this installation cannot open an index kind={kind} library={library} known={','.join(KINDS)}",
                "upgrade chromalith on this machine",
                case.label,
            )
        elif _major(library) > _major(usearch_index.UsearchIndex.version):
            yield Finding(
                "index_library_newer",
                f"an index was built by a newer library built_by={library} installed={usearch_index.UsearchIndex.version}",
                "pip install --upgrade usearch",
                case.label,
            )


def declared(requirements: list[str]) -> dict[str, str]:
    """The version clauses of requirements by name, as ``>=1.5.2,<2``; those without clauses are left out."""
    found = {}
    for text in requirements:
        head = text.partition(";")[0]
        name = _NAME.match(head)
        clauses = ",".join(sign + number for sign, number in _CLAUSE.findall(head))
        if name is not None and clauses:
            found[name[0].lower()] = clauses
    return found


def satisfies(found: str, clauses: str) -> bool:
    """Whether a version is within clauses such as ``>=1.5.2,<2``. Compares numbers only, which is all that ours have."""
    have = _numbers(found)
    for sign, text in _CLAUSE.findall(clauses):
        want = _numbers(text)
        width = max(len(have), len(want))
        a, b = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b}[sign]:
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[0-9]*(?:\.[0-9]+)*", text)[0].split(".") if part)  # type: ignore[index]  # may match nothing, but matches


def _major(text: str) -> int:
    """The first number in ``usearch 2.26.0`` or ``2.26.0``; 0 if there is none."""
    found = re.search(r"[0-9]+", text)
    return int(found[0]) if found else 0

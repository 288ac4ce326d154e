"""Allowances: uses of Chroma that somebody has looked at, with the reason that they stay.

Two forms. A comment on the lines of the use, or alone on the line above it::

    collection.add(ids=ids, documents=texts)  # chromalith: allow direct-write seeds the demo before the migration

and, for whole folders, a file ``.chromalith-scan.toml`` at the root of what is scanned::

    [[allow]]
    path = "tests/**"                  # from the root; * within a name, ** over folders
    rules = ["direct-write"]           # left out: all
    reason = "tests open their own Chroma"

An allowance without a reason, with an unknown rule, or that covers nothing, is reported: lists of exceptions rot.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chromalith.errors import Invalid
from chromalith.migrate.scan.finding import RULES, Finding, Unreadable, Unused
from chromalith.migrate.scan.sources import Source

FILE = ".chromalith-scan.toml"
UNREADABLE = "unreadable"
"""The name by which a file allows that files can't be parsed; it is no rule of its own."""
_GLOBS = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_COMMENT = re.compile(r"#\s*chromalith:\s*allow\b[ \t]*([a-z-]+(?:\s*,\s*[a-z-]+)*)?[ \t]*(.*)$")


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of the file."""

    path: str
    rules: frozenset[str]
    reason: str
    line: int

    def covers(self, file: str, rule: str) -> bool:
        return (not self.rules or rule in self.rules) and re.fullmatch(_pattern(self.path), file) is not None


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment: the lines of code that it stands for."""

    file: str
    line: int
    stands_for: int
    rules: frozenset[str]
    reason: str
    wrong: str | None


def read_allowances(root: Path, path: Path | None = None) -> tuple[str, list[Allowed]]:
    """The file of allowances and its entries; none if there is no file. Raises ``Invalid`` for one that is not understood."""
    place = path or root / FILE
    if path is None and not place.is_file():
        return FILE, []
    try:
        text = place.read_text(encoding="utf-8")
        value = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise Invalid(
            f"the allowances can't be read path={str(place)!r}: {error}", hint="see docs/cli.md for the form"
        ) from error
    entries = value.get("allow", [])
    if set(value) - {"allow"} or not isinstance(entries, list):
        raise Invalid(
            f"not a file of allowances path={str(place)!r}", hint="it has [[allow]] entries, and nothing else"
        )
    lines = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*allow\s*\]\]", line)]
    return place.name, [_entry(entry, lines[n] if n < len(lines) else 1, place) for n, entry in enumerate(entries)]


def _entry(entry: Any, line: int, place: Path) -> Allowed:
    where = f"path={str(place)!r} line={line}"
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("path"), str)
        or set(entry) - {"path", "rules", "reason"}
    ):
        raise Invalid(f"an allowance has path, rules and reason {where}", hint='path = "tests/**"')
    reason, rules = str(entry.get("reason", "")).strip(), entry.get("rules", [])
    if not reason:
        raise Invalid(f"an allowance has a reason {where}", hint="say why this use may stay")
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
        raise Invalid(f"rules is a list of names {where}", hint=f"of {', '.join(RULES)}")
    if unknown := sorted(set(rules) - {*RULES, UNREADABLE}):
        raise Invalid(f"no such rule rules={unknown} {where}", hint=f"the rules are {', '.join((*RULES, UNREADABLE))}")
    return Allowed(entry["path"].removeprefix("./"), frozenset(rules), reason, line)


def _pattern(path: str) -> str:
    """A glob as a regular expression; a folder stands for all that is in it."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", path + "**" if path.endswith("/") else path)
    return "".join(_GLOBS.get(piece, re.escape(piece)) for piece in pieces)


def read_comments(source: Source) -> list[Comment]:
    """The allowances in a file of code."""
    found = []
    for line, text in source.comments():
        match = _COMMENT.match(text)
        if match is None:
            if re.match(r"#\s*chromalith:\s*allow", text):
                found.append(
                    Comment(
                        source.file,
                        line,
                        line,
                        frozenset(),
                        "",
                        "not understood: write # chromalith: allow RULE reason",
                    )
                )
            continue
        rules = frozenset(each.strip() for each in (match[1] or "").split(",") if each.strip())
        reason, wrong = match[2].strip(), None
        if unknown := sorted(rules - set(RULES)):
            wrong = f"no such rule: {', '.join(unknown)}"
        elif not rules:
            wrong = "names no rule"
        elif not reason:
            wrong = "gives no reason"
        found.append(Comment(source.file, line, _stands_for(source, line), rules, reason, wrong))
    return found


def _stands_for(source: Source, line: int) -> int:
    """The line of code that a comment belongs to: its own, or the next one if it stands alone."""
    while line <= len(source.lines) and source.lines[line - 1].lstrip().startswith("#"):
        line += 1
    return line


def apply(
    findings: Iterable[tuple[Finding, tuple[int, int]]],
    comments: Sequence[Comment],
    name: str,
    entries: Sequence[Allowed],
    unreadable: Sequence[Unreadable],
) -> tuple[list[Finding], list[Unreadable], list[Unused]]:
    """The findings with their allowances, what stays unreadable, and the allowances that cover nothing.

    Args:
        findings: each with the first and last line, in its file, of the statement that it is part of.
        comments: of all files.
        name, entries: of the file of allowances.
    """
    used: set[Comment | Allowed] = set()
    by_file: dict[str, list[Comment]] = {}
    for comment in comments:
        by_file.setdefault(comment.file, []).append(comment)
    done = [_applied(finding, lines, by_file.get(finding.file, []), entries, used) for finding, lines in findings]
    kept = []
    for each in unreadable:
        covering = [
            entry
            for entry in entries
            if UNREADABLE in entry.rules and entry.covers(each.file.partition("[")[0], UNREADABLE)
        ]
        used.update(covering)
        if not covering:
            kept.append(each)
    unused = [
        Unused(c.file, c.line, c.wrong or "covers no finding: remove it") for c in comments if c.wrong or c not in used
    ]
    unused += [
        Unused(name, entry.line, f"{entry.path} covers no finding: remove it") for entry in entries if entry not in used
    ]
    return done, kept, unused


def _applied(
    finding: Finding,
    lines: tuple[int, int],
    comments: Sequence[Comment],
    entries: Sequence[Allowed],
    used: set[Comment | Allowed],
) -> Finding:
    near = [c for c in comments if c.wrong is None and lines[0] <= c.stands_for <= lines[1] and finding.rule in c.rules]
    covering: list[Comment | Allowed] = [
        *near,
        *(entry for entry in entries if entry.covers(finding.file, finding.rule)),
    ]
    used.update(covering)
    return replace(finding, allowed=covering[0].reason) if covering else finding


def by_rule(findings: Iterable[Finding]) -> Mapping[str, int]:
    """How many there are of each rule, in the order of the rules."""
    counted = dict.fromkeys(RULES, 0)
    for each in findings:
        counted[each.rule] += 1
    return {rule: count for rule, count in counted.items() if count}

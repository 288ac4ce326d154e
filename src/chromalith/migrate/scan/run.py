"""Scan a tree of code for direct uses of Chroma: read, interpret, apply the allowances. Nothing of it is imported or executed."""

from __future__ import annotations

import ast
from pathlib import Path

from chromalith.migrate.scan.allow import apply, read_allowances, read_comments
from chromalith.migrate.scan.expressions import Tell
from chromalith.migrate.scan.finding import RULES, Confidence, Finding, Scanned, Unreadable
from chromalith.migrate.scan.flow import interpret
from chromalith.migrate.scan.program import Module, Program
from chromalith.migrate.scan.sources import Source, read_tree

CODE_CHARS_MAX = 200
_Found = dict[tuple[str, int, int, str], tuple[Finding, tuple[int, int]]]


def scan(path: Path, allowances: Path | None = None) -> Scanned:
    """Look through a folder of code, or one file.

    Args:
        allowances: a file of them; else ``.chromalith-scan.toml`` in the folder, if there is one.

    Raises ``NotFound``, ``Invalid`` (the allowances are not understood)."""
    tree = read_tree(path)
    name, entries = read_allowances(tree.root, allowances)
    found: _Found = {}
    unreadable = list(tree.unreadable)
    broken = interpret(Program(tree.sources), lambda module: _teller(module, found))
    unreadable += [Unreadable(file, "an expression is nested too deeply to be followed") for file in sorted(broken)]
    comments = [comment for source in tree.sources for comment in read_comments(source)]
    ordered = [found[key] for key in sorted(found, key=lambda key: (key[0], key[1], key[2], list(RULES).index(key[3])))]
    findings, unreadable, unused = apply(ordered, comments, name, entries, unreadable)
    return Scanned(
        root=path.resolve().name,
        files=len(tree.sources) - sum(source.file.endswith(".ipynb") for source in tree.sources),
        notebooks=sum(source.file.endswith(".ipynb") for source in tree.sources),
        lines=sum(len(source.lines) for source in tree.sources),
        digest=tree.digest,
        findings=tuple(findings),
        unreadable=tuple(unreadable),
        unused=tuple(unused),
    )


def _teller(module: Module, found: _Found) -> Tell:
    """Takes the findings of one module. The same place is met more than once (loops): the surer one stays."""
    source = module.source
    statements = _statements(source.tree)

    def tell(rule: str, node: ast.expr, what: str, confidence: Confidence) -> None:
        line, column = _begin(node)
        key = (source.file, line, column, rule)
        if key in found and found[key][0].confidence is Confidence.CERTAIN:
            return
        lines = statements.get(line, (node.lineno, node.end_lineno or node.lineno))
        found[key] = (_finding(source, rule, node, what, confidence), lines)

    return tell


def _begin(node: ast.expr) -> tuple[int, int]:
    """Line and column (bytes) to point at: in a chain of calls, the method's name, which may be lines below the beginning."""
    if isinstance(node, ast.Attribute) and node.end_lineno is not None and node.end_col_offset is not None:
        return node.end_lineno, node.end_col_offset - len(node.attr.encode())
    return node.lineno, node.col_offset


def _finding(source: Source, rule: str, node: ast.expr, what: str, confidence: Confidence) -> Finding:
    begin, column = _begin(node)
    end = node.end_lineno or begin
    cell, line = source.locate(begin)
    text = source.lines[begin - 1]
    return Finding(
        rule=rule,
        file=source.file,
        line=line,
        column=_characters(text, column) + 1,
        end_line=source.locate(end)[1],
        end_column=_characters(source.lines[end - 1], node.end_col_offset or column) + 1,
        code=text.strip()[:CODE_CHARS_MAX],
        what=what,
        confidence=confidence,
        instead=RULES[rule].instead,
        cell=cell,
    )


def _characters(line: str, offset: int) -> int:
    """``ast`` counts bytes of UTF-8; people and SARIF count characters."""
    return len(line.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "replace"))


def _statements(tree: ast.Module) -> dict[int, tuple[int, int]]:
    """For each line, the lines of the smallest statement that it is part of; of a compound one, those of its head."""
    found: dict[int, tuple[int, int]] = {}
    for node in ast.walk(tree):  # outer ones come first
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None) or getattr(node, "cases", None)
            last = node.end_lineno or node.lineno
            if isinstance(body, list) and body:
                first = getattr(body[0], "lineno", None) or body[0].pattern.lineno
                last = max(node.lineno, first - 1)
            found.update(dict.fromkeys(range(node.lineno, last + 1), (node.lineno, last)))
    return found

"""Which code a folder holds, and at which commit it stands, read from ``.git`` itself: no program is run, and none need be there."""

from __future__ import annotations

import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ORIGIN = re.compile(r'^\s*\[remote "origin"\]\s*$(?:\n(?!\s*\[).*)*?\n\s*url\s*=\s*(\S+)\s*$', re.MULTILINE)


def tree_of(path: Path) -> str:
    """A name for the code below ``path`` that is the same in each checkout: the repository that it came from, and the way there.

    Where there is none it is the path: a folder's own name would be no name, because every second one is called ``src``. Of the
    repository's URL only the end is told, since the rest may hold a password."""
    path = path.resolve()
    for folder in (path, *path.parents):
        git = folder / ".git"
        try:
            if git.is_dir():
                match = _ORIGIN.search((git / "config").read_text(encoding="utf-8"))
                if match is None:
                    break
                named = re.split(r"[/:]", match[1].rstrip("/").removesuffix(".git"))
                return "/".join([*named[-2:], *path.relative_to(folder).parts])
            if git.exists():  # a worktree or a submodule: its settings are elsewhere
                break
        except (OSError, UnicodeError):
            break
    return str(path).encode("utf-8", "backslashreplace").decode()


def commit_of(path: Path) -> str | None:
    """The commit that ``HEAD`` names in the tree that holds ``path``; ``None`` if there is none, or it can't be told.

    Whether the files differ from it is not known from here; the digest of a scan tells two states of the code apart."""
    for folder in (path.resolve(), *path.resolve().parents):
        git = folder / ".git"
        try:
            if git.is_dir():
                return _head(git)
            if git.is_file():  # a worktree or a submodule
                text = git.read_text(encoding="utf-8").strip()
                return _head((folder / text.removeprefix("gitdir:").strip()).resolve())
        except (OSError, UnicodeError):
            return None
    return None


def _head(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head if _COMMIT.fullmatch(head) else None
    name = head.removeprefix("ref:").strip()
    common = git / "commondir"
    roots = [git, (git / common.read_text(encoding="utf-8").strip()).resolve()] if common.is_file() else [git]
    for root in roots:
        loose = root / name
        if loose.is_file():
            found = loose.read_text(encoding="utf-8").strip()
            return found if _COMMIT.fullmatch(found) else None
    for root in roots:
        packed = root / "packed-refs"
        lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
        for line in lines:
            commit, _, ref = line.partition(" ")
            if ref == name and _COMMIT.fullmatch(commit):
                return commit
    return None

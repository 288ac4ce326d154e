"""The commands and the code in the documents do what the documents say: they are run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.blocks import AWS_TEST, REASON_CHARS_MIN, ROOT, RUNNABLE, TEST, Block, blocks, commands, documents

RUNNABLE_BLOCKS = commands()
NOT_RUN_MAX = 12
TESTED = sorted({block.path for block in RUNNABLE_BLOCKS if block.marker == TEST})


def test_there_is_something_to_run() -> None:
    """The README has a Python example and shell commands that are run."""
    readme = {block.language for block in RUNNABLE_BLOCKS if block.path == ROOT / "README.md" and block.marker == TEST}
    assert readme == {"sh", "python"}


@pytest.mark.parametrize("block", RUNNABLE_BLOCKS, ids=str)
def test_each_block_is_marked(block: Block) -> None:
    """A block of commands is run, or says why it is not."""
    assert block.language in RUNNABLE, f"write sh or python, not {block.language}"
    assert block.marker in (TEST, AWS_TEST) or len(block.reason or "") >= REASON_CHARS_MIN, (
        f"mark it: test, aws-test, or norun: reason; {block}"
    )


def test_what_is_not_run_is_listed() -> None:
    """Run here, run in the emulated account, and not run: that is all of them. Those not run are listed with their reasons, and few."""
    here = [block for block in RUNNABLE_BLOCKS if block.marker == TEST]
    there = [block for block in RUNNABLE_BLOCKS if block.marker == AWS_TEST]
    left_out = [block for block in RUNNABLE_BLOCKS if block.reason is not None]
    print(
        f"{len(RUNNABLE_BLOCKS)} blocks: {len(here)} run here, {len(there)} in an emulated account, {len(left_out)} not:"
    )
    print(*(f"  {block}: {block.reason}" for block in left_out), sep="\n")
    assert len(here) + len(there) + len(left_out) == len(RUNNABLE_BLOCKS)
    assert len(left_out) <= NOT_RUN_MAX, "one more is a decision"


@pytest.mark.parametrize("path", TESTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_run(path: Path, tmp_path: Path) -> None:
    """The blocks of one document, one after the other in one empty folder, all succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHROMALITH_", "AWS_"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CHROMALITH_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONWARNINGS": "error::DeprecationWarning:chromalith",
    }
    folder = tmp_path / "folder"
    folder.mkdir()
    try:
        for block in blocks(path):
            if block.marker == TEST:
                ended = subprocess.run(
                    block.command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
                )
                assert ended.returncode == 0, f"{block}\n{ended.stdout}\n{ended.stderr}"
    finally:
        _end_what_runs_on(folder)


def _end_what_runs_on(folder: Path) -> None:
    """A document writes the number of what it leaves running to a ``.pid`` file, and ends it itself; if it failed before, we do."""
    for number in folder.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(number.read_text()), signal.SIGTERM)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Each link of a document to a file of the project leads to one that is there, and to a heading of a document to one that it has."""
    for target, heading in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]+))?\)", _prose(path)):
        if "://" not in target:
            place = path.parent / target if target else path
            assert place.exists(), f"{path.relative_to(ROOT)} links to {target}"
            assert not heading or place.suffix != ".md" or heading in _headings(place), (
                f"{path.relative_to(ROOT)} links to {target}#{heading}"
            )


def _prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _headings(path: Path) -> set[str]:
    """As links name them: small letters, no punctuation, and a dash for each space."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", _prose(path), re.MULTILINE)
    }

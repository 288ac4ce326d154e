"""The commands and the code in the documents do what the documents say: they are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.blocks import ROOT, RUNNABLE, Block, blocks, documents

ALL = [block for path in documents() for block in blocks(path)]
RUNNABLE_BLOCKS = [block for block in ALL if block.language in (*RUNNABLE, "bash", "shell", "console", "py")]
NOT_RUN_MAX = 8
TESTED = sorted({block.path for block in RUNNABLE_BLOCKS if block.marker == "test"})


def test_there_is_something_to_run() -> None:
    """The README has a Python example and shell commands that are run."""
    readme = {block.language for block in ALL if block.path == ROOT / "README.md" and block.marker == "test"}
    assert readme == {"sh", "python"}


@pytest.mark.parametrize("block", RUNNABLE_BLOCKS, ids=str)
def test_each_block_is_marked(block: Block) -> None:
    """A block of commands is run, or says why it is not."""
    assert block.language in RUNNABLE, f"write sh or python, not {block.language}"
    reason = block.marker.removeprefix("norun:")
    assert block.marker == "test" or (reason != block.marker and len(reason.strip()) >= 10), (
        f"mark it: test, or norun: reason; {block}"
    )


def test_what_is_not_run_is_listed() -> None:
    """The blocks that are not run are listed with their reasons, and are few: one more than that is a decision."""
    left_out = [block for block in RUNNABLE_BLOCKS if block.marker.startswith("norun:")]
    print(f"{len(left_out)} of {len(RUNNABLE_BLOCKS)} blocks are not run:")
    print(*(f"  {block}: {block.marker.removeprefix('norun:').strip()}" for block in left_out), sep="\n")
    assert len(left_out) <= NOT_RUN_MAX


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
    for block in blocks(path):
        if block.marker == "test":
            command = (
                [sys.executable, "-c", block.text]
                if block.language == "python"
                else ["bash", "-euo", "pipefail", "-c", block.text]
            )
            ended = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
            )
            assert ended.returncode == 0, f"{block}\n{ended.stdout}\n{ended.stderr}"


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Each link of a document to a file of the project leads to one that is there."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"

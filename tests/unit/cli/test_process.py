"""The installed command in processes of its own: what no test inside this process can show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.shapes import documented, same, shape

PROGRAM = Path(sys.executable).with_name("chromalith")


def chromalith(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=240,
        check=False,
    )


def test_the_installed_command(words: str) -> None:
    """Data goes to stdout, narration to stderr, and the exit code is the process's; no colour where there is no terminal."""
    counted = chromalith("count", words)
    assert (counted.returncode, counted.stdout, counted.stderr) == (0, "3\n", "")
    missing = chromalith("count", "absent")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("error: ")
    assert "\x1b" not in chromalith("status", words).stdout


def test_a_closed_pipe_is_no_error(words: str) -> None:
    """`chromalith … | true`, whose reader is gone before anything is printed, ends quietly, as if it had printed."""
    ended = subprocess.run(
        f"set -o pipefail; '{PROGRAM}' get {words} | true",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_importing_chromalith_leaves_chromadb_alone() -> None:
    """The package can be imported and its public names listed without chromadb; only Client brings it in."""
    code = "import chromalith, sys; dir(chromalith); chromalith.Writer; assert 'chromadb' not in sys.modules, 'chromadb'; print('ok')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("ok\n", 0), ended.stderr


@pytest.mark.parametrize("name", ["Client", "MigratingClient"])
def test_a_client_without_chromadb_says_what_to_install(name: str) -> None:
    """A ``None`` in ``sys.modules`` is Python's own way of saying that a module can't be had."""
    code = f"import sys; sys.modules['chromadb'] = None; import chromalith; chromalith.{name}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"chromalith.{name} needs chromadb: pip install 'chromalith[chroma]'" in ended.stderr


@pytest.mark.slow
def test_the_demo_checks_itself(tmp_path: Path) -> None:
    """The demo, piped and short, finds all it wrote, keeps its store, and refuses to run into it again."""
    pytest.importorskip("wordllama")
    place = tmp_path / "kept"
    ended = chromalith("demo", "--dir", place, "--records", 400, "--writers", 2, "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert same(shape(told), documented("demo")), "docs/cli.md shows another shape"
    assert told["ok"] is True
    assert all(told["checks"].values())
    assert told["records"] == 400
    assert told["records_acknowledged"] == 401  # and the note
    assert chromalith("count", "stdlib", "--store", place).stdout == "401\n"
    again = chromalith("demo", "--dir", place)
    assert again.returncode == 2
    assert "already" in again.stderr

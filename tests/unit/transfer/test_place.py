from __future__ import annotations

from pathlib import Path

import pytest

from chromalith.clock import ManualClock
from chromalith.errors import Invalid, Unavailable
from chromalith.transfer.place import placed


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"
    with placed(path, ManualClock()) as part:
        part.write_text("whole")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["a"]


def test_a_directory_takes_the_place_of_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with placed(tmp_path / "a", ManualClock()) as part:
        part.mkdir()
        (part / "file").write_text("whole")
    assert (tmp_path / "a" / "file").read_text() == "whole"


@pytest.mark.parametrize("directory", [True, False])
def test_nothing_is_left_of_a_block_that_fails(tmp_path: Path, directory: bool) -> None:
    def fail(part: Path) -> None:
        if directory:
            part.mkdir()
        (part / "file" if directory else part).write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError), placed(tmp_path / "a", ManualClock()) as part:
        fail(part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("directory", [True, False])
def test_what_is_there_is_never_replaced(tmp_path: Path, late: bool, directory: bool) -> None:
    """Also when somebody else makes it while we write."""

    def somebody(part: Path | None = None) -> None:
        if part is not None:
            part.write_text("ours")
        if directory:
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "theirs").write_text("theirs")
        else:
            (tmp_path / "a").write_text("theirs")

    if not late:
        somebody()
    with pytest.raises(Invalid, match="the target"), placed(tmp_path / "a", ManualClock()) as part:
        somebody(part)
    assert [p.read_text() for p in tmp_path.rglob("*") if p.is_file()] == ["theirs"]


def test_a_disk_that_refuses_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="can't be written"), placed(tmp_path / "file" / "a", ManualClock()):
        pass

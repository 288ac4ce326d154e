"""The inputs to begin with: those that a decoder accepts, and those that once were wrong."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.targets import Target

FOLDER = Path(__file__).with_name("corpus")


def kept(name: str) -> list[Path]:
    """The kept inputs of a target."""
    return sorted(path for path in (FOLDER / name).glob("*") if path.is_file())


def seeds_of(target: Target) -> list[bytes]:
    """All inputs to mutate."""
    return [*target.seeds(), *(path.read_bytes() for path in kept(target.name))]

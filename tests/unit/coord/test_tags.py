"""Which versions tags keep from a sweep that listed them before and after its publish."""

from __future__ import annotations

from chromalith.coord.tags import Tag, protected


def tag(manifest: str | None, *released: str) -> Tag:
    return Tag("t", None if manifest is None else 1, manifest, manifest is not None, "user", 0, released)


def test_what_a_sweep_must_keep() -> None:
    """What is live in either listing, and what was released between the two; what the first one showed as released may go.

    Of the last kind no restore can rely any more: it would have read the pointer before the sweep published."""
    assert protected([], []) == set()
    assert protected([tag("v")], [tag("v")]) == {"v"}
    assert protected([], [tag("v")]) == {"v"}
    assert protected([tag("v")], [tag(None, "v")]) == {"v"}
    assert protected([], [tag(None, "v")]) == {"v"}
    assert protected([tag(None, "v")], [tag(None, "v")]) == set()
    assert protected([tag(None, "v")], [tag("w", "v", "u")]) == {"w", "u"}
    assert protected([tag(None, "v")], [tag("v")]) == {"v"}

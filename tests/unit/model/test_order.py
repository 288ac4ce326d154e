"""The order of deltas, its settled prefix, and what is pending."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chromalith.model.folded import FoldedSet, State
from chromalith.model.ids import DeltaId
from chromalith.model.order import Listed, in_order, pending, settled_prefix

IDS = st.builds(
    DeltaId, st.integers(0, 3), st.sampled_from(["a" * 32, "b" * 32]), st.integers(0, 2), st.sampled_from(["0" * 16, "1" * 16])
)
LISTED = st.lists(st.builds(Listed, st.integers(0, 4), IDS, st.integers(1, 50)), max_size=10, unique_by=lambda d: d.id)


@given(LISTED, st.randoms())
def test_the_order_does_not_depend_on_the_listing(listed: list[Listed], random: object) -> None:
    """However a listing is ordered, the deltas come in one order, each call once, and the first of each call stays."""
    shuffled = list(listed)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ordered = in_order(listed)
    assert in_order(shuffled) == ordered == sorted(ordered)
    calls = [(delta.id.writer, delta.id.counter) for delta in ordered]
    assert len(set(calls)) == len(calls) == len({(d.id.writer, d.id.counter) for d in listed})
    for delta in listed:
        assert any(o <= delta for o in ordered if (o.id.writer, o.id.counter) == (delta.id.writer, delta.id.counter))


@given(LISTED, st.integers(-1, 6), st.sampled_from([0.0, 1e-6, 2e-6]), st.integers(1, 4), st.integers(0, 120))
def test_a_fold_s_choice_is_a_settled_prefix(
    listed: list[Listed], date_us: int, settle_s: float, deltas_max: int, bytes_max: int
) -> None:
    """The choice is a prefix, settled, within the limits, and as long as these allow; one settled delta is always taken."""
    ordered = in_order(listed)
    chosen = settled_prefix(ordered, date_us=date_us, settle_s=settle_s, deltas_max=deltas_max, bytes_max=bytes_max)
    assert chosen == ordered[: len(chosen)]
    latest = date_us - round(settle_s * 1e6)
    assert all(delta.modified_us <= latest for delta in chosen)
    assert len(chosen) <= deltas_max
    assert len(chosen) <= 1 or sum(delta.size for delta in chosen) <= bytes_max
    if len(chosen) < len(ordered):
        following = ordered[len(chosen)]
        full = len(chosen) == deltas_max or (chosen and sum(d.size for d in chosen) + following.size > bytes_max)
        assert full or following.modified_us > latest


@given(LISTED, st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_what_is_pending(listed: list[Listed], folded_at: set[int], quarantined_at: set[int]) -> None:
    """Neither folded nor quarantined; and a quarantined delta does not hide another one of its call."""
    unique = in_order(listed)
    folded = FoldedSet().add([(d.id, State.FOLDED) for i, d in enumerate(unique) if i in folded_at], version=1, date_us=0)
    quarantined = {str(d.id) for i, d in enumerate(listed) if i in quarantined_at}
    found = pending(listed, folded, quarantined)
    expected = {
        (d.id.writer, d.id.counter) for d in listed if d.id not in folded and str(d.id) not in quarantined
    }
    assert {(d.id.writer, d.id.counter) for d in found} == expected
    assert found == in_order(found)
    assert not any(str(d.id) in quarantined or d.id in folded for d in found)

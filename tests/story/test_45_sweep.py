"""The sweep: versions beyond the retention go, with what only they named. Nothing else does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tests.story.sweeps import DAY_S, NOTHING_KEPT, check_whole, in_line, sweep, unnamed, versions, with_history
from tests.worlds import World, altered, keys

from chromalith.compaction.fork import tag_name
from chromalith.compaction.garbage import Reason, totals
from chromalith.compaction.sweep import plan_sweep, run_sweep
from chromalith.coord.history import manifest_at
from chromalith.coord.tags import RELEASED_MAX, find_tag, list_tags, put_tag, release_tag
from chromalith.errors import Conflict, Corrupt, NotFound
from chromalith.model import layout
from chromalith.model.ids import JobId, collection_id
from chromalith.model.manifest import encode_manifest
from chromalith.model.retention import Retention
from chromalith.store.wrappers import CountingStore


def test_versions_beyond_the_retention_go() -> None:
    """The newest versions and what they name stay, the others go, and the collection is whole."""
    with with_history(5) as world:
        outcome = sweep(world, replace(NOTHING_KEPT, keep_versions=2))
        assert (outcome.published, outcome.horizon, outcome.boundary, outcome.versions) == (6, 4, 6, 3)
        assert versions(world) == [4, 5, 6]
        assert unnamed(world) == set()
        assert totals(outcome.garbage)[Reason.VERSION][0] == 4
        assert world.documents() == {"a": "4", "b": "4"}
        check_whole(world)


def test_every_state_of_the_last_time_is_kept() -> None:
    """A version is kept for as long as the age after it was replaced, not published: what was current a day ago can be opened."""
    with with_history(5) as world:  # published at 0, 1, 2, 3 and 4 h; it is 5 h now
        for age_h, lowest in ((0.5, 5), (1.5, 4), (3.5, 2), (4.5, 1), (9, 0)):
            retention = Retention(keep_versions=1, keep_age_s=age_h * 3_600)
            assert plan_sweep(world.store, world.clock, world.cid, retention).horizon == lowest
        sweep(world, replace(NOTHING_KEPT, keep_age_s=2.5 * 3_600))
        assert versions(world) == [3, 4, 5, 6]
        check_whole(world)


def test_nothing_to_delete_publishes_nothing() -> None:
    """A sweep that finds no garbage leaves the version as it is, and a dry run writes nothing at all."""
    with with_history(3) as world:
        before = keys(world.store)
        outcome = sweep(world, Retention())
        assert (outcome.published, outcome.garbage, outcome.deleted) == (None, (), False)
        assert set(keys(world.store)) == {*before, layout.date_key(world.cid)}
        store = CountingStore(world.store)
        assert plan_sweep(store, world.clock, world.cid, NOTHING_KEPT).garbage
        assert store.counts.requests.keys() == {"list", "get"}


def test_sweeps_come_to_rest() -> None:
    """Swept again and again, an idle collection gets no further versions: those that sweeps publish push none over the edge."""
    with with_history(4) as world:
        retention = Retention(keep_versions=2, keep_age_s=3 * DAY_S, job_grace_s=3_600)
        published = []
        for _ in range(20):
            world.clock.advance(DAY_S / 2)
            published.append(sweep(world, retention).published)
        assert [each for each in published if each is not None] == [5]
        assert world.current().horizon == 3


def test_a_dry_run_says_what_a_run_deletes() -> None:
    """What is chosen without publishing is what is deleted, each with the same reason."""
    with with_history(5) as world:
        plan = plan_sweep(world.store, world.clock, world.cid, NOTHING_KEPT, executor=in_line)
        before = set(keys(world.store))
        outcome = sweep(world)
        assert sorted(outcome.garbage, key=lambda each: each.key) == sorted(plan.garbage, key=lambda each: each.key)
        assert before - set(keys(world.store)) == {each.key for each in plan.garbage}


def test_a_tagged_version_stays_until_it_is_untagged() -> None:
    """A tag keeps a version far below the horizon whole, and readable; once it is released, the next sweep takes it."""
    with with_history(5) as world:
        manifest = manifest_at(world.store, world.cid, 2)
        put_tag(world.store, world.clock, world.cid, "kept", manifest)
        sweep(world)
        assert versions(world) == [2, 5, 6]
        check_whole(world)
        view = world.session().reader.view_of(manifest)
        assert view.get(ids=["a"]).documents == ["1"]
        assert sweep(world).garbage == ()
        release_tag(world.store, world.clock, world.cid, "kept")
        assert list_tags(world.store, world.cid)[0].released == (manifest.key,)
        sweep(world)
        assert versions(world)[0] == 5
        assert unnamed(world) == set()
        assert list_tags(world.store, world.cid)[0].released == ()


def test_a_tag_that_was_moved_often_can_be_moved_again() -> None:
    """What a tag remembers of versions that it let go is forgotten by a sweep, also if that finds nothing to delete."""
    with with_history(RELEASED_MAX) as world:
        for version in range(RELEASED_MAX):
            put_tag(world.store, world.clock, world.cid, "moving", manifest_at(world.store, world.cid, version))
            release_tag(world.store, world.clock, world.cid, "moving")
        put_tag(world.store, world.clock, world.cid, "moving", world.current())
        with pytest.raises(Conflict, match="moved too often"):
            release_tag(world.store, world.clock, world.cid, "moving")
        outcome = sweep(world, Retention(keep_versions=1_000))
        assert outcome.garbage == ()
        assert outcome.published
        assert release_tag(world.store, world.clock, world.cid, "moving")


def test_a_pinned_reader_of_a_swept_version_is_told() -> None:
    """Reading a version after it was swept says so, with a hint; it is not called damage."""
    with with_history(5) as world:
        view = world.session().reader.view_of(manifest_at(world.store, world.cid, 2))
        sweep(world)
        with pytest.raises(NotFound) as error:
            view.get()
        assert error.value.hint
        with pytest.raises(NotFound) as error:
            manifest_at(world.store, world.cid, 2)
        assert error.value.hint


def test_manifests_of_lost_races_go() -> None:
    """A manifest outside of the chain goes once its version is taken; one that may still become current stays."""
    with with_history(3) as world:
        current = world.current()
        rivals = [replace(manifest_at(world.store, world.cid, v), write_id="f" * 32) for v in (2, 3)]
        future = replace(current, version=current.version + 1, parent=current.key, write_id="f" * 32)
        for each in (*rivals, future):
            world.store.put(each.key, encode_manifest(each))
        plan = plan_sweep(world.store, world.clock, world.cid, Retention())
        assert {(each.key, each.reason) for each in plan.garbage} == {(each.key, Reason.RIVAL) for each in rivals}
        outcome = sweep(world, Retention())  # publishes the version that `future` was to be
        assert {each.key for each in outcome.garbage} == {each.key for each in (*rivals, future)}
        assert versions(world) == [0, 1, 2, 3, 4]


def test_a_damaged_rival_stops_nobody() -> None:
    """What is wrong with a manifest that was never published does not matter; nor with one below the horizon."""
    with with_history(3) as world:
        world.store.put(layout.manifest_key(world.cid, 2, "f" * 32), b"{}")
        altered(world.store, manifest_at(world.store, world.cid, 1).key, lambda body: body[:-9])
        sweep(world)
        assert versions(world) == [3, 4]
        check_whole(world)


def test_a_damaged_kept_manifest_stops_the_sweep() -> None:
    """What a kept version names is not known if its manifest can't be read: then nothing is deleted."""
    with with_history(4) as world:
        altered(world.store, manifest_at(world.store, world.cid, 3).key, lambda body: body[:-9])
        before = set(keys(world.store))
        with pytest.raises(Corrupt):
            sweep(world, replace(NOTHING_KEPT, keep_versions=2))
        assert before <= set(keys(world.store))


def test_a_tagged_version_that_is_missing_stops_the_sweep() -> None:
    """A tag that holds, and whose manifest is gone, is damage: a person looks before anything is deleted."""
    with with_history(4) as world:
        manifest = manifest_at(world.store, world.cid, 1)
        put_tag(world.store, world.clock, world.cid, "lost", manifest)
        world.store.delete(manifest.key)
        before = set(keys(world.store))
        with pytest.raises(Corrupt, match="tagged"):
            sweep(world)
        assert before <= set(keys(world.store))


def orphan(world: World, base: int, digit: str = "e") -> list[str]:
    """What a job that read version ``base`` left of each kind; their keys."""
    job, cid = JobId(base, digit * 32), world.cid
    segment = world.current().segments[0].id
    left = [
        layout.segment_file_key(cid, job, layout.RECORDS_FILE),
        layout.segment_file_key(cid, job, layout.index_file("usearch")),
        layout.deletes_key(cid, segment, job),
        layout.folded_key(cid, job),
        layout.buckets_key(cid, job),
        f"{layout.aside_prefix(cid, job)}00000000-x.parquet",
    ]
    for key in left:
        world.store.put(key, b"left")
    return left


def test_orphans_go_when_no_job_can_name_them_any_more() -> None:
    """What a crashed job left goes once the boundary is above the version that it read; what a live one may name stays."""
    with with_history(4) as world:  # version 4 is the current one, for an hour
        old, young = orphan(world, 2), orphan(world, 4)
        assert len(old) == 6
        outcome = sweep(world, Retention(job_grace_s=0.5 * 3_600))
        assert outcome.boundary == 4
        assert {each.key for each in outcome.garbage} == set(old)
        assert {each.reason for each in outcome.garbage} == {Reason.UNNAMED}
        assert unnamed(world) == set(young)
        assert sweep(world).boundary == 6
        assert unnamed(world) == set()
        check_whole(world)


def test_more_than_a_page() -> None:
    """Listings of several pages are swept to their end."""
    with with_history(2) as world:
        for number in range(2_500):
            world.store.put(layout.folded_key(world.cid, JobId(1, f"{number:032x}")), b"x")
        outcome = sweep(world)
        assert totals(outcome.garbage)[Reason.UNNAMED][0] >= 2_500
        assert keys(world.store, layout.FOLDED_ROOT) == []
        check_whole(world)


def test_the_boundary_lets_jobs_go_on() -> None:
    """With the default grace, what a job wrote that began within the hour is left alone."""
    with with_history(4) as world:
        world.upsert("c", 9)
        world.compact()
        young = orphan(world, 4)
        assert sweep(world, Retention(keep_versions=1, keep_age_s=0)).boundary == 4
        assert unnamed(world) >= set(young)


def test_a_sweep_after_a_sweep_lets_jobs_go_on() -> None:
    """However little is kept: what a job wrote that began within the grace stays, and the job is not discarded, if many sweeps pass it."""
    with with_history(2) as world:
        written = orphan(world, world.current().version)
        for value in range(3):
            world.upsert("ab", value)
            world.compact()
            sweep(world, Retention(keep_versions=1, keep_age_s=0, job_grace_s=4_000))
        assert world.current().boundary <= 2
        assert set(written) <= set(keys(world.store))
        world.clock.advance(4_001)
        sweep(world, Retention(keep_versions=1, keep_age_s=0, job_grace_s=4_000))
        assert unnamed(world) == set()


def test_what_is_not_ours_stays() -> None:
    """Objects with other keys, beside ours or below our prefixes, are not touched, however old."""
    with with_history(4) as world:
        cid = world.cid
        foreign = [
            f"snapshot/{cid}/notes.txt",
            f"snapshot/{cid}/0000000000000000.json",
            f"snapshot/{cid}/buckets/other.bin",
            f"segment/{cid}/readme.md",
            f"segment/{cid}/0000000000000000-{'e' * 32}/mine.parquet",
            f"folded/{cid}/x.parquet",
            f"quarantine/{cid}/note.txt",
            f"quarantine/{cid}/aside/note.txt",
            "snapshot/migration/words/000.parquet",
            "migration/words.json",
        ]
        for key in foreign:
            world.store.put(key, b"a person's")
        world.clock.advance(40 * DAY_S)
        sweep(world)
        assert set(foreign) <= set(keys(world.store))


def test_stock_snapshots_of_swept_versions_go() -> None:
    """Chroma directories beside kept versions stay, and the one that stock.txt names; of the others those go that are a day old."""
    with with_history(4) as world:
        runs = {v: f"{layout.stock_prefix(world.cid, v)}0000000{v}/" for v in (1, 2, 3, 4)}
        for version, prefix in runs.items():
            if version == 3:
                world.clock.advance(DAY_S + 1)
            world.store.put(f"{prefix}chroma.sqlite3", b"sqlite")
            world.store.put(f"{prefix}{version}/data.bin", b"hnsw")
        world.store.put(layout.stock_key(world.cid), f"{runs[1]}\n".encode())

        def stored() -> list[int]:
            return [v for v, prefix in runs.items() if keys(world.store, prefix)]

        sweep(world)
        assert stored() == [1, 3, 4]
        world.clock.advance(DAY_S + 1)
        outcome = sweep(world)
        assert totals(outcome.garbage) == {Reason.STOCK: (2, 10)}
        assert stored() == [1, 4]
        assert world.store.get(layout.stock_key(world.cid)).body


def test_the_tag_of_a_crashed_fork_is_released() -> None:
    """A fork's tag that is a day old holds nothing any more; a younger one, and a person's, do."""
    with with_history(5) as world:
        other = collection_id(world.clock.random_uuid())
        put_tag(world.store, world.clock, world.cid, tag_name(other), manifest_at(world.store, world.cid, 2), purpose="fork")
        sweep(world)
        assert 2 in versions(world)
        world.clock.advance(DAY_S + 1)
        put_tag(world.store, world.clock, world.cid, "mine", manifest_at(world.store, world.cid, 5))
        assert plan_sweep(world.store, world.clock, world.cid, NOTHING_KEPT).stale_tags == (tag_name(other),)
        sweep(world)
        assert versions(world)[0] == 5
        with pytest.raises(NotFound):
            find_tag(world.store, world.cid, tag_name(other))
        find_tag(world.store, world.cid, "mine")


def test_boundary_and_horizon_only_rise() -> None:
    """A sweep that keeps more than the one before it brings neither down."""
    with with_history(5) as world:
        sweep(world, replace(NOTHING_KEPT, keep_versions=2))
        before = world.current()
        world.upsert("a", 7)
        world.compact()
        orphan(world, 1)
        sweep(world, Retention(keep_versions=50))
        after = world.current()
        assert after.kind == "sweep"
        assert (after.boundary, after.horizon) == (before.boundary, before.horizon)


def test_a_sweep_changes_no_record() -> None:
    """The version that a sweep publishes holds its parent's segments, checksums, folded set and numbers."""
    with with_history(5) as world:
        before = world.current()
        sweep(world)
        after = world.current()
        assert (after.kind, after.version, after.parent) == ("sweep", before.version + 1, before.key)
        same = ("segments", "content", "embedding", "next_seq", "dimension", "live", "buckets", "quarantined", "aside")
        assert all(getattr(after, name) == getattr(before, name) for name in same)


def test_requests() -> None:
    """One LIST for each prefix and look, each manifest read once, and one DELETE for each object that goes."""
    with with_history(6) as world:
        store = CountingStore(world.store)
        retention = replace(NOTHING_KEPT, keep_versions=3)
        plan = plan_sweep(store, world.clock, world.cid, retention)
        dry = store.reset()
        assert dry.requests == Counter(list=5, get=1 + 3)  # the pointer and three manifests; tags, and four roots
        outcome = run_sweep(store, world.clock, world.cid, retention)
        counts = store.reset()
        assert outcome.garbage == plan.garbage
        # the date's object and the version; two looks; the manifests that are kept, once; what went
        assert counts.requests == Counter(
            {"put": 3, "head": 1, "list": 2 * 5, "get": 2 * (1 + 1) + 2, "delete": len(outcome.garbage)}
        )
        run_sweep(store, world.clock, world.cid, retention)
        assert store.counts.requests == Counter({"put": 1, "head": 1, "list": 5, "get": 1 + 4})

"""Defects that are put into the product on purpose, each with the test that must notice.

A mutant is an edit of one source file: the text that stands there once, and what replaces it. The product is copied, edited, and
the named tests are run on the copy: they must fail. So a rule that no test defends shows up as a mutant that lives.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One seeded defect.

    Attributes:
        name: what is wrong with it.
        file: below ``src/chromalith``.
        old, new: the edit; ``old`` must occur exactly once.
        killers: tests of which each must fail on the mutant (node ids below ``tests/``).
    """

    name: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]


MUTANTS = (
    Mutant(
        "publish without the condition",
        "coord/pointer.py",
        "put_resolved(store, key, pointer_body(child), Matches(parent.pointer.etag), clock=clock)",
        "store.put(key, pointer_body(child))",
        ("story/test_60_publish.py::test_a_lost_race_is_lost",),
    ),
    Mutant(
        "read the pointer, then list",
        "read/reader.py",
        "        listed = list_deltas(self._store, cid)\n        return listed, self._read_pointer(cid, held, whole=whole)",
        "        found = self._read_pointer(cid, held, whole=whole)\n        return list_deltas(self._store, cid), found",
        ("story/test_50_read.py::test_lists_before_it_reads_the_pointer",),
    ),
    Mutant(
        "a publisher that ignores the boundary",
        "coord/pointer.py",
        "if any(job.base < parent.manifest.boundary for job in",
        "if any(job.base < 0 for job in",
        ("story/test_60_publish.py::test_an_object_from_before_the_boundary_is_not_published",),
    ),
    Mutant(
        "a rebase that drops the deletes that arrived meanwhile",
        "model/rebase.py",
        "output_row[segment][np.setdiff1d(now, read[segment])]",
        "output_row[segment][:0]",
        ("story/test_30_merge.py::test_a_merge_carries_the_deletes_that_arrived_meanwhile",),
    ),
    Mutant(
        "a merge that is published although its dead rows live again",
        "model/rebase.py",
        "if not np.isin(read[segment], now).all():",
        "if not np.isin(read[segment], now).any() and False:",
        ("story/test_30_merge.py::test_a_merge_is_abandoned_when_its_dead_rows_live_again",),
    ),
    Mutant(
        "a fold chosen by id instead of by the order",
        "model/order.py",
        "for delta in sorted(listed):",
        "for delta in sorted(listed, key=lambda each: each.id):",
        ("unit/model/test_order.py::test_the_order_does_not_depend_on_the_listing",),
    ),
    Mutant(
        "no settle_s",
        "model/order.py",
        "latest_us = date_us - round(settle_s * 1_000_000)",
        "latest_us = 2**63",
        ("story/test_20_fold.py::test_a_fold_takes_only_what_has_settled",),
    ),
    Mutant(
        "one page of a listing believed",
        "coord/listing.py",
        "    if pages <= 1:",
        "    if pages:",
        ("unit/coord/test_listing.py",),
    ),
    Mutant(
        "a lost reply is taken for a lost race",
        "store/readback.py",
        "if current is not None and current.body == body:",
        "if current is not None and current.body == body and not maybe_applied:",
        ("story/test_10_write.py::test_a_lost_reply_is_resolved_by_looking",),
    ),
    Mutant(
        "an unanswered publish is looked for in the current version only",
        "coord/pointer.py",
        "            key = read_manifest(store, key).parent",
        "            return LostRace()",
        ("story/test_60_publish.py::test_a_lost_reply_is_resolved",),
    ),
    Mutant(
        "giving up without a void delta",
        "write/writer.py",
        "            put_resolved(self._store, key, VOID, Absent(), clock=self._clock)",
        "            pass",
        ("story/test_10_write.py::test_who_gives_up_puts_a_void",),
    ),
    Mutant(
        "an acknowledgement that does not ask whether the collection still is",
        "write/writer.py",
        "            if isinstance(alive_error, NotFound):  # whatever is in it now goes with it\n                raise alive_error\n"
        "            if alive_error is not None:",
        "            if False:",
        ("story/test_70_delete.py::test_a_write_to_a_deleted_collection_is_not_acknowledged",),
    ),
    Mutant(
        "one call folded under two delta ids",
        "model/order.py",
        "        if call not in seen:",
        "        if True:",
        ("story/test_20_fold.py::test_a_named_call_counts_once",),
    ),
    Mutant(
        "a run that goes on for as long as somebody writes",
        "compaction/compactor.py",
        "date_us=began_us,",
        "date_us=date_us,",
        ("story/test_22_fold_in_time.py::test_a_run_ends_where_writing_does_not",),
    ),
    Mutant(
        "a backlog that leaves no time to merge",
        "compaction/compactor.py",
        "AFTER_FOLDS = 0.25",
        "AFTER_FOLDS = 0.0",
        ("story/test_22_fold_in_time.py::test_a_backlog_leaves_time_to_merge",),
    ),
    Mutant(
        "a delta that never fits keeps all from being swept",
        "compaction/compactor.py",
        "                self._sweep_folded(current, folded, listed, date_us, outcome)\n                raise",
        "                raise",
        ("story/test_22_fold_in_time.py::test_one_delta_that_does_not_fit_keeps_nothing_from_being_swept",),
    ),
    Mutant(
        "a fold that takes all the time that it is expected to need",
        "compaction/fold_job.py",
        "> may_take_s(left_s, several=several)",
        "> left_s",
        ("story/test_22_fold_in_time.py::test_a_fold_of_several_deltas_has_time_to_spare",),
    ),
    Mutant(
        "deletes that count as rows to be indexed",
        "compaction/fold_job.py",
        "gone = found.operations.ops.count(Op.DELETE)",
        "gone = 0",
        ("story/test_22_fold_in_time.py::test_many_deletes_are_folded_where_time_is_short",),
    ),
    Mutant(
        "the date is taken after the listing",
        "compaction/compactor.py",
        """            date_us = right.date()
            if date_us is None:  # somebody else is at it; going on would only repeat their work
                outcome.held_by = right.lost_to()
                return True
            listed = list_deltas(self._store, cid)
""",
        """            listed = list_deltas(self._store, cid)
            date_us = right.date()
            if date_us is None:
                return True
""",
        ("story/test_20_fold.py::test_the_date_is_taken_before_the_listing",),
    ),
    Mutant(
        "a folded delta is swept at once",
        "compaction/compactor.py",
        "latest_us = date_us - round(grace_s * 1_000_000)",
        "latest_us = date_us",
        ("story/test_40_sweep.py::test_a_folded_delta_stays_for_the_grace",),
    ),
    Mutant(
        "an entry of the folded set expires while its object is still there",
        "model/folded.py",
        "if run.day >= oldest or any(run.start <= counter < run.stop for counter in alive.get(writer, ()))",
        "if run.day >= oldest",
        ("unit/model/test_folded.py::test_it_expires_only_what_is_old_and_gone",),
    ),
    Mutant(
        "a missing pointer is an empty collection",
        "coord/pointer.py",
        "    return Corrupt(\n        f\"the collection's pointer is missing key",
        "    return NotFound(\n        f\"the collection's pointer is missing key",
        ("story/test_00_empty.py::test_a_missing_pointer_is_corrupt_and_never_empty",),
    ),
    Mutant(
        "a downloaded file is not held against its hash",
        "store/cache.py",
        "            _check(key, ref, temporary)\n",
        "",
        ("unit/store/test_cache.py::test_what_is_not_as_promised_is_corrupt_and_not_kept",),
    ),
    Mutant(
        "a register that overwrites what it has not read",
        "coord/register.py",
        "put_resolved(self._store, self._key, body, condition, clock=self._clock)",
        "self._store.put(self._key, body)",
        ("unit/coord/test_register.py::test_a_race_that_is_always_lost_ends_in_conflict_and_leaves_the_winner",),
    ),
    Mutant(
        "a corrupt delta hides the retry of its call",
        "model/order.py",
        """    asked = [delta for delta in listed if not quarantined or str(delta.id) not in quarantined]
    found = folded.find_all([delta.id for delta in asked])
    return in_order(delta for delta, run in zip(asked, found, strict=True) if run is None)
""",
        """    asked = list(listed)
    found = folded.find_all([delta.id for delta in asked])
    ordered = in_order(delta for delta, run in zip(asked, found, strict=True) if run is None)
    return [delta for delta in ordered if str(delta.id) not in quarantined]
""",
        ("story/test_20_fold.py::test_the_retry_of_a_call_whose_first_delta_is_corrupt_counts",),
    ),
    Mutant(
        "a read that a sweep overtook gives up",
        "read/reader.py",
        "_RESTARTS_MAX = 5",
        "_RESTARTS_MAX = 1",
        ("story/test_50_read.py::test_a_read_that_a_sweep_overtook_starts_again",),
    ),
    Mutant(
        "publish without the condition, while a lease is held",
        "compaction/compactor.py",
        "        onto, manifest = read, result.manifest",
        """        from chromalith.coord.pointer import read_pointer

        onto, manifest = Current(read_pointer(self._store, read.manifest.collection), read.manifest), result.manifest""",
        ("story/test_35_leased.py::test_two_that_both_believe_lose_nothing",),
    ),
    Mutant(
        "a sweep without the boundary",
        "compaction/garbage.py",
        "if job.base < bounds.boundary and entry.key",
        "if entry.key",
        ("story/test_45_sweep_beside.py::test_a_merge_survives_a_sweep_within_the_grace",),
    ),
    Mutant(
        "a merge from below the boundary is published",
        "model/rebase.py",
        "    if base < boundary:\n        return Abandon(f\"the boundary has passed its objects boundary={boundary}\")\n    dead",
        "    dead",
        ("property/test_rebase.py::test_a_merge_from_below_the_boundary_is_abandoned",),
    ),
    Mutant(
        "folded deltas are forgotten when their objects go",
        "model/folded.py",
        "    return date_us // DAY_US - KEPT_DAYS",
        "    return 2**40",
        ("story/test_40_sweep.py::test_the_folded_set_remembers_after_the_sweep",),
    ),
    Mutant(
        "a restore with the old folded set",
        "compaction/restore.py",
        "            dimension=parent.dimension or target.dimension,",
        "            folded=target.folded,\n            dimension=parent.dimension or target.dimension,",
        ("story/test_60_restore.py::test_what_is_set_aside_stays_undone",),
    ),
    Mutant(
        "tags listed only before the horizon is published",
        "compaction/sweep.py",
        "        after = [tag for tag, _ in look.tags]",
        "        after = before",
        ("story/test_45_sweep_beside.py::test_a_tag_and_a_sweep",),
    ),
    Mutant(
        "a tag that was released during a sweep is forgotten at once",
        "coord/tags.py",
        "return live | {key for tag in after for key in tag.released if key not in seen_released}",
        "return live",
        ("unit/coord/test_tags.py::test_what_a_sweep_must_keep",),
    ),
    Mutant(
        "a heartbeat that takes back what another has",
        "coord/lease.py",
        "if seen is None or seen.record.released or seen.record.owner != self._record.owner:",
        "if seen is None:",
        ("story/test_35_lease.py::TestInMemory::test_a_heartbeat_never_takes_back",),
    ),
    Mutant(
        "a lease in a table that is written without its condition",
        "aws/dynamodb_lease.py",
        '"ReturnValuesOnConditionCheckFailure": "ALL_OLD", **_condition(witness)}',
        "}",
        ("contract/test_leases.py::TestMotoDynamoDB::test_a_heartbeat_never_takes_back",),
    ),
    Mutant(
        "a refusal by one's own lease in a table taken for another's",
        "aws/dynamodb_lease.py",
        "if found is not None and found.witness == record.token:",
        "if found is None and witness == record.token:",
        ("contract/test_dynamodb_lease.py::test_a_request_that_was_repeated_on_its_way_meets_itself",),
    ),
    Mutant(
        "a void delta for a call that has a name",
        "write/writer.py",
        "            if named:",
        "            if named and not named:",
        ("story/test_10_write.py::test_a_call_with_a_name_is_repeated_until_it_is_answered",),
    ),
    Mutant(
        "messages done before their deltas are published",
        "compaction/hinted.py",
        "        settled = _settled(store, cid, list(told.messages), parts, time_left)",
        "        settled = list(told.messages)",
        (
            "story/test_47_hinted.py::test_without_time_a_held_collection_fails_and_the_others_are_done",
            "property/test_hints.py::test_messages_change_nothing",
        ),
    ),
    Mutant(
        "a delta that a listing does not show is taken for absent",
        "compaction/hinted.py",
        "            store.head(layout.delta_key(cid, delta))",
        "            raise NotFound(str(delta))",
        ("story/test_47_hinted.py::test_a_delta_that_a_listing_does_not_show_yet_is_not_taken_for_absent",),
    ),
    Mutant(
        "a poison message fails its batch",
        "compaction/hinted.py",
        "            failed[message] = error.message",
        "            raise",
        ("story/test_47_hinted.py::test_poison_keeps_nobody_waiting",),
    ),
    Mutant(
        "a hint that fails is raised to the caller",
        "write/notify.py",
        "            reason = str(error) or type(error).__name__",
        "            raise",
        ("unit/write/test_notify.py::test_a_failing_queue_fails_no_write_and_is_counted",),
    ),
    Mutant(
        "a backlog that falls before the fold is published",
        "compaction/compactor.py",
        "            outcome.left(new)  # until a fold of them is published",
        "            outcome.left(new[len(chosen) :])",
        ("story/test_91_events.py::test_a_failed_run_tells_what_waits",),
    ),
    Mutant(
        "one damaged collection keeps the others from being compacted",
        "compacting.py",
        "    except (Conflict, Unknown, Corrupt, Invalid) as error:\n        failures.append(error)",
        "    except ZeroDivisionError:\n        pass",
        ("story/test_91_events.py::test_one_corrupt_collection_does_not_keep_the_others_from_being_compacted",),
    ),
)

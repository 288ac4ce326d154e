"""`chromalith cost`: what it prints, what it measures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cli.commands import Shell

from chromalith import compact


def test_a_bill_for_people(shell: Shell) -> None:
    """Each line, the sums by cause, the total, two servers to compare with; where prices are from is narration."""
    said = shell("cost", "--writes-per-s", "1", "--records", "1000000", "--reads-per-s", "1")
    for text in ("S3 PUT, COPY, POST", "compaction", "total: ", "a Chroma server on EC2, data on EFS", "t4g."):
        assert text in said.out
    assert "us-east-1" in said.err
    assert "check them" in said.err


def test_it_touches_no_store(shell: Shell, store: str) -> None:
    """Nothing is read or made, and nothing needs to be named."""
    assert shell("cost").code == 0
    assert not Path(store).exists()


def test_the_total_is_the_sum_of_the_items(shell: Shell) -> None:
    """By item and by group alike."""
    told = shell("cost", "--writes-per-s", "3", "--reads-per-s", "2", "--functions", "compactor,producer,query", "--json").json
    assert told["total"] == pytest.approx(sum(each["cost"] for each in told["items"]), abs=0.01)
    assert told["total"] == pytest.approx(sum(each["cost"] for each in told["groups"]), abs=0.01)


def test_what_a_store_has(shell: Shell, words: str) -> None:
    """`--measured` takes records, dimension, collections and bytes from the manifests."""
    compact()
    load = shell("cost", "--measured", "--json").json["workload"]
    status = shell("status", "--json").json["collections"][0]
    assert (load["records"], load["dimension"], load["collections"]) == (3, 3, 1)
    assert load["stored_bytes"] == status["bytes"] > 0


def test_wrong_numbers_and_files_are_refused(shell: Shell) -> None:
    """With exit code 2, and a hint that helps."""
    Path("half.json").write_text("{")
    Path("other.json").write_text(json.dumps({"prices": {"s3_puts": 1}}))
    for arguments, text in (
        (["--functions", "compactor,everything"], "everything"),
        (["--prices", "absent.json"], "absent.json"),
        (["--prices", "half.json"], "not a list of prices"),
        (["--prices", "other.json"], "s3_put"),
        (["--updates", "2"], "--updates"),
        (["--measured"], "nothing to measure"),
    ):
        said = shell("cost", *arguments)
        assert said.code == 2, arguments
        assert text in said.err


def test_what_no_machine_can_hold(shell: Shell) -> None:
    """The bill is made all the same; there is nothing to compare it with."""
    said = shell("cost", "--records", "1e12")
    assert "no machine of the price list" in said.out
    assert shell("cost", "--records", "1e12", "--json").json["servers"] == []

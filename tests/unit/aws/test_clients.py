"""Clients of an account: which region they work in."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromalith.aws.clients import client
from chromalith.errors import Invalid


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No region from this machine."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.mark.parametrize(
    ("environment", "given", "region"),
    [
        ({"AWS_REGION": "eu-central-1"}, {}, "eu-central-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, {}, "eu-west-1"),
        ({"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-west-1"}, {}, "eu-central-1"),
        ({"AWS_REGION": "eu-central-1"}, {"region": "sa-east-1"}, "sa-east-1"),
    ],
)
def test_the_region_is_where_the_store_looks_for_its_own(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], given: dict[str, object], region: str
) -> None:
    """An option, else ``AWS_REGION``, which boto3 by itself does not read, else what boto3 finds: as for the bucket."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert client("sqs", given).meta.region_name == region


def test_without_a_region_it_is_said_how_to_set_one() -> None:
    """What the hint names works."""
    with pytest.raises(Invalid, match="no region is set") as raised:
        client("sqs")
    assert "AWS_REGION" in str(raised.value.hint)

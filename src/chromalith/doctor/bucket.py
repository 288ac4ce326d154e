"""Checks of an S3 bucket's own settings: its versioning, and lifecycle rules that would delete or hide live data.

Chromalith's objects are old for good reasons: a segment is written once and read for years. A rule that expires objects by age, as people
set for logs, deletes live data; one that archives them makes reads fail. Old *versions* of objects may expire.

Asked through ``boto3`` (the extra ``aws``), read only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from chromalith.doctor.examination import Examination
from chromalith.doctor.finding import Finding
from chromalith.doctor.inventory import ROOTS
from chromalith.model import layout
from chromalith.store.url import Place, parse_url

ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
"""Classes whose objects must be restored before they can be read; ``GLACIER_IR`` and the others answer at once."""
_NO_RULES = {"NoSuchLifecycleConfiguration"}


def check_bucket(examined: Examination) -> Iterator[Finding]:
    """Whether the bucket keeps versions, and whether its lifecycle rules leave live data alone."""
    place = parse_url(examined.store.url, examined.storage_options)
    if place.scheme in ("file", "memory"):
        return
    if place.scheme != "s3":
        yield Finding(
            "not_checked",
            f"versioning and lifecycle rules are checked for S3 only scheme={place.scheme}",
            f"make sure that no lifecycle rule deletes what is below {_shown(place)}",
        )
        return
    if importlib.util.find_spec("boto3") is None:
        yield Finding("not_checked", "versioning and lifecycle rules need boto3", "pip install 'chromalith[aws]'")
        return
    from botocore.exceptions import BotoCoreError, ClientError

    with closing(_client(place)) as client:
        rules: list[Mapping[str, Any]] = []
        try:
            rules = client.get_bucket_lifecycle_configuration(Bucket=place.bucket).get("Rules", [])
        except (BotoCoreError, ClientError) as error:
            if _code(error) not in _NO_RULES:
                yield _unchecked("lifecycle rules", error)
        yield from findings_of_rules(rules, place.prefix)
        try:
            status = client.get_bucket_versioning(Bucket=place.bucket).get("Status")
        except (BotoCoreError, ClientError) as error:
            yield _unchecked("versioning", error)
        else:
            yield from findings_of_versioning(status, rules, place)


def findings_of_rules(rules: list[Mapping[str, Any]], prefix: str) -> Iterator[Finding]:
    """What a bucket's lifecycle rules would do to a store below ``prefix`` (without slashes around it)."""
    for rule in rules:
        if rule.get("Status") != "Enabled" or _needs_tag(rule):
            continue  # no object of ours has a tag
        hit = [root for root in (*ROOTS, layout.store_key()) if _overlap(_prefix(rule), f"{prefix}/{root}" if prefix else root)]
        if not hit:
            continue
        name = rule.get("ID") or "(unnamed)"
        covers = "everything" if len(hit) > len(ROOTS) else ",".join(hit)
        expiration = rule.get("Expiration") or {}
        if "Days" in expiration or "Date" in expiration:
            after = f"{expiration['Days']} days" if "Days" in expiration else str(expiration["Date"])
            yield Finding(
                "lifecycle_deletes_live_data",
                f"a lifecycle rule deletes live objects rule={name} after={after} covers={covers}",
                "disable the rule, or limit it to a prefix outside the store; chromalith sweep --delete removes what is not needed",
            )
        transitions = [each for each in rule.get("Transitions") or [] if each.get("StorageClass") in ARCHIVES]
        if transitions:
            yield Finding(
                "lifecycle_archives_live_data",
                f"a lifecycle rule archives live objects rule={name} class={transitions[0]['StorageClass']} covers={covers}",
                "let it move objects to STANDARD_IA, INTELLIGENT_TIERING or GLACIER_IR instead, which can be read at once",
            )


def findings_of_versioning(status: str | None, rules: list[Mapping[str, Any]], place: Place) -> Iterator[Finding]:
    """What a bucket's versioning means for the store."""
    if status != "Enabled":
        yield Finding(
            "versioning_off",
            f"the bucket keeps no old versions bucket={place.bucket} versioning={status or 'never enabled'}",
            f"aws s3api put-bucket-versioning --bucket {place.bucket} --versioning-configuration Status=Enabled"
            " makes a deletion by mistake undoable",
        )
    elif not any(
        rule.get("Status") == "Enabled"
        and rule.get("NoncurrentVersionExpiration")
        and _overlap(_prefix(rule), f"{place.prefix}/" if place.prefix else "")
        for rule in rules
    ):
        yield Finding(
            "versions_never_expire",
            f"old versions of objects are kept for ever bucket={place.bucket}",
            "add a lifecycle rule with NoncurrentVersionExpiration, of 30 days for example; it deletes nothing that is current",
        )


def _prefix(rule: Mapping[str, Any]) -> str:
    """The keys that a rule is about; its older form has the prefix outside the filter."""
    chosen = rule.get("Filter") or {}
    return str(chosen.get("Prefix") or (chosen.get("And") or {}).get("Prefix") or rule.get("Prefix") or "")


def _needs_tag(rule: Mapping[str, Any]) -> bool:
    chosen = rule.get("Filter") or {}
    return bool(chosen.get("Tag") or (chosen.get("And") or {}).get("Tags"))


def _overlap(a: str, b: str) -> bool:
    return a.startswith(b) or b.startswith(a)


def _unchecked(what: str, error: Exception) -> Finding:
    return Finding(
        "not_checked",
        f"the bucket's {what} could not be read reason={_code(error) or type(error).__name__}",
        "allow s3:GetLifecycleConfiguration and s3:GetBucketVersioning to whoever runs doctor; other services may have neither",
    )


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _client(place: Place) -> Any:
    import boto3
    from botocore.config import Config

    options = {name: None if value is None else str(value) for name, value in place.options.items()}
    session = boto3.Session(profile_name=options.get("profile"))
    return session.client(
        "s3",
        endpoint_url=options.get("endpoint"),
        region_name=options.get("region") or session.region_name or "us-east-1",
        aws_access_key_id=options.get("access_key_id"),
        aws_secret_access_key=options.get("secret_access_key"),
        aws_session_token=options.get("session_token"),
        config=Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=20),
    )


def _shown(place: Place) -> str:
    return f"{place.bucket}/{place.prefix}" if place.prefix else place.bucket

"""The evaluator that the other tests rely on, checked: against rules of IAM one by one, and against the emulator's, which others wrote."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ministack.core import iam_evaluator as theirs
from tests.aws.iam import Request, allowed
from tests.aws.infra_program import NAMES, names, policies

from chromalith.model import layout

SECURE = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
A = "arn:aws:s3:::bucket/a/b"


def one(effect: str = "Allow", action: Any = "s3:GetObject", resource: Any = A, **rest: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource, **rest}]}


def get(**context: str) -> Request:
    return Request("s3:GetObject", A, context)


def test_what_nobody_allows_is_refused_and_a_denial_wins() -> None:
    """No statement, another action, another resource: refused; a denial beats any number of permissions."""
    assert allowed(get(), [one()])
    assert not allowed(get(), [])
    assert not allowed(get(), [one(action="s3:PutObject")])
    assert not allowed(get(), [one(resource="arn:aws:s3:::bucket/a/c")])
    assert not allowed(get(), [one(), one("Deny")])
    assert not allowed(get(), [one()], [one("Deny", Principal="*")])


def test_patterns() -> None:
    """A star is any text, slashes too; actions ignore case, resources and prefixes do not."""
    assert allowed(get(), [one(action="S3:get*", resource="arn:aws:s3:::bucket/*")])
    assert allowed(get(), [one(resource="arn:aws:s3:::bucket/a/?")])
    assert not allowed(get(), [one(resource="arn:aws:s3:::Bucket/*")])
    assert not allowed(get(), [one(resource="arn:aws:s3:::bucket/a")])


def test_conditions() -> None:
    """All keys must hold, any value of a key; an absent key fails all but ``Null``."""
    like = one(Condition={"StringLike": {"s3:prefix": ["delta/*", "store.json"]}})
    assert allowed(get(**{"s3:prefix": "delta/"}), [like])
    assert allowed(get(**{"s3:prefix": "store.json"}), [like])
    assert not allowed(get(**{"s3:prefix": "Delta/"}), [like])
    assert not allowed(get(), [like])
    neither = one(Condition={"Null": {"s3:if-match": "true", "s3:if-none-match": "true"}})
    assert allowed(get(), [neither])
    assert not allowed(get(**{"s3:if-match": "x"}), [neither])
    assert not allowed(get(**{"s3:if-none-match": "*"}), [neither])


@pytest.mark.parametrize("strange", [{"NotAction": "s3:PutObject"}, {"Condition": {"DateLessThan": {"aws:CurrentTime": "x"}}}])
def test_what_it_does_not_know_is_no_answer(strange: dict[str, Any]) -> None:
    """A document with something new in it fails, instead of being read as if that were not there."""
    with pytest.raises((AssertionError, KeyError)):
        allowed(get(), [one(**strange)])


def _second_opinion(request: Request, identity: dict[str, Any], bucket: dict[str, Any]) -> bool:
    secure = request.context.get("aws:SecureTransport") == "true"
    asked = theirs.EvalContext(
        principal_arn=f"arn:aws:sts::{NAMES.account}:assumed-role/x/y",
        principal_type="AssumedRole",
        principal_account=NAMES.account,
        action=request.action,
        resource_arn=request.resource,
        region=NAMES.region,
        source_ip="127.0.0.1",
        secure_transport=secure,
        service_context={key.lower(): value for key, value in request.context.items()},
    )
    by_role = theirs.evaluate(asked, [theirs.parse_policy_document(identity)])
    return bool(theirs.combine_resource_policy(by_role, asked, bucket, NAMES.account).decision == "Allow")


@pytest.mark.parametrize("role", names.FUNCTIONS)
def test_both_evaluators_agree_on_every_role(role: str) -> None:
    """Each verb on each kind of object, with each condition, on both sides of every line that the policies draw."""
    identity = policies.role_policy(role, NAMES, imports=role == "compactor")
    bucket = policies.bucket_policy(NAMES)
    keys = [f"{root}x/latest/pointer.txt" for root in (*layout.OWN_ROOTS, "migration/")] + [layout.store_key(), "elsewhere"]
    contexts: list[dict[str, str]] = [{}, {"s3:if-match": "tag"}, {"s3:if-none-match": "*"}]
    transports = [SECURE, {"aws:SecureTransport": "false"}, SECURE | {"s3:TlsVersion": "1.1"}]
    requests = [
        Request(f"s3:{verb}", f"{NAMES.bucket_arn}/{key}", context | transport)
        for verb, key, context, transport in itertools.product(("GetObject", "PutObject", "DeleteObject"), keys, contexts, transports)
    ]
    requests += [
        Request("s3:ListBucket", NAMES.bucket_arn, transport | prefix)
        for transport, prefix in itertools.product(transports, [{}, *({"s3:prefix": key} for key in keys)])
    ]
    answers = [allowed(each, [identity], [bucket]) for each in requests]
    assert answers == [_second_opinion(each, identity, bucket) for each in requests]
    assert any(answers)
    assert not all(answers)

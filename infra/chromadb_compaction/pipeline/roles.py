"""A role for each function, and its log group: nobody shares what they may do, and a function can't make a log that never expires."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from pipeline import policies
from pipeline.names import FUNCTIONS, Names


@dataclass(frozen=True, slots=True)
class RolesArgs:
    """What :class:`Roles` are made from.

    Attributes:
        names: of the stack.
        imports: whether the compactor may take the migration payload.
        kms_key_arn: of the key that objects are encrypted with.
        former_kms_key_arns: of those that older objects still are.
        tracing: whether functions may send traces.
        log_retention_days: how long logs are kept.
    """

    names: Names
    imports: bool
    kms_key_arn: str | None
    former_kms_key_arns: tuple[str, ...]
    tracing: bool
    log_retention_days: int


class Roles(pulumi.ComponentResource):
    """The roles by function.

    Attributes:
        arns: of the roles; known only once their policies are attached.
        log_groups: which a function must wait for: Lambda would make one of its own, that keeps logs for ever.
    """

    def __init__(self, name: str, args: RolesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:Roles", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.arns: dict[str, pulumi.Output[str]] = {}
        self.log_groups: dict[str, aws.cloudwatch.LogGroup] = {}
        for function in FUNCTIONS:
            self.log_groups[function] = aws.cloudwatch.LogGroup(
                function, name=args.names.log_group(function), retention_in_days=args.log_retention_days, opts=child
            )
            role = aws.iam.Role(
                function, name=args.names.role(function), assume_role_policy=json.dumps(policies.lambda_trust()), opts=child
            )
            document = policies.role_policy(
                function,
                args.names,
                imports=args.imports and function == "compactor",
                kms_key_arn=args.kms_key_arn,
                former_kms_key_arns=args.former_kms_key_arns,
                tracing=args.tracing,
            )
            attached = aws.iam.RolePolicy(function, name="work", role=role.name, policy=json.dumps(document), opts=child)
            self.arns[function] = pulumi.Output.all(role.arn, attached.id).apply(lambda known: str(known[0]))
        self.register_outputs({})

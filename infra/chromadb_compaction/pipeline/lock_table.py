"""The table of leases: who folds and who merges what. It saves work and protects nothing, so an empty one is a good one."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from pipeline.names import Names

HASH_KEY = "lease_key"
TTL_ATTRIBUTE = "expires_at"
"""Epoch seconds, a number: an ISO date there, as the earlier attempt had, is never looked at by DynamoDB."""


@dataclass(frozen=True, slots=True)
class LockTableArgs:
    """What a :class:`LockTable` is made from: the names of the stack."""

    names: Names


class LockTable(pulumi.ComponentResource):
    """One item for each lease. Paid by request; DynamoDB tidies up what nobody has touched for days."""

    def __init__(self, name: str, args: LockTableArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromalith:aws:LockTable", name, None, opts)
        self.table = aws.dynamodb.Table(
            name,
            name=args.names.lock_table,
            billing_mode="PAY_PER_REQUEST",
            hash_key=HASH_KEY,
            attributes=[{"name": HASH_KEY, "type": "S"}],
            ttl={"attribute_name": TTL_ATTRIBUTE, "enabled": True},
            # A lease of yesterday is worth nothing: restoring one could only keep a compactor waiting for somebody who is gone.
            point_in_time_recovery={"enabled": False},
            server_side_encryption={"enabled": False},  # False means DynamoDB's own key; a table is never unencrypted
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.name = self.table.name
        self.register_outputs({"name": self.name})

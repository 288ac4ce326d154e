"""Pulumi's mocks that are none: each resource that the program declares is created in the emulated account, with boto3.

Pulumi's own CLI and provider are what is missing here (defaults, diffs, replacements, deletes); the program itself runs unchanged. So that
nothing is skipped silently, a resource of an unknown type fails the program, and so does an input that its creator did not look at.
"""

# house: long file because it is one table, of a creator for each type of resource
from __future__ import annotations

import json
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pulumi
from tests.aws.account import PROJECT, Account

PROGRAM = PROJECT / "infra" / "chromadb_compaction"
Outputs = dict[str, Any]


class Inputs(Mapping[str, Any]):
    """A resource's inputs, and which of them were looked at."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: _whole(value) for name, value in values.items() if value is not None}
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def all(self) -> dict[str, Any]:
        """All of them, for an API that takes them as they are."""
        self.seen.update(self._values)
        return dict(self._values)

    def unseen(self) -> set[str]:
        return set(self._values) - self.seen


Create = Callable[[Account, Inputs], Outputs]
CREATORS: dict[str, Create] = {}


def creates(token: str) -> Callable[[Create], Create]:
    """Register what creates resources of a type; its outputs need an ``id``."""

    def register(create: Create) -> Create:
        CREATORS[token] = create
        return create

    return register


@dataclass
class LiveMocks(pulumi.runtime.Mocks):
    """Creates what is declared.

    Attributes:
        account: where.
        made: what was created: type token, Pulumi's name, outputs.
    """

    account: Account
    made: list[tuple[str, str, Outputs]] = field(default_factory=list)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, Outputs]:
        if args.typ.startswith("chromalith:"):
            return f"{args.name}-id", dict(args.inputs)  # a component: nothing of its own
        if args.typ not in CREATORS:
            raise NotImplementedError(f"live_mocks.py cannot create a {args.typ} name={args.name}")
        inputs = Inputs(args.inputs)
        outputs = CREATORS[args.typ](self.account, inputs)
        if inputs.unseen():
            raise NotImplementedError(f"live_mocks.py drops inputs of {args.typ} name={args.name} inputs={sorted(inputs.unseen())}")
        self.made.append((args.typ, args.name, outputs))
        return str(outputs["id"]), {**args.inputs, **outputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        match args.token:
            case "aws:index/getCallerIdentity:getCallerIdentity":
                who = self.account.client("sts").get_caller_identity()
                return {"accountId": who["Account"], "arn": who["Arn"], "userId": who["UserId"], "id": who["Account"]}
            case "aws:index/getPartition:getPartition":
                return {"partition": "aws", "dnsSuffix": "amazonaws.com", "id": "aws", "reverseDnsPrefix": "com.amazonaws"}
            case "aws:index/getRegion:getRegion":
                return {"name": self.account.region, "region": self.account.region, "id": self.account.region}
        raise NotImplementedError(f"live_mocks.py cannot answer {args.token}")


def up(account: Account, stack: str, config: Mapping[str, str]) -> tuple[LiveMocks, dict[str, Any]]:
    """Run the unchanged program, as ``pulumi up`` of a new stack would. What was made, and the stack's outputs.

    Args:
        config: settings by their names in Pulumi's configuration, without the project's prefix.
    """
    mocks = LiveMocks(account)
    settings = {f"chromadb-compaction:{name}": value for name, value in config.items()} | {"aws:region": account.region}
    exported: dict[str, Any] = {}
    pulumi.runtime.set_mocks(mocks, project="chromadb-compaction", stack=stack, preview=False)
    pulumi.runtime.set_all_config(settings)
    loaded = _forget_program()
    sys.path.insert(0, str(PROGRAM))
    theirs = pulumi.export
    pulumi.export = lambda name, value: exported.setdefault(name, value)

    @pulumi.runtime.test
    def run() -> pulumi.Output[Any]:
        runpy.run_path(str(PROGRAM / "__main__.py"), run_name="__main__")
        return pulumi.Output.all(**exported).apply(exported.update)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pulumi_aws's own, of resources that nobody here uses
            run()
    finally:
        pulumi.export = theirs
        sys.path.remove(str(PROGRAM))
        _forget_program()
        sys.modules.update(loaded)  # other tests of this process hold on to these
    return mocks, exported


def _forget_program() -> dict[str, ModuleType]:
    """Take the program's modules out, so that it is read anew, as by another process of Pulumi's; which there were."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "pipeline"}


def _whole(value: Any) -> Any:
    """``value`` with the whole numbers that Pulumi's wire makes floats of."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _whole(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return value


def pascal(value: Any) -> Any:
    """Names as boto3 has them: ``daysAfterInitiation`` is ``DaysAfterInitiation``, ``id`` of a rule is ``ID``."""
    if isinstance(value, Mapping):
        return {"ID" if name == "id" else name[0].upper() + name[1:]: pascal(each) for name, each in value.items()}
    if isinstance(value, list):
        return [pascal(each) for each in value]
    return value


# S3 -------------------------------------------------------------------------------------------------------------------


@creates("aws:s3/bucket:Bucket")
def _bucket(account: Account, inputs: Inputs) -> Outputs:
    name = inputs["bucket"]
    inputs.get("forceDestroy")  # what Pulumi does on `destroy`; nothing is kept of it in AWS
    account.client("s3").create_bucket(Bucket=name)
    return {"id": name, "bucket": name, "arn": f"arn:aws:s3:::{name}"}


@creates("aws:s3/bucketVersioning:BucketVersioning")
def _versioning(account: Account, inputs: Inputs) -> Outputs:
    configuration = pascal(inputs["versioningConfiguration"])
    account.client("s3").put_bucket_versioning(Bucket=inputs["bucket"], VersioningConfiguration=configuration)
    return {"id": inputs["bucket"]}


@creates("aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration")
def _encryption(account: Account, inputs: Inputs) -> Outputs:
    rules = []
    for rule in inputs["rules"]:
        by_default = rule["applyServerSideEncryptionByDefault"]
        default = {"SSEAlgorithm": by_default["sseAlgorithm"]}
        if "kmsMasterKeyId" in by_default:
            default["KMSMasterKeyID"] = by_default["kmsMasterKeyId"]
        rules.append({"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": rule.get("bucketKeyEnabled", False)})
    account.client("s3").put_bucket_encryption(Bucket=inputs["bucket"], ServerSideEncryptionConfiguration={"Rules": rules})
    return {"id": inputs["bucket"]}


@creates("aws:s3/bucketOwnershipControls:BucketOwnershipControls")
def _ownership(account: Account, inputs: Inputs) -> Outputs:
    account.client("s3").put_bucket_ownership_controls(
        Bucket=inputs["bucket"], OwnershipControls={"Rules": [pascal(inputs["rule"])]}
    )
    return {"id": inputs["bucket"]}


@creates("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock")
def _public_access(account: Account, inputs: Inputs) -> Outputs:
    names = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    account.client("s3").put_public_access_block(
        Bucket=inputs["bucket"], PublicAccessBlockConfiguration=pascal({name: inputs[name] for name in names})
    )
    return {"id": inputs["bucket"]}


@creates("aws:s3/bucketPolicy:BucketPolicy")
def _bucket_policy(account: Account, inputs: Inputs) -> Outputs:
    account.client("s3").put_bucket_policy(Bucket=inputs["bucket"], Policy=inputs["policy"])
    return {"id": inputs["bucket"]}


@creates("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration")
def _lifecycle(account: Account, inputs: Inputs) -> Outputs:
    account.client("s3").put_bucket_lifecycle_configuration(
        Bucket=inputs["bucket"], LifecycleConfiguration={"Rules": pascal(inputs["rules"])}
    )
    return {"id": inputs["bucket"]}


@creates("aws:s3/bucketObjectv2:BucketObjectv2")
def _object(account: Account, inputs: Inputs) -> Outputs:
    body = Path(inputs["source"].path).read_bytes()
    for name in ("sourceHash", "contentType"):
        inputs.get(name)
    answer = account.client("s3").put_object(Bucket=inputs["bucket"], Key=inputs["key"], Body=body)
    return {"id": inputs["key"], "versionId": answer.get("VersionId", "null")}


# SQS, DynamoDB, SNS ---------------------------------------------------------------------------------------------------


@creates("aws:sqs/queue:Queue")
def _queue(account: Account, inputs: Inputs) -> Outputs:
    attributes = {
        "visibilityTimeoutSeconds": "VisibilityTimeout",
        "messageRetentionSeconds": "MessageRetentionPeriod",
        "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
        "redrivePolicy": "RedrivePolicy",
        "sqsManagedSseEnabled": "SqsManagedSseEnabled",
    }
    given = {theirs: _text(inputs[ours]) for ours, theirs in attributes.items() if ours in inputs}
    url = account.client("sqs").create_queue(QueueName=inputs["name"], Attributes=given)["QueueUrl"]
    found = account.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return {"id": url, "url": url, "arn": found["Attributes"]["QueueArn"], "name": inputs["name"]}


@creates("aws:sqs/queuePolicy:QueuePolicy")
def _queue_policy(account: Account, inputs: Inputs) -> Outputs:
    account.client("sqs").set_queue_attributes(QueueUrl=inputs["queueUrl"], Attributes={"Policy": inputs["policy"]})
    return {"id": inputs["queueUrl"]}


@creates("aws:sqs/redriveAllowPolicy:RedriveAllowPolicy")
def _redrive_allow(account: Account, inputs: Inputs) -> Outputs:
    attributes = {"RedriveAllowPolicy": inputs["redriveAllowPolicy"]}
    account.client("sqs").set_queue_attributes(QueueUrl=inputs["queueUrl"], Attributes=attributes)
    return {"id": inputs["queueUrl"]}


@creates("aws:dynamodb/table:Table")
def _table(account: Account, inputs: Inputs) -> Outputs:
    client, name = account.client("dynamodb"), inputs["name"]
    created = client.create_table(
        TableName=name,
        BillingMode=inputs["billingMode"],
        KeySchema=[{"AttributeName": inputs["hashKey"], "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": each["name"], "AttributeType": each["type"]} for each in inputs["attributes"]],
        # False is DynamoDB's own key, which the API says by leaving it out.
        **({"SSESpecification": {"Enabled": True}} if inputs["serverSideEncryption"]["enabled"] else {}),
    )
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=pascal(inputs["ttl"]))
    recovery = {"PointInTimeRecoveryEnabled": inputs["pointInTimeRecovery"]["enabled"]}
    client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    return {"id": name, "name": name, "arn": created["TableDescription"]["TableArn"]}


@creates("aws:sns/topic:Topic")
def _topic(account: Account, inputs: Inputs) -> Outputs:
    arn = account.client("sns").create_topic(Name=inputs["name"])["TopicArn"]
    return {"id": arn, "arn": arn}


@creates("aws:sns/topicPolicy:TopicPolicy")
def _topic_policy(account: Account, inputs: Inputs) -> Outputs:
    account.client("sns").set_topic_attributes(TopicArn=inputs["arn"], AttributeName="Policy", AttributeValue=inputs["policy"])
    return {"id": inputs["arn"]}


@creates("aws:sns/topicSubscription:TopicSubscription")
def _subscription(account: Account, inputs: Inputs) -> Outputs:
    answer = account.client("sns").subscribe(
        TopicArn=inputs["topic"], Protocol=inputs["protocol"], Endpoint=inputs["endpoint"], ReturnSubscriptionArn=True
    )
    return {"id": answer["SubscriptionArn"], "arn": answer["SubscriptionArn"]}


# IAM, Lambda ----------------------------------------------------------------------------------------------------------


@creates("aws:iam/role:Role")
def _role(account: Account, inputs: Inputs) -> Outputs:
    created = account.client("iam").create_role(RoleName=inputs["name"], AssumeRolePolicyDocument=inputs["assumeRolePolicy"])
    return {"id": inputs["name"], "name": inputs["name"], "arn": created["Role"]["Arn"]}


@creates("aws:iam/rolePolicy:RolePolicy")
def _role_policy(account: Account, inputs: Inputs) -> Outputs:
    account.client("iam").put_role_policy(RoleName=inputs["role"], PolicyName=inputs["name"], PolicyDocument=inputs["policy"])
    return {"id": f"{inputs['role']}:{inputs['name']}"}


@creates("aws:lambda/function:Function")
def _function(account: Account, inputs: Inputs) -> Outputs:
    client = account.client("lambda")
    inputs.get("sourceCodeHash")  # how Pulumi notices a change
    logging = inputs["loggingConfig"]
    created = client.create_function(
        FunctionName=inputs["name"],
        Role=inputs["role"],
        PackageType=inputs["packageType"],
        Architectures=inputs["architectures"],
        MemorySize=inputs["memorySize"],
        Timeout=inputs["timeout"],
        EphemeralStorage={"Size": inputs["ephemeralStorage"]["size"]},
        Environment={"Variables": inputs["environment"]["variables"]},
        TracingConfig=pascal(inputs["tracingConfig"]),
        LoggingConfig={"LogFormat": logging["logFormat"], "LogGroup": logging["logGroup"]},
        Publish=inputs["publish"],
        **_code(inputs),
    )
    if "reservedConcurrentExecutions" in inputs:
        client.put_function_concurrency(
            FunctionName=inputs["name"], ReservedConcurrentExecutions=inputs["reservedConcurrentExecutions"]
        )
    arn = created["FunctionArn"].removesuffix(f":{created['Version']}")
    return {"id": inputs["name"], "name": inputs["name"], "arn": arn, "version": created["Version"]}


def _code(inputs: Inputs) -> dict[str, Any]:
    """What a function runs, from where: an image, a zip, or a zip in a bucket."""
    if inputs["packageType"] == "Image":
        return {"Code": {"ImageUri": inputs["imageUri"]}, "ImageConfig": {"Command": inputs["imageConfig"]["commands"]}}
    if "code" in inputs:
        code: dict[str, Any] = {"ZipFile": Path(inputs["code"].path).read_bytes()}
    else:
        code = {"S3Bucket": inputs["s3Bucket"], "S3Key": inputs["s3Key"]}
    return {"Code": code, "Runtime": inputs["runtime"], "Handler": inputs["handler"], "Layers": inputs.get("layers", [])}


@creates("aws:lambda/alias:Alias")
def _alias(account: Account, inputs: Inputs) -> Outputs:
    created = account.client("lambda").create_alias(
        FunctionName=inputs["functionName"], Name=inputs["name"], FunctionVersion=inputs["functionVersion"]
    )
    return {"id": created["AliasArn"], "arn": created["AliasArn"]}


@creates("aws:lambda/permission:Permission")
def _permission(account: Account, inputs: Inputs) -> Outputs:
    account.client("lambda").add_permission(
        FunctionName=inputs["function"],
        Qualifier=inputs["qualifier"],
        StatementId=inputs["statementId"],
        Action=inputs["action"],
        Principal=inputs["principal"],
        SourceArn=inputs["sourceArn"],
    )
    return {"id": inputs["statementId"]}


@creates("aws:lambda/eventSourceMapping:EventSourceMapping")
def _mapping(account: Account, inputs: Inputs) -> Outputs:
    created = account.client("lambda").create_event_source_mapping(**pascal(inputs.all()))
    return {"id": created["UUID"], "uuid": created["UUID"]}


@creates("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig")
def _invoke_config(account: Account, inputs: Inputs) -> Outputs:
    account.client("lambda").put_function_event_invoke_config(**pascal(inputs.all()))
    return {"id": f"{inputs['functionName']}:{inputs['qualifier']}"}


# EventBridge, CloudWatch ----------------------------------------------------------------------------------------------


@creates("aws:cloudwatch/eventRule:EventRule")
def _rule(account: Account, inputs: Inputs) -> Outputs:
    created = account.client("events").put_rule(**pascal(inputs.all()))
    return {"id": inputs["name"], "name": inputs["name"], "arn": created["RuleArn"]}


@creates("aws:cloudwatch/eventTarget:EventTarget")
def _target(account: Account, inputs: Inputs) -> Outputs:
    target = {"Id": inputs["targetId"], "Arn": inputs["arn"], "Input": inputs["input"]}
    if "retryPolicy" in inputs:
        target["RetryPolicy"] = pascal(inputs["retryPolicy"])
    answer = account.client("events").put_targets(Rule=inputs["rule"], Targets=[target])
    assert answer["FailedEntryCount"] == 0, answer
    return {"id": inputs["targetId"]}


@creates("aws:cloudwatch/logGroup:LogGroup")
def _log_group(account: Account, inputs: Inputs) -> Outputs:
    name = inputs["name"]
    account.client("logs").create_log_group(logGroupName=name)
    account.client("logs").put_retention_policy(logGroupName=name, retentionInDays=inputs["retentionInDays"])
    return {"id": name, "name": name, "arn": f"arn:aws:logs:{account.region}:{account.id}:log-group:{name}"}


@creates("aws:cloudwatch/metricAlarm:MetricAlarm")
def _alarm(account: Account, inputs: Inputs) -> Outputs:
    given = pascal(inputs.all())
    given["AlarmName"] = given.pop("Name")
    given["OKActions"] = given.pop("OkActions", [])
    if "Dimensions" in given:
        given["Dimensions"] = _dimensions(inputs["dimensions"])
    if "MetricQueries" in given:
        del given["MetricQueries"]
        given["Metrics"] = [_line(each) for each in inputs["metricQueries"]]
    account.client("cloudwatch").put_metric_alarm(**given)
    return {"id": inputs["name"], "arn": f"arn:aws:cloudwatch:{account.region}:{account.id}:alarm:{inputs['name']}"}


def _line(query: Mapping[str, Any]) -> dict[str, Any]:
    line = {"Id": query["id"], "ReturnData": query.get("returnData", False)}
    for name in ("expression", "label"):
        if name in query:
            line[name.capitalize()] = query[name]
    if "metric" in query:
        metric = query["metric"]
        dimensions = _dimensions(metric.get("dimensions", {}))
        described = {"Namespace": metric["namespace"], "MetricName": metric["metricName"], "Dimensions": dimensions}
        line["MetricStat"] = {"Metric": described, "Period": metric["period"], "Stat": metric["stat"]}
    return line


def _dimensions(given: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in given.items()]


@creates("aws:cloudwatch/dashboard:Dashboard")
def _dashboard(account: Account, inputs: Inputs) -> Outputs:
    account.client("cloudwatch").put_dashboard(DashboardName=inputs["dashboardName"], DashboardBody=inputs["dashboardBody"])
    return {"id": inputs["dashboardName"]}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)

"""Settings of a stack: each is checked before anything is declared, everything wrong is said at once, and the document has them all."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.aws.infra_program import FOLDER, config, names, parse, policies, run, zip_file
from tests.docs.blocks import ROOT

from chromalith.model import layout

DOCUMENT = ROOT / "docs" / "aws.md"


@pytest.fixture
def package(tmp_path: Path) -> str:
    return str(zip_file(tmp_path))


def refused(given: Mapping[str, str], stack: str = "dev") -> str:
    """What is said about wrong settings."""
    with pytest.raises(config.ConfigError) as raised:
        config.settings_from(given, stack)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("queueName", "deltas.fifo", "1 to 76 letters"),
        ("queueName", "", "1 to 76 letters"),
        ("alarmPrefix", "with blank", "letters, digits"),
        ("alarmEmail", "nobody", "an e-mail address"),
        ("protectData", "yes", "true or false"),
        ("kmsKeyArn", "alias/mine", "the ARN of a KMS key"),
        ("formerKmsKeyArns", '["alias/mine"]', "the ARN of a KMS key"),
        ("environment", '{"CHROMALITH_QUEUE_URL": "other"}', "must not set CHROMALITH_QUEUE_URL"),
        ("environment", '{"CHROMALITH_EMBED": "a:b"}', "must not set CHROMALITH_EMBED"),
        ("noncurrentDays", "0", "from 1 to 3,650"),
        ("multipartDays", "0", "from 1 to 365"),
        ("multipartDays", "1.5", "a whole number"),
        ("architecture", "x86", "one of x86_64, arm64"),
        ("packagePath", "no/such.zip", "make lambda"),
        ("compactorImageUri", "chromalith:latest", "an image in ECR"),
        ("embed", "module", "module:function"),
        ("layers", "arn:aws:lambda", "must be JSON"),
        ("layers", "[1]", "a list of texts"),
        ("environment", '["A"]', "an object of texts"),
        ("environment", '{"CHROMADB_BUCKET": "other"}', "must not set CHROMADB_BUCKET"),
        ("compactor", '{"memory": 512}', "has no memory; it has memoryMb, timeoutS, storageMb"),
        ("compactor", '{"memoryMb": 64}', "memoryMb must be a whole number from 128 to 10,240"),
        ("query", '{"timeoutS": 901}', "timeoutS must be a whole number from 1 to 900"),
        ("query", '{"storageMb": 100}', "storageMb must be a whole number from 512 to 10,240"),
        ("compactorReservedConcurrency", "2", "above queueConcurrency (2)"),
        ("liveVersions", '{"compaktor": "7"}', "compaktor"),
        ("liveVersions", '{"compactor": "$LATEST"}', "the number of a published version"),
        ("queueBatchSize", "10001", "from 1 to 10,000"),
        ("queueWindowS", "0", "at least 1 where queueBatchSize is above 10"),
        ("queueConcurrency", "1", "from 2 to 1,000"),
        ("maxReceiveCount", "100", "would vanish before it reaches the dead-letter queue"),
        ("compactionSchedule", "rate(1 minutes)", "must be a schedule"),
        ("compactionSchedule", "every day", "must be a schedule"),
        ("sweepSchedule", "rate(2 day)", "must be a schedule"),
        ("logRetentionDays", "10", "CloudWatch takes no other"),
        ("logLevel", "debug", "one of DEBUG"),
        ("deltaBacklogMessages", "0", "from 1 to"),
        ("stalledMinutes", "61", "a multiple of 5"),
        ("deleteDataOnDestroy", "true", "contradicts protectData"),
    ],
)
def test_what_is_wrong_is_said_by_name(package: str, name: str, value: str, said: str) -> None:
    """Each bad value is refused with the setting's name and what may stand there."""
    message = refused({"packagePath": package} | {name: value})
    assert said in message
    assert name in message
    assert "nothing was changed" in message


def test_everything_wrong_is_said_at_once(package: str) -> None:
    """Three mistakes are three lines, not three attempts."""
    message = refused({"packagePath": package, "logLevel": "loud", "tracing": "1", "queryErrors": "-1"})
    assert message.count("\n  - ") == 3


def test_a_name_that_is_not_there_is_an_error(package: str) -> None:
    """A misspelt setting would silently be its default; the nearest name is offered."""
    assert "unknown setting 'compactionShedule'; do you mean compactionSchedule?" in refused(
        {"packagePath": package, "compactionShedule": "rate(1 hour)"}
    )


def test_a_zip_for_another_machine_is_refused(tmp_path: Path) -> None:
    """It would be deployed without a complaint, and fail at its first import; so would a file that is no zip."""
    package = {"packagePath": str(zip_file(tmp_path, machine="aarch64"))}
    assert "was built for arm64, and architecture is x86_64" in refused(package)
    assert config.settings_from({**package, "architecture": "arm64"}, "dev").architecture == "arm64"
    (tmp_path / "lambda.zip").write_bytes(b"PK")
    assert "is no zip that can be read" in refused(package)


@pytest.mark.parametrize("stack", ["Dev", "a_b", "-dev", "dev-", "a" * 31, "org/dev"])
def test_a_stack_needs_a_name_that_a_bucket_can_have(package: str, stack: str) -> None:
    """The bucket's name has at most 63 characters, a role's 64, and no capitals."""
    assert "the stack's name" in refused({"packagePath": package}, stack)
    assert config.settings_from({"packagePath": package}, "a" * 30).queue_name == "chromadb-delta-queue"


@pytest.mark.parametrize("when", ["rate(1 minute)", "rate(15 minutes)", "rate(1 day)", "cron(0 3 * * ? *)"])
def test_schedules_as_eventbridge_writes_them(when: str) -> None:
    """Singular for one, plural for more, or six fields."""
    assert parse.schedule(when) == when


def test_sizes_keep_what_is_left_out(package: str) -> None:
    """Naming one of a size's three numbers leaves the others as they are."""
    settings = config.settings_from({"packagePath": package, "compactor": '{"memoryMb": 6000}'}, "dev")
    assert settings.compactor == dataclasses.replace(config.COMPACTOR, memory_mb=6_000)


def test_nothing_is_declared_under_a_wrong_configuration(package: str) -> None:
    """The program ends before its first resource, also without a region."""
    with pytest.raises(config.ConfigError, match="unknown setting 'wrong'"):
        run({"packagePath": package, "wrong": "1"})
    with pytest.raises(config.ConfigError, match="pulumi config set aws:region"):
        run({"packagePath": package}, region=None)


def test_the_example_stack_is_right(package: str) -> None:
    """``Pulumi.dev.yaml`` has settings that exist, with values that are taken."""
    lines = (FOLDER / "Pulumi.dev.yaml").read_text(encoding="utf-8").splitlines()
    given = dict(re.findall(r'^  ([\w:-]+): "?([^"]*)"?$', "\n".join(lines), re.MULTILINE))
    ours = {name.removeprefix(f"{config.PROJECT}:"): value for name, value in given.items() if name.startswith(config.PROJECT)}
    assert given.keys() - {f"{config.PROJECT}:{name}" for name in ours} == {"aws:region"}
    assert len(ours) == 3
    settings = config.settings_from(ours | {"packagePath": package}, "dev")
    assert (settings.protect_data, settings.delete_data_on_destroy) == (False, True)


def test_the_project_is_one_that_pulumi_runs() -> None:
    """The name that settings are under, Python, and the repository's environment."""
    text = (FOLDER / "Pulumi.yaml").read_text(encoding="utf-8")
    assert f"\nname: {config.PROJECT}\n" in text
    assert "\n  name: python\n" in text
    assert "virtualenv: ../../.venv-aws\n" in text
    assert (FOLDER / "requirements.txt").read_text(encoding="utf-8").endswith("-r ../../requirements/aws-suite.lock\n")
    assert (ROOT / "requirements" / "aws-suite.lock").is_file()


def _shown(value: Any) -> str:
    """A default as the document shows it."""
    if isinstance(value, parse.Size):
        return f"{value.memory_mb}, {value.timeout_s}, {value.storage_mb}"
    if value is None or value == () or value == {}:
        return ""
    return f"`{json.dumps(value) if isinstance(value, bool | int) else value}`"


def test_the_document_has_every_setting_with_its_default() -> None:
    """The table of ``docs/aws.md`` is the table of the code, row by row."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = []
    for each in dataclasses.fields(config.Settings):
        default = each.default if each.default is not dataclasses.MISSING else each.default_factory()  # type: ignore[misc]
        wanted.append((config.key_of(each), _shown(default), each.metadata["meaning"]))
    assert rows == wanted


def test_the_document_has_the_names_of_everything() -> None:
    """What is made is called in the document what it is called in the account."""
    text = DOCUMENT.read_text(encoding="utf-8")
    of = names.Names("{stack}", "{account}", "{region}", "aws", config.Settings().queue_name)
    called = [of.bucket, of.code_bucket, of.queue, of.dead_letter_queue, of.lock_table, of.topic, of.dashboard]
    called += [of.rule("compaction"), of.rule("sweep"), of.function("{" + ",".join(names.FUNCTIONS) + "}"), names.ALIAS]
    assert [each for each in called if f"`{each}`" not in text] == []


@pytest.mark.parametrize("role", names.FUNCTIONS)
def test_the_document_says_what_a_role_may_do(role: str) -> None:
    """The roots that the document lists for a role are those of its policy."""
    (row,) = re.findall(rf"^\| {role} \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    reads, writes, deletes, *_ = (_roots(cell) for cell in row.split(" | "))
    assert reads == {*policies.READS[role], layout.store_key()}
    assert writes == set(policies.WRITES.get(role, ()))
    assert deletes == set(policies.DELETES.get(role, ()))


def _roots(cell: str) -> set[str]:
    """The roots that a cell names, or describes."""
    ours = {*layout.OWN_ROOTS, layout.store_key()}
    if cell.startswith(("everything of ours", "all of ours")):
        return ours - set(re.findall(r"`([^`]+)`", cell))
    found = set(re.findall(r"`([^`]+)`", cell))
    return found | ({*policies.READS["query"], layout.store_key()} if cell.startswith("what a query does") else set())

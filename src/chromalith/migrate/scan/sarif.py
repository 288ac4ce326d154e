"""A scan as SARIF 2.1.0, the form that code-scanning services and editors read.

What is allowed stands in it as suppressed, with its reason; what could not be read as a notification of the tool, so that the run
counts as not successful. A finding in a notebook has no line of the file: its cell is a logical location.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from chromalith.migrate.scan.finding import RULES, Finding, Rule, Scanned

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_NAMES = list(RULES)


def sarif(scanned: Scanned, version: str) -> dict[str, Any]:
    """The log, as JSON. ``version`` is of Chromalith."""
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "chromalith migrate scan",
                        "semanticVersion": version,
                        "rules": [_rule(rule) for rule in RULES.values()],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {"SRCROOT": {"description": {"text": "the folder that was scanned"}}},
                "invocations": [
                    {
                        "executionSuccessful": not scanned.unreadable,
                        "toolExecutionNotifications": [
                            {
                                "level": "error",
                                "message": {"text": f"{each.file} {each.reason}"},
                                "locations": [
                                    {"physicalLocation": {"artifactLocation": _uri(each.file.partition("[")[0])}}
                                ],
                            }
                            for each in scanned.unreadable
                        ],
                    }
                ],
                "results": [_result(finding) for finding in scanned.findings],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.what},
        "help": {"text": f"Instead: {rule.instead}."},
        "defaultConfiguration": {"level": str(rule.severity)},
    }


def _result(finding: Finding) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": _uri(finding.file)}
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.cell is None:
        physical["region"] = {
            "startLine": finding.line,
            "startColumn": finding.column,
            "endLine": finding.end_line,
            "endColumn": finding.end_column,
            "snippet": {"text": finding.code},
        }
    else:
        location["logicalLocations"] = [{"name": f"cell {finding.cell}, line {finding.line}", "kind": "element"}]
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": _NAMES.index(finding.rule),
        "level": str(finding.severity),
        "message": {"text": f"{finding.what} ({finding.confidence}). Instead: {finding.instead}."},
        "locations": [location],
        "partialFingerprints": {"code/v1": _fingerprint(finding)},
        "properties": {"confidence": str(finding.confidence)},
    }
    if finding.allowed is not None:
        result["suppressions"] = [{"kind": "inSource", "status": "accepted", "justification": finding.allowed}]
    return result


def _uri(file: str) -> dict[str, str]:
    return {"uri": quote(file), "uriBaseId": "SRCROOT"}


def _fingerprint(finding: Finding) -> str:
    """The same while the line's own text stays, wherever it moves to in its file."""
    return hashlib.sha256(
        f"{finding.rule}\0{finding.file}\0{finding.code}".encode("utf-8", "surrogatepass")
    ).hexdigest()[:32]

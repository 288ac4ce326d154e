"""The part of SARIF 2.1.0 that a scan's log uses: the standard's required fields, types and enumerations, as a JSON schema.

Written from the standard (OASIS, section 3); the standard's own schema is some 3,000 lines, and is not ours to copy.
"""

from __future__ import annotations

from typing import Any


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _list(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of}


_TEXT = {"type": "string"}
_MESSAGE = _object(("text",), text=_TEXT)
_POSITIVE = {"type": "integer", "minimum": 1}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_ARTIFACT = _object(("uri",), uri={"type": "string", "pattern": r"^[^\s\\]+$"}, uriBaseId=_TEXT)
_REGION = _object(
    ("startLine",), startLine=_POSITIVE, startColumn=_POSITIVE, endLine=_POSITIVE, endColumn=_POSITIVE, snippet=_MESSAGE
)
_LOCATION = _object(
    (),
    physicalLocation=_object(("artifactLocation",), artifactLocation=_ARTIFACT, region=_REGION),
    logicalLocations=_list(_object((), name=_TEXT, kind=_TEXT)),
)
_SUPPRESSION = _object(
    ("kind",),
    kind={"enum": ["inSource", "external"]},
    status={"enum": ["accepted", "underReview", "rejected"]},
    justification=_TEXT,
)
_RESULT = _object(
    ("message",),
    ruleId=_TEXT,
    ruleIndex={"type": "integer", "minimum": -1},
    level=_LEVEL,
    message=_MESSAGE,
    locations=_list(_LOCATION),
    partialFingerprints={"type": "object", "additionalProperties": _TEXT},
    suppressions=_list(_SUPPRESSION),
    properties={"type": "object"},
)
_RULE = _object(
    ("id",), id=_TEXT, shortDescription=_MESSAGE, help=_MESSAGE, defaultConfiguration=_object((), level=_LEVEL)
)
_NOTIFICATION = _object(("message",), level=_LEVEL, message=_MESSAGE, locations=_list(_LOCATION))
_RUN = _object(
    ("tool",),
    tool=_object(("driver",), driver=_object(("name",), name=_TEXT, semanticVersion=_TEXT, rules=_list(_RULE))),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    originalUriBaseIds={"type": "object", "additionalProperties": _object((), description=_MESSAGE)},
    invocations=_list(
        _object(
            ("executionSuccessful",),
            executionSuccessful={"type": "boolean"},
            toolExecutionNotifications=_list(_NOTIFICATION),
        )
    ),
    results=_list(_RESULT),
)
SARIF = _object(("version", "runs"), **{"$schema": _TEXT, "version": {"const": "2.1.0"}, "runs": _list(_RUN)})

"""From a configured text to a value, or to a ``ValueError`` that says in words what may stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Parse = Callable[[str], Any]

_SCHEDULE = re.compile(r"rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)|cron\(\S+( \S+){5}\)")
_EMBED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Size:
    """Of a function: memory (MB, with it goes the CPU: one at 1,769), time limit (seconds), disk under ``/tmp`` (MB)."""

    memory_mb: int
    timeout_s: int
    storage_mb: int


def flag(text: str) -> bool:
    """``true`` or ``false``."""
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def whole(low: int, high: int) -> Parse:
    """A whole number within bounds, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low:,} to {high:,}")
        return int(text)

    return parse


def one_of(*choices: str) -> Parse:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def retention_days(text: str) -> int:
    """CloudWatch keeps logs for so many days, and for no number between them."""
    allowed = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
    if not text.isdecimal() or int(text) not in allowed:
        raise ValueError(f"must be one of {', '.join(map(str, allowed))}: CloudWatch takes no other")
    return int(text)


def schedule(text: str) -> str:
    """An EventBridge schedule; ``rate(1 minutes)`` is none, and EventBridge says so only when it is deployed."""
    if not _SCHEDULE.fullmatch(text):
        raise ValueError("must be a schedule as EventBridge writes them: rate(15 minutes), rate(1 hour), cron(0 3 * * ? *)")
    return text


def matching(pattern: str, described: str) -> Parse:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {described}")
        return text

    return parse


# No FIFO queue: its batches are ten messages at most, and one group's wait for each other.
queue_name = matching(r"[A-Za-z0-9_-]{1,76}", "1 to 76 letters, digits, - and _")
email = matching(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address")
key_arn = matching(r"arn:[\w-]+:kms:[\w-]+:\d{12}:key/[\w-]+", "the ARN of a KMS key (an alias can't stand in a policy)")
alarm_prefix = matching(r"[A-Za-z0-9][\w.-]{0,99}", "1 to 100 letters, digits, - . and _")
embed_name = matching(_EMBED.pattern, "module:function")
image_uri = matching(r"\d{12}\.dkr\.ecr\.[\w.-]+/[\w./-]+(@sha256:[0-9a-f]{64}|:[\w.-]+)", "an image in ECR, with a tag or a digest")


def text(given: str) -> str:
    """Any text but an empty one."""
    if not given.strip():
        raise ValueError("must not be empty")
    return given


def texts(given: str) -> tuple[str, ...]:
    """A JSON list of strings."""
    value = _json(given)
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError("must be a list of texts")
    return tuple(value)


def key_arns(given: str) -> tuple[str, ...]:
    """A JSON list of keys."""
    return tuple(key_arn(each) for each in texts(given))


def mapping(given: str) -> Mapping[str, str]:
    """A JSON object of strings; numbers and booleans count as their JSON text."""
    value = _json(given)
    if not isinstance(value, dict) or not all(isinstance(each, str | int | float) for each in value.values()):
        raise ValueError("must be an object of texts")
    return {name: each if isinstance(each, str) else json.dumps(each) for name, each in value.items()}


def size(default: Size) -> Parse:
    """A JSON object with any of ``memoryMb``, ``timeoutS``, ``storageMb``; what is left out is as in ``default``."""
    bounds = {"memoryMb": (128, 10_240), "timeoutS": (1, 900), "storageMb": (512, 10_240)}
    usual = {"memoryMb": default.memory_mb, "timeoutS": default.timeout_s, "storageMb": default.storage_mb}

    def parse(given: str) -> Size:
        value = mapping(given)
        if unknown := sorted(value.keys() - bounds.keys()):
            raise ValueError(f"has no {unknown[0]}; it has {', '.join(bounds)}")
        chosen = dict(usual)
        for name, each in value.items():
            try:
                chosen[name] = whole(*bounds[name])(each)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from error
        return Size(chosen["memoryMb"], chosen["timeoutS"], chosen["storageMb"])

    return parse


def _json(given: str) -> Any:
    try:
        return json.loads(given)
    except ValueError as error:
        raise ValueError("must be JSON: pulumi config set --path writes it") from error

"""Whether the parts of a stack on AWS are there and answer: phase 1 of the guide. Only reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from chromalith.aws.clients import client
from chromalith.aws.errors import translated
from chromalith.aws.functions import Functions
from chromalith.aws.queue import Queue
from chromalith.aws.stack import ALIAS, caller, queue_url, stack
from chromalith.errors import ChromalithError
from chromalith.migrate.evidence.gather import Part


def look(name: str, options: Mapping[str, object]) -> list[Part]:
    """The bucket, the queue and the functions of the stack ``name``. What can't be asked is a part with a problem, not an error."""
    try:
        named = stack(name, caller(options).account, functions={})
    except ChromalithError as error:
        return [Part("the account", error.message)]
    functions = Functions(options)
    asked: list[tuple[str, Callable[[], str | None]]] = [
        (f"bucket {named.bucket}", partial(_bucket, named.bucket, options)),
        (f"queue {named.queue}", partial(_queue, named.queue, options)),
        *((f"function {each}", partial(_function, functions, each, named.alias)) for each in named.functions.values()),
    ]
    return [Part(what, _problem(ask)) for what, ask in asked]


def _problem(ask: Callable[[], str | None]) -> str | None:
    try:
        return ask()
    except ChromalithError as error:
        return error.message


def _bucket(name: str, options: Mapping[str, object]) -> None:
    with translated(f"bucket={name}"):
        client("s3", options).head_bucket(Bucket=name)


def _queue(name: str, options: Mapping[str, object]) -> None:
    Queue(queue_url(name, options), options).depth()


def _function(functions: Functions, name: str, alias: str | None) -> str | None:
    found = functions.look(name, alias or ALIAS)
    return None if found.state == "Active" else f"state={found.state}"

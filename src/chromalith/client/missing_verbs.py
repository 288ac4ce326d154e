"""Verbs that Chroma's interface has and ours has not: they refuse in words, and never by being absent.

Chroma's metaclasses insist on two things: every abstract method is there, and every override says that it is one. A newer
Chroma has more verbs than this release knows, an older one has fewer; both must open.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import chromadb
from chromadb.api import ServerAPI

Method = TypeVar("Method", bound=Callable[..., Any])


def verb(method: Method) -> Method:
    """Mark a method as an override, for Chroma's metaclass, which insists on it.

    The decorator of the ``overrides`` package fails where there is nothing to override, and an older Chroma lacks some
    verbs.
    """
    method.__override__ = True  # type: ignore[attr-defined]
    return method


def not_yet(what: str, instead: str | None = None) -> NoReturn:
    """Refuse a verb that Chromalith does not have."""
    hint = "" if instead is None else f" (hint: {instead})"
    raise NotImplementedError(f"{what} is not implemented in Chromalith{hint}")


def fill_in(api: type[ServerAPI]) -> frozenset[str]:
    """Give ``api`` a refusing method for each abstract one that it lacks; returns their names."""
    lacking = frozenset(api.__abstractmethods__)
    for name in lacking:
        setattr(api, name, _unknown_verb(name))
    abc.update_abstractmethods(api)
    return lacking


def _unknown_verb(name: str) -> Callable[..., NoReturn]:
    def refuse(self: ServerAPI, *arguments: Any, **named: Any) -> NoReturn:
        not_yet(f"ServerAPI.{name}, which chromadb {chromadb.__version__} added,")

    return refuse

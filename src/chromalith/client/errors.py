"""From our errors to Chroma's: an application written for Chroma catches what it always caught.

=======================  ============================================================================
ours                     what the drop-in client raises
=======================  ============================================================================
``NotFound``             ``chromadb.errors.NotFoundError``
``Conflict`` on a name   :class:`AlreadyExists`
``Invalid``              ``chromadb.errors.InvalidArgumentError``, or :class:`WrongDimension`
every other              itself: Chroma has no word for ``Unavailable``, ``Unknown`` or ``Corrupt``
=======================  ============================================================================

Stock Chroma raises one class in process and another over HTTP for the same mistake (1.5.9: a name that is taken is an
``InternalError`` here and a ``UniqueConstraintError`` there). Two classes below derive from both, so that whichever an
application learned to catch, it catches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from chromadb.errors import (
    ChromaError,
    InternalError,
    InvalidArgumentError,
    InvalidDimensionException,
    NotFoundError,
    UniqueConstraintError,
)
from overrides import override

from chromalith.errors import Conflict, Invalid, NotFound

P = ParamSpec("P")
R = TypeVar("R")

WRONG_DIMENSION = "Collection expecting embedding with dimension of"
"""How Chroma, and therefore our writer, begins the message about a wrong dimension."""


class AlreadyExists(UniqueConstraintError, InternalError):
    """A tenant, database or collection of this name exists already."""

    @override
    def code(self) -> int:
        return 409

    @classmethod
    @override
    def name(cls) -> str:
        return "UniqueConstraintError"


class WrongDimension(InvalidArgumentError, InvalidDimensionException):
    """An embedding's dimension is not the collection's."""

    @override
    def code(self) -> int:
        return 400

    @classmethod
    @override
    def name(cls) -> str:
        return "InvalidArgumentError"


@contextmanager
def chroma_errors(*, missing: str | None = None, taken: str | None = None) -> Iterator[None]:
    """Raise Chroma's exception for ours inside the block.

    Args:
        missing: the message for ``NotFound``, in Chroma's words; ours if it is not given.
        taken: the message for a ``Conflict`` about a name; without it a ``Conflict`` passes as it is.
    """
    try:
        yield
    except ChromaError:
        raise
    except NotFound as error:
        raise NotFoundError(missing or str(error)) from error
    except Conflict as error:
        if taken is None:
            raise
        raise AlreadyExists(taken) from error
    except Invalid as error:
        wrong_dimension = error.message.startswith(WRONG_DIMENSION)
        raise (WrongDimension if wrong_dimension else InvalidArgumentError)(str(error)) from error


def translated(verb: Callable[P, R]) -> Callable[P, R]:
    """Decorate a verb so that no error of ours that Chroma has a word for leaves it."""

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with chroma_errors():
            return verb(*args, **kwargs)

    return call

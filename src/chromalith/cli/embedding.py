"""From text to vectors, where a command takes ``--text``: a function of yours, or wordllama if it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.errors import Invalid
from chromalith.guide import embedding_function

Matrix = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Matrix]

WORDLLAMA_DIMENSION = 256


def wordllama() -> Embed:
    """The small model that comes inside the wordllama package: 256 dimensions, no download. Raises ``Invalid`` if it is not installed."""
    if importlib.util.find_spec("wordllama") is None:
        raise Invalid("wordllama is not installed", hint="pip install 'chromalith[demo]'")
    # Its tokenizer would be looked for on the network if it were not found beside the weights.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    package = importlib.import_module("wordllama")
    folder = Path(str(package.__file__)).parent
    # Release 0.4.0 looks for its own tokenizer in a folder of another name; told that its package is the cache, it finds it.
    model: Any = package.WordLlama.load(dim=WORDLLAMA_DIMENSION, cache_dir=folder, disable_download=True)

    def embed(texts: Sequence[str]) -> Matrix:
        return np.asarray(model.embed(list(texts), norm=True), np.float32)

    return embed


def named(path: str) -> Embed:
    """The function that ``module:function`` names. Raises ``Invalid``, also later if it returns anything but a vector for each text."""
    function = embedding_function(path)

    def embed(texts: Sequence[str]) -> Matrix:
        matrix = np.asarray(function(list(texts)), np.float32)
        if matrix.ndim != 2 or len(matrix) != len(texts):
            raise Invalid(
                f"the embedding function returned the wrong shape embed={path!r} shape={matrix.shape} texts={len(texts)}",
                hint="it must return one vector for each text of the list",
            )
        return matrix

    return embed

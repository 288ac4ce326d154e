"""The same targets with coverage as the guide: ``python -m tests.fuzz.guided TARGET [libFuzzer's options]``.

Needs ``atheris`` (``pip install atheris``), which is not among the project's requirements: it has no build for every Python that is
supported. It sees our own code, not the Parquet library's; half of the mutations are those of :mod:`tests.fuzz.mutate`, the
others libFuzzer's own.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["chromalith"]):
    from tests.fuzz.corpus import seeds_of
    from tests.fuzz.mutate import mutated
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz one target until libFuzzer's own options end it (``-max_total_time=60``, ``-runs=100000``)."""
    target = TARGETS[sys.argv[1]]
    seeds = seeds_of(target)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = Random(seed)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        return mutated(data or chance.choice(seeds), target.kind, chance, seeds)[:max_size]

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for number, seed in enumerate(seeds):
            Path(folder, str(number)).write_bytes(seed)
        atheris.Setup(
            [sys.argv[0], *sys.argv[2:], "-max_len=65536", folder], lambda data: target.accepts(data) and None, custom_mutator=mutate
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()

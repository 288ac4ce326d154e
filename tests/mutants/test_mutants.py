"""Each seeded defect is noticed by the tests that are named with it: proof that they can fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutants.seeded import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "chromalith"


def edited(mutant: Mutant, home: Path) -> None:
    """A copy of the product below ``home``, with the defect in it."""
    shutil.copytree(SOURCE, home / "chromalith", ignore=shutil.ignore_patterns("__pycache__"))
    file = home / "chromalith" / mutant.file
    text = file.read_text()
    assert text.count(mutant.old) == 1, f"the text of the mutant occurs {text.count(mutant.old)} times in {mutant.file}"
    file.write_text(text.replace(mutant.old, mutant.new))


def run(home: Path, killers: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests against the product below ``home``."""
    environment = {"PYTHONPATH": f"{home}{os.pathsep}{ROOT}", "CHROMALITH_COPY": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-q", "--timeout=40", "-p", "no:cacheprovider", "-p", "tests.mutants.on_copy"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/{killer}" for killer in killers)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_each_mutant_dies(mutant: Mutant, tmp_path: Path) -> None:
    """The named tests fail, by an assertion or an error of their own, and not because they could not be collected."""
    edited(mutant, tmp_path)
    done = run(tmp_path, mutant.killers)
    failed = {line.split()[1].split("[")[0].removeprefix("tests/") for line in done.stdout.splitlines() if line.startswith("FAILED")}
    files = {each.split("::")[0] for each in failed}
    survived = [killer for killer in mutant.killers if killer not in failed | files]
    assert done.returncode == 1, f"the mutant lives: {mutant.name}\n{done.stdout[-3_000:]}\n{done.stderr[-2_000:]}"
    assert survived == [], f"tests that did not notice: {survived}\n{done.stdout[-3_000:]}"


def test_there_are_enough_mutants_and_their_names_differ() -> None:
    """At least sixteen."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 16
    assert all(re.fullmatch(r"[a-z][a-z_0-9' ,-]+", mutant.name) for mutant in MUTANTS)

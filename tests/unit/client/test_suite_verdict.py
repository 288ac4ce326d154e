"""The verdict on a run of Chroma's suite: what is not as on stock Chroma, and not listed, fails it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

RUN = Path(__file__).parents[2] / "chroma" / "run.py"


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("chroma_suite_run", RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    baseline = {
        "chromadb": "1.5.9",
        "collected": {"a.py": 3},
        "not_passed": {"a.py::skipped": {"outcome": "skipped", "reason": "needs a cluster"}},
    }
    (tmp_path / "stock.json").write_text(json.dumps(baseline))
    (tmp_path / "differences.toml").write_text(
        '[[difference]]\ntest = "a.py::known"\noutcome = "failed"\nreason = "why"\n'
    )
    monkeypatch.setattr(module, "BASELINE", tmp_path / "stock.json")
    monkeypatch.setattr(module, "DIFFERENCES", tmp_path / "differences.toml")
    return module


def judge(suite: ModuleType, *, partial: bool = False, **outcomes: str) -> int:
    named = {f"a.py::{test}": {"outcome": outcome, "reason": "r"} for test, outcome in outcomes.items()}
    return suite._judge(named, partial=partial, files=["a.py"])  # type: ignore[no-any-return]


def test_a_run_that_ends_as_listed_passes(suite: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(suite, plain="passed", skipped="skipped", known="failed") == 0
    printed = capsys.readouterr().out
    assert "a.py::known: passed on stock, failed here: why" in printed
    assert printed.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"


@pytest.mark.parametrize(
    "outcomes",
    [
        {"plain": "failed", "skipped": "skipped", "known": "failed"},
        {"plain": "skipped", "skipped": "skipped", "known": "failed"},
        {"plain": "passed", "skipped": "failed", "known": "failed"},
        {"plain": "passed", "skipped": "skipped", "known": "skipped"},
        {"plain": "passed", "skipped": "skipped"},
    ],
)
def test_an_unlisted_difference_or_a_test_that_did_not_run_fails_it(
    suite: ModuleType, outcomes: dict[str, str]
) -> None:
    assert judge(suite, **outcomes) == 1


def test_what_is_better_than_expected_is_reported_and_passes(
    suite: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(suite, plain="passed", skipped="passed", known="passed") == 0
    printed = capsys.readouterr().out
    assert "take it off the list" in printed
    assert "put it on the list" in printed


def test_a_run_of_chosen_tests_is_not_missed_the_others(suite: ModuleType) -> None:
    assert judge(suite, partial=True, plain="passed") == 0

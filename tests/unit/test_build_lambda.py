"""The parts of the build of the Lambda zip, on small inputs; the whole is built and run by ``tests/aws/test_lambda_zip.py``."""

from __future__ import annotations

import importlib.util
import os
import re
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
REQUIREMENTS = ROOT / "requirements"
NOT_IN_THE_ZIP = {"rich", "typer"}  # only the commands use them


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script, imported as a module; its other half is imported by it."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import build_lambda
    finally:
        sys.path.remove(str(SCRIPTS))
    return build_lambda


def pins(lock: Path) -> set[tuple[str, str]]:
    """Name and version of each entry."""
    return set(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE))


def test_what_is_deployed_is_what_is_tested() -> None:
    """Each package of the zip has the very version, and the hashes, of the development lock."""
    ours, tested = REQUIREMENTS / "lambda.lock", REQUIREMENTS / "dev.lock"
    assert len(pins(ours)) > 10
    assert pins(ours) <= pins(tested)
    assert set(re.findall(r"sha256:\w+", ours.read_text())) <= set(re.findall(r"sha256:\w+", tested.read_text()))


def test_the_zip_has_the_base_without_the_commands() -> None:
    """The zip's list is the package's own dependencies, less those of the commands, and powertools."""
    listed = {line.split()[0] for line in (REQUIREMENTS / "lambda.in").read_text().splitlines() if line and line[0].isalpha()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {re.split(r"[<>=\[]", each)[0] for each in project["dependencies"]}
    assert listed == (base - NOT_IN_THE_ZIP) | {"aws-lambda-powertools"}


def test_markers_are_judged_for_lambda(script: ModuleType) -> None:
    """Of two releases for two Pythons, the one for Lambda's is chosen, whichever Python builds."""
    lock = (
        "numpy==1 ; python_full_version < '3.12' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "numpy==2 ; python_full_version >= '3.12' \\\n    --hash=sha256:cc\n"
        "colorama==3 ; sys_platform == 'win32' \\\n    --hash=sha256:dd\n"
        "plain==4 \\\n    --hash=sha256:ee\n"
    )
    chosen = script.chosen_requirements(lock, script.Target("3.13", "aarch64").marker_environment())
    assert chosen == "numpy==2 --hash=sha256:cc\nplain==4 --hash=sha256:ee\n"
    chosen = script.chosen_requirements(lock, script.Target("3.11", "x86_64").marker_environment())
    assert "numpy==1 --hash=sha256:aa --hash=sha256:bb\n" in chosen


def test_the_last_rule_decides(script: ModuleType, tmp_path: Path) -> None:
    """A rule further down overrules one further up, and folders that became empty go."""
    for name in ("a/x.txt", "a/y.txt", "b/c/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1234")
    dropped, trimmed_off = script.strip(tmp_path, script.read_rules("drop *.txt # all\nkeep a/y.txt # but this\n"))
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a", "a/y.txt"]
    assert (dropped, trimmed_off) == (8, 0)


def test_a_rule_that_matches_nothing_is_refused(script: ModuleType, tmp_path: Path) -> None:
    """The list does not outlive the wheels that it was written for."""
    with pytest.raises(script.CannotBuild, match=re.escape("drop gone/*")):
        script.strip(tmp_path, script.read_rules("drop gone/*  # it was there once\n"))


@pytest.mark.parametrize("line", ["drop a", "drop a #", "remove a # why", "drop # why", "drop a b # why"])
def test_a_rule_has_a_verb_a_pattern_and_a_reason(script: ModuleType, line: str) -> None:
    """Anything else in the list is an error."""
    with pytest.raises(script.CannotBuild, match="line=2"):
        script.read_rules(f"# comment\n{line}\n")


def test_the_same_content_gives_the_same_bytes(script: ModuleType, tmp_path: Path) -> None:
    """Neither dates nor permissions nor the order of creation are in the zip."""
    archives = []
    for turn, order in enumerate((["b.py", "a.so"], ["a.so", "b.py"])):
        tree = tmp_path / str(turn)
        tree.mkdir()
        for name in order:
            (tree / name).write_text(name)
            (tree / name).chmod(0o600 if turn else 0o644)
            os.utime(tree / name, (1_000_000_000 + turn,) * 2)
        script.write_zip(tree, tmp_path / f"{turn}.zip")
        archives.append((tmp_path / f"{turn}.zip").read_bytes())
    assert archives[0] == archives[1]


def test_what_does_not_fit_is_refused(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written that Lambda would refuse."""
    monkeypatch.setattr(script, "install", lambda target, tree: None)
    monkeypatch.setattr(script, "read_rules", lambda text: [])
    monkeypatch.setattr(script, "UNZIPPED_BYTES_MAX", 1000)
    with pytest.raises(script.CannotBuild, match="bytes_max=1000"):
        script.build(script.Target("3.13", "x86_64"), tmp_path / "tree", tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_trimmed_library_works(script: ModuleType, tmp_path: Path) -> None:
    """A large library without its symbols is much smaller, is loaded, and answers."""
    found = importlib.util.find_spec("numkong")
    assert found is not None
    assert found.submodule_search_locations
    (original,) = Path(found.submodule_search_locations[0]).glob("_numkong*.so")
    library = original.read_bytes()
    small = script.trimmed(library)
    if sys.platform != "linux":
        pytest.skip("libraries of this system are no elf files")
    assert len(small) < len(library) / 2
    assert script.trimmed(small) == small
    package = tmp_path / "numkong"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / original.name).write_bytes(small)
    (tmp_path / "numkong.libs").symlink_to(original.parents[1] / "numkong.libs")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from array import array; from numkong import _numkong as n; "
        "print(n.__file__, n.sqeuclidean(array('f', [1, 5]), array('f', [4, 5])))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(package / original.name), "9.0"], done.stderr


def elf(*segments: tuple[int, int, int], size: int = 4096, table: int = 64) -> bytes:
    """A file with program headers (type, offset, length), each aligned to 16."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, table, 99, 0, 64, 56, len(segments), 64, 7, 6)
    rows = b"".join(struct.pack("<IIQQQQQQ", kind, 4, offset, offset, offset, length, length, 16) for kind, offset, length in segments)
    return (header + rows).ljust(size, b"\xaa")


def test_a_hole_in_the_middle_is_closed(script: ModuleType) -> None:
    """Segments move together, keep their offset modulo their alignment, and what lies in one moves with it."""
    library = bytearray(elf((1, 0, 512), (1, 3007, 100), (2, 3010, 20)))
    library[3007:3107] = bytes(range(100))
    small = script.trimmed(bytes(library))
    rows = [struct.unpack_from("<IIQQQQQQ", small, 64 + 56 * number) for number in range(3)]
    assert [row[2] for row in rows] == [0, 527, 530]  # 527 is the first from 512 on that is 3007 modulo 16
    assert small[527:627] == bytes(range(100))
    assert len(small) == 627
    assert struct.unpack_from("<Q", small, 40) == (0,), "there are no sections any more"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x7fELF\x01\x01" + bytes(100),
        elf(),
        elf((1, 0, 9999)),
        elf((1, 64, 100)),
        elf((1, 0, 512), (1, 256, 512)),
        elf((1, 0, 512), (2, 900, 20)),
        elf((1, 0, 512), table=4000),
    ],
)
def test_what_is_no_library_is_refused(script: ModuleType, broken: bytes) -> None:
    """A file that is not understood is not written anew."""
    with pytest.raises(ValueError):
        script.trimmed(broken)

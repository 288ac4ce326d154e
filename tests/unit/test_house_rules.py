"""The rules of the house that ruff, mypy and import-linter cannot express.

A file may be larger than the bounds below if it says why, in a line of its own that any reader meets at the top::

    # house: long file because <the reason>

and a function likewise, on the line above its ``def`` or as its first line::

    # house: long function because <the reason>
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "chromalith"

FILE_LINES_GOOD = 350
FILE_LINES_MAX = 450
FUNCTION_LINES_GOOD = 60
FUNCTION_LINES_MAX = 90

# Skipped when git is not there to say what is tracked.
NOT_OURS = {".git", ".venv", ".venv-chroma", ".venv-aws", "__pycache__", ".hypothesis", "build", "dist", "node_modules"}
LOCKS = {"dev.lock", "chroma-suite.lock", "pip.lock"}
TEXT_SUFFIXES = {
    "", ".cfg", ".css", ".html", ".in", ".ini", ".js", ".json", ".lock", ".md", ".mk", ".py", ".sh", ".sql", ".svg", ".toml",
    ".txt", ".typed", ".yaml", ".yml",
}  # fmt: skip

# Put together from halves, so that this file passes its own rule.
REGISTRY_HOSTS = ("pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js.org", "deb.debian" + ".org")
MACHINE_PATHS = re.compile(r"(?<![\w.$}/-])/(?:root|work|opt|(?:home|Users)/\w+)/")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "stuff"}


def tracked() -> list[Path]:
    """The files that git tracks or would track; without git, whatever is in the tree and not generated."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        names = [each for each in listed.split("\0") if each]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, below, files in os.walk(ROOT):
            below[:] = [each for each in below if each not in NOT_OURS and not each.endswith("_cache")]
            names += [str((Path(folder) / each).relative_to(ROOT)) for each in files]
    return sorted(path for name in names if (path := ROOT / name).is_file() and not path.is_symlink())


TRACKED = tracked()
TEXTS = [path for path in TRACKED if path.suffix in TEXT_SUFFIXES]
PYTHON = [path for path in TRACKED if path.suffix == ".py"]
PRODUCT = [path for path in PYTHON if path.is_relative_to(PACKAGE)]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, list[str]]]:
    """Each function of a file, with the lines from the one above its first decorator to its end."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source, filename=str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield node, lines[max(0, first - 2) : node.end_lineno]


def says_why(lines: list[str], what: str) -> bool:
    """Whether one of the lines is the marker, with a reason of some length."""
    return any(re.match(rf"\s*# house: long {what} because \S.{{10,}}", line) for line in lines)


def report(rule: str, found: list[str], failing: list[str]) -> None:
    """Warn in the output about what is over the good bound, and fail for what is over the hard one."""
    if found:
        print(f"over the {rule}:", *found, sep="\n  ")
    assert not failing, f"over the hard bound of {rule}: " + ", ".join(failing)


def test_there_is_something_to_check() -> None:
    """The lists that the other tests go through are not empty."""
    assert len(PRODUCT) > 10
    assert ROOT / "pyproject.toml" in TEXTS


def test_files_stay_small() -> None:
    """No Python file is longer than the hard bound, unless it says why."""
    good, failing = [], []
    for path in PYTHON:
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > FILE_LINES_GOOD:
            good.append(f"{shown(path)}: {len(lines)} lines")
        if len(lines) > FILE_LINES_MAX and not says_why(lines[:60], "file"):
            failing.append(f"{shown(path)} ({len(lines)} lines)")
    report(f"{FILE_LINES_GOOD} lines a file", good, failing)


def test_functions_stay_small() -> None:
    """No function of the product is longer than the hard bound, unless it says why."""
    good, failing = [], []
    for path in PRODUCT:
        for node, lines in functions(path):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_GOOD:
                good.append(f"{shown(path)}:{node.lineno} {node.name}: {length} lines")
            if length > FUNCTION_LINES_MAX and not says_why(lines[:4], "function"):
                failing.append(f"{shown(path)}:{node.lineno} {node.name} ({length} lines)")
    report(f"{FUNCTION_LINES_GOOD} lines a function", good, failing)


@pytest.mark.parametrize("path", [each for each in PRODUCT if each.name == "__init__.py"], ids=shown)
def test_packages_only_re_export(path: Path) -> None:
    """An ``__init__.py`` holds a docstring, imports, names for ``__all__`` and lazy re-exports, and nothing else."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        assert is_re_export(node), f"{shown(path)}:{node.lineno} does more than re-export"


def test_every_package_is_one() -> None:
    """A folder of modules below the root has an ``__init__.py``: import-linter does not see into one that has none."""
    bare = {
        shown(path.parent) for path in PRODUCT if path.parent != PACKAGE and not (path.parent / "__init__.py").exists()
    }
    assert not bare


def is_re_export(node: ast.stmt) -> bool:
    """Docstring, import, ``__all__``, ``__version__``, a type-checking block of imports, or the lazy ``__getattr__``."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())) | ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            # A private table maps a public name to the module that has it, where importing at once would cost too much.
            return name in {"__all__", "__version__"} or name.startswith("_")
        case ast.FunctionDef(name=name):
            return name in {"__getattr__", "__dir__"}
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body, orelse=[]):
            return all(isinstance(each, ast.Import | ast.ImportFrom) for each in body)
    return False


def test_no_vague_module_names() -> None:
    """No module or folder is named for being miscellaneous: a name says what is inside."""
    vague = [shown(path) for path in PYTHON if VAGUE_NAMES & {path.stem, *path.relative_to(ROOT).parts[:-1]}]
    assert not vague


def test_no_vague_class_names() -> None:
    """No class is a manager, a helper or a util."""
    ending = re.compile(r"(Manager|Helper|Helpers|Util|Utils)$")
    vague = [
        f"{shown(path)}:{node.lineno} {node.name}"
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and ending.search(node.name)
    ]
    assert not vague


def test_asserts_are_not_load_bearing() -> None:
    """The product raises ``Bug`` where an invariant fails: ``python -O`` removes an ``assert``."""
    found = [
        f"{shown(path)}:{node.lineno}"
        for path in PRODUCT
        if "testing" not in path.relative_to(PACKAGE).parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert not found


def test_every_module_says_what_it_is() -> None:
    """Each module of the product begins with a docstring, and imports the future of annotations."""
    silent = [shown(path) for path in PRODUCT if path.name != "__init__.py" and not introduces_itself(path)]
    assert not silent


def introduces_itself(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree) or ""
    futures = [each for each in tree.body if isinstance(each, ast.ImportFrom) and each.module == "__future__"]
    return len(docstring) > 20 and bool(futures)


@pytest.mark.parametrize("path", TEXTS, ids=shown)
def test_names_no_registry_and_no_machine(path: Path) -> None:
    """No tracked file names a package registry's host, or a path of somebody's machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        named = [host for host in REGISTRY_HOSTS if host in line]
        assert not named, f"{shown(path)}:{number} names a package registry: {named[0]}"
        if path.name not in LOCKS:
            match = MACHINE_PATHS.search(line)
            assert match is None, f"{shown(path)}:{number} names a path of one machine: {match.group(0)}"


def test_extras_that_are_named_exist() -> None:
    """What a document or a hint tells to install can be installed."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {
        (shown(path), extra)
        for path in TEXTS
        for extras in re.findall(r"chromalith\[([a-z][a-z, ]*)\]", path.read_text(encoding="utf-8"))
        for extra in re.split(r"\s*,\s*", extras)
    }
    assert len(named) > 10
    assert not [each for each in sorted(named) if each[1] not in declared]


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_locks_pin_and_hash_everything(name: str) -> None:
    """Each line of a lock pins one release exactly, with at least one SHA-256, and names no place to get it from."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=", "    #hash="), flags=re.MULTILINE), "an option line"
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,0-9_-]+\])?==[^\s;]+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize(
    "text", ["/home/" + "ada/x", "see /" + "work/main", "'/" + "root/.cache'", "/Users/" + "ada/src"]
)
def test_the_rule_on_paths_finds_them(text: str) -> None:
    """A path of a home, or of a root-level folder that only some machines have, is found."""
    assert MACHINE_PATHS.search(text)


@pytest.mark.parametrize("text", ["/usr/bin/env", "s3://bucket/home/ada/", "$HOME/work/x", "/tmp/x", "framework/opt/"])
def test_the_rule_on_paths_spares_others(text: str) -> None:
    """A path that every machine has, and a key that only looks like one, are left alone."""
    assert not MACHINE_PATHS.search(text)


@pytest.mark.parametrize(
    "code", ["VALUE = 1", "def build(): ...", "class A: ...", "if TYPE_CHECKING:\n    x = 1", "print()"]
)
def test_the_rule_on_packages_finds_code(code: str) -> None:
    """What computes or defines something is not a re-export."""
    assert not all(is_re_export(node) for node in ast.parse(code).body)


def test_the_rule_on_sizes_wants_a_reason() -> None:
    """The marker counts only with a reason behind it, and only for its own kind."""
    assert says_why(["# house: long file because the table is one table"], "file")
    assert not says_why(["# house: long file because"], "file")
    assert not says_why(["# house: long file because the table is one table"], "function")

"""The scan finds what the samples say, where they say it, and nothing else."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from chromalith.errors import Invalid, NotFound
from chromalith.migrate.scan.finding import RULES, Confidence, Scanned, Severity
from chromalith.migrate.scan.nearness import near_chroma
from chromalith.migrate.scan.program import Program
from chromalith.migrate.scan.run import scan
from chromalith.migrate.scan.sources import read_tree

SAMPLES = Path(__file__).parent / "scan_samples"
_EXPECT = re.compile(r"# expect: ([a-z? -]+)")


def expected(folder: Path) -> list[tuple[str, int, str, bool]]:
    """What the comments ``# expect: RULE...`` of a code base say; ``?``: likely only."""
    return sorted(
        (path.relative_to(folder).as_posix(), number, rule.rstrip("?"), not rule.endswith("?"))
        for path in folder.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in _EXPECT.finditer(line)
        for rule in match[1].split()
    )


def told(scanned: Scanned) -> list[tuple[str, int, str, bool]]:
    return sorted((f.file, f.line, f.rule, f.confidence is Confidence.CERTAIN) for f in scanned.findings)


def write(folder: Path, text: str, name: str = "app.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return folder


WRITES = 'import chromadb\nwords = chromadb.Client().get_collection("x")\nwords.add(ids=["a"])\n'


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.iterdir() if path.is_dir()))
def test_each_sample(name: str) -> None:
    """Exactly the findings that a sample's comments name."""
    scanned = scan(SAMPLES / name)
    assert told(scanned) == expected(SAMPLES / name)
    assert not scanned.unreadable
    assert scanned.files >= 1


def test_the_samples_expect_something() -> None:
    """All rules are met in the samples, and one of them is clean."""
    rules = {rule for folder in SAMPLES.iterdir() if folder.is_dir() for _, _, rule, _ in expected(folder)}
    assert rules == set(RULES)
    assert scan(SAMPLES / "clean").is_clean


def test_places_and_words() -> None:
    """A finding has the place in characters, the line of code, where the client was opened, and what to write instead."""
    scanned = scan(SAMPLES / "plain")
    add = next(f for f in scanned.findings if f.rule == "direct-write")
    assert (add.file, add.line, add.column, add.end_column) == ("app.py", 14, len("words.") + 1, len("words.add") + 1)
    assert add.code.startswith('words.add(ids=["a"]')
    assert add.what == "add of a collection that is opened at app.py:7"
    assert "chromalith.MigratingClient" in add.instead
    assert add.severity is Severity.ERROR
    assert next(f for f in scanned.findings if f.rule == "direct-read").severity is Severity.WARNING


def test_columns_count_characters(tmp_path: Path) -> None:
    """Text before a use may be of any alphabet."""
    write(tmp_path, 'import chromadb\nprint("läß…😀", chromadb.Client())\n')
    (found,) = scan(tmp_path).findings
    assert found.column == len('print("läß…😀", ') + 1


def test_chains_point_at_the_method(tmp_path: Path) -> None:
    """In a chain of calls over lines, each method's own line is named."""
    found = scan(
        write(tmp_path, 'import chromadb\nchromadb.Client().create_collection(\n    "x"\n).add(\n    ids=["a"],\n)\n')
    ).findings
    assert [(f.line, f.rule) for f in found] == [(2, "direct-client"), (2, "direct-catalog"), (4, "direct-write")]


def test_a_name_that_changes_its_meaning(tmp_path: Path) -> None:
    """In a straight line the last assignment counts; after a branch either may."""
    text = (
        "import chromadb, chromalith\nclient = chromadb.Client()\nclient = chromalith.Client()\n"
        'client.delete_collection("x")\nif input():\n    client = chromadb.EphemeralClient()\nclient.delete_collection("y")\n'
    )
    found = [(f.line, f.rule, f.confidence) for f in scan(write(tmp_path, text)).findings if f.rule == "direct-catalog"]
    assert found == [(7, "direct-catalog", Confidence.LIKELY)]


def test_annotations_yield_to_callers(tmp_path: Path) -> None:
    """Of an annotated parameter, the callers say who made it; only without any is the annotation believed."""
    head = "import chromadb, chromalith\ndef save(words: chromadb.Collection):\n    words.add(ids=[1])\n"
    calls = {
        "": Confidence.LIKELY,
        'save(chromadb.Client().get_collection("x"))\n': Confidence.CERTAIN,
        'save(chromalith.Client("memory://x").get_collection("x"))\n': None,
    }
    for call, confidence in calls.items():
        found = [f.confidence for f in scan(write(tmp_path, head + call)).findings if f.rule == "direct-write"]
        assert found == ([] if confidence is None else [confidence]), call


def test_fixtures_of_tests(tmp_path: Path) -> None:
    """A test's parameter is what the fixture of its name gives, also of a conftest.py above it."""
    write(
        tmp_path,
        "import chromadb, pytest\n@pytest.fixture\ndef client():\n    yield chromadb.Client()\n",
        "tests/conftest.py",
    )
    write(tmp_path, 'def test_it(client):\n    client.get_collection("x").add(ids=["a"])\n', "tests/deep/test_a.py")
    assert [(f.file, f.line) for f in scan(tmp_path).findings if f.rule == "direct-write"] == [
        ("tests/deep/test_a.py", 2)
    ]


def test_notebooks(tmp_path: Path) -> None:
    """Cells are one program; magics are put aside; a cell that is no Python is named."""
    cells = [
        {"cell_type": "markdown", "source": ["# words.add(ids=[1])"]},
        {
            "cell_type": "code",
            "source": ["%pip install chromadb\n", "import chromadb\n", "files = !ls\n", "client = chromadb.Client()"],
        },
        {"cell_type": "code", "source": "%%bash\nrm words.add\n"},
        {"cell_type": "code", "source": "%%time\n\nclient.get_collection('x').add(ids=['a'])\nclient?"},
        {"cell_type": "code", "source": "def ("},
    ]
    write(tmp_path, json.dumps({"cells": cells, "nbformat": 4}), "a.ipynb")
    scanned = scan(tmp_path)
    assert [(f.cell, f.line, f.rule) for f in scanned.findings] == [(2, 4, "direct-client"), (4, 3, "direct-write")]
    assert scanned.findings[1].place == "a.ipynb[4]:3:28"
    assert [each.file for each in scanned.unreadable] == ["a.ipynb[5]"]
    assert (scanned.files, scanned.notebooks) == (0, 1)


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("old.py", b"print 'two'\n", "not valid Python"),
        ("bytes.py", b"a = '\xff'\n", "encoding"),
        ("coding.py", b"# -*- coding: klingon -*-\n", "unknown encoding"),
        ("null.py", b"a = 1\0\n", "null bytes"),
        ("deep.py", b"(" * 5_000 + b")" * 5_000, ""),
        ("a.ipynb", b"{}", "no list of cells"),
        ("b.ipynb", b"{", "can't be read"),
    ],
)
def test_what_cannot_be_read_is_not_clean(tmp_path: Path, name: str, body: bytes, reason: str) -> None:
    """A file that is not understood is named, the others are still looked at, and the result is not clean."""
    (tmp_path / name).write_bytes(body)
    write(tmp_path, WRITES, "other.py")
    scanned = scan(tmp_path)
    assert [each.file for each in scanned.unreadable] == [name]
    assert reason in scanned.unreadable[0].reason
    assert [f.rule for f in scanned.findings] == ["direct-client", "direct-write"]
    write(tmp_path, "", "other.py")
    assert not scan(tmp_path).is_clean


def test_a_deep_expression_spoils_only_its_file(tmp_path: Path) -> None:
    """An expression that can't be followed to its end makes its file unreadable, and no other."""
    write(tmp_path, "a = " + "+".join(["b"] * 900) + "\n" + "c = " + "-" * 400 + "d\n", "long.py")
    write(tmp_path, "a = " + "f(" * 90 + ")" * 90 + "\nx" + ".y" * 900 + "\n", "deep.py")
    write(tmp_path, WRITES, "other.py")
    scanned = scan(tmp_path)
    assert [f.rule for f in scanned.findings] == ["direct-client", "direct-write"]
    assert {each.file for each in scanned.unreadable} == {"deep.py"}
    assert "deeply" in scanned.unreadable[0].reason


def test_only_what_can_have_to_do_with_chroma_is_followed_far(tmp_path: Path) -> None:
    """Modules that imports join to one that names Chroma, and no others."""
    write(tmp_path, "import b\n", "a.py")
    write(tmp_path, "import chromadb, c\n", "b.py")
    write(tmp_path, "", "c.py")
    write(tmp_path, "import e\n", "d.py")
    write(tmp_path, "from . import d\nimport importlib\nimportlib.import_module('f')\n", "e.py")
    write(tmp_path, "", "f.py")
    program = Program(read_tree(tmp_path).sources)
    assert [module.dotted for module in near_chroma(program)] == ["a", "b", "c"]
    write(tmp_path, "# Chroma\n", "f.py")
    assert len(near_chroma(Program(read_tree(tmp_path).sources))) == 6


def test_the_work_does_not_explode(tmp_path: Path) -> None:
    """Long chains of calls and loops within loops are gone through in a number of steps that grows with the code, not with its powers."""
    chain = "a" + "".join(f".f{n}()" for n in range(60))
    loops = "".join(f"{' ' * n}for x{n} in y:\n" for n in range(18)) + " " * 18 + "pass\n"
    nested = "b = " + "".join(f"f{n}(lambda x: " for n in range(25)) + "x" + ")" * 25 + "\n"
    write(tmp_path, f"{chain}\n{loops}{nested}c" + "[0]" * 60 + " = 1\n")
    write(tmp_path, WRITES, "other.py")
    assert len(scan(tmp_path).findings) == 2


def test_what_is_looked_at(tmp_path: Path) -> None:
    """Code, notebooks and scripts with a shebang; not other people's code, not other languages."""
    for name in ("a.py", "b.pyw", "deep/er/c.py"):
        write(tmp_path, WRITES, name)
    write(tmp_path, "#!/usr/bin/env python3\n" + WRITES, "script")
    write(tmp_path, "#!/bin/sh\n", "shell")
    for name in (".venv/x.py", "node_modules/x.py", "lib/site-packages/x.py", "__pycache__/x.py", "c.txt"):
        write(tmp_path, WRITES, name)
    write(tmp_path, "", ".venv/pyvenv.cfg")
    assert {f.file for f in scan(tmp_path).findings} == {"a.py", "b.pyw", "deep/er/c.py", "script"}
    assert [f.file for f in scan(tmp_path / "a.py").findings] == ["a.py", "a.py"]
    with pytest.raises(NotFound):
        scan(tmp_path / "nowhere")


def test_code_behind_a_link_is_not_passed_over(tmp_path: Path) -> None:
    """A folder that is linked in from outside is named, and may be allowed; a link within the tree is looked at where it leads."""
    write(tmp_path / "shared", WRITES)
    root = write(tmp_path / "app", "")
    (root / "shared").symlink_to(tmp_path / "shared")
    scanned = scan(root)
    assert [each.file for each in scanned.unreadable] == ["shared"]
    assert not scanned.is_clean
    write(
        root,
        '[[allow]]\npath = "shared"\nrules = ["unreadable"]\nreason = "scanned by itself"\n',
        ".chromalith-scan.toml",
    )
    assert scan(root).is_clean
    write(root, "", "deep/a.py")
    (root / "again").symlink_to(root / "deep")
    assert scan(root).is_clean


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A file whose name is no UTF-8 is looked at, and named in a form that can be written down."""
    (tmp_path / os.fsdecode(b"a\xff.py")).write_text(WRITES)
    assert {each.file for each in scan(tmp_path).findings} == {"a\\udcff.py"}


def test_nothing_is_executed(tmp_path: Path) -> None:
    """The code is read, not run."""
    scan(write(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(1)\n"))
    assert not (tmp_path / "ran").exists()


def test_the_digest_follows_the_code(tmp_path: Path) -> None:
    """The same code has the same digest, other code another."""
    first = scan(write(tmp_path, WRITES)).digest
    assert scan(tmp_path).digest == first
    assert scan(write(tmp_path, WRITES + "\n")).digest != first


def test_comments_allow(tmp_path: Path) -> None:
    """On the lines of the statement, or alone above it; only the rule that is named, only with a reason."""
    text = (
        "import chromadb\n"
        "client = chromadb.Client()  # chromalith: allow direct-client a demo\n"
        "# chromalith: allow direct-catalog made once, before the migration\n"
        "# (see the runbook)\n"
        'words = client.create_collection("x")\n'
        "words.add(\n"
        '    ids=["a"],  # chromalith: allow direct-write, direct-read seeds\n'
        ")\n"
        'words.delete(ids=["a"])  # chromalith: allow direct-write\n'
        "words.count()  # chromalith: allow direct-write reads\n"
        'text = "# chromalith: allow direct-read in a text"\n'
        "# chromalith: allow everything please\n"
        "done = 1  # chromalith: allow direct-write nothing here\n"
    )
    scanned = scan(write(tmp_path, text))
    allowed = {f.line: f.allowed for f in scanned.findings}
    assert allowed == {2: "a demo", 5: "made once, before the migration", 6: "seeds", 9: None, 10: None}
    assert [(f.line, f.rule) for f in scanned.open] == [(9, "direct-write"), (10, "direct-read")]
    assert [(each.line, each.reason.split(":")[0]) for each in scanned.unused] == [
        (9, "gives no reason"),
        (10, "covers no finding"),
        (12, "no such rule"),
        (13, "covers no finding"),
    ]


def test_a_file_allows(tmp_path: Path) -> None:
    """By path and rule, with a reason; what covers nothing is told; files that can't be parsed only by that name."""
    for name in ("tests/a.py", "tests/deep/b.py", "tests.py", "scripts/c.py"):
        write(tmp_path, WRITES, name)
    write(tmp_path, "print 1", "old/d.py")
    write(
        tmp_path,
        '[[allow]]\npath = "tests/**"\nreason = "own Chroma"\n\n[[allow]]\npath = "scripts/*.py"\nrules = ["direct-client"]\n'
        'reason = "r"\n\n[[allow]]\npath = "gone/**"\nreason = "r"\n\n'
        '[[allow]]\npath = "old/"\nrules = ["unreadable"]\nreason = "Python 2"\n',
        ".chromalith-scan.toml",
    )
    scanned = scan(tmp_path)
    assert [(f.file, f.rule) for f in scanned.open] == [
        ("scripts/c.py", "direct-write"),
        ("tests.py", "direct-client"),
        ("tests.py", "direct-write"),
    ]
    assert not scanned.unreadable
    assert [(each.file, each.line) for each in scanned.unused] == [(".chromalith-scan.toml", 10)]


@pytest.mark.parametrize(
    "text",
    [
        "[[allow]]\npath = 1\n",
        '[[allow]]\npath = "a"\n',
        '[[allow]]\npath = "a"\nreason = " "\n',
        '[[allow]]\npath = "a"\nreason = "r"\nrules = ["none"]\n',
        '[[allow]]\npath = "a"\nreason = "r"\nrule = "direct-write"\n',
        "[other]\n",
        "allow = 1\n",
        "[[",
    ],
)
def test_a_wrong_file_of_allowances(tmp_path: Path, text: str) -> None:
    """It is refused, not half obeyed."""
    write(tmp_path, text, ".chromalith-scan.toml")
    with pytest.raises(Invalid):
        scan(write(tmp_path, WRITES))

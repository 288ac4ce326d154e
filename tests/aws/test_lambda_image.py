"""The image for migrations can't be built here: there is no Docker. What can be known without it is checked: that each step finds what it
takes from the repository and does what it says, and that every package of its lock can be had for Lambda's Python and processor.

The gap: nobody has run the built image. docs/lambda_package.md says how that is to be tried.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.aws.lambda_package import ROOT

DOCKERFILE = ROOT / "infra" / "chromadb_compaction" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, continuation lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in text.splitlines())]


def of(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


def pins(lock: str) -> set[str]:
    """Name and version of each entry of a lock."""
    return set(re.findall(r"^([\w.-]+==\S+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def test_it_is_made_of_known_instructions() -> None:
    """It stands on AWS's own base image for the Python that the zip is built for."""
    assert {name for name, _ in instructions()} == {"ARG", "FROM", "COPY", "RUN", "ENV", "CMD"}
    assert of("ARG") == ["BASE=public.ecr.aws/lambda/python:3.13"]
    assert of("FROM") == ["${BASE}"]


def test_whatever_is_copied_is_there() -> None:
    """Each source of a COPY is in the repository, which is the build's context."""
    sources = [source for each in of("COPY") for source in shlex.split(each)[:-1]]
    assert len(sources) >= 4
    assert [each for each in sources if not (ROOT / each).exists()] == []


def test_what_it_installs_is_locked_and_holds_what_the_zip_holds() -> None:
    """pip is told to check hashes and to resolve nothing; the lock has the zip's packages, in the same versions, and chromadb."""
    (install,) = [each for each in of("RUN") if "pip install" in each]
    for option in ("--require-hashes", "--no-deps", "--only-binary :all:", "-r /build/requirements/lambda-image.lock"):
        assert option in install
    assert pins("lambda.lock") < pins("lambda-image.lock")
    names = {each.partition("==")[0] for each in pins("lambda-image.lock")}
    assert "chromadb" in names
    assert "boto3" not in names, "the base has it"


def test_its_step_with_our_script_works(tmp_path: Path) -> None:
    """Of the files that are copied, with a bare Python, the script lays down all of Chromalith, and the version that it asks itself for."""
    context = tmp_path / "build"
    for each in of("COPY"):
        *sources, target = shlex.split(each)
        for source in sources:
            place = tmp_path / target.lstrip("/")
            place = place / Path(source).name if target.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(ROOT / source)
    (ours,) = [each for each in of("RUN") if "build_lambda.py" in each]
    command = shlex.split(ours.partition("&&")[0].replace("${LAMBDA_TASK_ROOT}", str(tmp_path / "task")))
    assert command[:2] == ["python", "/build/scripts/build_lambda.py"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, str(context / "scripts"), *command[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    task = tmp_path / "task"
    assert (task / "chromalith" / "chroma").is_dir(), "unlike the zip, it can read Chroma's directories"
    assert len(list(task.rglob("*.py"))) == len(list((ROOT / "src" / "chromalith").rglob("*.py")))
    assert list(task.glob("chromalith-*.dist-info/METADATA"))


# The script as __main__, in a Python without packages, which has to find its other half beside itself.
_RUN = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = [sys.argv[1] + "/build_lambda.py", *sys.argv[3:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_its_command_is_a_handler() -> None:
    """The command names a function that is there."""
    (command,) = of("CMD")
    module, _, name = re.fullmatch(r'\["([\w.]+)"\]', command)[1].rpartition(".")  # type: ignore[index]
    assert callable(getattr(importlib.import_module(module), name))


def test_every_package_can_be_had_for_lambda(tmp_path: Path) -> None:
    """pip finds a wheel whose hash is in the lock for each package, for CPython 3.13 on the image's Linux; nothing is installed."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from build_lambda import Target, chosen_requirements
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    target = Target("3.13", "x86_64")
    chosen = tmp_path / "requirements.txt"
    lock = (ROOT / "requirements" / "lambda-image.lock").read_text()
    chosen.write_text(chosen_requirements(lock, target.marker_environment()))
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--target", str(tmp_path / "none"), *target.pip_options(), "-r", str(chosen)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

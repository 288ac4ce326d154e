"""What a function's sandbox is made of: the zip's content, Lambda's own Python packages, and AWS's emulator of the runtime interface.

All three are made once and kept under ``build/`` for the next run; each folder's name is a hash of what it was made from, and several
test processes may ask for the same one at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "lambda-tests"
EMULATOR_LOCK = ROOT / "requirements" / "lambda-rie.txt"
KEPT_OF_A_KIND = 3

# What Lambda's runtime brings for Python, beside the standard library (its folder /var/runtime).
RUNTIME_PACKAGES = (
    "awslambdaric", "snapshot-restore-py", "simplejson",
    "boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3",
)  # fmt: skip

Make = Callable[[Path], None]


@cache
def unpacked_zip(*options: str) -> Path:
    """The content of the zip; by default for the Python that runs this. The same for a whole run, even if a source is edited meanwhile."""
    options = options or ("--this-python",)

    def make(folder: Path) -> None:
        command = [sys.executable, str(ROOT / "scripts" / "build_lambda.py"), *options, "--no-zip", "--tree", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return _made("zip" + "".join(options), _digest([*_sources(), sys.version, *options]), make)


def runtime_packages() -> Path:
    """A folder with the packages of Lambda's runtime and nothing else, linked from this environment."""

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in RUNTIME_PACKAGES:
            for each in files(name) or []:
                top = folder / each.parts[0]
                if each.parts[0] not in ("..", "__pycache__") and not top.exists():
                    top.symlink_to(Path(str(each.locate())).parents[len(each.parts) - 1] / each.parts[0])

    return _made("runtime", _digest([sys.prefix, (ROOT / "requirements" / "aws-suite.lock").read_text()]), make)


def emulator_binary() -> Path:
    """AWS's emulator of the runtime interface, for this machine."""
    name = f"aws-lambda-rie-{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'x86_64'}"

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        subprocess.run([*command, "--dest", str(folder), "-r", str(EMULATOR_LOCK)], check=True, stdout=subprocess.DEVNULL)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (folder / name).write_bytes(archive.read(f"samcli/local/rapid/{name}"))
        (folder / name).chmod(0o755)
        wheel.unlink()

    return _made("emulator", _digest([EMULATOR_LOCK.read_text(), name]), make) / name


def base_python() -> str:
    """The interpreter itself: with ``-S`` it knows the standard library and no other package."""
    return str(Path(sys._base_executable or sys.executable).resolve())  # type: ignore[attr-defined]


def _sources() -> list[str]:
    """Everything that decides what is in the zip."""
    paths = [ROOT / "pyproject.toml", ROOT / "requirements" / "lambda.lock"]
    paths += [ROOT / "scripts" / name for name in ("build_lambda.py", "elf_trim.py", "lambda_strip.txt")]
    paths += sorted((ROOT / "src" / "chromalith").rglob("*.py"))
    return [f"{path.relative_to(ROOT)}\0{path.read_text(encoding='utf-8')}" for path in paths]


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _made(kind: str, digest: str, make: Make) -> Path:
    """The folder of this kind and digest, made if it is not there; it appears by a rename, whole or not at all."""
    folder = BUILD / kind / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder.parent):
        if not folder.exists():
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(folder)
            _forget_old(folder.parent)
    return folder


def _forget_old(parent: Path) -> None:
    newest_first = sorted(parent.iterdir(), key=lambda path: path.stat().st_ctime_ns, reverse=True)
    for each in newest_first[KEPT_OF_A_KIND:]:
        shutil.rmtree(each)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

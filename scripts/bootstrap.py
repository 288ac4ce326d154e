#!/usr/bin/env python3
"""Make a locked environment with nothing but a bare Python: no pip, no ``ensurepip``, perhaps no ``venv``.

``make`` calls this before whatever needs an environment, so it must be quick when there is nothing to do and must leave
nothing half-made behind that a second call would trust:

1. Take an exclusive lock, so that two calls never work on one environment.
2. If the stamp in the environment equals a hash of everything that it was made from, stop: it is up to date.
3. Remove the stamp. From here on an interruption leaves an environment without one, which the next call makes afresh;
   one that had its stamp, for an older lock, is brought up to date in place.
4. Make the interpreter's folder, by ``venv`` or, where Debian left that out, by hand.
5. Get the locked pip into it (see :func:`seed_pip` for where from).
6. Install the lock with hashes checked, remove what the lock does not name, install Chromalith itself as an editable.
7. Check that the result is consistent, and write the stamp.

Only the standard library is used. No package registry is named here: pip knows its default by itself, and where there
is no pip yet, the machine's own configuration says where to look (``PIP_INDEX_URL``, ``PIP_EXTRA_INDEX_URL``,
``PIP_FIND_LINKS``, or the same keys in ``pip.conf``).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pip_index import NoWheel, fetch_pip_wheel

PYTHON_MIN = (3, 11)
if sys.version_info < PYTHON_MIN:
    sys.exit("bootstrap: error: Python 3.11 or later is needed; name another with: make PYTHON=python3.12 …")

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".stamp"

# name -> (folder, lock). Chroma's own tests pin an older pytest; Pulumi and an AWS emulator pin what chromadb has newer.
ENVIRONMENTS = {
    "dev": (".venv", "dev.lock"),
    "chroma-suite": (".venv-chroma", "chroma-suite.lock"),
    "aws-suite": (".venv-aws", "aws-suite.lock"),
}


class CannotBootstrap(Exception):
    """Nothing on this machine leads to a pip; the message says what a person can do about it."""


def say(message: str) -> None:
    """Narrate on stderr; stdout stays free for whoever called."""
    print(f"bootstrap: {message}", file=sys.stderr, flush=True)


# --- The environment --------------------------------------------------------------------------------------------------


def ensure(name: str, root: Path = ROOT) -> bool:
    """Bring one environment in line with its lock; returns whether there was anything to do."""
    folder, lock_name = ENVIRONMENTS[name]
    target = root / folder
    lock = root / "requirements" / lock_name
    wanted = fingerprint(root, lock)
    with exclusive(root):
        if is_current(target, wanted):
            return False
        say(f"making {folder} from requirements/{lock_name} (about a minute, once)")
        complete = (target / STAMP).exists()
        (target / STAMP).unlink(missing_ok=True)
        if not complete and target.exists():
            # What an interruption left may look whole to pip and not be: a package's record is there, its files are not.
            say(f"{folder} was never finished: starting afresh")
            shutil.rmtree(target)
        create(target)
        seed_pip(target, root / "requirements" / "pip.lock")
        install(target, lock, root)
        write_stamp(target, wanted)
        say(f"{folder} is ready")
        return True


def fingerprint(root: Path, lock: Path) -> str:
    """A hash of everything that decides what the environment holds: locks, package metadata, this file, the Python.

    The base interpreter is named, not the one that runs this: the same environment results from inside a virtual one.
    """
    digest = hashlib.sha256(f"{sys.version}\0{base_python()}\0{root}".encode())
    for path in (lock, root / "requirements" / "pip.lock", root / "pyproject.toml", Path(__file__).resolve()):
        digest.update(path.read_bytes() if path.exists() else b"absent")
    return digest.hexdigest()


def base_python() -> str:
    """The real interpreter, also when this runs inside a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def is_current(target: Path, wanted: str) -> bool:
    stamp = target / STAMP
    return stamp.exists() and stamp.read_text(encoding="ascii") == wanted and (target / "bin" / "python").exists()


def write_stamp(target: Path, wanted: str) -> None:
    """By rename: a stamp is there whole or not at all."""
    partial = target / (STAMP + ".partial")
    partial.write_text(wanted, encoding="ascii")
    partial.replace(target / STAMP)


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the folder's lock. A folder can be locked like a file, so no lock file is left lying about."""
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another bootstrap of this folder")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def create(target: Path) -> None:
    """Make the interpreter's folder, unless one that works with this very Python is there already."""
    if runs_this_python(target):
        return
    if target.exists():
        say(f"{target.name} belongs to another Python: starting afresh")
        shutil.rmtree(target)
    made = run([sys.executable, "-m", "venv", "--without-pip", str(target)], quiet=True)
    if not made or not runs_this_python(target):
        say("this Python has no venv module: making the environment by hand")
        shutil.rmtree(target, ignore_errors=True)
        create_by_hand(target)
    if not runs_this_python(target):
        raise CannotBootstrap(f"the interpreter in {target} does not start; is {base_python()} a complete Python?")


def create_by_hand(target: Path) -> None:
    """What the ``venv`` module does, for machines without it: the interpreter itself looks for ``pyvenv.cfg`` (PEP 405)."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (target / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
    (target / "bin").mkdir()
    if sys.maxsize > 2**32:
        (target / "lib64").symlink_to("lib")
    for name in ("python", "python3", f"python{version}"):
        (target / "bin" / name).symlink_to(base_python())
    config = f"home = {Path(base_python()).parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    (target / "pyvenv.cfg").write_text(config, encoding="utf-8")


def runs_this_python(target: Path) -> bool:
    """Whether the folder holds a working virtual environment of the Python that runs this."""
    python = target / "bin" / "python"
    if not python.exists() or not (target / "pyvenv.cfg").exists():
        return False
    code = "import sys; print(sys.version); print(sys.prefix != sys.base_prefix)"
    found = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=False, env=clean_environment()
    )
    return found.stdout.strip() == f"{sys.version}\nTrue".strip()


def install(target: Path, lock: Path, root: Path) -> None:
    """Make the environment hold the lock, all of it, and nothing else but Chromalith."""
    pip = [str(target / "bin" / "python"), "-m", "pip"]
    # The lock is complete, so there is nothing to resolve; `pip check` below would notice if it were not.
    # Python compiles what is imported, when it is; compiling all of it would be half of the time.
    narrated = [] if sys.stderr.isatty() else ["-qq"]
    must([*pip, "install", *narrated, "--no-compile", "--no-deps", "--require-hashes", "-r", str(lock)])
    listed = subprocess.run(
        [*pip, "list", "--format=json"], capture_output=True, text=True, check=True, env=clean_environment()
    )
    strays = sorted(
        {normalized(each["name"]) for each in json.loads(listed.stdout)} - locked_names(lock) - {"chromalith"}
    )
    if strays:
        say("removing what the lock does not name: " + ", ".join(strays))
        must([*pip, "uninstall", "-qq", "--yes", *strays])
    # The build backend comes from the lock as well: no isolation, so no download whose hash nobody checks.
    must([*pip, "install", "-qq", "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(root)])
    must([*pip, "check"], quiet=True)


def locked_names(lock: Path) -> set[str]:
    """The names of the packages in a lock."""
    found = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {normalized(name) for name in found}


def locked_hashes(pip_lock: Path) -> set[str]:
    """The SHA-256 digests that the lock admits."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", pip_lock.read_text(encoding="utf-8")))


def normalized(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# --- Where pip comes from ---------------------------------------------------------------------------------------------


def seed_pip(target: Path, pip_lock: Path) -> None:
    """Install the locked pip, with whatever pip can be had: what is on the machine first, then the configured index.

    Each way gives *some* pip, the seed, which then installs the locked one with its hash checked. In order: a pip that is
    in the environment already; ``ensurepip``; the machine's own pip; a wheel from the configured index; the pip inside
    ``virtualenv``; and, for root on Debian, the package that Debian split ``ensurepip`` into.

    Raises:
        CannotBootstrap: when none of them gives one.
    """
    python = str(target / "bin" / "python")
    refused = []
    with tempfile.TemporaryDirectory(prefix="bootstrap-pip-") as scratch:
        for name, way in WAYS.items():
            try:
                seed = way(python, Path(scratch), pip_lock)
            except CannotBootstrap as error:
                refused.append(f"  {name}: {error}")
                continue
            if run([*seed, "install", "-qq", "--no-deps", "--require-hashes", "-r", str(pip_lock)]):
                return
            refused.append(f"  {name}: it did not install the locked pip (its messages are above)")
    raise CannotBootstrap(
        "no way to get pip into the new environment:\n" + "\n".join(refused) + "\nwhat helps, any one of:\n"
        "  install pip for this Python (on Debian, as root: apt-get install python3-pip, or python3-venv)\n"
        "  name a package index: PIP_INDEX_URL=… make …, or index-url in ~/.config/pip/pip.conf\n"
        "  put a pip wheel into a folder: PIP_FIND_LINKS=/that/folder make …"
    )


def from_environment(python: str, scratch: Path, pip_lock: Path) -> list[str]:
    """The pip that the environment has from an earlier call."""
    return working([python, "-m", "pip"], "none yet")


def from_ensurepip(python: str, scratch: Path, pip_lock: Path) -> list[str]:
    """The pip inside Python's ``ensurepip``."""
    if not run([python, "-m", "ensurepip", "--default-pip"], quiet=True):
        raise CannotBootstrap("not there, or it failed (Debian keeps it in python3-venv)")
    return working([python, "-m", "pip"], "it left no working pip")


def from_machine(python: str, scratch: Path, pip_lock: Path) -> list[str]:
    """The machine's own pip, told to work on the environment."""
    # `--python` (pip 22.3 and later) makes that pip work on our environment, and leaves the machine's alone.
    return working([sys.executable, "-m", "pip", "--python", python], "none, or older than 22.3")


def from_index(python: str, scratch: Path, pip_lock: Path) -> list[str]:
    """A pip wheel from the configured index, run as it is."""
    try:
        wheel = fetch_pip_wheel(scratch, locked_hashes(pip_lock))
    except NoWheel as error:
        raise CannotBootstrap(str(error)) from error
    say(f"using {wheel.name} to install pip")
    return working([python, f"{wheel}/pip"], f"{wheel.name} does not run")


def from_virtualenv(python: str, scratch: Path, pip_lock: Path) -> list[str]:
    """The pip inside ``virtualenv``."""
    other = scratch / "virtualenv"
    if not run([sys.executable, "-m", "virtualenv", "--quiet", str(other)], quiet=True):
        raise CannotBootstrap("virtualenv is not installed")
    return working([str(other / "bin" / "python"), "-m", "pip", "--python", python], "it is too old")


def from_debian(python: str, scratch: Path, pip_lock: Path) -> list[str]:
    """The ``ensurepip`` that Debian keeps in a package of its own."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None or not base_python().startswith("/usr/bin/"):
        raise CannotBootstrap("only for root, on Debian, with Debian's Python")
    say("installing python3-venv with apt-get")
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "python3-venv"]
    # A new machine has no package lists yet, and then the first try cannot find the package.
    if not run(command, quiet=True) and not (run(["apt-get", "update"], quiet=True) and run(command)):
        raise CannotBootstrap("apt-get could not install it")
    return from_ensurepip(python, scratch, pip_lock)


def working(pip: list[str], otherwise: str) -> list[str]:
    """The command, if it really is a pip."""
    if not run([*pip, "--version"], quiet=True):
        raise CannotBootstrap(otherwise)
    return pip


Way = Callable[[str, Path, Path], list[str]]
# What is on the machine comes before what is on a network, and what changes the machine comes last.
WAYS: dict[str, Way] = {
    "the environment's pip": from_environment,
    "ensurepip": from_ensurepip,
    "the machine's pip": from_machine,
    "the configured index": from_index,
    "virtualenv": from_virtualenv,
    "apt-get": from_debian,
}


# --- Running commands -------------------------------------------------------------------------------------------------


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would lead Python or pip astray from the new environment."""
    astray = (
        "PYTHONHOME",
        "PYTHONPATH",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_REQUIRE_VIRTUALENV",
        "VIRTUAL_ENV",
    )
    kept = {key: value for key, value in os.environ.items() if key not in astray}
    return {
        **kept,
        "PIP_USER": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }


def run(command: list[str], *, quiet: bool = False) -> bool:
    """Run; whether it succeeded. Its output goes to stderr, or nowhere."""
    output = subprocess.DEVNULL if quiet else sys.stderr
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, env=clean_environment()
        )
    except OSError:
        return False
    return done.returncode == 0


def must(command: list[str], *, quiet: bool = False) -> None:
    """Run, or stop with the command in the message."""
    if not run(command, quiet=quiet):
        raise CannotBootstrap(f"this command failed: {shlex.join(command)}")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 1 after one clear message."""
    parser = argparse.ArgumentParser(description="Make or refresh a locked environment.")
    parser.add_argument("environment", nargs="?", default="dev", choices=sorted(ENVIRONMENTS))
    chosen = parser.parse_args(arguments)
    try:
        ensure(chosen.environment)
    except CannotBootstrap as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

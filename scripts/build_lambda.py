#!/usr/bin/env python3
"""Build the zip that the Lambda functions run from: ``make lambda``.

1. Choose the lines of ``requirements/lambda.lock`` whose markers hold on Lambda (CPython 3.13 on Linux), not on this machine.
2. Have pip put those wheels, and no others, into a folder: for Lambda's platform, hashes checked, nothing compiled.
3. Add Chromalith: its sources, and the few lines of metadata that say which version it is.
4. Apply ``scripts/lambda_strip.txt``: drop what nothing imports, trim libraries of the symbols that only debuggers read.
5. Compile, if a Python of Lambda's version is to be had. Lambda's folder is read-only, so what is not compiled here is compiled at
   every cold start, which then takes twice as long. The bytecode is marked as never to be compared with its source.
6. Check the sizes against Lambda's limits.
7. Write the zip: sorted, with one fixed date, so that the same inputs give the same bytes, and a deployment of the same bytes is no
   deployment.

With ``--this-python`` the same is done for the Python that runs this, so that what came out can be run here and now.

stdout is one line, or with ``--json`` the whole report; exit code 1 if the result does not fit.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from elf_trim import trimmed

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lambda.lock"
RULES = Path(__file__).resolve().parent / "lambda_strip.txt"

LAMBDA_PYTHON = "3.13"
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Lambda's name of an architecture, and that of wheels."""
GLIBC_MINORS = range(28, 16, -1)
"""Lambda's python3.13 runs on Amazon Linux 2023, which has glibc 2.34. 2.28 is the newest that the wheels in the lock are made for."""

# AWS's limits: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
UNZIPPED_BYTES_MAX = 250 * 1024 * 1024
DIRECT_UPLOAD_BYTES_MAX = 50 * 1024 * 1024
"""A larger zip is not refused, but must come from a bucket."""

ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
ZIP_LEVEL = 6  # 9 takes three times as long for one percent


class CannotBuild(Exception):
    """The message says what to do about it."""


@dataclass(frozen=True)
class Target:
    """What the zip is for. ``machine`` is ``None`` for the Python that runs this."""

    python: str
    machine: str | None

    def marker_environment(self) -> dict[str, str]:
        """What the lock's markers are to be judged by; pip would judge them by the Python that runs it."""
        from packaging.markers import default_environment

        found = {key: str(value) for key, value in default_environment().items()}
        if self.machine is not None:
            found |= {
                "implementation_name": "cpython",
                "os_name": "posix",
                "platform_machine": self.machine,
                "platform_python_implementation": "CPython",
                "platform_system": "Linux",
                "python_full_version": f"{self.python}.0",
                "python_version": self.python,
                "sys_platform": "linux",
            }
        return found

    def pip_options(self) -> list[str]:
        """How pip is told to choose wheels for another machine."""
        if self.machine is None:
            return []
        tag = "cp" + self.python.replace(".", "")
        platforms = [f"manylinux_2_{minor}_{self.machine}" for minor in GLIBC_MINORS] + [f"manylinux2014_{self.machine}"]
        options = ["--python-version", self.python, "--implementation", "cp"]
        options += [each for abi in (tag, "abi3", "none") for each in ("--abi", abi)]
        return options + [each for name in platforms for each in ("--platform", name)]


@dataclass(frozen=True)
class Rule:
    """One line of the list."""

    verb: str
    pattern: str


# --- The steps --------------------------------------------------------------------------------------------------------


def chosen_requirements(lock: str, environment: dict[str, str]) -> str:
    """The entries of a lock whose markers hold in ``environment``, without their markers."""
    from packaging.markers import Marker  # not in the image, which only has --only-chromalith done

    kept = []
    for line in lock.replace("\\\n", " ").splitlines():
        requirement, *hashes = line.partition("#")[0].split(" --hash=")
        name, _, marker = requirement.partition(";")
        if name.strip() and (not marker.strip() or Marker(marker.strip()).evaluate(environment)):
            kept.append(" --hash=".join([name.strip(), *(each.strip() for each in hashes)]))
    return "\n".join(kept) + "\n"


def install(target: Target, tree: Path) -> None:
    """Put the locked wheels into the folder."""
    with tempfile.TemporaryDirectory(prefix="build-lambda-") as scratch:
        chosen = Path(scratch) / "requirements.txt"
        chosen.write_text(chosen_requirements(LOCK.read_text(encoding="utf-8"), target.marker_environment()), encoding="utf-8")
        command = [
            sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--root-user-action", "ignore",
            "--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", str(tree),
            *target.pip_options(), "-r", str(chosen),
        ]  # fmt: skip
        done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise CannotBuild("pip could not get the locked wheels; its messages are above")


def add_chromalith(tree: Path, package: Path = ROOT / "src" / "chromalith") -> None:
    """The sources as they are: no build of a wheel, whose metadata would name a path of this machine."""
    for source in sorted(package.rglob("*")):
        if source.suffix == ".py" or source.name == "py.typed":
            target = tree / "chromalith" / source.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = tree / f"chromalith-{project['version']}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {each}" for each in project["dependencies"]]
    metadata.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_rules(text: str) -> list[Rule]:
    """The list, checked: each rule has a verb that exists, and a reason."""
    rules = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        rule, _, reason = line.partition("#")
        words = rule.split()
        if len(words) != 2 or words[0] not in ("drop", "trim", "keep") or not reason.strip():
            raise CannotBuild(f"not a rule with a reason line={number} text={line!r}")
        rules.append(Rule(*words))
    return rules


def strip(tree: Path, rules: list[Rule]) -> tuple[int, int]:
    """Apply the rules, the last that matches a file deciding. Returns the bytes dropped and trimmed."""
    unmatched = set(rules)
    dropped = trimmed_off = 0
    for path in files(tree):
        name = path.relative_to(tree).as_posix()
        matching = [rule for rule in rules if fnmatch.fnmatchcase(name, rule.pattern)]
        unmatched.difference_update(matching)
        verb = matching[-1].verb if matching else "keep"
        size = path.stat().st_size
        if verb == "drop":
            path.unlink()
            dropped += size
        elif verb == "trim":
            path.write_bytes(trimmed(path.read_bytes()))
            trimmed_off += size - path.stat().st_size
    if unmatched:
        stale = ", ".join(sorted(f"{rule.verb} {rule.pattern}" for rule in unmatched))
        raise CannotBuild(f"rules of {RULES.name} that match nothing, so take them out: {stale}")
    remove_empty_folders(tree)
    return dropped, trimmed_off


def compile_all(tree: Path, python: str) -> None:
    """Bytecode for every module, by a Python of the target's version."""
    # One process: in which order modules are compiled must not decide what is written.
    command = [python, "-I", "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(tree), str(tree)]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise CannotBuild(f"not every module could be compiled; its messages are above compiler={python}")


def compiler(target: Target, named: str | None) -> tuple[str, str] | None:
    """A Python whose bytecode the target runs, and its full version; ``None`` if there is none."""
    beside = Path(sys.base_prefix).parent.glob(f"{target.python}.*/bin/python{target.python}")  # where several are kept side by side
    for each in [named] if named else [sys.executable, f"python{target.python}", *map(str, sorted(beside))]:
        try:
            done = subprocess.run([each, "-I", "-V"], capture_output=True, text=True, check=False)
        except OSError:
            continue
        version = done.stdout.removeprefix("Python ").strip()
        if done.returncode == 0 and version.startswith(target.python + "."):
            return each, version
    if named:
        raise CannotBuild(f"not a Python {target.python} compiler={named}")
    return None


def write_zip(tree: Path, archive: Path) -> None:
    """By rename: the zip is there whole or not at all."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(archive.name + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=ZIP_LEVEL) as writing:
        for path in files(tree):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), ZIP_DATE)
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = (0o755 if ".so" in path.name else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            writing.writestr(entry, path.read_bytes(), compresslevel=ZIP_LEVEL)
    partial.replace(archive)


def sizes(tree: Path) -> dict[str, int]:
    """The bytes of each top-level name, largest first; the libraries that a wheel brings are counted with its package."""
    found: Counter[str] = Counter()
    for path in files(tree):
        found[path.relative_to(tree).parts[0].removesuffix(".libs")] += path.stat().st_size
    return dict(found.most_common())


def files(tree: Path) -> list[Path]:
    """Every file, in the order of the names as bytes."""
    return sorted((path for path in tree.rglob("*") if path.is_file()), key=lambda path: path.relative_to(tree).as_posix().encode())


def remove_empty_folders(tree: Path) -> None:
    for folder, _, _ in sorted(os.walk(tree), reverse=True):
        if Path(folder) != tree and not any(Path(folder).iterdir()):
            Path(folder).rmdir()


# --- The whole --------------------------------------------------------------------------------------------------------


def build(target: Target, tree: Path, archive: Path | None, compile_with: str | None = None) -> dict[str, object]:
    """Build into ``tree``, which is made afresh, and from it ``archive``. Returns the report."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    install(target, tree)
    add_chromalith(tree)
    before = sum(sizes(tree).values())
    dropped, trimmed_off = strip(tree, read_rules(RULES.read_text(encoding="utf-8")))
    stripped = sum(sizes(tree).values())
    python = compiler(target, compile_with)
    if python is not None:
        compile_all(tree, python[0])
    packages = sizes(tree)
    unzipped = sum(packages.values())
    report: dict[str, object] = {
        "format": 1,
        "python": target.python,
        "machine": target.machine or platform.machine(),
        "bytes_installed": before,
        "bytes_dropped": dropped,
        "bytes_trimmed": trimmed_off,
        "bytes_bytecode": unzipped - stripped,
        "compiled_by": python[1] if python else None,
        "bytes_unzipped": unzipped,
        "bytes_unzipped_max": UNZIPPED_BYTES_MAX,
        "files": len(files(tree)),
        "packages": packages,
    }
    if unzipped > UNZIPPED_BYTES_MAX:
        raise CannotBuild(f"it does not fit: lambda unpacks at most bytes_max={UNZIPPED_BYTES_MAX} bytes={unzipped}")
    if archive is not None:
        write_zip(tree, archive)
        zipped = archive.read_bytes()
        report |= {
            "zip": str(archive),
            "bytes_zip": len(zipped),
            "sha256": hashlib.sha256(zipped).hexdigest(),
            "upload": "direct" if len(zipped) <= DIRECT_UPLOAD_BYTES_MAX else "bucket",
        }
    return report


def main(arguments: list[str] | None = None) -> int:
    """Parse, build, report."""
    parser = argparse.ArgumentParser(description="Build the zip that the Lambda functions run from.")
    parser.add_argument("--architecture", choices=sorted(MACHINES), default="x86_64", help="Lambda's name of the processor")
    parser.add_argument("--this-python", action="store_true", help="build for the Python that runs this, to try it out")
    parser.add_argument("--compile-with", metavar="PYTHON", help=f"a Python {LAMBDA_PYTHON} to compile with (default: one found)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "lambda.zip", help="the zip (default: build/lambda.zip)")
    parser.add_argument("--tree", type=Path, metavar="FOLDER", help="keep the unpacked content there")
    parser.add_argument("--no-zip", action="store_true", help="only the unpacked content (with --tree)")
    parser.add_argument("--only-chromalith", action="store_true", help="put only Chromalith itself into --tree (for the image)")
    parser.add_argument("--json", action="store_true", help="the report, as JSON")
    given = parser.parse_args(arguments)
    if (given.no_zip or given.only_chromalith) and given.tree is None:
        parser.error("--no-zip and --only-chromalith need --tree")
    if given.only_chromalith:
        add_chromalith(given.tree)
        return 0
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    target = Target(this, None) if given.this_python else Target(LAMBDA_PYTHON, MACHINES[given.architecture])
    with tempfile.TemporaryDirectory(prefix="build-lambda-") as scratch:
        try:
            archive = None if given.no_zip else given.output
            report = build(target, given.tree or Path(scratch) / "tree", archive, given.compile_with)
        except CannotBuild as error:
            print(f"build_lambda: error: {error}", file=sys.stderr)
            return 1
    print(json.dumps(report, indent=2) if given.json else summary(report))
    return 0


def summary(report: dict[str, object]) -> str:
    """One line for people."""
    def megabytes(name: str) -> str:
        return f"{int(str(report[name])) / 2**20:.0f} MB"

    parts = [f"unzipped {megabytes('bytes_unzipped')} of {megabytes('bytes_unzipped_max')}"]
    if "zip" in report:
        parts.insert(0, f"{report['zip']}: {megabytes('bytes_zip')}, upload={report['upload']}, sha256={report['sha256']}")
    parts.append(f"bytecode by Python {report['compiled_by']}" if report["compiled_by"] else "no bytecode: slower cold starts")
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main())

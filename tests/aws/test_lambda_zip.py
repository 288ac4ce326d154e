"""The zip that is deployed: its size, what is in it, and that what is left after the strip still does everything that a handler does.

It is built twice. For Lambda (CPython 3.13) it is measured, and run where this machine has that Python. For the Python of the tests it is
run in any case, alone: the standard library, the zip's content, and on a second path what Lambda's runtime brings.
"""

from __future__ import annotations

import json
import platform
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.aws.lambda_package import ROOT, base_python, runtime_packages, unpacked_zip

pytestmark = pytest.mark.xdist_group("lambda-zip")  # one worker: it is built once

MB = 2**20
UNZIPPED_BYTES_MAX = 250 * MB  # Lambda's limit
UNZIPPED_BYTES_EXPECTED = 185 * MB  # measured: 166 MB; more than this is a rule of the strip that no longer takes effect
ZIP_BYTES_EXPECTED = 70 * MB  # measured: 57 MB

OURS = tuple(f"chromalith/{each}" for each in ("chroma", "cli", "client", "migrate", "testing"))
NOT_IN_IT = ("boto3", "botocore", "chromadb", "rich", "typer", *OURS)
ELF_MACHINES = {"x86_64": 62, "aarch64": 183}

# What each handler is for, without a server: run by a Python that has nothing else on its path.
WORK = """
import importlib, importlib.util, json, os, pkgutil, sys
sys.path += sys.argv[1:3]
os.environ.update(CHROMADB_BUCKET=sys.argv[3] + "/store", CHROMALITH_CACHE_DIR=sys.argv[3] + "/cache", CHROMALITH_INDEX_THRESHOLD="100")
import chromalith
from chromalith.lambdas import compactor, producer, query
ids = [f"id-{n}" for n in range(300)]
vectors = [[float(n), float(n % 7), 1.0, 0.0] for n in range(300)]
texts = [f"text number {n}" for n in range(300)]
columns = {"embeddings": vectors, "documents": texts, "metadatas": [{"n": n} for n in range(300)]}
written = producer.handler({"collection": "words", "ids": ids, **columns}, None)
producer.handler({"collection": "words", "ids": ["id-5"], "op": "delete"}, None)
compacted = compactor.handler({"source": "manual"}, None)
where = {"where": {"n": {"$lt": 10}}, "where_document": {"$regex": "^text number [0-9]$"}}
found = query.handler({"collection": "words", "query_embeddings": vectors[5], "n_results": 3, **where}, None)
failed = {}
for module in pkgutil.walk_packages(chromalith.__path__, "chromalith."):
    try:
        importlib.import_module(module.name)
    except Exception as error:
        failed[module.name] = repr(error)
print(json.dumps({
    "written": written, "compacted": compacted, "found": found, "failed": failed, "path": sys.path,
    "importable": [name for name in ("chromadb", "typer", "rich", "pytest") if importlib.util.find_spec(name)],
    "boto3": importlib.util.find_spec("boto3").origin, "numpy": importlib.util.find_spec("numpy").origin,
    "usearch": "usearch" in sys.modules,
}))
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a build for Lambda, with its zip and its unpacked content."""
    folder = tmp_path_factory.mktemp("lambda")
    command = [sys.executable, str(ROOT / "scripts" / "build_lambda.py"), "--json", "--architecture", "x86_64"]
    command += ["--output", str(folder / "lambda.zip"), "--tree", str(folder / "tree")]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return report | {"tree": folder / "tree"}


def test_the_zip_fits(built: dict[str, Any]) -> None:
    """Unzipped it is below Lambda's limit, with a quarter to spare; the report says how it must be uploaded."""
    with zipfile.ZipFile(built["zip"]) as archive:
        unzipped = sum(each.file_size for each in archive.infolist())
    print({name: built[name] for name in ("bytes_unzipped", "bytes_zip", "compiled_by", "bytes_bytecode", "packages")})
    assert unzipped == built["bytes_unzipped"] == sum(built["packages"].values())
    assert unzipped <= UNZIPPED_BYTES_EXPECTED < UNZIPPED_BYTES_MAX == built["bytes_unzipped_max"]
    assert built["bytes_zip"] == Path(built["zip"]).stat().st_size <= ZIP_BYTES_EXPECTED
    assert built["upload"] == ("direct" if built["bytes_zip"] <= 50 * MB else "bucket")


def test_the_zip_holds_what_it_should(built: dict[str, Any]) -> None:
    """The handlers, whatever they need, and nothing of the commands, the drop-in client, or what Lambda brings itself."""
    with zipfile.ZipFile(built["zip"]) as archive:
        entries = archive.infolist()
    listed = [each.filename for each in entries]
    assert listed == sorted(listed, key=str.encode)
    assert {each.date_time for each in entries} == {(1980, 1, 1, 0, 0, 0)}
    for name in ("chromalith/lambdas/producer.py", "chromalith/lambdas/query.py", "pyarrow/libarrow.so", "aws_lambda_powertools/"):
        assert any(each.startswith(name) for each in listed), name
    for name in NOT_IN_IT:
        assert not [each for each in listed if each.startswith((f"{name}/", f"{name}-"))], name


def test_every_library_is_for_lambda(built: dict[str, Any]) -> None:
    """Built anywhere, each extension is for CPython 3.13 (or the stable ABI), and each library for the asked processor."""
    libraries = [path for path in built["tree"].rglob("*.so*") if path.is_file()]
    assert len(libraries) > 20
    for path in libraries:
        assert struct.unpack_from("<H", path.read_bytes()[:20], 18) == (ELF_MACHINES["x86_64"],), path.name
        assert "cpython-" not in path.name or "cpython-313-x86_64-linux-gnu" in path.name, path.name


def test_arm64_fits_too() -> None:
    """The same lock and the same rules build for Lambda's other processor."""
    tree = unpacked_zip("--architecture", "arm64")
    libraries = [path for path in tree.rglob("*.so*") if path.is_file()]
    machines = {struct.unpack_from("<H", path.read_bytes()[:20], 18)[0] for path in libraries}
    assert machines == {ELF_MACHINES["aarch64"]}
    assert sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) <= UNZIPPED_BYTES_EXPECTED


def test_it_works_alone(tmp_path: Path) -> None:
    """With nothing but the standard library, the zip and Lambda's own packages: write, compact, build an index, query with filters."""
    check_work(base_python(), unpacked_zip(), tmp_path)


def test_the_very_zip_works_on_its_python(built: dict[str, Any], tmp_path: Path) -> None:
    """What is deployed, on the Python that it is deployed to."""
    if built["compiled_by"] is None or platform.machine() != "x86_64":
        pytest.skip("this machine has no Python 3.13")
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from build_lambda import Target, compiler
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    found = compiler(Target("3.13", "x86_64"), None)
    assert found is not None
    check_work(found[0], built["tree"], tmp_path)


def check_work(python: str, tree: Path, folder: Path) -> None:
    before = {path: path.stat().st_size for path in tree.rglob("*")}
    command = [python, "-I", "-S", "-B", "-W", "error::ImportWarning", "-c", WORK, str(tree), str(runtime_packages()), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["written"]["item_count"] == 300
    assert [each["deltas_folded"] for each in told["compacted"]["collections"]] == [2], told["compacted"]
    assert told["found"]["ids"] == [["id-4", "id-6", "id-3"]] or told["found"]["ids"] == [["id-6", "id-4", "id-3"]], told["found"]
    assert told["usearch"], "no index was built, so that its library was not tried"
    assert told["failed"] == {}, "modules that the strip breaks, or that need what is not in the zip"
    assert told["importable"] == []
    assert told["numpy"].startswith(str(tree)), "the zip's own comes first"
    assert told["boto3"].startswith(str(runtime_packages())), "the runtime's"
    assert {path: path.stat().st_size for path in tree.rglob("*")} == before, "the code's folder is read-only on Lambda"

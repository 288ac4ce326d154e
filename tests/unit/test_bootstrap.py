"""The bootstrap works on the barest Python there is, and never trusts what an interruption left behind.

No network: the package index is a folder that each test makes, with a pip wheel put together from the pip that runs the
tests. The bare Pythons are real interpreters whose standard library lacks what Debian leaves out.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import http.server
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"

# A build backend without dependencies, so that the test needs no other package than pip.
BACKEND = """
import pathlib, zipfile
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "chromalith-0.1.0-py3-none-any.whl"
    info = "chromalith-0.1.0.dist-info/"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("chromalith.pth", str(pathlib.Path(__file__).parent / "src"))
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: chromalith\\nVersion: 0.1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture(scope="module")
def pip_index() -> Iterator[ModuleType]:
    """The script's second half, imported as the script imports it."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import pip_index
    finally:
        sys.path.remove(str(SCRIPTS))
    return pip_index


@pytest.fixture(scope="module")
def pip_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pip wheel, zipped from the installed one: without what an installer adds, it is the same files."""
    found = importlib.metadata.distribution("pip")
    path = tmp_path_factory.mktemp("wheel") / f"pip-{found.version}-py3-none-any.whl"
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for file in found.files or []:
            name = file.as_posix()
            if name.startswith("..") or name.endswith((".pyc", "/INSTALLER", "/REQUESTED", "/RECORD")):
                continue
            wheel.write(str(file.locate()), name)
            rows.append((name, "", ""))
        record = io.StringIO()
        csv.writer(record).writerows(rows)
        wheel.writestr(f"pip-{found.version}.dist-info/RECORD", record.getvalue())
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, pip_wheel: Path) -> Path:
    """A simple index, as a folder, with that wheel."""
    page = tmp_path_factory.mktemp("simple") / "pip"
    page.mkdir()
    shutil.copy(pip_wheel, page)
    digest = sha256(pip_wheel)
    (page / "index.html").write_text(f'<a href="{pip_wheel.name}#sha256={digest}">{pip_wheel.name}</a>')
    return page.parent


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bare_python(folder: Path, *missing: str) -> Path:
    """A Python whose standard library lacks some modules, and that has no packages: a copy of the program beside links."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = folder / "lib" / version
    library.mkdir(parents=True)
    for each in Path(sysconfig.get_path("stdlib")).iterdir():
        if each.name not in {*missing, "site-packages", "dist-packages", "EXTERNALLY-MANAGED"}:
            (library / each.name).symlink_to(each)
    (library / "site-packages").mkdir()
    program = folder / "bin" / version
    program.parent.mkdir()
    shutil.copy(Path(sys._base_executable).resolve(), program)  # type: ignore[attr-defined]
    code = "import sys, ssl, zlib; print(sys.prefix)"
    started = subprocess.run(
        [str(program), "-c", code], capture_output=True, text=True, check=False, env=bare_environment(folder)
    )
    if started.stdout.strip() != str(folder):
        pytest.skip("this Python cannot be moved: it is built with a shared library or a fixed prefix")
    return program


def bare_environment(home: Path, **more: str) -> dict[str, str]:
    """As on a machine where nobody configured anything."""
    return {"PATH": os.defpath, "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "LC_ALL": "C.UTF-8", **more}


@pytest.fixture
def project(tmp_path: Path, pip_wheel: Path) -> Path:
    return make_project(tmp_path / "project", pip_wheel)


def make_project(root: Path, pip_wheel: Path) -> Path:
    """A project with the real scripts, whose locks name pip alone."""
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "requirements").mkdir()
    version = pip_wheel.name.split("-")[1]
    for name in ("pip.lock", "dev.lock"):
        (root / "requirements" / name).write_text(f"pip=={version} \\\n    --hash=sha256:{sha256(pip_wheel)}\n")
    (root / "src").mkdir()
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(PYPROJECT)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pip_wheel: Path, index: Path) -> tuple[Path, Path]:
    """A bare Python, and a project whose environment it has made; a test leaves it up to date."""
    folder = tmp_path_factory.mktemp("made")
    python, root = bare_python(folder / "bare", "ensurepip"), make_project(folder / "project", pip_wheel)
    done = bootstrap(python, root, PIP_INDEX_URL=index.as_uri())
    assert done.returncode == 0, done.stderr
    assert "to install pip" in done.stderr
    return python, root


def bootstrap(python: Path, root: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), str(root / "scripts" / "bootstrap.py"), "dev"]
    environment = bare_environment(root.parent, **environ)
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def packages(root: Path) -> set[str]:
    """What the environment holds, as its own pip says."""
    command = [str(root / ".venv" / "bin" / "python"), "-m", "pip", "list", "--format=json"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True, env=bare_environment(root.parent))
    return {each["name"] for each in json.loads(listed.stdout)}


def test_bare_python_gets_an_environment(made: tuple[Path, Path]) -> None:
    """Without pip and without ensurepip, a configured index is enough."""
    assert packages(made[1]) == {"pip", "chromalith"}


def test_even_without_venv(tmp_path: Path, project: Path, index: Path) -> None:
    """Where the venv module is missing too, the environment is made by hand, and is one."""
    done = bootstrap(bare_python(tmp_path / "bare", "ensurepip", "venv"), project, PIP_INDEX_URL=index.as_uri())
    assert done.returncode == 0, done.stderr
    assert "by hand" in done.stderr
    assert done.stdout == ""
    code = "import sys; print(sys.prefix != sys.base_prefix, sys.prefix)"
    asked = subprocess.run(
        [str(project / ".venv" / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True
    )
    assert asked.stdout.split() == ["True", str(project / ".venv")]
    assert packages(project) == {"pip", "chromalith"}


def test_second_call_does_nothing(made: tuple[Path, Path]) -> None:
    """What is up to date is left alone, silently; it needs no index any more."""
    python, root = made
    before = (root / ".venv" / ".stamp").stat().st_mtime_ns
    again = bootstrap(python, root)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (root / ".venv" / ".stamp").stat().st_mtime_ns == before


def test_interrupted_environment_is_made_afresh(tmp_path: Path, project: Path, pip_wheel: Path, index: Path) -> None:
    """An environment without a stamp is not believed, though pip's record says that pip is there."""
    python = bare_python(tmp_path / "bare", "ensurepip")
    subprocess.run([str(python), "-m", "venv", "--without-pip", str(project / ".venv")], check=True)
    site = next((project / ".venv" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(pip_wheel) as wheel:
        wheel.extractall(site, [name for name in wheel.namelist() if not name.startswith("pip/_internal/")])
    done = bootstrap(python, project, PIP_FIND_LINKS=str(index / "pip"), PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    assert packages(project) == {"pip", "chromalith"}


def test_changed_lock_is_followed(made: tuple[Path, Path], index: Path) -> None:
    """A lock that cannot be met fails each time and leaves no stamp; one that can removes what it does not name."""
    python, root = made
    lock = root / "requirements" / "dev.lock"
    good = lock.read_text()
    site = next((root / ".venv" / "lib").glob("python*/site-packages"))
    (site / "stray-1.0.dist-info").mkdir()
    (site / "stray-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 1.0\n")
    (site / "stray-1.0.dist-info" / "RECORD").write_text(
        "stray-1.0.dist-info/METADATA,,\nstray-1.0.dist-info/RECORD,,\n"
    )
    lock.write_text("# the same, said otherwise\n" + good)
    assert bootstrap(python, root, PIP_INDEX_URL=index.as_uri()).returncode == 0
    assert packages(root) == {"pip", "chromalith"}
    try:
        lock.write_text(good + "absent==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
        failed = bootstrap(python, root, PIP_INDEX_URL=index.as_uri())
        assert failed.returncode == 1
        assert "absent==1.0" in failed.stderr
        assert not (root / ".venv" / ".stamp").exists()
    finally:
        lock.write_text(good)
        assert bootstrap(python, root, PIP_INDEX_URL=index.as_uri()).returncode == 0


def test_nothing_configured_says_what_helps(tmp_path: Path, project: Path) -> None:
    """Where nothing leads to a pip there is one error, which names each way that was tried and what a person can do."""
    python = bare_python(tmp_path / "bare", "ensurepip")
    done = bootstrap(python, project)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for expected in (
        "ensurepip",
        "the machine's pip",
        "the configured index",
        "PIP_INDEX_URL",
        "PIP_FIND_LINKS",
        "python3-venv",
    ):
        assert expected in done.stderr
    assert not (project / ".venv" / ".stamp").exists()


def test_configuration_is_read_as_pip_reads_it(tmp_path: Path, pip_index: ModuleType) -> None:
    """Later files beat earlier ones, the command's section beats the global one, and the environment beats all files."""
    first, second = tmp_path / "first.conf", tmp_path / "second.conf"
    first.write_text(
        "[global]\nindex-url = https://one.example/simple\nextra-index-url = https://x.example/a\n  https://x.example/b\n"
    )
    second.write_text("[global]\nindex-url = https://two.example/simple\n[install]\nfind_links = wheels\n")
    files = [first, second, tmp_path / "absent.conf"]
    settings = pip_index.pip_settings({}, files)
    assert settings.index_url == "https://two.example/simple"
    assert settings.extra_index_urls == ["https://x.example/a", "https://x.example/b"]
    assert settings.find_links == ["wheels"]
    assert (
        pip_index.pip_settings({"PIP_INDEX_URL": "https://three.example"}, files).index_url == "https://three.example"
    )
    assert pip_index.pip_settings({"PIP_NO_INDEX": "1"}, files).sources() == [
        (Path("wheels").absolute().as_uri(), False)
    ]


def test_configuration_files_are_pips(tmp_path: Path, pip_index: ModuleType) -> None:
    """The files are those that pip names, from the least to the most specific; the null device turns them off."""
    home = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": ""}
    files = pip_index.config_files({**home, "PIP_CONFIG_FILE": "own.conf"})
    assert files == [
        Path("/etc/pip.conf"),
        tmp_path / ".pip/pip.conf",
        tmp_path / ".config/pip/pip.conf",
        Path("own.conf"),
    ]
    assert pip_index.config_files({**home, "PIP_CONFIG_FILE": os.devnull}) == []


def offered(pip_index: ModuleType, html: str) -> list[object]:
    parser = pip_index.LinkParser("https://index.example/simple/pip/")
    parser.feed(html)
    return list(parser.found)


def test_newest_usable_wheel_is_chosen(pip_index: ModuleType) -> None:
    """Versions compare as numbers; a pre-release, a source archive, a withdrawn file and one for a later Python are passed over."""
    links = offered(
        pip_index,
        """
        <a href="../../f/pip-26.9-py3-none-any.whl#sha256=aa">a</a>
        <a href="../../f/pip-26.10-py3-none-any.whl#sha256=bb" data-requires-python="&gt;=3.9">b</a>
        <a href="../../f/pip-27.0b1-py3-none-any.whl">pre-release</a>
        <a href="../../f/pip-28.0.tar.gz">source</a>
        <a href="../../f/pip-29.0-py3-none-any.whl" data-yanked="broken">withdrawn</a>
        <a href="../../f/pip-30.0-py3-none-any.whl" data-requires-python="&gt;=3.99">later Python</a>
        """,
    )
    chosen = pip_index.choose_wheel(links, set())
    assert chosen.url == "https://index.example/f/pip-26.10-py3-none-any.whl"
    assert pip_index.choose_wheel(links, {"aa"}).filename == "pip-26.9-py3-none-any.whl"
    assert pip_index.choose_wheel([], set()) is None


def test_wrong_bytes_are_refused(tmp_path: Path, pip_index: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel whose bytes are not what the index said is not written, let alone run."""
    page = tmp_path / "simple" / "pip"
    page.mkdir(parents=True)
    (page / "pip-26.0-py3-none-any.whl").write_bytes(b"not a wheel")
    (page / "index.html").write_text('<a href="pip-26.0-py3-none-any.whl#sha256=' + "0" * 64 + '">x</a>')
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", page.parent.as_uri())
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(pip_index.NoWheel, match="wrong hash"):
        pip_index.fetch_pip_wheel(tmp_path, set())
    assert not (tmp_path / "pip-26.0-py3-none-any.whl").exists()


class PrivateIndex(http.server.BaseHTTPRequestHandler):
    """An index behind a password."""

    allowed = "Basic " + base64.b64encode(b"ada:s3cret@").decode()
    wheel = b""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != self.allowed:
            self.send_error(401)
            return
        page = b'<a href="/files/pip-26.0-py3-none-any.whl">x</a>' if self.path == "/simple/pip/" else b"the wheel"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_private_index_gets_its_password(
    tmp_path: Path, pip_index: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name and password in an index's URL are sent, also for the file that it links to, and appear in no message."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PrivateIndex)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    try:
        port = server.server_address[1]
        monkeypatch.setenv("PIP_INDEX_URL", f"http://ada:s3cret%40@127.0.0.1:{port}/simple")
        assert pip_index.fetch_pip_wheel(tmp_path, set()).read_bytes() == b"the wheel"
        monkeypatch.setenv("PIP_INDEX_URL", f"http://ada:wrong@127.0.0.1:{port}/simple")
        with pytest.raises(pip_index.NoWheel) as refused:
            pip_index.fetch_pip_wheel(tmp_path, set())
        assert "401" in str(refused.value)
        assert "wrong" not in str(refused.value)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Find and fetch a pip wheel where there is no pip, from wherever pip's own configuration says packages are.

``bootstrap.py`` needs this only on a machine that has neither ``ensurepip`` nor pip. It reads what pip would read, goes
through the configured places as pip would (a "simple" index of PEP 503, or a folder or page of links), and fetches one
wheel, which runs as it is: ``python pip-….whl/pip install …``. Nothing here knows the address of any index.

Only the standard library is used.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import html.parser
import os
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

FETCH_TIMEOUT_S = 60


class NoWheel(Exception):
    """No configured place gives a pip wheel that can be trusted and run; the message says why."""


def fetch_pip_wheel(folder: Path, locked: set[str]) -> Path:
    """Put a pip wheel into ``folder``: the locked one where it is offered, else the newest that this Python can run.

    Args:
        folder: where to write the file.
        locked: SHA-256 digests (hexadecimal) of the files of the locked pip.

    Raises:
        NoWheel: nothing is configured, nothing fits, or the bytes are not what the index said.
    """
    settings = pip_settings()
    sources = settings.sources()
    if not sources:
        raise NoWheel("no index-url, extra-index-url or find-links is configured")
    links: list[Wheel] = []
    refused = []
    for source, is_index in sources:
        page = source.rstrip("/") + "/pip/" if is_index else source
        try:
            links += links_at(page, settings)
        except (OSError, ValueError) as error:  # urllib's errors are OSErrors; a broken URL is a ValueError
            refused.append(f"{redacted(page)}: {error}")
    wheel = choose_wheel(links, locked)
    if wheel is None:
        raise NoWheel("; ".join(["no pip wheel for this Python there", *refused]))
    try:
        body = fetch(wheel.url, settings)
    except OSError as error:
        raise NoWheel(f"{wheel.filename}: {error}") from error
    path = folder / wheel.filename
    path.write_bytes(checked(body, wheel))
    return path


# --- pip's configuration, read without pip ----------------------------------------------------------------------------


class PipSettings:
    """What pip would be told by its files and by the environment, as far as it says where packages are."""

    def __init__(self, values: dict[str, str]) -> None:
        self.index_url = values.get("index-url", "")
        self.extra_index_urls = values.get("extra-index-url", "").split()
        self.find_links = values.get("find-links", "").split()
        self.no_index = values.get("no-index", "").lower() in ("1", "true", "yes", "on")
        self.cert = values.get("cert", "")

    def sources(self) -> list[tuple[str, bool]]:
        """Where to look, as (URL, whether it is an index and not a flat list of links)."""
        indexes = [] if self.no_index else [url for url in (self.index_url, *self.extra_index_urls) if url]
        return [(as_url(each), False) for each in self.find_links] + [(as_url(each), True) for each in indexes]


def pip_settings(environ: dict[str, str] | None = None, files: list[Path] | None = None) -> PipSettings:
    """Read the files from the least to the most specific, then the environment, which beats them all (as pip does)."""
    environ = dict(os.environ) if environ is None else environ
    values: dict[str, str] = {}
    for path in config_files(environ) if files is None else files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            print(f"bootstrap: ignoring {path}: {error}", file=sys.stderr)
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                values.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for key, value in environ.items():
        if key.startswith("PIP_"):
            values[key[4:].lower().replace("_", "-")] = value
    return PipSettings(values)


def config_files(environ: dict[str, str]) -> list[Path]:
    """The files that pip reads, in its order."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME") or "~").expanduser()
    system = [Path(each) / "pip" / "pip.conf" for each in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if each]
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    user = [home / ".pip" / "pip.conf", config_home / "pip" / "pip.conf"]
    return [*system, Path("/etc/pip.conf"), *user, *([Path(named)] if named else [])]


def as_url(place: str) -> str:
    """A URL as it is; a plain path as a ``file:`` URL."""
    return (
        place if re.match(r"[a-z][a-z0-9+.-]+:", place, re.IGNORECASE) else Path(place).expanduser().absolute().as_uri()
    )


def redacted(url: str) -> str:
    """A URL without the password that it may carry."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


# --- Finding one wheel ------------------------------------------------------------------------------------------------


class Wheel:
    """A file that an index offers: its URL without the fragment, and the SHA-256 from the fragment, if it has one."""

    def __init__(self, url: str, requires_python: str = "") -> None:
        self.url, fragment = urllib.parse.urldefrag(url)
        self.filename = urllib.parse.unquote(urllib.parse.urlsplit(self.url).path).rpartition("/")[2]
        self.sha256 = fragment[len("sha256=") :] if fragment.startswith("sha256=") else ""
        self.requires_python = requires_python

    def version(self) -> tuple[int, ...] | None:
        """``None`` unless this is a release (not a pre-release) of pip, as a wheel for any platform."""
        matched = re.fullmatch(r"pip-(\d+(?:\.\d+)*)-(?:py2\.)?py3-none-any\.whl", self.filename)
        return tuple(int(part) for part in matched.group(1).split(".")) if matched else None

    def fits(self) -> bool:
        """Whether its ``Requires-Python`` lower bounds admit this Python (pip's wheels have no other kind)."""
        bounds = re.findall(r">=\s*(\d+)\.(\d+)", self.requires_python)
        return all((int(major), int(minor)) <= sys.version_info[:2] for major, minor in bounds)


class LinkParser(html.parser.HTMLParser):
    """Collects the links of a page of a simple index (PEP 503)."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[Wheel] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """``<base>`` moves the base; ``<a>`` is a file, unless its author withdrew it (PEP 592)."""
        values = dict(attrs)
        href = values.get("href")
        if tag == "base" and href:
            self.base = urllib.parse.urljoin(self.base, href)
        if tag == "a" and href and "data-yanked" not in values:
            self.found.append(Wheel(urllib.parse.urljoin(self.base, href), values.get("data-requires-python") or ""))


def links_at(page: str, settings: PipSettings) -> list[Wheel]:
    """The files that a page links to; of a local folder without a page, the files in it."""
    parts = urllib.parse.urlsplit(page)
    if parts.scheme == "file":
        folder = Path(urllib.request.url2pathname(parts.path))
        if folder.is_dir():
            if not (folder / "index.html").is_file():
                return [Wheel(each.as_uri()) for each in sorted(folder.iterdir()) if each.is_file()]
            page = (folder / "index.html").as_uri()
    parser = LinkParser(page)
    parser.feed(fetch(page, settings).decode("utf-8", errors="replace"))
    return parser.found


def choose_wheel(wheels: list[Wheel], locked: set[str]) -> Wheel | None:
    """The locked pip where it is offered, else the newest that this Python can run, else ``None``."""
    usable = [each for each in wheels if each.version() is not None and each.fits()]
    return max(usable, key=lambda each: (each.sha256 in locked, each.version()), default=None)


def checked(body: bytes, wheel: Wheel) -> bytes:
    """The body, if it is what the index said it is."""
    found = hashlib.sha256(body).hexdigest()
    if wheel.sha256 and found != wheel.sha256:
        raise NoWheel(f"{wheel.filename} has the wrong hash expected={wheel.sha256} found={found}")
    return body


def fetch(url: str, settings: PipSettings) -> bytes:
    """GET, with the certificates that pip would trust and the password that the URL carries."""
    parts = urllib.parse.urlsplit(url)
    headers = {"User-Agent": "chromalith-bootstrap", "Accept": "text/html, */*"}
    if parts.username is not None:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode("ascii")
        url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    # Without PIP_CERT the default context follows SSL_CERT_FILE and SSL_CERT_DIR.
    context = ssl.create_default_context(cafile=settings.cert or None) if parts.scheme == "https" else None
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=FETCH_TIMEOUT_S, context=context) as reply:
        body: bytes = reply.read()
        return body

"""Where run.py gets a pip from when Python came without one, as on Debian (standard library only).

No package host is named here: pip's own settings name one, or else the distribution's package of pip is taken.
"""

import base64
import configparser
import hashlib
import html.parser
import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # what Debian's pip reads
WHEEL = re.compile(r"pip-(\d+(?:\.\d+)*)-py\d[.\w]*-none-any\.whl$")  # final releases only


class NoPip(Exception):
    """There is no pip to be had for the new environment."""


class Unavailable(Exception):
    """This one place has no pip; the next place is asked."""


class Settings(NamedTuple):
    """What pip's own settings say about where packages come from."""

    find_links: list[str]
    indexes: list[str]
    certificates: str | None


class Wheel(NamedTuple):
    """A pip wheel that a page or folder offers; `sha256` is empty where none is given."""

    version: tuple[int, ...]
    url: str
    sha256: str


def find_pip(python: str, folder: Path) -> list[str]:
    """The command that installs into the environment of `python`; a wheel fetched for it is kept in `folder`."""
    reasons = []
    for source in (installed, from_ensurepip, from_this_interpreter, kept, from_settings, from_distribution):
        try:
            return source(python, folder)
        except (Unavailable, OSError, http.client.HTTPException, configparser.Error) as error:
            reasons.append(f"  {source.__doc__}: {error}")
    raise NoPip("\n".join(reasons))


def installed(python: str, _folder: Path) -> list[str]:
    """Pip in the environment"""
    return working([python, "-m", "pip"])


def from_ensurepip(python: str, folder: Path) -> list[str]:
    """Ensurepip"""
    run([python, "-m", "ensurepip"])
    return installed(python, folder)


def from_this_interpreter(python: str, _folder: Path) -> list[str]:
    """This interpreter's pip"""
    return working([sys.executable, "-m", "pip", "--python", python])


def kept(python: str, folder: Path) -> list[str]:
    """A wheel fetched before"""
    wheels = sorted(folder.glob("pip-*.whl"))
    if not wheels:
        raise Unavailable("none")
    return runnable(python, wheels[-1], folder)


def from_settings(python: str, folder: Path) -> list[str]:
    """The indexes and folders in pip's settings"""
    settings = read_settings(os.environ)
    places = [*settings.find_links, *(index.rstrip("/") + "/pip/" for index in settings.indexes)]
    reasons = []
    for place in places:
        try:
            return runnable(python, download(place, settings.certificates, folder), folder)
        except (Unavailable, OSError, http.client.HTTPException) as error:
            reasons.append(f"{without_password(place)} ({error})")
    raise Unavailable("; ".join(reasons) or "none are set")


def from_distribution(python: str, folder: Path) -> list[str]:
    """The distribution's package python3-pip-whl"""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable("no apt-get here")
    work = folder / "apt"
    for part in ("state/lists/partial", "cache/archives/partial", "unpacked"):
        (work / part).mkdir(parents=True, exist_ok=True)
    try:
        fetch_packages(work)
        return runnable(python, take_wheel(work, folder), folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)  # 150 MB of package lists


def fetch_packages(work: Path) -> None:
    """Unpacks the distribution's pip, and certificates where there are none; lists of our own, so no root is needed."""
    apt = ["apt-get", "-o", f"Dir::State={work / 'state'}", "-o", f"Dir::Cache={work / 'cache'}"]
    apt += ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "Acquire::Languages=none"]
    names = ["python3-pip-whl"] if SYSTEM_CERTIFICATES.exists() else ["python3-pip-whl", "ca-certificates"]
    run([*apt, "update"], cwd=work)
    run([*apt, "download", *names], cwd=work)
    for package in work.glob("*.deb"):
        run(["dpkg-deb", "-x", str(package), str(work / "unpacked")])


def take_wheel(work: Path, folder: Path) -> Path:
    """Moves the wheel, and the certificates as one file, out of the unpacked packages into `folder`."""
    wheels = sorted(work.glob("unpacked/**/pip-*.whl"))
    if not wheels:
        raise Unavailable("no wheel in it")
    certificates = sorted(work.glob("unpacked/usr/share/ca-certificates/**/*.crt"))
    if certificates:
        (folder / "certificates.pem").write_bytes(b"".join(file.read_bytes() for file in certificates))
    return Path(shutil.move(wheels[-1], folder / wheels[-1].name))


def runnable(python: str, wheel: Path, folder: Path) -> list[str]:
    """The command that runs pip out of its wheel: a wheel is a zip file, and pip allows that."""
    command = [python, str(wheel / "pip")]
    certificates = folder / "certificates.pem"
    if certificates.exists() and not SYSTEM_CERTIFICATES.exists() and not read_settings(os.environ).certificates:
        command += ["--cert", str(certificates)]
    return working(command)


def working(command: list[str]) -> list[str]:
    """The command itself, once it has said its version."""
    run([*command, "--version"])
    return command


def run(command: list[str], cwd: Path | None = None) -> None:
    """Runs a command quietly; its last line of complaint becomes the reason when it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(lines[-1])


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Pip's settings, later ones winning: the files' [global], their [install], then the PIP_… variables."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in settings_files(environ):
        parser = configparser.RawConfigParser()
        parser.read(file, encoding="utf-8")
        for name, values in sections.items():
            if parser.has_section(name):
                values.update({key.replace("_", "-"): value for key, value in parser.items(name)})
    variables = {key[4:].lower().replace("_", "-"): value for key, value in environ.items() if key.startswith("PIP_")}
    merged = sections["global"] | sections["install"] | {key: value for key, value in variables.items() if value}
    indexes = merged.get("index-url", "").split() + merged.get("extra-index-url", "").split()
    if merged.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indexes = []
    return Settings(merged.get("find-links", "").split(), indexes, merged.get("cert"))


def settings_files(environ: Mapping[str, str]) -> list[Path]:
    """The files that pip reads, in its order: of the system, of the user, then the one that PIP_CONFIG_FILE names."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    system = [Path(folder, "pip") for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)]
    user = [home / ".pip", Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip")]
    if sys.platform == "darwin":
        system = [Path("/Library/Application Support/pip")]
        user[1:] = [own for own in (home / "Library/Application Support/pip",) if own.is_dir()] or user[1:]
    if named and Path(named).exists():
        user = []  # pip leaves the user's files out then
    files = [folder / "pip.conf" for folder in [*system, Path("/etc"), *user]]
    return [*files, Path(named)] if named else files


def download(place: str, certificates: str | None, folder: Path) -> Path:
    """The newest pip wheel that `place` (a folder or page of links) has for this Python, stored in `folder`."""
    wheels = list(offered(place, certificates))
    if not wheels:
        raise Unavailable("has no pip for this Python")
    newest = max(wheels)
    content = fetch(newest.url, certificates)
    if newest.sha256 and hashlib.sha256(content).hexdigest() != newest.sha256:
        raise Unavailable(f"{without_password(newest.url)} does not have the promised sha256")
    target = folder / Path(urllib.parse.urlsplit(newest.url).path).name
    target.write_bytes(content)
    return target


def offered(place: str, certificates: str | None) -> Iterator[Wheel]:
    """The pip wheels in a folder, or linked from a page; `place` is a path or a URL."""
    url = place if "://" in place or place.startswith("file:") else Path(place).expanduser().resolve().as_uri()
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        path = Path(urllib.request.url2pathname(parts.path))
        if path.is_dir() and not (path / "index.html").exists():
            return (wheel for file in path.iterdir() if (wheel := as_wheel(file.as_uri())))
        url = (path / "index.html" if path.is_dir() else path).as_uri()
    page = Page()
    page.feed(fetch(url, certificates).decode("utf-8", "replace"))
    return (wheel for link in page.links if (wheel := as_wheel(joined(url, link))))


def joined(page: str, link: str) -> str:
    """The link made absolute; the name and password in the page's URL go along to the same host and no further."""
    url = urllib.parse.urlsplit(urllib.parse.urljoin(page, link))
    netloc = urllib.parse.urlsplit(page).netloc
    return url._replace(netloc=netloc).geturl() if netloc.rpartition("@")[2] == url.netloc else url.geturl()


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"//[^/@]*@", "//***@", url)


def as_wheel(url: str) -> Wheel | None:
    """The pip wheel behind a link, or None where the link leads to something else."""
    parts = urllib.parse.urlsplit(url)
    match = WHEEL.search(urllib.parse.unquote(parts.path))
    if not match:
        return None
    version = tuple(int(number) for number in match[1].split("."))
    return Wheel(version, parts._replace(fragment="").geturl(), parts.fragment.removeprefix("sha256="))


class Page(html.parser.HTMLParser):
    """The links of an index page that are not withdrawn and suit this Python."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps the link of an `a` element."""
        values = dict(attrs)
        wanted = re.search(r">=\s*(\d+)\.(\d+)", values.get("data-requires-python") or "")
        suits = not wanted or sys.version_info >= (int(wanted[1]), int(wanted[2]))
        if tag == "a" and suits and "data-yanked" not in values and (link := values.get("href")):
            self.links.append(link)


def fetch(url: str, certificates: str | None) -> bytes:
    """The bytes behind a URL; a name and password in it are sent as basic authentication."""
    parts = urllib.parse.urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl(), headers={"Accept": "text/html, */*;q=0.5"})
    if login:
        plain = urllib.parse.unquote(login).encode()
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(plain).decode())
    context = ssl.create_default_context(cafile=certificates) if parts.scheme == "https" else None
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        return bytes(answer.read())

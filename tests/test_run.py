"""run.py: what it sets up, when, and where it gets pip from; without any network."""

import hashlib
import http.server
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import bootstrap_pip

CHECKOUT = Path(__file__).parent.parent
COMMAND = "import sys; print(sys.argv[1:]); sys.exit(7 if 'seven' in sys.argv else 0)"
PIP = "import pathlib, sys; sys.exit('no such host' if pathlib.Path(__file__).with_name('offline').exists() else 0)"
FIND_PIP = """
class NoPip(Exception): ...
def find_pip(python, folder): return [python, str(folder.parent / "pip.py")]
"""


class Index(http.server.SimpleHTTPRequestHandler):
    """Serves a folder as a package index and notes the Authorization header of each call."""

    seen: list[str | None] = []  # noqa: RUF012 (one list for all calls is what is wanted)

    def do_GET(self) -> None:
        self.seen.append(self.headers["Authorization"])
        super().do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of wheels `pip-…` that only say their version."""
    (tmp_path / "pip").mkdir()
    for version in ("9.0.1", "30.0", "30.1", "31.0", "32.0b1"):
        with zipfile.ZipFile(tmp_path / f"pip/pip-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("pip/__main__.py", f"print('pip {version}')")
    return tmp_path


@pytest.fixture
def index(folder: Path) -> Iterator[str]:
    """The URL of that folder as an index on loopback; 31.0 is withdrawn and 30.1 needs a Python to come."""
    links = [
        '<a href="pip-9.0.1-py3-none-any.whl">9.0.1</a>',
        f'<a href="pip-30.0-py3-none-any.whl#sha256={sha256(folder, "30.0")}" data-requires-python="&gt;=3.9">30.0</a>',
        '<a href="pip-30.1-py3-none-any.whl" data-requires-python="&gt;=3.99">30.1</a>',
        '<a href="pip-31.0-py3-none-any.whl" data-yanked="broken">31.0</a>',
        '<a href="pip-32.0b1-py3-none-any.whl">32.0b1</a>',
    ]
    (folder / "pip/index.html").write_text("\n".join(links))
    Index.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has settings; these tests have their own."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ENRICHLOG_VENV", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def sha256(folder: Path, version: str) -> str:
    return hashlib.sha256((folder / f"pip/pip-{version}-py3-none-any.whl").read_bytes()).hexdigest()


def fetched(folder: Path) -> str:
    """The name of the wheel that pip's settings lead to."""
    (folder / "kept").mkdir()
    command = bootstrap_pip.from_settings(sys.executable, folder / "kept")
    return Path(command[1]).parent.name


def write_settings(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_an_index_gives_the_newest_pip_that_is_released_not_withdrawn_and_for_this_python(
    monkeypatch: pytest.MonkeyPatch, folder: Path, index: str
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index)
    assert fetched(folder) == "pip-30.0-py3-none-any.whl"


def test_a_name_and_password_in_the_settings_go_to_the_index_and_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, folder: Path, index: str
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.replace("//", "//me:se%40cret@"))
    assert fetched(folder) == "pip-30.0-py3-none-any.whl"
    assert Index.seen == ["Basic bWU6c2VAY3JldA=="] * 2
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:se%40cret@127.0.0.1:1/simple")
    with pytest.raises(bootstrap_pip.Unavailable) as failure:
        bootstrap_pip.from_settings(sys.executable, folder)
    assert "cret" not in str(failure.value)


def test_a_wheel_that_is_not_what_the_index_promised_is_refused(
    monkeypatch: pytest.MonkeyPatch, folder: Path, index: str
) -> None:
    (folder / "pip/pip-30.0-py3-none-any.whl").write_bytes(b"something else")
    monkeypatch.setenv("PIP_INDEX_URL", index)
    with pytest.raises(bootstrap_pip.Unavailable, match="promised sha256"):
        fetched(folder)


@pytest.mark.parametrize("as_url", [True, False], ids=["file URL", "path"])
def test_a_plain_folder_of_wheels_will_do(monkeypatch: pytest.MonkeyPatch, folder: Path, as_url: bool) -> None:
    place = folder / "pip"
    monkeypatch.setenv("PIP_FIND_LINKS", f"{folder}/not-there {place.as_uri() if as_url else place}")
    assert fetched(folder) == "pip-31.0-py3-none-any.whl"


def test_an_index_in_files_will_do(monkeypatch: pytest.MonkeyPatch, folder: Path, index: str) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{index}/not-there {folder.as_uri()}")
    assert fetched(folder) == "pip-30.0-py3-none-any.whl"


def test_settings_files_are_read_in_the_order_of_pip(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {"HOME": str(home), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}
    write_settings(tmp_path / "xdg/pip/pip.conf", "[global]\nindex-url = a\ncert = a\nfind_links =\n  x\n  y\n")
    write_settings(home / ".pip/pip.conf", "[global]\nindex-url = b\ncert = b\n")
    write_settings(home / ".config/pip/pip.conf", "[global]\nindex-url = c\n")
    settings = bootstrap_pip.read_settings(environ)
    assert (settings.indexes, settings.certificates, settings.find_links) == (["c"], "b", ["x", "y"])


def test_the_section_install_wins_over_global_and_a_variable_over_both(tmp_path: Path) -> None:
    named = write_settings(tmp_path / "pip.conf", "[install]\nindex-url = a\n[global]\nindex-url = b\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(named)}
    assert bootstrap_pip.read_settings(environ).indexes == ["a"]
    assert bootstrap_pip.read_settings(environ | {"PIP_INDEX_URL": "c"}).indexes == ["c"]
    assert bootstrap_pip.read_settings(environ | {"PIP_NO_INDEX": "1"}).indexes == []


def test_the_file_that_a_variable_names_replaces_those_of_the_user(tmp_path: Path) -> None:
    write_settings(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = a\ncert = a\n")
    named = write_settings(tmp_path / "named.conf", "[global]\nindex-url = b\n")
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path), "PIP_CONFIG_FILE": str(named)}
    assert bootstrap_pip.read_settings(environ).indexes == ["b"]
    assert bootstrap_pip.read_settings(environ | {"PIP_CONFIG_FILE": "/dev/null"}) == ([], [], None)


def test_when_no_pip_is_to_be_had_each_place_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/not/there")
    with pytest.raises(bootstrap_pip.NoPip) as failure:
        bootstrap_pip.find_pip("/not/there", tmp_path)
    assert len(str(failure.value).splitlines()) == 6
    assert "none are set" in str(failure.value)


class Checkout:
    """A checkout with the real run.py, a pip that installs nothing, and a cli.py that says what it was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / ".venv"
        shutil.copy(CHECKOUT / "run.py", folder)
        files = {"bootstrap_pip.py": FIND_PIP, "pip.py": PIP, "cli.py": COMMAND}
        for name, text in (files | {"requirements.lock": "# one", "requirements-dev.lock": "# two"}).items():
            (folder / name).write_text(text)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(self.folder / "run.py"), *words], capture_output=True, text=True, check=False
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "checkout").mkdir()
    return Checkout(tmp_path / "checkout")


def test_the_first_run_sets_up_and_later_ones_go_straight_to_the_command(checkout: Checkout) -> None:
    first, second = checkout.run(), checkout.run("failed", "--json")
    assert (first.returncode, first.stdout) == (0, "['demo']\n"), first.stderr
    assert "Setting up" in first.stderr
    assert (second.stdout, second.stderr) == ("['failed', '--json']\n", "")


def test_the_exit_code_is_that_of_the_command(checkout: Checkout) -> None:
    assert checkout.run("seven").returncode == 7


@pytest.mark.parametrize("damage", ["unfinished setup", "another lock"])
def test_an_environment_that_is_unfinished_or_of_other_packages_is_made_anew(checkout: Checkout, damage: str) -> None:
    checkout.run()
    leftover = checkout.venv / "leftover"
    leftover.touch()
    if damage == "unfinished setup":
        (checkout.venv / "enrichlog-setup").write_text("unfinished")
    else:
        (checkout.folder / "requirements.lock").write_text("# still nothing\n")
    assert "Setting up" in checkout.run().stderr
    assert not leftover.exists()
    assert checkout.run().stderr == ""


def test_two_first_runs_at_once_take_turns(checkout: Checkout) -> None:
    command = [sys.executable, str(checkout.folder / "run.py")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [out for out, _ in said] == ["['demo']\n"] * 2
    assert sum("Setting up" in err for _, err in said) == 1


def test_a_setup_that_fails_shows_what_pip_said_and_what_to_do_and_is_repaired_by_the_next_run(
    checkout: Checkout,
) -> None:
    (checkout.folder / "offline").touch()
    failed = checkout.run()
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "no such host" in failed.stderr
    assert "Next: see that the network is there" in failed.stderr
    (checkout.folder / "offline").unlink()
    assert checkout.run().returncode == 0


def test_a_folder_that_run_py_did_not_make_is_left_alone(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = write_settings(tmp_path / "others/file", "").parent
    monkeypatch.setenv("ENRICHLOG_VENV", str(others))
    done = checkout.run()
    assert done.returncode == 1
    assert "was not made by run.py" in done.stderr
    assert [file.name for file in others.iterdir()] == ["file"]


def test_an_older_python_is_told_so_in_one_line(checkout: Checkout) -> None:
    program = "import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(checkout.folder / "run.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "needs Python 3.11 or later" in done.stderr

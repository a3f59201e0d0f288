"""What is installed: the wheel's contents, its imports next to a user's own folders, the locks."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

CHECKOUT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")


def files_under(folder: str, installed_as: str) -> set[str]:
    """The files of a folder of the checkout, by the names they have in the wheel."""
    root = CHECKOUT / folder
    files = [file.relative_to(root) for file in root.rglob("*") if file.is_file()]
    return {f"{installed_as}/{file.as_posix()}" for file in files if not any(map(is_cache, file.parts))}


def is_cache(name: str) -> bool:
    """Whether a folder is one that Python, mypy or ruff left, which is never installed."""
    return name == "__pycache__" or name.startswith(".")


def pins(lock: str) -> dict[str, Version]:
    found = re.findall(r"^([a-z0-9-]+)==(\S+)", (CHECKOUT / lock).read_text(), re.MULTILINE)
    return {name: Version(version) for name, version in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("enrichlog-*.whl")))


def test_the_wheel_holds_our_packages_with_their_data_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packages = [files_under(name, name) for name in ("eventlog", "projections", "enrichlog")]
    expected = set().union(*packages, {"cli.py"}, files_under("alembic", "eventlog/migrations"))
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == expected


@pytest.mark.parametrize(
    "pattern",
    [
        r"eventlog/migrations/env\.py",
        r"eventlog/migrations/versions/.*\.py",
        r"enrichlog/prompts/.+",
        r"enrichlog/samples/.+\.jsonl",
        r"(eventlog|projections|enrichlog)/py\.typed",
        r"enrichlog-.*/licenses/LICENSE",
    ],
)
def test_the_wheel_holds_what_is_no_module(wheel: zipfile.ZipFile, pattern: str) -> None:
    assert [name for name in wheel.namelist() if re.fullmatch(pattern, name)]


def test_the_wheel_offers_the_command(wheel: zipfile.ZipFile) -> None:
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "enrichlog = cli:main" in wheel.read(entry_points).decode()


def test_no_package_shadows_the_alembic_library() -> None:
    assert list((CHECKOUT / "alembic").rglob("__init__.py")) == []


def test_the_installed_wheel_works_next_to_folders_that_carry_the_names_of_ours(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path / "site")
    for folder in ("ingestion", "web", "alerts"):
        (tmp_path / "work" / folder).mkdir(parents=True)
        (tmp_path / "work" / folder / "__init__.py").write_text("raise ImportError('the user\\'s own')")
    program = "import enrichlog, cli; print(enrichlog.__file__); cli.main()"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ENRICHLOG_", "OPENAI_"))}
    done = subprocess.run(
        [sys.executable, "-c", program, "init"],
        cwd=tmp_path / "work",
        env=clean | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_satisfy_the_project_file(lock: str) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"] if "dev" in lock else {}
    wanted = [Requirement(text) for text in sum(extras.values(), project["dependencies"])]
    pinned = pins(lock)
    assert [str(one) for one in wanted if not one.specifier.contains(pinned.get(one.name, Version("0")))] == []


def test_the_locks_agree_with_each_other() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_pin_hashes_and_name_no_place_to_fetch_from(lock: str) -> None:
    text = (CHECKOUT / lock).read_text()
    assert "://" not in text
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:])

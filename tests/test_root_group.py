"""The group of tests that only root can run: left out unless it is asked for, and that is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
TWO_TESTS = """
import pytest

def test_for_everybody(): pass

@pytest.mark.root
def test_for_root(): pass
"""


def last_lines(folder: Path, *options: str) -> list[str]:
    """The last three lines of a run over a test for everybody and one for root."""
    (folder / "test_two.py").write_text(TWO_TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.root_group", "-c", str(CHECKOUT / "pyproject.toml")]
    done = subprocess.run(
        [*command, "--rootdir", str(folder), "-p", "no:cacheprovider", str(folder / "test_two.py"), *options],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # none is needed here, and they take their time
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()[-3:]


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["in turn", "side by side"])
def test_a_run_says_in_its_last_lines_what_it_left_out_and_how_to_run_that_too(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    left_out, how, end = last_lines(tmp_path, *options)
    assert left_out.startswith("Not run: 1 of the group root")
    assert how.endswith("python3 run.py test --root")
    assert "1 passed" in end


def test_a_run_that_is_asked_to_runs_them_all(tmp_path: Path) -> None:
    *_, end = last_lines(tmp_path, "--root")
    assert "2 passed" in end

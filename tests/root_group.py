"""The tests that need what only root can install or mount: run when that is asked for, and then never skipped."""

from collections.abc import Generator
from typing import Any

import pytest

LEFT_OUT = pytest.StashKey[int]()
TOLD = "left_out"
"""How a process that runs a part of the tests tells the one that has the last word; each has collected them all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "run also the tests marked root, which need PgBouncer installed and small file systems mounted"
    parser.addoption("--root", action="store_true", help=told)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the group out unless it is asked for."""
    if config.getoption("--root"):
        return
    left_out = [item for item in items if item.get_closest_marker("root")]
    items[:] = [item for item in items if not item.get_closest_marker("root")]
    config.stash[LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell how many were left out, from a process that runs a part of the tests."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told[TOLD] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear it."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get(TOLD, 0)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost, so that what it writes comes last but for pytest's own line
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Generator[None]:
    """Say which tests were not run, and how to run them."""
    yield
    count = config.stash.get(LEFT_OUT, 0)
    if count:
        needs = "they need PgBouncer (apt-get install pgbouncer), and to be root for small file systems"
        terminalreporter.write_line(f"Not run: {count} of the group root; {needs}.")
        terminalreporter.write_line("To run them too: python3 run.py test --root", yellow=True)

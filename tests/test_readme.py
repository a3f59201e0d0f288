"""README.md shows what is printed: the commands of its console blocks are run, and their lines compared.

A block is run when it begins with `$ enrichlog …` or `$ python3 run.py` and shows some output. A line `…` stands for
lines left out, a line that ends in `…` for a longer one; numbers, times, ids, names of machines and paths may differ.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from enrichlog.demo import FILE
from tests.command_line import CLI, Command, Demo

README = CLI.parent / "README.md"
LEFT_OUT = "…"
DEMO = "$ python3 run.py"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DIFFERS = [
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{64}\b|\b[0-9a-f]{8}([0-9a-f]{4})?\b"), "ID"),
    (re.compile(r"(?<![\w.:/])(~|\.{1,2})?(/[\w.+-]+)+"), "PATH"),
    (re.compile(r"\bby \S+"), "by SOMEONE"),
    (re.compile(r"━+"), "━"),
    (re.compile(r"\b\d+ [smhd] ago\b"), "N s ago"),
    (re.compile(r"\b[\d,.]+ m?s\b"), "N s"),
    (re.compile(r"\d[\d,.:]*\d|\d"), "N"),
    (re.compile(r"\s+"), " "),
]


def normalised(line: str) -> str:
    """The line without what differs from run to run."""
    for pattern, word in _DIFFERS:
        line = pattern.sub(word, line)
    return line.strip()


def blocks() -> Iterator[list[str]]:
    """The blocks that are run, each as its lines; the first is the command."""
    for block in _BLOCK.findall(README.read_text(encoding="utf-8")):
        lines = [line for line in block.splitlines() if line.strip()]
        is_run = lines[0].startswith("$ enrichlog ") or lines[0] == DEMO
        if is_run and any(not line.startswith("$ ") for line in lines):
            yield lines


def passages(lines: list[str]) -> Iterator[list[str]]:
    """The lines between those that say that something is left out."""
    passage: list[str] = []
    for line in [*lines, LEFT_OUT]:
        if line.strip() != LEFT_OUT:
            passage.append(normalised(line))
        elif passage:
            yield passage
            passage = []


def is_said(passage: list[str], said: list[str]) -> bool:
    """Whether these lines stand one after the other in what was said."""
    return any(
        all(map(agrees, passage, said[start : start + len(passage)])) for start in range(len(said) - len(passage) + 1)
    )


def agrees(shown: str, said: str) -> bool:
    return said.startswith(shown.removesuffix(LEFT_OUT).rstrip()) if shown.endswith(LEFT_OUT) else shown == said


def lines_of(text: str) -> list[str]:
    return [normalised(line) for line in text.splitlines() if line.strip()]


def test_there_are_blocks_to_run_and_the_first_is_the_demo() -> None:
    assert next(blocks())[0] == DEMO


def test_the_commands_print_what_the_readme_shows(demo: Demo, user: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", str(demo.folder / FILE))
    missing = []
    for lines in blocks():
        said = lines_of(f"{DEMO}\n{demo.said}") if lines[0] == DEMO else typed(user, lines)
        missing += [passage for passage in passages(lines) if not is_said(passage, said)]
    assert missing == []


def typed(user: Command, lines: list[str]) -> list[str]:
    """What the commands among these lines say, after each of them."""
    said: list[str] = []
    for line in lines:
        if line.startswith("$ "):
            printed = user(*shlex.split(line.removeprefix("$ enrichlog "), comments=True))
            said += [normalised(line), *lines_of(printed.err), *lines_of(printed.out)]
    return said


def test_a_line_that_nothing_prints_is_found() -> None:
    said = lines_of("$ enrichlog status\nPostings: 3 pending, 0 running\nat /home/me/x.db in 3.2 s\n")
    assert is_said([normalised("Postings: 44 pending, 1,000 running"), normalised("at ./x.db in 0.1 s")], said)
    assert not is_said([normalised("Postings: 44 waiting")], said)
    assert is_said([normalised("Postings: 1 …")], said)


def test_every_file_and_test_that_the_readme_names_is_there() -> None:
    names = set(re.findall(r"`(test_\w+\.py)`", README.read_text(encoding="utf-8")))
    assert {name for name in names if not Path(__file__).with_name(name).is_file()} == set()

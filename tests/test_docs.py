"""The pages in docs/ for people who deploy: each command and setting in them exists, each figure is the code's."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cli
from enrichlog import workers
from enrichlog.claims import LEASE_MARGIN_SECONDS
from enrichlog.patience import AWAY_SECONDS
from enrichlog.retry import DEFAULT_MAX_ATTEMPTS
from enrichlog.settings import USUAL_NAMES, Settings
from enrichlog.worker import DRAIN_SECONDS, GRACE_SECONDS
from eventlog.dialects import FROZEN_WITH_THE_LOG
from projections.bases import MOST

DOCS = Path(cli.__file__).parent / "docs"
PAGE = (DOCS / "from-one-machine-to-many.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8").replace("\\\n", " ") for page in sorted(DOCS.glob("*.md"))}
OURS = re.compile(r"(?:^|[\s/])enrichlog ([a-z][^;|&\n]*)", re.MULTILINE)

SAYS = [
    f"{LEASE_MARGIN_SECONDS} s after the deadline of a call",
    f"`deadline_seconds`, {Settings.model_fields['deadline_seconds'].default:g} unless you set it",
    f"`--grace`, {GRACE_SECONDS:g} s unless you set it",
    f"give up after {AWAY_SECONDS:g} s",
    f"another {DRAIN_SECONDS:g} s may go into a database",
    f"PostgreSQL frees it after {FROZEN_WITH_THE_LOG.removesuffix('s')} s",
    f"{DEFAULT_MAX_ATTEMPTS} failures that count",
    f"tells {MOST} configurations apart",
    f"was seen within {workers.LIVE_SECONDS} s",
    f"while the other was seen within {workers.GONE_SECONDS} s",
]


def blocks() -> Iterator[str]:
    """What the pages show apart from their text, lines that go on in the next made one; of a terminal what is typed."""
    for page in PAGES.values():
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            lines = block.splitlines()
            yield "\n".join(line for line in lines if language != "console" or line.startswith("$ "))


def spans(page: str) -> list[str]:
    """What the text of a page has between marks of code."""
    text = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def typed() -> Iterator[list[str]]:
    """The commands that the blocks show, in a terminal, a unit or a list of words, without the name of the program."""
    for block in blocks():
        for words in OURS.findall(block):
            yield shlex.split(words, comments=True)
    for found in re.findall(r"\[\"[^\]\n]*\]", PAGE):
        words = [word for word in json.loads(found) if word not in ("CMD", "enrichlog")]
        yield from [words] if words else []


def mentioned() -> Iterator[list[str]]:
    """The commands and options that the text names, some of them without what an option needs."""
    for span in (span for page in PAGES.values() for span in spans(page)):
        words = shlex.split(span.removeprefix("enrichlog ").replace("=", " "))
        if span.startswith(("enrichlog ", "--")) or words[0] in cli.cli.commands:
            yield words


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words call, and what is given to it."""
    command: Any = cli.cli
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options(command: Any) -> set[str]:
    """The options of a command, and of all below it."""
    found = {option for one in command.params for option in one.opts}
    return found.union(*(options(one) for one in getattr(command, "commands", {}).values()))


def is_there(words: list[str]) -> bool:
    """Whether there is such a command with these options, or any with them where no command is named."""
    command, given = command_of(words)
    flags = {word for word in given if word.startswith("--")}
    is_named = not hasattr(command, "commands") or not given or given[0] in flags
    return is_named and flags <= options(command)


@pytest.mark.parametrize("words", list(typed()), ids=" ".join)
def test_a_command_that_is_shown_can_be_typed_like_that(words: list[str]) -> None:
    command, given = command_of(words)
    assert not hasattr(command, "commands"), "there is no such command"
    command.make_context(command.name, given)


def test_what_the_text_names_is_there() -> None:
    assert [words for words in mentioned() if not is_there(words)] == []


def test_a_command_or_an_option_that_is_not_there_is_found() -> None:
    assert is_there(["limits", "list", "--json"])
    assert is_there(["--dollars-per-day"])
    for words in (["limits", "invent"], ["invent"], ["limits", "list", "--grace", "60"], ["--invented"]):
        assert not is_there(words)


def test_every_variable_and_setting_is_one() -> None:
    variables = set(re.findall(r"\b([A-Z]+_[A-Z_]+)=", PAGE))
    ours = {f"ENRICHLOG_{name.upper()}" for name in Settings.model_fields}
    assert variables - ours == {USUAL_NAMES["database"], USUAL_NAMES["api_key"]}
    settings = {span for span in spans(PAGE) if re.fullmatch(r"[a-z]+_[a-z_]+", span)}
    assert settings - Settings.model_fields.keys() == {"job_postings", "llm_enrichment", "enrichlog_app"}


@pytest.mark.parametrize("said", SAYS)
def test_a_figure_is_that_of_the_code(said: str) -> None:
    assert said in " ".join(PAGE.split())


def test_whoever_stops_a_worker_is_more_patient_than_its_grace() -> None:
    graces = {float(number) for number in re.findall(r'--grace"?,? "?(\d+)', PAGE)}
    stops = re.findall(r"(?:TimeoutStopSec=|stop_grace_period: |terminationGracePeriodSeconds: )(\d+)", PAGE)
    assert len(stops) == 3
    assert min(map(float, stops)) >= max(graces) + DRAIN_SECONDS + 20


def test_every_file_that_is_linked_is_there() -> None:
    links = [link for page in PAGES.values() for link in re.findall(r"\]\((?!http)([^)#]+)", page)]
    assert links
    assert [link for link in links if not (DOCS / link).is_file()] == []

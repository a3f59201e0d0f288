"""What people see in a terminal: tables, progress, and errors; documents for scripts go out as plain JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from enrichlog.price import money
from enrichlog.progress import Notice, Run
from eventlog.events import iso

_GAP = 2  # between two columns
_LEAST_WIDTH = 24  # of a column of sentences that is broken to fit
_PIPED_WIDTH = 140  # in a pipe or a file there is no width to fit


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)  # :key: is a text
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


out, err = _console(stderr=False), _console(stderr=True)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json_text(document, indent=2) + "\n")


def json_text(document: Any, indent: int | None = None) -> str:
    """A document as JSON, on one line unless it is indented."""
    return json.dumps(document, ensure_ascii=False, indent=indent, default=_value)


def _value(value: Any) -> str:
    """What JSON has no form for: a time as all documents and events have it, and paths as text."""
    return iso(value) if isinstance(value, datetime) else str(value)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _plain(text: str) -> str:
    """A text in which control characters, those of direction too, mean nothing: titles are other people's."""
    return _CONTROL.sub("\ufffd", text)


def one_line(text: str) -> str:
    """A text of other people's on one line: with line breaks in it, it could tell what we did not say."""
    return " ".join(text.split())


_flags = {"database": "", "enrichment": "job"}
_OF_ONE = (
    "enrich", "retry", "failed", "errors", "history", "status", "reclassify", "export", "dismiss", "requeue", "worker",
    "why", "diff", "stats", "sync",
)  # fmt: skip
_OF_ALL = (
    "import", "rebuild", "verify", "breaker (?:list|open|close)", "batch (?:list|show|cancel)",
    "limits (?:set|list|clear)", "projections (?:list|failed)",
)  # fmt: skip
_OF_THEM = r"JOB_ID|ID|FILE|TEXT|[0-9a-f]{8}(?:-[0-9a-f-]{27})?|--[a-z-]+(?: \S*\w)?"
_COMMAND = re.compile(rf"\benrichlog ({'|'.join(_OF_ONE + _OF_ALL)})\b(?: (?:{_OF_THEM}))*")


def remember_flags(database: str, enrichment: str) -> None:
    """What the next command has to be given to be about the same: ` --database …` or nothing, and which enrichment."""
    _flags.update(database=database, enrichment=enrichment)


def advise(text: str, among: Sequence[str] = ()) -> str:
    """A sentence of ours with the flags behind each command that it names.

    What it is about may be `among` some enrichments only: then it is the first of these, unless ours is one of them.
    """
    ours = _flags["enrichment"]
    name = ours if ours in among or not among else among[0]

    def with_flags(match: re.Match[str]) -> str:
        of_enrichment = f" --enrichment {name}" if match[1] in _OF_ONE and name != "job" else ""
        return f"{match[0]}{of_enrichment}{_flags['database']}"

    return _COMMAND.sub(with_flags, text)


def say(text: str = "") -> None:
    """A line on standard output."""
    out.print(_plain(text))


def note(text: str) -> None:
    """A line on standard error: what is going on, apart from what was asked for."""
    err.print(_plain(text))


def headline(text: str) -> None:
    """A line on standard output that stands out."""
    out.print(_plain(text), style="bold cyan")


def show_cursor() -> None:
    """Have a terminal show its cursor again, which a live bar hides that is interrupted as it begins."""
    for console in (out, err):
        console.show_cursor()


@contextmanager
def on_standard_error() -> Iterator[None]:
    """Send what would go to standard output to standard error, which leaves the former to one document."""
    out.stderr = True
    try:
        yield
    finally:
        out.stderr = False


def paragraph(text: str, indent: int = 0) -> None:
    """Lines on standard output, indented, and broken between words where a terminal is narrower."""
    if out.is_terminal:
        out.print(Padding(Text(_plain(text)), (0, 0, 0, indent), expand=False), soft_wrap=False)
    else:
        say(" " * indent + text)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = (), folded: str | None = None,
    least: int = _LEAST_WIDTH,
) -> None:  # fmt: skip
    """A table of which one column alone, the last or the one called `folded`, is broken to fit, and between words.

    Those in `numbers` are aligned to the right. Where that column has less than `least` characters of room, each row
    becomes a paragraph.
    """
    cells = [[_plain(str(cell)) for cell in row] for row in rows]
    broken = columns[-1] if folded is None else folded
    widths = {name: max(map(cell_len, (name, *column))) for name, *column in zip(columns, *cells, strict=True)}
    needed = sum(widths.values()) + _GAP * (len(columns) - 1) - max(0, widths[broken] - least)
    if needed > out.width:
        _paragraphs(columns, cells)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: JustifyMethod = "right" if column in numbers else "left"
        grid.add_column(column, justify=justify, overflow="fold", no_wrap=column != broken)
    for row in cells:
        grid.add_row(*row)
    out.print(grid)


def _paragraphs(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """Each row by itself: what its first column names, and below it the others that say something."""
    for name, *others in cells:
        paragraph(f"{columns[0]}: {name}" if columns[0] else name)
        for column, cell in zip(columns[1:], others, strict=True):
            if cell:
                paragraph(f"{column}: {cell}", indent=2)


def counted(count: int, noun: str) -> str:
    """A number and what it counts: 1 posting, 12,345 postings."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def spent(tokens: int, microdollars: int, unpriced: int) -> str:
    """Tokens and cost in words; calls without a known price are told apart, never counted as free."""
    unknown = f" + {counted(unpriced, 'call')} of unknown price" if unpriced else ""
    return f"{tokens:,} tokens, {money(microdollars)}{unknown}"


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Notice]:
    """A live bar on standard error: done, failed, rate, time left, tokens and cost. Yields what to call at each end."""
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
    )  # fmt: skip
    bar = Progress(*columns, console=err, disable=quiet, transient=False)
    with bar:
        task = bar.add_task("Enriching", total=total, failed=0, rate="", spent="")

        def notice(_claim: object, _end: object, run: Run) -> None:
            elapsed = bar.tasks[task].elapsed or 0
            rate = f"{run.done / elapsed:,.1f}/s" if elapsed > 0.5 else ""
            tokens = run.input_tokens + run.output_tokens
            told = spent(tokens, run.cost_microdollars, run.unpriced_calls)
            bar.update(task, completed=run.done, failed=run.failed, rate=rate, spent=told)

        yield notice


class _Rate(ProgressColumn):
    """How many a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


@contextmanager
def counting(description: str, total: int, *, quiet: bool) -> Iterator[Any]:
    """A live bar on standard error: done, rate and time left; yields what to call with the number of each page.

    It ends at the total: what is left then was passed over, such as events of other types.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
    )  # fmt: skip
    bar = Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True)
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)
        bar.update(task, completed=total)

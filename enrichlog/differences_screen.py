"""How the differences between two positions of the log look in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile
from typing import Any

from enrichlog.as_of_screen import told
from enrichlog.differences import Change, Differences
from enrichlog.terminal import counted, one_line, say, spent

_SPOOLED = 1_000_000  # characters in memory; what is more goes to a temporary file


class Document:
    """The document for scripts: it lists every posting that changed, in memory that stays the same however many."""

    def __init__(self) -> None:
        self._postings: Any = SpooledTemporaryFile(_SPOOLED, "w+", encoding="utf-8", newline="")  # noqa: SIM115 - until printed
        self._mark = ""

    def add(self, change: Change) -> None:
        """List one more posting."""
        self._postings.write(f"{self._mark}\n    {json.dumps(change._asdict(), ensure_ascii=False)}")
        self._mark = ","

    def print(self, found: Differences) -> None:
        """Print it, now that all is known: whatever fails before leaves standard output empty."""
        counts = json.dumps(found.document(), ensure_ascii=False, indent=2).removesuffix("\n}")
        with self._postings as postings:
            postings.seek(0)
            sys.stdout.write(f'{counts},\n  "postings": [')
            copyfileobj(postings, sys.stdout)
            sys.stdout.write("\n  ]\n}\n" if self._mark else "]\n}\n")


def show(found: Differences) -> None:
    """What changed, in counts and with the first examples."""
    say(f"From: {told(found.start)}")
    say(f"To:   {told(found.end)}")
    if not found.touched:
        say("Nothing changed.")
        return
    say(f"Touched: {counted(found.touched, 'posting')}, {found.new:,} of them new")
    for (before, after), count in found.transitions.most_common():
        say(f"  {count:,} × {_move(before, after)}")
    _errors(found)
    money = found.spent
    tokens = money["input_tokens"] + money["output_tokens"]
    told_spent = spent(tokens, money["cost_microdollars"], money["unpriced_calls"])
    say(f"Attempts: {money['attempts']:,}; {told_spent}")
    _examples(found)


def _move(before: str | None, after: str) -> str:
    return f"{after}, as before" if before == after else f"{before or 'new'} → {after}"


def _errors(found: Differences) -> None:
    changed: Mapping[str, int] = {f"{before} → {after}": count for (before, after), count in found.changed.items()}
    for title, counts in (
        ("Errors that appeared", found.appeared), ("Errors that disappeared", found.disappeared),
        ("Errors that changed", changed),
    ):  # fmt: skip
        if counts:
            ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
            say(f"{title}: " + ", ".join(f"{count:,} × {name}" for name, count in ordered))


def _examples(found: Differences) -> None:
    if not found.examples:
        return
    say("The first of them; --json lists all:")
    for change in found.examples:
        say(f"  {one_line(change.job_id)}: {_told(change)}")


def _told(change: Change) -> str:
    before = f"{change.before or 'new'}{_error(change.error_before)}"
    return f"{before} → {change.after}{_error(change.error_after)}"


def _error(error_type: str | None) -> str:
    return f" ({error_type})" if error_type else ""

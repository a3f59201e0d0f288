"""How a sync looks in a terminal."""

from __future__ import annotations

from enrichlog.sync import Synced
from enrichlog.terminal import advise, counted, one_line, say


def show(done: Synced) -> None:
    """What was requested, or would be, and whose postings are gone."""
    would = "Would be requested" if done.dry_run else "Requested"
    changed = "" if done.changed is None else f", {done.changed:,} changed"
    say(f"{would}: {done.new:,} new{changed}")
    if done.changed is None:
        say(advise("Changed texts were not looked for. To read them all: enrichlog sync --refresh"))
    if done.gone:
        examples = ", ".join(map(one_line, done.examples)) + (", …" if done.gone > len(done.examples) else "")
        what = "is not there any more, and is" if done.gone == 1 else "are not there any more, and are"
        say(f"{counted(done.gone, 'posting')} {what} not tried: {examples}")
    if not done.dry_run and (done.new or done.changed):
        say(advise("Next: enrichlog enrich"))

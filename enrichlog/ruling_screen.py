"""How a ruling on postings is told, and the exit code it ends with."""

from __future__ import annotations

from enrichlog.rulings import Ruled
from enrichlog.terminal import advise, counted, one_line, print_json, say

DONE, STOPPED = 0, 1


def tell(ruled: Ruled, what: str, *, as_json: bool) -> int:
    """Say what was done (`what`: dismissed, requeued) and what was left; 1 when anything was."""
    left = {job_id: advise(reason) for job_id, reason in ruled.left.items()}
    if as_json:
        print_json({what: ruled.done, "left": left})
    else:
        for job_id, reason in left.items():
            say(f"{one_line(job_id)} was left: {reason}")
        say(f"{counted(len(ruled.done), 'posting')} {what}.")
    return STOPPED if left else DONE

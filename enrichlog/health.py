"""Whether a worker can be counted on: what a container or a load balancer asks again and again."""

from __future__ import annotations

from enrichlog import terminal
from enrichlog.enlisting import told_apart
from enrichlog.settings import Settings
from enrichlog.worker_name import has_ended, host_name
from enrichlog.workers import Seen, list_workers
from eventlog.database import Database

HEALTHY, UNHEALTHY = 0, 1


def check(settings: Settings, database: Database, name: str | None, *, as_json: bool) -> int:
    """Tell whether the worker of that name, or any of this machine, is live and ready; 0 if so, else 1."""
    named = [one for one in list_workers(database) if one.row.name == name or (not name and _is_here(one))]
    found = [_looked_at(settings, database, one) for one in named]
    ready = [one for one in found if one.why_unready is None]
    told = _ready(ready[0]) if ready else _unready(found, name)
    if as_json:
        terminal.print_json({"ready": bool(ready), "told": told, "workers": [one.document() for one in found]})
    else:
        terminal.say(told)
    return HEALTHY if ready else UNHEALTHY


def _looked_at(settings: Settings, database: Database, one: Seen) -> Seen:
    """The worker, with what its file on this machine tells sooner than its row."""
    if not one.is_live or not _is_here(one):
        return one
    row = one.row
    return one._replace(has_ended=has_ended(settings, told_apart(settings, database), row.name, row.place))


def _is_here(one: Seen) -> bool:
    return bool(one.row.host == host_name())


def _ready(one: Seen) -> str:
    return f"{one.row.name} is ready: {one.row.state}, {one.row.in_flight} in flight."


def _unready(found: list[Seen], name: str | None) -> str:
    if not found:
        return f"There is no worker {name}." if name else "There is no worker of this machine."
    return " ".join(f"{one.row.name} is not ready: {one.why_unready}." for one in found)

"""The points of the walk at which a process is killed, or freezes: set from outside, the walk does not know them."""

import logging
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from typing import Any

import orjson

from enrichlog.llm import ATTEMPT_HEADER, Client
from eventlog import dialects
from eventlog.database import Database
from eventlog.dialects import EVENT_COLUMNS, PostgreSQL, SQLite
from eventlog.events import EnrichmentFailed, EnrichmentStarted, EnrichmentSucceeded

Rows = list[tuple[Any, ...]]
Hook = Callable[[str], None]
"""Called with the name of the point that has just been reached."""

TYPE, EVENT_ID, FACTS = (EVENT_COLUMNS.index(name) for name in ("type", "event_id", "facts"))
STARTS, ENDS = {EnrichmentStarted.__name__}, {EnrichmentSucceeded.__name__, EnrichmentFailed.__name__}
POINTS = (
    "before the claim", "before the claim's commit", "after the claim's commit", "before the call", "after the reply",
    "before the commit", "after the commit",
)  # fmt: skip
"""In the order of the walk. Between the call and its reply a process is killed from outside."""


def kill_at(point: str) -> None:
    """Have this process killed when it comes to the point the second time: then it has acknowledged something."""
    times = count(1)

    def hook(reached: str) -> None:
        if reached == point and next(times) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    _hook(hook)


def freeze_at(point: str) -> None:
    """Have this process stop when it comes to the point the first time, until it is told to go on."""
    times = count(1)

    def hook(reached: str) -> None:
        if reached == point and next(times) == 1:
            os.kill(os.getpid(), signal.SIGSTOP)

    _hook(hook)


def freeze_for(argument: str) -> None:
    """The same, where the database cuts off who freezes with the log lock after another time, `0` for never."""
    dialects.FROZEN_WITH_THE_LOG, _, point = argument.partition(" ")
    freeze_at(point)


def terminate_at(argument: str) -> None:
    """Have this process be told to end when it comes to a function, `module function`, which it never calls then."""
    module, _, name = argument.partition(" ")
    setattr(import_module(module), name, lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))


def _hook(hook: Hook) -> None:
    for dialect in (PostgreSQL, SQLite):
        _around_inserts(dialect, hook)
    _around_commits(hook)
    _around_calls(hook)


def _around_inserts(dialect: Any, hook: Hook) -> None:
    insert = dialect.insert_events

    def insert_events(self: Any, connection: Any, rows: Rows) -> None:
        kinds = {row[TYPE] for row in rows}
        if kinds & STARTS:
            hook("before the claim")
        insert(self, connection, rows)
        connection.info["inserted"] = kinds
        if kinds & STARTS:
            hook("before the claim's commit")
        elif kinds <= ENDS:
            hook("before the commit")

    dialect.insert_events = insert_events


def _around_commits(hook: Hook) -> None:
    transaction = Database._transaction

    @contextmanager
    def around(self: Database, *, writes: bool) -> Iterator[Any]:
        with transaction(self, writes=writes) as connection:
            connection.info.pop("inserted", None)
            yield connection
            kinds = connection.info.pop("inserted", set())
        if kinds & STARTS:
            hook("after the claim's commit")
        elif kinds and kinds <= ENDS:
            hook("after the commit")

    Database._transaction = around  # type: ignore[method-assign]


def _around_calls(hook: Hook) -> None:
    ask = Client.ask

    async def around(*arguments: Any) -> Any:
        hook("before the call")
        reply = await ask(*arguments)
        hook("after the reply")
        return reply

    Client.ask = around  # type: ignore[method-assign, assignment]


# -- walks that do it the other way round, for the controls ------------------------------------------------------------


def call_before_the_claims_commit() -> None:
    """A walk that asks first and commits its claim then, killed between the two."""
    _before_commit_do(STARTS, _call)


def acknowledge_before_the_commit() -> None:
    """A recorder that says it is done before it is, killed between the two."""
    _before_commit_do(ENDS, _say_recorded)


def _before_commit_do(kinds: set[str], act: Callable[[str], None]) -> None:
    for dialect in (PostgreSQL, SQLite):
        _act_and_die(dialect, kinds, act)


def _act_and_die(dialect: Any, kinds: set[str], act: Callable[[str], None]) -> None:
    insert = dialect.insert_events

    def insert_events(self: Any, connection: Any, rows: Rows) -> None:
        insert(self, connection, rows)
        if kinds & {row[TYPE] for row in rows}:
            act(orjson.loads(rows[-1][FACTS])["attempt_id"])
            os.kill(os.getpid(), signal.SIGKILL)

    dialect.insert_events = insert_events


def _call(attempt_id: str) -> None:
    url, headers = f"{os.environ['OPENAI_BASE_URL']}/models", {ATTEMPT_HEADER: attempt_id, "Authorization": "Bearer k"}
    urllib.request.urlopen(urllib.request.Request(url, headers=headers)).close()


def _say_recorded(attempt_id: str) -> None:
    logging.getLogger("enrichlog").info("recorded", extra={"attempt_id": attempt_id})

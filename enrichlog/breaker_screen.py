"""How breakers look in a terminal, and the word of warning while nothing can be begun."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from enrichlog.breakers import NamedBreaker, SetByHand, list_breakers, what_to_do, why_held
from enrichlog.settings import Settings
from enrichlog.terminal import advise, note, one_line, paragraph, say
from eventlog.database import Database


def show(found: Sequence[NamedBreaker], now: datetime, settings: Settings) -> None:
    """Whether calls go out, and if not, why."""
    if not found:
        say("There is no breaker yet: each comes with the first call to an endpoint, with a model and a key.")
    for one in found:
        paragraph(f"{one.id} {one.breaker.state.replace('_', '-')}: {_of(one)}")
        for line in _held(one, now, settings):
            paragraph(line, indent=2)


def was_set(done: SetByHand, now: datetime, settings: Settings) -> None:
    """What opening or closing a breaker by hand has done."""
    if not done.changed:
        say(f"{done.named.id} was closed already: {_of(done.named)}")
        return
    show([done.named], now, settings)
    if done.named.breaker.state == "closed":
        say("Calls may go out again. A posting that waits after its own failure still waits for that to be over.")


def warn(database: Database, settings: Settings) -> None:
    """Say on standard error why nothing can be begun, if that is so."""
    found, now = list_breakers(database)
    for one in found:
        if not one.breaker.is_free(now):
            note("\n".join((f"{one_line(one.request_model)} at {one_line(one.endpoint)}:", *_held(one, now, settings))))


def _of(one: NamedBreaker) -> str:
    return one_line(f"{one.request_model} at {one.endpoint}, key {one.credential}")


def _held(one: NamedBreaker, now: datetime, settings: Settings) -> list[str]:
    if one.breaker.is_free(now):
        return []
    reason = [f"Reason: {one_line(one.reason)}"] if one.reason else []
    told = advise(what_to_do(one.breaker, one.id), settings.enrichments_of(one.request_model))
    return [why_held(one.breaker, now), *reason, *told.splitlines()]

"""How limits look in a terminal and in documents: what is in force, braked or not, and what money is used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from enrichlog.limits import SETTINGS, NamedLimit, list_for_all, list_limits, told
from enrichlog.moments import told_moment
from enrichlog.price import money
from enrichlog.room import own_limits
from enrichlog.settings import Settings
from enrichlog.terminal import advise, one_line, paragraph, print_json, say
from eventlog.database import Database
from projections.limit import Unit


def listed(database: Database, settings: Settings, *, as_json: bool) -> None:
    """Every limit, and those that this folder's settings set for a process of its own."""
    own = {name: getattr(settings, name) for name in SETTINGS.values()}
    if as_json:
        print_json({"limits": document(database), "own": own})
        return
    found, now = list_limits(database)
    for one in found:
        paragraph(_line(one, now))
    for unit, amount in own_limits(settings).items():
        if amount is not None:
            source = settings.sources[SETTINGS[unit]]
            shared = "" if unit == "microdollars" else " with all that have the same"
            keeps = f"A process with these settings keeps{shared} to {told(unit, amount)}"
            paragraph(f"{keeps} ({SETTINGS[unit]}, from {source}).")
    if not found and not any(own.values()):
        say(advise("There is no limit. Set one with: enrichlog limits set --requests-per-minute 600"))


def document(database: Database) -> list[dict[str, Any]]:
    """Every limit, for scripts."""
    found, now = list_limits(database)
    return [one.document(now) for one in found]


def stand(database: Database) -> None:
    """The limits among other things: nothing is said where there are none."""
    found, now = list_limits(database)
    for one in found:
        paragraph(f"Limit: {_line(one, now)}")


def cleared(
    database: Database, place: tuple[str, str, str], units: Sequence[Unit], missing: Sequence[Unit], *, as_json: bool
) -> None:
    """What was taken away at a place, and which of the limits that were named were not there."""
    if as_json:
        print_json({"cleared": units, "missing": missing})
        return
    if units:
        say(f"Cleared: {_names(units)}.")
    if missing or not units:
        paragraph(advise(_none_there(database, place, missing)))


def _none_there(database: Database, place: tuple[str, str, str], missing: Sequence[Unit]) -> str:
    """That there is no such limit at a place, and where there are some."""
    of = f" of {_names(missing)}" if missing else ""
    if list(missing) == ["microdollars"]:
        return f"There is no limit{of}."
    others = {one.id: _place(one.name) for one in list_for_all(database) if one.id is not None}
    if not others:
        return f"There is no limit{of} for {_place(place)}; no rate is limited."
    there = "; ".join(f"{where} ({name})" for name, where in others.items())
    clear = "To clear one of them: enrichlog limits clear ID"
    return f"There is no limit{of} for {_place(place)}; those that are set are for {there}. {clear}"


def _names(units: Sequence[Unit]) -> str:
    return ", ".join(SETTINGS[unit].replace("_", " ") for unit in units)


def _place(name: Sequence[Any]) -> str:
    endpoint, model, credential = name[:3]
    return one_line(f"{model} at {endpoint}, key {credential}")


def _line(one: NamedLimit, now: datetime) -> str:
    limit, unit = one.limit, one.unit
    if unit == "microdollars":
        today = limit.spending(now)
        most = "no limit for all workers" if limit.amount is None else told(unit, limit.amount)
        return f"all calls: {most}; {money(today.used)} used or reserved until {told_moment(today.ends_at)}"
    place = f"{one.id} {_place(one.name)}"
    braked = limit.braked_to_now(now)
    if braked is None:
        used = f"; {limit.minute.tokens(now):,} used or reserved in the last one" if unit == "tokens" else ""
        whose = " for all processes with this setting" if one.name.own else ""
        return f"{place}: {told(unit, limit.amount or 0)}{whose}{used}"
    usual = "" if limit.amount is None else f" instead of {limit.amount:,}"
    since = f"braked since {told_moment(limit.braked_at)}, the provider refused calls for their rate"
    return f"{place}: {told(unit, braked)}{usual}; {since}"

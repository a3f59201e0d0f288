"""What calls will take, going by what the newest ones took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, select, union_all

from enrichlog.price import PricedModel, cost
from eventlog.database import Database
from eventlog.events import EnrichmentFailed, EnrichmentSucceeded
from eventlog.schema import events
from eventlog.streams import bounds
from eventlog.upcasting import read

NEWEST = 2_000
SCANNED = 10_000
"""How many of the newest ends of each type are looked through for those of one enrichment."""


class AnsweredCalls(NamedTuple):
    """Sums over the newest ends whose tokens are known: `calls` of them, of which `priced` have a known price."""

    calls: int = 0
    tokens: int = 0
    priced: int = 0
    cost_microdollars: int = 0

    @property
    def unpriced(self) -> int:
        """The calls of which nobody knows the price: they are no part of the mean, never free."""
        return self.calls - self.priced

    def tokens_of(self, count: int) -> int | None:
        """The tokens of so many calls; None when no call has told any."""
        return round(count * self.tokens / self.calls) if self.calls else None

    def cost_of(self, count: int) -> int | None:
        """What so many calls cost, in micro-dollars; None when no price is known."""
        return round(count * self.cost_microdollars / self.priced) if self.priced else None


def estimate(database: Database, enrichment: str, priced: PricedModel | None = None) -> AnsweredCalls:
    """The estimate from the newest 2,000 ends of an enrichment that called, its successes and failures alike.

    An end without tokens, such as that of a call that was refused, says nothing about a call that is answered. With
    `priced`, the model to be asked now, the tokens that another model has taken are counted at its price.
    """
    ends = [_newest(enrichment, kind.__name__) for kind in (EnrichmentSucceeded, EnrichmentFailed)]
    both = union_all(*(select(one.c.position, one.c.type, one.c.facts) for one in ends)).subquery()
    rows = database.page(select(both).order_by(both.c.position.desc()).limit(NEWEST))
    return _added((read(row.type, row.facts, None, row.position).facts for row in rows), priced)


def _newest(enrichment: str, kind: str) -> Any:
    """The newest ends of one type that are of this enrichment, by the index of types: a short range of it."""
    looked_through: Select[Any] = select(events.c.position, events.c.stream_id, events.c.type, events.c.facts)
    newest = looked_through.where(events.c.type == kind).order_by(events.c.position.desc()).limit(SCANNED).subquery()
    first, behind = bounds(enrichment)
    ours = and_(newest.c.stream_id >= first, newest.c.stream_id < behind)
    return (
        select(newest.c.position, newest.c.type, newest.c.facts)
        .where(ours)
        .order_by(newest.c.position.desc())
        .limit(NEWEST)
        .subquery()
    )


def _added(ends: Iterable[dict[str, Any]], priced: PricedModel | None) -> AnsweredCalls:
    total = AnsweredCalls()
    for facts in ends:
        tokens = [facts.get(name) for name in ("input_tokens", "output_tokens")]
        if facts["called"] and any(tokens):
            spent = _spent(facts, priced)
            total = AnsweredCalls(
                total.calls + 1,
                total.tokens + sum(filter(None, tokens)),
                total.priced + (spent is not None),
                total.cost_microdollars + (spent or 0),
            )
    return total


def _spent(facts: dict[str, Any], priced: PricedModel | None) -> int | None:
    """What a call cost, or would have cost had it asked another model; None when nobody knows."""
    recorded: int | None = facts.get("cost_microdollars")
    taken, given = facts.get("input_tokens"), facts.get("output_tokens")
    if priced is None or facts.get("request_model") == priced.model or taken is None or given is None:
        return recorded
    return cost(priced, taken, given, facts.get("cache_read_input_tokens") or 0)

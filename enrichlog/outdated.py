"""Outdated: results that rest on another prompt, schema, model or input than today's, and what new ones would cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.postings import load_postings, source_of
from enrichlog.price import cost
from enrichlog.settings import Settings
from enrichlog.targets import Target
from eventlog.database import Database
from eventlog.errors import EnrichlogError
from eventlog.streams import bounds
from projections.enrichment_status import IS_PENDING, enrichment_status

CAUSES = ("prompt", "schema", "model", "input")
PAGE = 10_000


@dataclass
class Share:
    """Postings that are outdated, for one cause or for any, and the tokens that their results have cost.

    `known` is how many of them have told their tokens; failed attempts on the way to a result are part of its price.
    """

    postings: int = 0
    known: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, row: Any) -> None:
        """One posting more."""
        self.postings += 1
        if row.input_tokens or row.output_tokens:
            self.known += 1
            self.input_tokens += row.input_tokens // row.successes
            self.output_tokens += row.output_tokens // row.successes

    def estimate(self, enrichment: Enrichment) -> dict[str, int | None]:
        """What enriching them again will take if they take what they took, at the price of today's model.

        In tokens and micro-dollars; None where it is not known.
        """
        if not self.known:
            return {"postings": self.postings, "input_tokens": None, "output_tokens": None, "cost_microdollars": None}
        each = [round(tokens / self.known) for tokens in (self.input_tokens, self.output_tokens)]
        price = cost(enrichment.priced, *each)
        return {
            "postings": self.postings,
            "input_tokens": each[0] * self.postings,
            "output_tokens": each[1] * self.postings,
            "cost_microdollars": None if price is None else price * self.postings,
        }


@dataclass
class OutdatedPlan:
    """What would be enriched again: the postings, at the version they were looked at, and the shares of all.

    A posting with several causes is in the share of each, and once in `total`; `taken` is the share of `targets`.
    `requested_already` counts outdated results that somebody has requested anew: they are no part of the plan. Where
    nothing but a look at each text tells whether the input has changed, it is none that `compares_input`.
    """

    enrichment: Enrichment
    compares_input: bool = True
    limit: int | None = None
    targets: list[Target] = field(default_factory=list)
    by_cause: dict[str, Share] = field(default_factory=lambda: {cause: Share() for cause in CAUSES})
    total: Share = field(default_factory=Share)
    taken: Share = field(default_factory=Share)
    requested_already: int = 0

    @property
    def left_for_later(self) -> int:
        """How many more it would take if there were no limit."""
        return self.total.postings - len(self.targets)

    def add(self, row: Any, causes: Sequence[str]) -> None:
        """Count an outdated posting, and take it if the limit allows."""
        for share in (self.total, *(self.by_cause[cause] for cause in causes)):
            share.add(row)
        if self.limit is None or len(self.targets) < self.limit:
            self.taken.add(row)
            self.targets.append(Target(row.job_id, row.version))

    def document(self) -> dict[str, Any]:
        """What scripts read."""
        shares = {cause: share.estimate(self.enrichment) for cause, share in self.by_cause.items()}
        total, taken = (share.estimate(self.enrichment) for share in (self.total, self.taken))
        others = {"left_for_later": self.left_for_later, "requested_already": self.requested_already}
        return {"by_cause": shares, "total": total, "would_take": taken, **others}


def count_outdated(database: Database, enrichment: Enrichment) -> dict[str, Any]:
    """How many results are outdated: by cause, and in all, where one with several causes is counted once.

    One pass over all that has succeeded; the input is compared by the column `input_hash`, and not at all where
    postings are the users' own: their `sync --refresh` requests what has changed.
    """
    causes = _causes(database, enrichment)
    counts = [func.count().filter(cause).label(name) for name, cause in causes.items()]
    query = _succeeded(database, *counts, func.count().filter(or_(*causes.values())).label("total"))
    row = database.page(query.where(enrichment_status.c.enrichment == enrichment.name))[0]
    return {"total": row.total, "by_cause": {name: getattr(row, name) for name in causes}}


def counts_or_why(settings: Settings, database: Database, name: str) -> dict[str, Any]:
    """The counts for the enrichment of that name, or why they are not known: then there is nothing to compare with."""
    try:
        enrichment = enrichment_of(settings, name)
    except EnrichlogError as error:
        return {"total": None, "by_cause": {}, "why_unknown": str(error)}
    return count_outdated(database, enrichment) | {"why_unknown": None}


def plan_outdated(database: Database, enrichment: Enrichment, limit: int | None = None) -> OutdatedPlan:
    """Plan to enrich again what is outdated, at most `limit` postings of it.

    A change of the input that an import or a sync has noticed is no part of it: the posting is due by itself.
    """
    compares_input, requested = source_of(database).notices_changes, _count_requested(database, enrichment)
    plan = OutdatedPlan(enrichment, compares_input, limit, requested_already=requested)
    for page in _pages(database, enrichment):
        changed = _changed(database, page)
        for row in page:
            causes = [name for name in CAUSES if getattr(row, name) and (name != "input" or row.job_id in changed)]
            if causes:
                plan.add(row, causes)
    return plan


def _causes(database: Database, enrichment: Enrichment) -> dict[str, ColumnElement[bool]]:
    """When a result is outdated; what it rests on may not be known, and is then no cause."""
    status, source = enrichment_status.c, source_of(database)
    causes = (
        status.prompt_hash != enrichment.prompt.hash,
        status.schema_hash != enrichment.schema_hash,
        status.request_model != enrichment.model,
        source.is_other_input(status.input_hash),
    )
    return dict(zip(CAUSES, causes, strict=True))


def _succeeded(database: Database, *columns: Any) -> Select[Any]:
    """What has succeeded and is a posting still."""
    return _of_postings(database, select(*columns)).where(enrichment_status.c.state == "succeeded")


def _of_postings(database: Database, query: Select[Any]) -> Select[Any]:
    """Of the statuses those whose postings are there still."""
    source = source_of(database)
    there = source.is_of(enrichment_status.c.job_id)
    return query.select_from(enrichment_status).join(source.table, there)


def _count_requested(database: Database, enrichment: Enrichment) -> int:
    """How many results that are not of today's prompt, schema or model await a new one."""
    status, causes = enrichment_status.c, _causes(database, enrichment)
    rests_on_another = or_(*(causes[name] for name in CAUSES if name != "input"))  # a new input is due by itself
    has_result = and_(status.successes > 0, status.error_type.is_(None))
    query = _of_postings(database, select(func.count()))
    return database.count(query.where(status.enrichment == enrichment.name, IS_PENDING, has_result, rests_on_another))


def _pages(database: Database, enrichment: Enrichment) -> Iterator[list[Any]]:
    status, causes = enrichment_status.c, _causes(database, enrichment)
    after, end = bounds(enrichment.name)  # by its name, SQLite would sort all for each page
    columns = (
        status.stream_id, status.job_id, status.version, status.successes, status.input_tokens, status.output_tokens,
        status.input_hash,
    )  # fmt: skip
    named = [cause.label(name) for name, cause in causes.items()]
    query = _succeeded(database, *columns, *named).where(or_(*causes.values()), status.stream_id < end)
    query = query.order_by(status.stream_id).limit(PAGE)
    while page := database.page(query.where(status.stream_id > after)):
        yield page
        after = page[-1].stream_id


def _changed(database: Database, page: Sequence[Any]) -> set[str]:
    """Which of these have another text than their result rests on: the stored hash may be the one that is wrong."""
    seen = {row.job_id: row.input_hash for row in page if row.input}
    if not seen:
        return set()
    with database.read() as connection:
        postings = load_postings(connection, database, list(seen))
    return {job_id for job_id, posting in postings.items() if posting.input_hash != seen[job_id]}

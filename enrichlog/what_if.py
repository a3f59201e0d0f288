"""What the attempts on record would have come to under another policy of retry.

Exact where the policy stops earlier than history did, an estimate where it goes on. Nothing is called, and nothing is
appended. Another base changes waits alone: calls at other moments might have had other outcomes, but which ones nobody
can know, so the outcomes stay the recorded ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from sqlalchemy import func, select

from enrichlog.odds import Estimate, FollowUps, OpenPostings, further
from enrichlog.postings import find_deleted
from enrichlog.replay import Policy, replay
from enrichlog.tally import Tally
from eventlog.category import walk
from eventlog.database import Database
from eventlog.log import Recorded, head_position
from projections.enrichment_status import enrichment_status

POSTINGS_PER_PAGE = 500
SAME_OUTCOMES = "Calls at other moments might have had other outcomes; these are the recorded ones."


class Open(NamedTuple):
    """A posting that has attempts left under the policy; `was_given_up`: it has none under history's own."""

    stream_id: str
    error_type: str
    left: int
    was_given_up: bool


@dataclass
class WhatIf:
    """A policy beside history, both up to one position of the log.

    `replayed` is exact: what the policy leaves of the attempts that were made. `open` are the postings that have
    attempts left under it, by the type of their last failure and how many; `given_up_before` of them have none under
    history's own rule, which is that of `default`. `deleted` postings failed and are not there to be tried again.
    `follow_ups` are those of all postings of the enrichment, also of error types that were not asked for.
    """

    policy: Policy
    default: int
    error_types: Sequence[str] = ()
    position: int = 0
    history: Tally = field(default_factory=Tally)
    replayed: Tally = field(default_factory=Tally)
    open: OpenPostings = field(default_factory=Counter)
    given_up_before: int = 0
    deleted: int = 0
    follow_ups: FollowUps = field(default_factory=Counter)

    def add(self, stream_id: str, events: Sequence[Recorded]) -> Open | None:
        """Count the posting of one stream; what is returned may be open."""
        history = replay(stream_id, events)
        self.follow_ups.update(history.follow_ups)
        if self.error_types and history.error_types.isdisjoint(self.error_types):
            return None
        most = self.policy.max_attempts
        under = history if history.is_the_same_under(self.policy) else replay(stream_id, events, self.policy)
        stood, stands = history.standing(history.own_allowance(self.default)), under.standing(most)
        self.history.add(history, stood)
        self.replayed.add(under, stands)
        if stands != "open" or under.status.error_type is None:
            return None
        return Open(stream_id, under.status.error_type, under.attempts_left(most), stood == "given_up")

    def add_open(self, postings: Sequence[Open], deleted: set[str]) -> None:
        """Count postings that have attempts left, those aside that were deleted."""
        for one in postings:
            if one.stream_id in deleted:
                self.deleted += 1
            else:
                self.open[one.error_type, one.left] += 1
                self.given_up_before += one.was_given_up

    def open_by_type(self) -> list[tuple[str, int]]:
        """How many open postings failed last with each error type, most first."""
        counts: Counter[str] = Counter()
        for (error_type, _), count in sorted(self.open.items()):
            counts[error_type] += count
        return counts.most_common()

    def addition(self) -> Addition | None:
        """What further attempts of the open postings would add; None when there are none: then all is exact."""
        if not self.open:
            return None
        added, past = further(self.open, self.follow_ups), self.history
        answered = past.answered / past.attempts
        cost = answered * past.cost_microdollars / past.priced if past.priced else None
        return Addition(
            added.postings,
            added.attempts,
            added.attempts.scaled(past.calls / past.attempts),
            added.attempts.scaled(past.tokens / past.attempts),
            None if cost is None else added.attempts.scaled(cost),
            added.recovered,
            added.recovered.rest_of(added.postings),
        )


class Addition(NamedTuple):
    """What further attempts of so many open postings would add, at the mean cost of the attempts that were made.

    Cost is None when no call that was answered has a known price.
    """

    postings: int
    attempts: Estimate
    calls: Estimate
    tokens: Estimate
    cost_microdollars: Estimate | None
    recovered: Estimate
    given_up: Estimate


def what_if(
    database: Database, enrichment: str, policy: Policy, error_types: Sequence[str], default: int,
    progress: Callable[[int], None] = lambda postings: None,
) -> WhatIf:  # fmt: skip
    """Replay all postings of an enrichment, or those that ever failed with one of these error types.

    `progress` is called with the number of postings of each page.
    """
    with database.read() as connection:
        found = WhatIf(policy, default, error_types, head_position(connection))
    streams = walk(database, enrichment, found.position)
    while page := list(islice(streams, POSTINGS_PER_PAGE)):
        opened = [one for stream_id, events in page if (one := found.add(stream_id, events))]
        with database.read() as connection:
            deleted = find_deleted(connection, database, [one.stream_id for one in opened])
        found.add_open(opened, deleted)
        progress(len(page))
    return found


def count_postings(database: Database, enrichment: str) -> int:
    """How many postings there are to replay."""
    query = select(func.count()).select_from(enrichment_status)
    return database.count(query.where(enrichment_status.c.enrichment == enrichment))

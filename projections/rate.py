"""A limit of requests per minute as one moment: when its bucket will be full again. Pure: no clock, no table.

What begins takes its share of the minute: of 600 requests each takes a tenth of a second. The bucket holds 5 % of the
limit, or one request where that is more, so that over any minute at most 5 % more than the limit begins. Nothing is
given back: a request that is taken in one minute and given back in the next would begin beside all those of the next.
"""

from __future__ import annotations

from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
BUCKET = MINUTE / 20


def may_begin_at(full_at: datetime, now: datetime, per_minute: int) -> datetime:
    """From when on the next may begin: once the bucket has room for it."""
    if full_at > now + MINUTE:  # no bucket takes so long: the clock has been set back since
        return now
    return full_at - max(timedelta(0), BUCKET - _share(per_minute))


def begin(full_at: datetime, now: datetime, per_minute: int) -> datetime | None:
    """When the bucket will be full again after one has begun now; None when it may not begin now."""
    if may_begin_at(full_at, now, per_minute) > now:
        return None
    return (now if full_at > now + MINUTE else max(full_at, now)) + _share(per_minute)


def count(full_at: datetime, now: datetime, per_minute: int, most: int) -> int:
    """How many, of at most so many, may begin now one after the other."""
    begun = 0
    while begun < most and (after := begin(full_at, now, per_minute)) is not None:
        full_at, begun = after, begun + 1
    return begun


def _share(per_minute: int) -> timedelta:
    """How much of the minute one takes, rounded up: a sum never falls short."""
    return -(-MINUTE // per_minute)

"""A limit per minute as one moment: when its bucket will be full again. Pure: no clock, no table.

What begins takes its share of the minute: of 600 requests each takes a tenth of a second. The bucket holds 5 % of the
limit, so that over any minute at most 5 % more than the limit begins, or one need that is larger than the bucket.
"""

from __future__ import annotations

from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
BUCKET = MINUTE / 20


def may_begin_at(full_at: datetime, need: int, per_minute: int) -> datetime:
    """From when on a need may begin: once there is room for it, or for one that never has room, once all is free."""
    return full_at - max(timedelta(0), BUCKET - _share(need, per_minute))


def begin(full_at: datetime, now: datetime, need: int, per_minute: int) -> datetime | None:
    """When the bucket will be full again after this need has begun now; None when it may not begin now."""
    if may_begin_at(full_at, need, per_minute) > now:
        return None
    return take(full_at, now, need, per_minute)


def take(full_at: datetime, now: datetime, need: int, per_minute: int) -> datetime:
    """When the bucket will be full again after this was taken, whether or not there was room for it."""
    return max(full_at, now) + _share(need, per_minute)


def give_back(full_at: datetime, now: datetime, unused: int, per_minute: int) -> datetime:
    """When the bucket will be full again once what was taken and not used is back in it; never before now."""
    return max(now, full_at - unused * MINUTE // per_minute) if full_at > now else full_at


def count(full_at: datetime, now: datetime, per_minute: int, most: int) -> int:
    """How many requests, of at most so many, may begin now one after the other."""
    begun = 0
    while begun < most and (after := begin(full_at, now, 1, per_minute)) is not None:
        full_at, begun = after, begun + 1
    return begun


def _share(need: int, per_minute: int) -> timedelta:
    """How much of the minute a need takes, rounded up: a sum never falls short."""
    return -(-need * MINUTE // per_minute)

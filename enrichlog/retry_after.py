"""How long a provider asks us to wait: `retry-after-ms`, or `retry-after`, seconds or a date (RFC 9110, 10.2.3).

Google says it in its errors instead. Headers such as `x-ratelimit-reset-tokens: 6m0s` are left alone: they say when a
limit is whole again, which may be long after the next call would be served.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
LONGEST_MS = 24 * 60 * 60 * 1000
"""A longer wait than a day is taken for nonsense."""


def retry_after_ms(headers: Mapping[str, str], now: datetime | None = None) -> int | None:
    """The wait asked for, in milliseconds; None when nothing sensible was said.

    A date is read against the reply's own `date` header, so that our clock does not matter.
    """
    exact, plain = headers.get("retry-after-ms"), headers.get("retry-after")
    if exact is None and plain is None:
        return None
    wait = _sensible(_number(exact, 1))
    if wait is None:
        wait = _sensible(_number(plain, 1000))
    if wait is None:
        wait = _sensible(_until(plain, _date(headers.get("date")) or now or datetime.now(UTC)))
    return wait


def duration_ms(text: object) -> int | None:
    """A wait as Google writes it into its errors, `34.07s`, in milliseconds; None for anything else."""
    return _sensible(_number(text.removesuffix("s"), 1000)) if isinstance(text, str) and text.endswith("s") else None


def _sensible(wait: int | None) -> int | None:
    return wait if wait is not None and 0 <= wait <= LONGEST_MS else None


def _number(text: str | None, factor: int) -> int | None:
    match = _NUMBER.fullmatch((text or "").strip())
    return round(float(match[0]) * factor) if match else None


def _until(text: str | None, now: datetime) -> int | None:
    moment = _date(text)
    return None if moment is None else round((moment - now).total_seconds() * 1000)


def _date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

"""How long a provider asks us to wait: `retry-after-ms`, or `retry-after`, seconds or a date (RFC 9110, 10.2.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_MS = 24 * 60 * 60 * 1000
"""A longer wait than a day is taken for nonsense."""


def retry_after_ms(headers: Mapping[str, str], now: datetime | None = None) -> int | None:
    """The wait asked for, in milliseconds; None when nothing sensible was said.

    A date is read against the reply's own `date` header, so that our clock does not matter.
    """
    wait = _milliseconds(headers.get("retry-after-ms"), 1) or _milliseconds(headers.get("retry-after"), 1000)
    if wait is None:
        wait = _until(headers.get("retry-after"), _date(headers.get("date")) or now or datetime.now(UTC))
    return wait if wait is not None and 0 <= wait <= LONGEST_MS else None


def _milliseconds(text: str | None, factor: int) -> int | None:
    try:
        value = float(text or "") * factor
    except ValueError:
        return None
    return round(value) if math.isfinite(value) else None


def _until(text: str | None, now: datetime) -> int | None:
    moment = _date(text)
    return None if moment is None else round((moment - now).total_seconds() * 1000)


def _date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

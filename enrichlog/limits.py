"""Limits over all workers together: what may begin now, and when more may."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

Unit = Literal["requests", "tokens", "microdollars"]


class Limited(NamedTuple):
    """A limit that lets nothing begin before `until`; `why` tells people, and what changes it."""

    unit: Unit
    amount: int
    until: datetime
    why: str

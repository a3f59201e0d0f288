"""A machine whose clock is hours off: for a process that is forked, set before its command begins."""

import sys
import time
from datetime import datetime, timedelta, tzinfo

OURS = ("cli", "enrichlog", "eventlog", "projections")


def off(hours: str) -> None:
    """Have the clock of this process, but not the steady one, be so many hours ahead, or behind."""
    seconds, right = 3600.0 * float(hours), time.time
    time.time = lambda: right() + seconds

    class Meta(type(datetime)):  # type: ignore[misc]
        def __instancecheck__(cls, one: object) -> bool:
            return isinstance(one, datetime)

    class Off(datetime, metaclass=Meta):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in OURS and vars(module).get("datetime") is datetime:
            vars(module)["datetime"] = Off

"""What began within any one minute."""

from collections.abc import Sequence
from datetime import datetime, timedelta


def most_in_a_minute(begun: Sequence[tuple[datetime, int]]) -> int:
    """The most that began within any 60 seconds, of what began at these times, in order."""
    most = first = within = 0
    for at, amount in begun:
        within += amount
        while begun[first][0] <= at - timedelta(minutes=1):
            within -= begun[first][1]
            first += 1
        most = max(most, within)
    return most

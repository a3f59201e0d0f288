"""What was found to be wrong with an adoption, each in a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Findings:
    """Faults, with which nothing would work, and warnings."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take over what another has."""
        self.faults += other.faults
        self.warnings += other.warnings


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names in a sentence, the first of them where there are many."""
    told = list(names)
    more = f" and {len(told) - most} more" if len(told) > most else ""
    return ", ".join(told[:most]) + more

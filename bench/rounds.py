"""Comparing two or more ways of doing the same: in short alternating rounds, because the machine is never quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

Side = Callable[[], float]
"""One round of one way; returns its figure, mostly a rate per second."""


class Target(NamedTuple):
    """What the ratio of `ours` to `baseline` is to be: at least, or at most when smaller is better."""

    ours: str
    baseline: str
    ratio: float
    at_most: bool = False

    def is_met(self, ratio: float) -> bool:
        """Whether this ratio is good enough."""
        return ratio <= self.ratio if self.at_most else ratio >= self.ratio


def compare(title: str, unit: str, sides: Mapping[str, Side], targets: Sequence[Target], rounds: int = 5) -> None:
    """Run the sides in turn, once unmeasured and then so many rounds, and print medians and ratios."""
    print(f"\n{title}  ({unit}, medians of {rounds} alternating rounds)", flush=True)
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            figure = side()
            if number:
                figures[name].append(figure)
    medians = {name: median(found) for name, found in figures.items()}
    for name, found in figures.items():
        print(f"  {name:<44}{medians[name]:>12,.2f}   ({min(found):,.2f} to {max(found):,.2f})")
    for target in targets:
        ratio = medians[target.ours] / medians[target.baseline]
        verdict = "met" if target.is_met(ratio) else "MISSED"
        sign = "≤" if target.at_most else "≥"
        pair = f"{target.ours} / {target.baseline}"
        print(f"  {pair:<60}{ratio:>7.3f} ×   target {sign} {target.ratio} ×   {verdict}", flush=True)


def rate(step: Callable[[], int], seconds: float) -> float:
    """How many a second, when `step` is repeated for this long; it returns how many it did."""
    started, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        done += step()
    return done / spent

"""The chance that one more attempt recovers a posting, taken from what followed earlier failures, and what it adds.

The model: what comes of an attempt depends on the error type of the failure before it, is the same for every further
attempt of the posting, and is otherwise independent. A posting that failed often may be harder than that.

For each error type the four things that an attempt can come to have a Dirichlet distribution: their counts in the
history, plus 1/4 each (Berger, Bernardo and Sun, Overall Objective Priors, Bayesian Analysis 10, 2015; for two outcomes
it is the prior of Jeffreys, whose interval Brown, Cai and DasGupta recommend in Interval Estimation for a Binomial
Proportion, Statistical Science 16, 2001). An error type with fewer than `RARE` of them is given those of all types.

The interval is the predictive one: it holds both that the chance is not known and the luck of these postings. Wilson's
holds the first alone, and is too narrow for a number of postings. It is drawn with a fixed seed: the same history gives
the same interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random
from typing import NamedTuple, get_args

from enrichlog.errors import ERROR_TYPES
from enrichlog.replay import Step

RARE = 10
LEVEL = 0.95
"""The part of all cases in which what comes to pass is within the interval, if the model holds."""

_DRAWS = 1_000
_SEED = 1
_MOST_UNCOUNTED = max(kind.max_deferrals or 0 for kind in ERROR_TYPES.values())
"""Failures of one posting that do not count, between two outcomes that do: more are not reckoned with."""

_STEPS: tuple[Step, ...] = get_args(Step)
_PRIOR = 1 / len(_STEPS)

FollowUps = Counter[tuple[str, Step]]
"""How often an attempt after a failure of this type came to what."""

OpenPostings = Counter[tuple[str, int]]
"""How many postings failed last with this type and have so many attempts left."""


class Estimate(NamedTuple):
    """A number that is not known: what is expected of it (None when the history says nothing), and its interval."""

    expected: int | None
    low: int
    high: int

    def scaled(self, factor: float) -> Estimate:
        """The estimate of what is a multiple of this number."""
        expected = None if self.expected is None else round(self.expected * factor)
        return Estimate(expected, round(self.low * factor), round(self.high * factor))

    def rest_of(self, whole: int) -> Estimate:
        """The estimate of what is left of the whole without this number."""
        return Estimate(None if self.expected is None else whole - self.expected, whole - self.high, whole - self.low)


class Further(NamedTuple):
    """What further attempts on so many postings would add: postings recovered, and attempts."""

    postings: int
    recovered: Estimate
    attempts: Estimate


class Chance(NamedTuple):
    """What the history says of one error type: the attempts that followed it, and how many of those recovered.

    `pooled` when they are those of all types, because those after this one are too few.
    """

    followed: int
    recovered: int
    pooled: bool


def chance(follow_ups: FollowUps, error_type: str) -> Chance:
    """What is known of attempts after a failure of this type."""
    counts, pooled = _counts(follow_ups, error_type)
    return Chance(sum(counts.values()), counts["recovered"], pooled)


def further(postings: OpenPostings, follow_ups: FollowUps) -> Further:
    """What becomes of open postings that are tried until they recover, fail for good or have used up their attempts."""
    count = postings.total()
    if not follow_ups.total():
        most = sum(left * number for (_, left), number in postings.items())
        return Further(count, Estimate(None, 0, count), Estimate(None, count, most))
    random = Random(_SEED)
    types = sorted({error_type for error_type, _ in postings})
    counts = {error_type: _counts(follow_ups, error_type)[0] for error_type in types}
    draws = [_draw(random, postings, {name: _odds(random, counts[name]) for name in types}) for _ in range(_DRAWS)]
    recovered = _estimate([draw.recovered for draw in draws], 0, count)
    return Further(count, recovered, _estimate([draw.attempts for draw in draws], count, math.inf))


class _Odds(NamedTuple):
    """Chances of one attempt that counts for something, and how many that do not go before it."""

    recovered: float
    counted: float
    uncounted: float


class _Drawn(NamedTuple):
    """What came to pass in one draw."""

    recovered: float
    attempts: float


def _counts(follow_ups: FollowUps, error_type: str) -> tuple[Mapping[Step, int], bool]:
    own = {step: follow_ups[error_type, step] for step in _STEPS}
    if sum(own.values()) >= RARE:
        return own, False
    pooled: Counter[Step] = Counter()
    for (_, step), count in follow_ups.items():
        pooled[step] += count
    return {step: pooled[step] for step in _STEPS}, True


def _odds(random: Random, counts: Mapping[Step, int]) -> _Odds:
    """One draw of the chances from what is known of them."""
    share = {step: random.gammavariate(counts[step] + _PRIOR, 1.0) for step in _STEPS}
    decisive = share["recovered"] + share["final"] + share["counted"]
    if decisive <= 0.0:  # all too small for a float
        return _Odds(0.0, 1.0, _MOST_UNCOUNTED)
    before = min(share["uncounted"] / decisive, _MOST_UNCOUNTED)
    return _Odds(share["recovered"] / decisive, share["counted"] / decisive, before)


def _draw(random: Random, postings: OpenPostings, odds: Mapping[str, _Odds]) -> _Drawn:
    """The sums over all postings, which are nearly normal, drawn once under these chances."""
    means, variances = [0.0, 0.0], [0.0, 0.0]
    for (error_type, left), count in postings.items():
        for which, (mean, variance) in enumerate(_of_one(odds[error_type], left)):
            means[which] += count * mean
            variances[which] += count * variance
    drawn = [random.gauss(mean, math.sqrt(variance)) for mean, variance in zip(means, variances, strict=True)]
    return _Drawn(*drawn)


def _of_one(odds: _Odds, left: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean and variance of one posting's recovery (0 or 1) and of its attempts.

    The k-th attempt that counts for something is made when the k - 1 before it failed and counted.
    """
    made = [odds.counted**number for number in range(left)]
    tries = sum(made)
    spread = sum((2 * number + 1) * chance for number, chance in enumerate(made)) - tries * tries
    recovered = min(odds.recovered * tries, 1.0)
    each, before = 1 + odds.uncounted, odds.uncounted
    return (recovered, recovered * (1 - recovered)), (tries * each, tries * before * each + max(spread, 0.0) * each**2)


def _estimate(draws: Iterable[float], least: float, most: float) -> Estimate:
    """What the draws have in their middle, and where all but the outermost lie."""
    ordered = sorted(min(max(draw, least), most) for draw in draws)
    outside = round(len(ordered) * (1 - LEVEL) / 2)
    middle = ordered[outside:-outside]
    return Estimate(round(sum(ordered) / len(ordered)), round(middle[0]), round(middle[-1]))

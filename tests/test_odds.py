"""The estimate of further attempts: its interval holds what comes to pass about as often as it says."""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import get_args

import pytest

from enrichlog.odds import LEVEL, RARE, Chance, Estimate, FollowUps, OpenPostings, chance, further
from enrichlog.replay import Step

HAZARDS = {"timeout": 0.4, "invalid_json": 0.1}
ROUNDS = 80
STEPS: tuple[Step, ...] = get_args(Step)


def tries(random: Random, hazard: float, most: int) -> tuple[int, bool]:
    """How many attempts one posting took, and whether it recovered."""
    for number in range(1, most + 1):
        if random.random() < hazard:
            return number, True
    return most, False


def live_through(random: Random, postings: int) -> tuple[FollowUps, OpenPostings]:
    """What followed first failures under a maximum of 3, and what is open under one of 5."""
    follow_ups: FollowUps = Counter()
    still: OpenPostings = Counter()
    for number in range(postings):
        name = ("timeout", "invalid_json")[number % 2]
        attempts, recovered = tries(random, HAZARDS[name], 2)
        follow_ups[name, "counted"] += attempts - recovered
        follow_ups[name, "recovered"] += recovered
        still[name, 2] += not recovered
    return follow_ups, +still


def come_to_pass(random: Random, still: OpenPostings, hazards: Mapping[str, float]) -> tuple[int, int]:
    """The postings that recovered and the attempts it took, once they are tried again for real."""
    ends = [tries(random, hazards[name], left) for (name, left), count in still.items() for _ in range(count)]
    return sum(recovered for _, recovered in ends), sum(attempts for attempts, _ in ends)


def coverage(hazards: Mapping[str, float], postings: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """How often both numbers came to lie within their intervals."""
    held = [0, 0]
    for seed in range(rounds):
        random = Random(seed)
        follow_ups, still = live_through(random, postings)
        estimate = further(still, follow_ups)
        for which, (interval, real) in enumerate(
            zip((estimate.recovered, estimate.attempts), come_to_pass(random, still, hazards), strict=True)
        ):
            held[which] += interval.low <= real <= interval.high
    return held[0] / rounds, held[1] / rounds


@pytest.mark.parametrize("postings", [40, 400])
def test_the_interval_holds_what_comes_to_pass_about_as_often_as_it_says(postings: int) -> None:
    for found in coverage(HAZARDS, postings):
        assert LEVEL - 0.06 <= found <= 1


def test_the_interval_misses_where_the_future_is_not_like_the_past() -> None:
    other = {"timeout": 0.1, "invalid_json": 0.02}
    assert max(coverage(other, 400, rounds=20)) < 0.2


def test_the_interval_is_no_wider_than_it_has_to_be() -> None:
    follow_ups, still = live_through(Random(7), 4_000)
    found = further(still, follow_ups)
    recovered, attempts = found.recovered, found.attempts
    assert recovered.expected is not None
    assert recovered.high - recovered.low < 0.35 * recovered.expected
    assert attempts.high - attempts.low < 0.1 * attempts.low


def counts(error_type: str = "timeout", **steps: int) -> FollowUps:
    return Counter({(error_type, step): steps[step] for step in STEPS if step in steps})


def test_failures_that_do_not_count_cost_attempts_and_no_chance() -> None:
    still: OpenPostings = Counter({("timeout", 1): 1_000})
    plain = further(still, counts(recovered=5_000, counted=5_000))
    slow = further(still, counts(recovered=5_000, counted=5_000, uncounted=10_000))
    assert plain.recovered.expected == pytest.approx(500, abs=15)
    assert slow.recovered.expected == pytest.approx(500, abs=15)
    assert (plain.attempts.expected, slow.attempts.expected) == pytest.approx((1_000, 2_000), rel=0.03)


def test_a_failure_that_is_final_ends_the_attempts() -> None:
    found = further(Counter({("timeout", 5): 1_000}), counts(recovered=5_000, final=5_000))
    assert found.recovered.expected == pytest.approx(500, abs=15)
    assert found.attempts.expected == pytest.approx(1_000, rel=0.01)


def test_a_rare_type_is_given_what_is_known_of_all() -> None:
    many = counts(recovered=30, counted=70)
    assert chance(many, "timeout") == Chance(100, 30, pooled=False)
    assert chance(many, "empty_output") == Chance(100, 30, pooled=True)
    enough = many + counts("empty_output", recovered=RARE)
    assert chance(enough, "empty_output") == Chance(RARE, RARE, pooled=False)


def test_a_history_that_says_nothing_leaves_everything_possible() -> None:
    found = further(Counter({("timeout", 3): 10, ("other", 1): 2}), Counter())
    assert found.recovered == Estimate(None, 0, 12)
    assert found.attempts == Estimate(None, 12, 32)


def test_one_history_gives_one_estimate() -> None:
    follow_ups, still = live_through(Random(3), 100)
    assert further(still, follow_ups) == further(still, follow_ups)

"""What a call costs: in micro-dollars, rounded up, and unknown rather than free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichlog.price import PricedModel, cost, is_known, money

OPENAI = "https://api.openai.com/v1"
LOOPBACK = "http://127.0.0.1:8089/v1"
MINI = PricedModel("gpt-4o-mini", OPENAI)


def test_a_known_model_costs_what_its_provider_says() -> None:
    assert cost(MINI, 1_000_000, 1_000_000) == 150_000 + 600_000
    assert cost(MINI, 1_000, 100) == 150 + 60


@pytest.mark.parametrize(
    ("microdollars", "told"),
    [
        (0, "$0.00"), (1, "$0.000001"), (2_700, "$0.0027"), (999, "$0.000999"), (9_999, "$0.01"), (123_456, "$0.1235"),
        (500_000, "$0.50"), (12_500_000, "$12.50"), (2_000_000_000_000, "$2,000,000.00"),
    ],
)  # fmt: skip
def test_an_amount_is_told_with_the_digits_that_it_needs(microdollars: int, told: str) -> None:
    assert money(microdollars) == told


def test_a_dated_model_has_the_price_of_its_name() -> None:
    assert cost(PricedModel("gpt-4o-mini-2024-07-18", OPENAI), 1_000, 100) == 210


def test_a_fraction_is_rounded_up_so_that_a_sum_never_falls_short() -> None:
    assert cost(MINI, 1, 0) == 1
    assert cost(MINI, 0, 0) == 0


def test_cached_input_costs_less_and_is_never_more_than_the_input() -> None:
    assert cost(MINI, 1_000, 0, 1_000) == 75
    assert cost(MINI, 1_000, 0, 5_000) == 75


def test_an_unknown_price_is_not_zero() -> None:
    for unknown in (PricedModel("our-own-model", LOOPBACK), PricedModel("gpt-4o-mini", LOOPBACK)):
        assert not is_known(unknown)
        assert cost(unknown, 1_000, 100) is None


def test_a_named_provider_wins_over_the_address() -> None:
    assert cost(PricedModel("gpt-4o-mini", LOOPBACK, "openai"), 1_000, 100) == 210
    assert cost(PricedModel("gpt-4o-mini", OPENAI, "nobody"), 1_000, 100) is None


@given(st.text(), st.text(), st.none() | st.text() | st.just("openai"))
def test_whatever_a_server_calls_its_model_is_priced_or_unknown(model: str, server: str, provider: str | None) -> None:
    found = cost(PricedModel(model, server, provider), 1_000, 100, 10)
    assert found is None or found >= 0


@given(st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1))
def test_any_usage_has_a_cost_that_a_database_can_hold(given_: int, made: int, cached: int) -> None:
    found = cost(MINI, given_, made, cached)
    assert found is not None
    assert 0 <= found < 2**63


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4o", "gpt-4.1-mini"])
def test_the_usual_models_have_a_price(model: str) -> None:
    assert is_known(PricedModel(model, OPENAI))

"""What a call costs, in micro-dollars, by the prices that the genai-prices library keeps."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import NamedTuple

MICRODOLLARS = 1_000_000

LEAST_DOLLARS, MOST_DOLLARS = 1 / MICRODOLLARS, 1_000_000
"""What a limit of money can be: a micro-dollar is the least that is counted."""


def money(microdollars: int) -> str:
    """Micro-dollars as people write them: two decimals, and more where they say something.

    Four in all, because one call costs a fraction of a cent; below a tenth of a cent, six.
    """
    whole, _, decimals = f"{microdollars / MICRODOLLARS:,.{4 if microdollars >= 1_000 else 6}f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


class PricedModel(NamedTuple):
    """Which model's price applies: `provider` names whose prices, without it the server's address tells."""

    model: str
    server: str
    provider: str | None = None


@lru_cache(maxsize=4_096)  # to ask costs 0.1 ms, and many postings are of the same size
def cost(model: PricedModel, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0) -> int | None:
    """The cost of one call in micro-dollars, rounded up so that a sum never falls short.

    None when the price of the model is not known, which is never the same as free.
    """
    if not is_known(model):
        return None
    total = _total(model, input_tokens, output_tokens, min(cached_input_tokens, input_tokens))
    return int((total * MICRODOLLARS).to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=256)
def is_known(model: PricedModel) -> bool:
    """Whether there is a price for the model."""
    try:
        _total(model, 1, 1, 0)
    except LookupError:
        return False
    return True


@lru_cache(maxsize=256)
def provider_of(endpoint: str) -> str | None:
    """The id of the provider that a base URL is known to be of; None for any other server."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider(None, None, endpoint).id
    except LookupError:
        return None


def _total(model: PricedModel, input_tokens: int, output_tokens: int, cached: int) -> Decimal:
    from genai_prices import Usage, calc_price  # costs 50 ms: not at import

    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached)
    if model.provider is not None:
        return calc_price(usage, model.model, provider_id=model.provider).total_price
    return calc_price(usage, model.model, provider_api_url=model.server).total_price

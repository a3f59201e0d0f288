"""Which error type a provider's error is: by its structure alone, never by its message.

What leads to an error type stands with it in `error_types`; the tables here follow from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from enrichlog.error_types import ERROR_TYPES, ErrorType
from enrichlog.exceptions import UnknownErrorType

__all__ = [
    "BROKEN", "CODES", "ERROR_TYPES", "FINISHES", "PARAMS", "SHORT_NAMES", "STATUSES", "ErrorType", "ProviderError",
    "advice_of", "find_error_types", "group_of", "recognise",
]  # fmt: skip

SHORT_NAMES: dict[str, tuple[str, ...]] = {
    "quota": ("quota_exceeded",),
    "rate_limit": ("rate_limited",),
    "parsing": ("schema_mismatch", "output_truncated", "empty_output"),
    "timeout": ("timeout",),
    "json": ("invalid_json",),
}

_KINDS = ERROR_TYPES.values()
CODES: dict[str, str] = {code: kind.name for kind in _KINDS for code in kind.codes}
"""The provider's `code` or `type` -> error type; further ones come from the setting `error_codes`."""
PARAMS: dict[str, str] = {param: kind.name for kind in _KINDS for param in kind.params}
STATUSES: dict[int, str] = {status: kind.name for kind in _KINDS for status in kind.statuses}
"""HTTP status -> error type; one digit stands for all other statuses that begin with it."""
BROKEN: dict[str, ErrorType] = {reason: kind for kind in _KINDS for reason in kind.broken}
FINISHES: dict[str, str] = {reason: kind.name for kind in _KINDS for reason in kind.finishes}

_ABOUT_THE_REQUEST = (400, 404, 422)
_NO_CODES: Mapping[str, str] = {}


class ProviderError(NamedTuple):
    """What a provider says went wrong, as far as it has structure. `status` is None inside a reply of status 200.

    `limit_tokens` and `remaining_tokens` are of its limit per minute: all of it, and what is left of it;
    `requested_tokens` is our own estimate of what was sent.
    """

    status: int | None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    requested_tokens: int | None = None

    @property
    def never_fits(self) -> bool:
        """Whether this one request exceeds the limit, also when all of it is free: waiting does not help."""
        if self.status == 413:
            return self.code == "rate_limit_exceeded"
        if self.status != 429 or self.limit_tokens is None:
            return False
        is_larger = self.requested_tokens is not None and self.requested_tokens > self.limit_tokens
        return is_larger or (self.type == "tokens" and self.limit_tokens == self.remaining_tokens)


def recognise(error: ProviderError, codes: Mapping[str, str] | None = None) -> ErrorType:
    """The error type of a provider's error: its code and type first, then what it is about, then the HTTP status.

    `codes` are those that the user's settings add; they win over ours.
    """
    name = _by_code(error, codes or _NO_CODES)
    if name is None:
        name = _by_what_overrides_codes(error) or _by_code(error, CODES)
    if name is None and error.param and error.status in _ABOUT_THE_REQUEST:
        name = _by_param(error.param)
    return ERROR_TYPES[name or _by_status(error)]


def _by_what_overrides_codes(error: ProviderError) -> str | None:
    """What is plain whatever code stands beside it: a request that never fits, and a payment that is due."""
    if error.never_fits:
        return "input_too_large"
    return "quota_exceeded" if error.status == 402 else None


def _by_code(error: ProviderError, codes: Mapping[str, str]) -> str | None:
    if not codes:
        return None
    both = codes.get(f"{error.code}:{error.param}") if error.param else None
    return both or codes.get(error.code or "") or codes.get(error.type or "")


def _by_param(param: str) -> str | None:
    """The error type of a param, or of what it stands in: `text.format.schema` stands in `text.format`."""
    parts = param.replace("[", ".").split(".")[:3]
    inmost_first = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((PARAMS[place] for place in inmost_first if place in PARAMS), None)


def _by_status(error: ProviderError) -> str:
    """The error type of a status. Within a reply of status 200 gateways put that of their provider into the code."""
    status, code = error.status, error.code or ""
    if status is None and len(code) == 3 and code.isdecimal():
        status = int(code)
    if status is None or status < 100:
        return "server_error"
    return STATUSES.get(status) or STATUSES.get(status // 100, "server_error")


def find_error_types(names: tuple[str, ...]) -> tuple[str, ...]:
    """The error types that these names or short names mean. Raises `UnknownErrorType`."""
    found: list[str] = []
    for name in names:
        wanted = SHORT_NAMES.get(name) or ((name,) if name in ERROR_TYPES else None)
        if wanted is None:
            raise UnknownErrorType(name=name or "''", known=", ".join(dict.fromkeys((*ERROR_TYPES, *SHORT_NAMES))))
        found += wanted
    return tuple(dict.fromkeys(found))


def advice_of(name: str) -> str:
    """What a person can do about an error type; nothing about one that this version does not know."""
    return ERROR_TYPES[name].advice if name in ERROR_TYPES else ""


def group_of(name: str) -> str:
    """The group of an error type, as reports have it."""
    return ERROR_TYPES[name].group if name in ERROR_TYPES else "Other"

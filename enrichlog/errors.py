"""The error types: whose fault a failed attempt was, what that means for the posting, and what a person can do.

An error is recognised by structure alone: HTTP status, the provider's code, type and param. Never by its message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from enrichlog.exceptions import UnknownErrorType
from eventlog.events import Fault

Wait = Literal["none", "short", "backoff"]


class ErrorType(NamedTuple):
    """One kind of failure.

    `fault`: whose it is, by which the breaker goes; `counts`: whether it uses up the posting's budget; `cap`: the most
    counted failures of the posting while it fails this way; `max_deferrals`: the most uncounted ones in a row;
    `wait`: how long before the next attempt; `stops`: whether going on is useless for every posting.
    """

    name: str
    group: str
    fault: Fault
    retryable: bool
    counts: bool
    advice: str
    wait: Wait = "backoff"
    cap: int | None = None
    max_deferrals: int | None = None
    stops: bool = False


_QUOTA = "Wait until the quota resets, raise the plan's limit or add credit, then: enrichlog retry --error-type quota"
_FINAL = "Trying again brings the same. It is tried again when the posting, the prompt, the schema or the model changes"
_PROVIDER = "The provider had trouble, not the posting. It is tried again by itself after a wait"
_CHECK_OUTPUT = "Look at the reply with: enrichlog history JOB_ID. Often a clearer prompt or another model helps"

ERROR_TYPES: dict[str, ErrorType] = {
    kind.name: kind
    for kind in (
        ErrorType("quota_exceeded", "Quota Exceeded", "setup", True, False, _QUOTA, "none", stops=True),
        ErrorType("authentication", "Configuration", "setup", True, False, "Set a valid OPENAI_API_KEY", "none", stops=True),
        ErrorType("permission", "Configuration", "setup", True, False, "Give the key the right to this model", "none", stops=True),
        ErrorType(
            "model_not_found", "Configuration", "setup", True, False, "Check --model and the base URL", "none", stops=True
        ),
        ErrorType(
            "invalid_schema", "Configuration", "setup", True, False, "Mend the result model: the provider refuses it", "none",
            stops=True,
        ),
        ErrorType(
            "prompt_not_found", "Configuration", "setup", True, False, "Use a prompt file instead of a stored prompt", "none",
            stops=True,
        ),
        ErrorType("rate_limited", "Rate Limited", "ours", True, False, "Lower --concurrency. It is tried again after the wait"),
        ErrorType("server_error", "Provider", "provider", True, False, _PROVIDER, max_deferrals=20),
        ErrorType("connection", "Provider", "provider", True, False, "Check the network and the base URL. It is tried again by itself", max_deferrals=20),
        ErrorType("invalid_response_body", "Provider", "provider", True, False, _PROVIDER, max_deferrals=20),
        ErrorType(
            "interrupted", "Interrupted", "ours", True, True, "The worker stopped in the middle. It is tried again", "none", cap=3
        ),
        ErrorType("timeout", "Timeout", "provider", True, True, "Raise the deadline, or shorten what is asked for"),
        ErrorType("invalid_json", "Invalid JSON", "posting", True, True, _CHECK_OUTPUT, "short", cap=2),
        ErrorType("schema_mismatch", "Parsing Error", "posting", True, True, _CHECK_OUTPUT, "short", cap=2),
        ErrorType("output_truncated", "Parsing Error", "posting", True, True, "Raise max_output_tokens", "short", cap=2),
        ErrorType("empty_output", "Parsing Error", "posting", True, True, _CHECK_OUTPUT, "short", cap=2),
        ErrorType("refusal", "Rejected", "posting", False, True, _FINAL),
        ErrorType("content_filter", "Rejected", "posting", False, True, _FINAL),
        ErrorType("input_too_large", "Rejected", "posting", False, True, "Raise max_input_tokens or allow cutting with cut_input"),
        ErrorType("input_error", "Rejected", "posting", False, True, "Give the posting a description and import it again"),
        ErrorType("bad_request", "Rejected", "posting", False, True, _FINAL),
        ErrorType("budget_exceeded", "Budget", "ours", True, False, "Raise the limit, or wait for the next window", "none", stops=True),
        ErrorType("storage_error", "Storage", "ours", True, False, "Mend the database; the outcome is written again", "none", stops=True),
        ErrorType("other", "Other", "ours", True, True, "Look at it with: enrichlog history JOB_ID", cap=2),
    )
}  # fmt: skip

SHORT_NAMES: dict[str, tuple[str, ...]] = {
    "quota": ("quota_exceeded",),
    "rate_limit": ("rate_limited",),
    "parsing": ("schema_mismatch", "output_truncated", "empty_output"),
    "timeout": ("timeout",),
    "json": ("invalid_json",),
}

CODES: dict[str, str] = {
    "insufficient_quota": "quota_exceeded",
    "credit_balance_exhausted": "quota_exceeded",
    "organization_spend_limit_exceeded": "quota_exceeded",
    "project_spend_limit_exceeded": "quota_exceeded",
    "organization_usage_limit_exceeded": "quota_exceeded",
    "project_usage_limit_exceeded": "quota_exceeded",
    "billing_hard_limit_reached": "quota_exceeded",
    "invalid_api_key": "authentication",
    "model_not_found": "model_not_found",
    "prompt_not_found": "prompt_not_found",
    "context_length_exceeded": "input_too_large",
    "string_above_max_length": "input_too_large",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "invalid_prompt": "content_filter",
    "invalid_json_schema": "invalid_schema",
    "rate_limit_exceeded": "rate_limited",
    "server_error": "server_error",
}
"""The provider's `code` or `type` -> error type; further ones come from the setting `error_codes`."""

STATUSES: dict[int, str] = {
    401: "authentication",
    402: "quota_exceeded",
    403: "permission",
    404: "model_not_found",
    408: "timeout",
    409: "server_error",
    413: "input_too_large",
    429: "rate_limited",
}
_SCHEMA_PARAMS = ("text.format", "response_format")


class ProviderError(NamedTuple):
    """What a provider says went wrong, as far as it has structure. `status` is None inside a reply of status 200.

    `limit_tokens` and `remaining_tokens` are of its limit per minute: all of it, and what is left of it.
    """

    status: int | None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None

    @property
    def never_fits(self) -> bool:
        """Whether this one request exceeds the limit although all of it was free: waiting does not help."""
        all_free = self.limit_tokens is not None and self.limit_tokens == self.remaining_tokens
        return self.status == 429 and self.type == "tokens" and all_free


def recognise(error: ProviderError, codes: Mapping[str, str] | None = None) -> ErrorType:
    """The error type of a provider's error: its code and type first, then what it is about, then the HTTP status."""
    if error.never_fits:
        return ERROR_TYPES["input_too_large"]
    known = CODES | dict(codes or {})
    name = known.get(error.code or "") or known.get(error.type or "")
    if name is None and error.status == 400 and (error.param or "").startswith(_SCHEMA_PARAMS):
        name = "invalid_schema"
    return ERROR_TYPES[name or _by_status(error.status)]


def _by_status(status: int | None) -> str:
    if status is None or status >= 500:
        return "server_error"
    if status < 300:
        return "invalid_response_body"  # accepted, created, no content: there is no answer in it
    if status < 400:
        return "model_not_found"  # a redirect: the base URL is not that of the API
    return STATUSES.get(status, "bad_request")


def find(names: tuple[str, ...]) -> tuple[str, ...]:
    """The error types that these names or short names mean. Raises `UnknownErrorType`."""
    found: list[str] = []
    for name in names:
        wanted = SHORT_NAMES.get(name) or ((name,) if name in ERROR_TYPES else None)
        if wanted is None:
            raise UnknownErrorType(name=name, known=", ".join(dict.fromkeys((*ERROR_TYPES, *SHORT_NAMES))))
        found += wanted
    return tuple(dict.fromkeys(found))

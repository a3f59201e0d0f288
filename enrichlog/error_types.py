"""The taxonomy: one entry for each error type, with how it is known, what it means for a posting, and what to do.

A code is listed only where it tells more than the HTTP status it comes with.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from eventlog.events import Fault

Wait = Literal["none", "short", "backoff"]


class ErrorType(NamedTuple):
    """One kind of failure: first what it means, then what it is known by.

    `fault`: whose it is, by which the breaker goes; `counts`: whether it uses up the posting's budget; `cap`: the most
    counted failures of the posting while it fails this way; `max_deferrals`: the most uncounted ones in a row;
    `wait`: how long before the next attempt; `stops`: whether going on is useless for every posting.

    `broken`: what prevented a reply; `codes`: the provider's `code` or `type`, or `code:param` where only both tell;
    `params`: what a 400 or 422 is about, with all that stands within it; `statuses`: HTTP statuses, or the first digit
    of those that have no entry of their own; `finishes`: why the model stopped.
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
    broken: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    finishes: tuple[str, ...] = ()


def _setup(name: str, advice: str, *, group: str = "Configuration", **known: Any) -> ErrorType:
    """Key, quota, model, schema or prompt: no posting's fault, and no other posting would fare better."""
    return ErrorType(name, group, "setup", True, False, advice, "none", stops=True, **known)


def _provider(name: str, advice: str, **known: Any) -> ErrorType:
    """The provider could not answer: uncounted, and put off so often that it would have recovered long since."""
    return ErrorType(name, "Provider", "provider", True, False, advice, max_deferrals=20, **known)


def _malformed(name: str, group: str, advice: str, **known: Any) -> ErrorType:
    """An answer came and is of no use; another might be."""
    return ErrorType(name, group, "posting", True, True, advice, "short", cap=2, **known)


def _final(name: str, advice: str, **known: Any) -> ErrorType:
    """The same request would be turned down again."""
    return ErrorType(name, "Rejected", "posting", False, True, advice, **known)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_QUOTA = "Wait until the quota resets, raise the plan's limit or add credit, then: enrichlog retry --error-type quota"
_FINAL = "Trying again brings the same. It is tried again when the posting, the prompt, the schema or the model changes"
_AGAIN = "The next enrichlog enrich, or a worker, takes it after the wait"
_PROVIDER = f"The provider had trouble, not the posting. {_AGAIN}"
_NOT_THE_API = f"No answer of the API. {_AGAIN}; if it lasts, check --base-url"
_CHECK_OUTPUT = "Look at the reply with: enrichlog history JOB_ID. Often a clearer prompt or another model helps"

_ENTRIES = (
    _setup(
        "quota_exceeded", _QUOTA, group="Quota Exceeded", statuses=(402,),
        codes=_words("""
            insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded project_spend_limit_exceeded
            organization_usage_limit_exceeded project_usage_limit_exceeded billing_hard_limit_reached billing_not_active
            billing_error blocked_api_access budget_exceeded exceeded_current_quota_error insufficient_balance
            insufficient_credits insufficient_user_quota BILLING_DISABLED Arrearage"""),
    ),
    _setup(
        "authentication", "Set a valid OPENAI_API_KEY", statuses=(401,),
        codes=_words("""
            invalid_api_key expired_api_key account_deactivated authentication_error invalid_authentication_error
            auth_error expired_key API_KEY_INVALID"""),
    ),
    _setup(
        "permission", "Give the key the right to this model; some models are closed to some countries", statuses=(403, 451),
        codes=_words("""
            unsupported_country_region_territory permission_error permission_denied_error ip_not_authorized
            organization_restricted model_terms_required model_permission_blocked_org model_permission_blocked_project
            key_model_access_denied team_model_access_denied data_residency_mismatch FAILED_PRECONDITION
            SERVICE_DISABLED API_KEY_SERVICE_BLOCKED CONSUMER_SUSPENDED"""),
    ),
    _setup(
        "model_not_found", "Check --model and --base-url", statuses=(3, 404, 405, 410), params=("model",),
        codes=_words("""
            model_not_found model_decommissioned model_deprecated model_not_available invalid_model unknown_model
            not_found_error NotFoundError DeploymentNotFound OperationNotSupported"""),
    ),
    _setup(
        "invalid_schema", "Mend the result model: the provider refuses it", codes=("invalid_json_schema",),
        params=("text.format", "response_format", "structured_outputs"),
    ),
    _setup(
        "prompt_not_found", "Use a prompt file instead of a stored prompt", codes=("prompt_not_found",),
        params=("prompt.id", "prompt.version"),
    ),
    ErrorType(
        "rate_limited", "Rate Limited", "ours", True, False, f"Lower --concurrency. {_AGAIN}",
        codes=("rate_limit_exceeded", "rate_limit_error"), statuses=(429,),
    ),
    _provider(
        "server_error", _PROVIDER, statuses=(5, 409, 423, 424, 425, 498, 499),
        codes=_words("""
            server_error overloaded_error engine_overloaded_error capacity_exceeded service_tier_capacity_exceeded
            NoCapacity vector_store_timeout"""),
    ),
    _provider(
        "connection", f"Check the network and --base-url. {_AGAIN}", broken=("connection",),
        statuses=(407,),
    ),
    _provider("invalid_response_body", _NOT_THE_API, broken=("too_large", "packed"), statuses=(1, 2)),
    ErrorType(
        "interrupted", "Interrupted", "ours", True, True,
        "The worker stopped in the middle. The next enrichlog enrich, or a worker, takes it", "none", cap=3,
    ),
    ErrorType(
        "timeout", "Timeout", "provider", True, True, "Raise deadline_seconds, or shorten what is asked for",
        broken=("timeout",), statuses=(408,),
    ),
    _malformed("invalid_json", "Invalid JSON", _CHECK_OUTPUT, codes=("json_validate_failed",)),
    _malformed("schema_mismatch", "Parsing Error", _CHECK_OUTPUT),
    _malformed(
        "output_truncated", "Parsing Error", "Raise max_output_tokens",
        finishes=_words("max_output_tokens length max_tokens MAX_TOKENS model_length incomplete"),
    ),
    _malformed("empty_output", "Parsing Error", _CHECK_OUTPUT),
    _final("refusal", _FINAL, finishes=("refusal",)),
    _final(
        "content_filter", _FINAL,
        codes=_words("""
            content_filter content_policy_violation ResponsibleAIPolicyViolation invalid_prompt bio_policy
            misalignment_policy_violation image_content_policy_violation flagged_input data_inspection_failed
            DataInspectionFailed"""),
        finishes=_words("content_filter safety SAFETY RECITATION PROHIBITED_CONTENT BLOCKLIST SPII"),
    ),
    _final(
        "input_too_large", "Cut long postings with cut_input and max_input_tokens, or use a model that reads more",
        statuses=(413,), params=("input_tokens", "input_text"),
        codes=_words("""
            context_length_exceeded string_above_max_length string_too_long request_too_large tokens_limit_reached
            exceed_context_size_error"""),
    ),
    _final("input_error", "Give the posting a description and import it again"),
    _final("bad_request", _FINAL, statuses=(4,)),
    ErrorType(
        "budget_exceeded", "Budget", "ours", True, False,
        "Raise the limit of a day, or lower max_output_tokens; for today then: enrichlog requeue JOB_ID --reason TEXT",
        "none",
    ),
    ErrorType("storage_error", "Storage", "ours", True, False, "Mend the database; the outcome is written again", "none", stops=True),
    ErrorType("other", "Other", "ours", True, True, "Look at it with: enrichlog history JOB_ID", cap=2),
)  # fmt: skip

ERROR_TYPES: dict[str, ErrorType] = {kind.name: kind for kind in _ENTRIES}

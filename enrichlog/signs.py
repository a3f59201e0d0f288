"""What structure within a message gives away about its error: codes, names of exception classes, fixed wording.

They are those of many providers and libraries, since the messages come from before this log.
"""

from __future__ import annotations

from enrichlog.errors import CODES as OURS

SPECIFIC_FIRST = (
    "budget_exceeded", "storage_error", "quota_exceeded", "prompt_not_found", "invalid_schema", "content_filter",
    "refusal", "input_too_large", "input_error", "authentication", "permission", "model_not_found", "timeout",
    "rate_limited", "server_error", "interrupted", "output_truncated", "empty_output", "invalid_json",
    "schema_mismatch", "invalid_response_body", "connection", "bad_request", "other",
)  # fmt: skip
"""Of several signs in one message the one that tells more counts: a 400 says less than the code beside it."""

NARROWED: dict[str, tuple[str, ...]] = {
    "bad_request": (
        "budget_exceeded", "quota_exceeded", "prompt_not_found", "invalid_schema", "content_filter", "input_too_large",
        "authentication", "permission", "model_not_found",
    ),
    "rate_limited": ("budget_exceeded", "quota_exceeded"),
    "authentication": ("quota_exceeded",),
    "permission": ("quota_exceeded", "content_filter", "model_not_found"),
    "model_not_found": ("prompt_not_found",),
    "server_error": ("quota_exceeded", "content_filter", "input_too_large"),
    "interrupted": ("timeout",),
    "schema_mismatch": ("authentication",),
    "invalid_json": ("output_truncated", "empty_output"),
    "other": ("connection", "empty_output"),
}  # fmt: skip
"""What phrases may make of a sign that says little; any other sign stands as it is, whatever the words around it."""

_OF_OTHERS = {
    "budget_exceeded": "max_budget_exceeded",
    "quota_exceeded": """
        insufficient_credit insufficient_funds insufficient_account_balance payment_required quota_exceeded
        QuotaExceeded credits_exhausted usage_limit_reached usage_limit_exceeded credit_limit_reached
        spend_limit_reached account_overdue access_terminated_for_nonpayment""",
    "authentication": """
        invalid_authentication authentication_failed InvalidApiKey UNAUTHENTICATED missing_api_key no_api_key
        api_key_not_found token_expired invalid_token invalid_organization UnrecognizedClientException
        InvalidSignatureException ExpiredTokenException ExpiredToken IncompleteSignature ACCESS_TOKEN_EXPIRED""",
    "permission": """
        permission_denied PERMISSION_DENIED AccessDeniedException AccessDenied access_denied insufficient_permissions
        missing_scope request_forbidden access_terminated_error mismatched_organization mismatched_project""",
    "model_not_found": """
        deployment_not_found not_found NOT_FOUND ResourceNotFoundException model_not_supported unsupported_model
        model_not_allowed ModelNotFound unknown_url""",
    "rate_limited": """
        rate_limit_reached_error RESOURCE_EXHAUSTED RateLimitReached too_many_requests Throttling throttling_error
        rate_limit concurrency_limit_exceeded""",
    "server_error": """
        internal_server_error internal_error InternalError InternalFailure api_error service_unavailable
        service_unavailable_error UNAVAILABLE INTERNAL bad_gateway upstream_error no_healthy_upstream
        ModelNotReadyException ModelErrorException""",
    "timeout": "DEADLINE_EXCEEDED timeout_error request_timeout ETIMEDOUT ESOCKETTIMEDOUT upstream_timeout",
    "content_filter": """
        content_filtered content_filter_error content_policy content_moderation moderation_blocked
        sensitive_words_detected PROHIBITED_CONTENT SAFETY RECITATION BLOCKLIST SPII IMAGE_SAFETY guardrail_intervened
        GUARDRAIL_INTERVENED moderation_error""",
    "input_too_large": """
        context_window_exceeded prompt_too_long input_too_long model_max_prompt_tokens_exceeded
        max_prompt_tokens_exceeded context_length_error payload_too_large""",
    "output_truncated": "MAX_TOKENS",
    "invalid_schema": "invalid_function_parameters invalid_response_format",
    "invalid_json": "json_invalid",
    "schema_mismatch": "tool_use_failed output_parse_failed OUTPUT_PARSING_FAILURE",
    "storage_error": """
        sqlite3 psycopg psycopg2 sqlalchemy asyncpg pymysql aiosqlite pgbouncer PostgresError SQLSTATE PostgrestAPIError
        UniqueViolation ForeignKeyViolation NotNullViolation CheckViolation DeadlockDetected SerializationFailure
        UndefinedTable UndefinedColumn StringDataRightTruncation QueryCanceled LockNotAvailable""",
    "interrupted": "KeyboardInterrupt SystemExit SIGTERM SIGKILL SIGINT ABORTED CANCELLED",
    "connection": """
        ECONNREFUSED ECONNRESET ECONNABORTED ENOTFOUND EAI_AGAIN EPIPE EHOSTUNREACH ENETUNREACH UND_ERR_SOCKET
        UND_ERR_CONNECT_TIMEOUT ConnectTimeout ConnectTimeoutError ConnectionTimeoutError ReadError WriteError
        CloseError RemoteDisconnected gaierror CERTIFICATE_VERIFY_FAILED SELF_SIGNED_CERT_IN_CHAIN CERT_HAS_EXPIRED
        DEPTH_ZERO_SELF_SIGNED_CERT UNABLE_TO_VERIFY_LEAF_SIGNATURE ServerDisconnectedError MaxRetryError
        IncompleteRead UnsupportedProtocol InvalidURL""",
    "bad_request": """
        invalid_request_error invalid_request INVALID_ARGUMENT OUT_OF_RANGE BadRequest unsupported_parameter
        unsupported_value invalid_parameter InvalidParameter missing_required_parameter unknown_parameter
        invalid_value invalid_type invalid_parameter_error""",
    "other": """
        TypeError AttributeError KeyError NameError IndexError ImportError ModuleNotFoundError FileNotFoundError
        UnboundLocalError NotImplementedError ZeroDivisionError RecursionError AssertionError MemoryError
        UnicodeDecodeError UnicodeEncodeError StopIteration LookupError IsADirectoryError
        NotADirectoryError ReferenceError RangeError""",
}

BESIDE_OURS: dict[str, str] = {word: name for name, words in _OF_OTHERS.items() for word in words.split()} | {
    "UND_ERR_HEADERS_TIMEOUT": "timeout",
    "UND_ERR_BODY_TIMEOUT": "timeout",
    "Timeout": "timeout",  # the class of requests and litellm; in a sentence it begins with a small letter
    "ReadTimeout": "timeout",
    "WriteTimeout": "timeout",
    "PoolTimeout": "timeout",
    "DeadlineExceeded": "timeout",
    "ServiceUnavailable": "server_error",  # these classes of Google's library do not end in Error
    "ResourceExhausted": "rate_limited",
    "TooManyRequests": "rate_limited",
    "PermissionDenied": "permission",
    "Unauthenticated": "authentication",
    "InvalidArgument": "bad_request",
    "FailedPrecondition": "bad_request",
}
"""Those beside our `CODES`, which hold for messages too -> error type."""

WORDS: dict[str, str] = BESIDE_OURS | OURS
"""A code, type or class name that stands in a message as a word of its own, in whatever case -> error type."""

STEMS: tuple[tuple[str, str], ...] = tuple(
    (stem, name)
    for name, stems in (
        ("budget_exceeded", "budgetexceeded"),
        ("quota_exceeded", "quota insufficientbalance insufficientcredit billing paymentrequired usagelimit"),
        ("output_truncated", "lengthfinishreason incompleteoutput truncat maxtokens"),
        ("input_too_large", "contextwindow contextlength contextsize toolong toolarge contextoverflow"),
        ("content_filter", "contentfilter contentpolicy blockedprompt stopcandidate moderation guardrail safety"),
        ("refusal", "refusal modelrefus"),
        ("invalid_response_body", "responsevalidation contenttype contentdecoding decodingerror"),
        ("connection", "connectionrefused connecttimeout unknownhost noroutetohost"),
        ("timeout", "timeout timedout deadline timelimit"),
        ("rate_limited", "ratelimit throttl toomanyrequest resourceexhausted"),
        ("authentication", "authentication unauthenticated unauthorized apikey credential"),
        ("permission", "permissiondenied accessdenied forbidden"),
        ("model_not_found", "modelnotfound deploymentnotfound"),
        ("invalid_json", "jsondecode jsonparse jsonsyntax jsonerror"),
        ("schema_mismatch", "outputpars zoderror typevalidation outputvalidation schemavalidation"),
        ("storage_error",
            "operationalerror integrityerror programmingerror dataerror databaseerror sqlalchemy dbapi psycopg sqlite "
            "postgres interfaceerror internaldatabase deadlock querycancel undefinedtable pendingrollback"),
        ("interrupted", "cancel interrupt abort workerlost workerterminated brokenprocesspool shutdown"),
        ("bad_request", "badrequest invalidrequest unprocessable unsupportedparam invalidargument"),
        ("server_error", "internalserver serviceunavailable enginedead overload badgateway serverdown"),
        ("connection",
            "connect network socket dnserror ssl protocolerror brokenpipe proxyerror incompleteread clientpayload "
            "transferencoding chunkedencoding"),
    )
    for stem in stems.split()
)  # fmt: skip
"""What is part of the name of an exception class, in small letters -> error type; the first that is found counts."""

FIXED: tuple[tuple[str, str], ...] = (
    ("request too large", "input_too_large"),  # a limit of a rate that this one request exceeds alone
    ("read timed out", "timeout"),  # of a connection that was made
    ("due to timeout", "timeout"),  # so browsers and Node say why they aborted
    ("missing scope", "permission"),
    ("authentication scopes", "permission"),
    ("wait before trying again", "rate_limited"),
    ("connection to server at", "storage_error"),  # so PostgreSQL's client begins
    ("accepting tcp/ip connections on port", "storage_error"),
    ("runner process", "server_error"),  # of a model on the server: it may have been killed
    ("content exists risk", "content_filter"),
    ("insufficient permission", "permission"),
    ("invalid json output", "invalid_json"),
    ("response body is not json", "invalid_response_body"),
    ("the json body", "bad_request"),  # so servers call what they were sent
    ("the request body", "bad_request"),
    ("body of your request", "bad_request"),
)
"""Fixed wording, in small letters, that tells more than the status and classes around it -> error type."""

MISSHAPEN = (
    "missing field", "unknown field", "unrecognized field", "duplicate field", "unknown variant", "invalid type:",
    "invalid value:", "invalid length", "cannot deserialize", "cannot construct", "could not be converted to",
)  # fmt: skip
"""Where a parser names a place in JSON and says this, it could read the JSON, and misses the schema."""

BY_THE_MINUTE = (" per min", "per_min", "perminute", "per second", "per_second", "persecond")
"""Where a quota is one by the minute, it is a rate."""

EXACT_CLASSES = {
    "NotFoundError": "model_not_found",
    "ValidationError": "schema_mismatch",
    "ValidationException": "bad_request",  # Bedrock's
    "ServerError": "server_error",
}
"""Classes of which one part alone would say something else."""

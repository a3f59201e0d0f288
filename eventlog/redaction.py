"""Secrets, and how they are taken out of a text before it is stored or logged."""

from __future__ import annotations

import re

import orjson

REDACTED = "[redacted]"

# A key has at least one digit and 20 characters after its prefix, or is shown with stars as providers echo it;
# without that, words such as "sk-learn" would be taken for one.
_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|sess)-(?:(?=[\w-]*\d)[\w-]{20,}|[\w-]*\*+[\w*-]*\.?[\w*-]*)"
    r"|\bBearer\s+(?!\[redacted\])[\w.~+/-]{8,}=*"
    r"|(?<=://)[^\s/@:\"]*:[^\s/\"]+(?=@)"
)
_TRACES = re.compile(rb"(?:sk|pk|rk|xai|sess)-|Bearer|://[^/]*@")
_known: dict[str, bytes] = {}
"""Secret -> as it stands in a JSON text."""


def remember_secret(secret: str) -> None:
    """Have this exact text taken out everywhere; under 8 characters it would hit ordinary words, and is ignored."""
    if len(secret.strip()) >= 8:
        _known[secret.strip()] = orjson.dumps(secret.strip())[1:-1]


def may_hold_secrets(encoded: bytes) -> bool:
    """Whether a JSON text is worth a closer look; quick, and never wrong when it says no."""
    return _TRACES.search(encoded) is not None or any(form in encoded for form in _known.values())


def redact(text: str) -> str:
    """The text without API keys, bearer tokens, passwords in URLs and the secrets told to `remember_secret`."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, REDACTED)
    return _SECRETS.sub(REDACTED, text)

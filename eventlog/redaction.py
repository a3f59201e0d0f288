"""Secrets, and how they are taken out of a text before it is stored or logged."""

from __future__ import annotations

import re

REDACTED = "[redacted]"

# A key has at least one digit and 20 characters after its prefix, or is shown with stars as providers echo it;
# without that, words such as "sk-learn" would be taken for one.
_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|sess)-(?:(?=[\w-]*\d)[\w-]{20,}|[\w-]*\*+[\w*-]*\.?[\w*-]*)"
    r"|\bBearer\s+(?!\[redacted\])[\w.~+/-]{8,}=*"
    r"|(?<=://)[^\s/@:\"]*:[^\s/@\"]+(?=@)"
)
_known: set[str] = set()


def remember_secret(secret: str) -> None:
    """Have this exact text taken out everywhere; under 8 characters it would hit ordinary words, and is ignored."""
    if len(secret.strip()) >= 8:
        _known.add(secret.strip())


def redact(text: str) -> str:
    """The text without API keys, bearer tokens, passwords in URLs and the secrets told to `remember_secret`."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, REDACTED)
    return _SECRETS.sub(REDACTED, text)

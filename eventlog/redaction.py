"""Secrets, and how they are taken out of a text before it is stored or logged."""

from __future__ import annotations

import re

import orjson

REDACTED = "[redacted]"

_KEYS = re.compile(r"\b(?:sk|pk|rk|gsk|xai|sess)-(?P<key>[\w-]*(?:\*[\w*-]*\.?[\w*-]*)?)")
_OTHERS = re.compile(r"\bBearer\s+(?!\[redacted\])[\w.~+/-]{8,}=*|(?<=://)[^\s/@:\"]*:[^\s/\"]+(?=@)")
_DIGIT = re.compile(r"\d")
_KEY_CHARACTERS = 20
_known: dict[str, bytes] = {}
"""Secret, in each of its forms -> as that stands in a JSON text."""


def remember_secret(secret: str) -> None:
    """Have this exact text taken out everywhere; under 8 characters it would hit ordinary words, and is ignored."""
    plain = secret.strip().encode("utf-8", "ignore").decode()  # what cannot be encoded cannot be stored or sent either
    if len(plain) >= 8:
        for form in (_escaped(plain).decode(), plain):  # a JSON text that echoes it is stored as a text itself
            _known[form] = _escaped(form)


def _escaped(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]


def may_hold_secrets(encoded: bytes) -> bool:
    """Whether a JSON text is worth a closer look; quick, and never wrong when it says no."""
    # One by one: a loop, or an expression that looks for all of them, takes ten times as long.
    marked = b"sk-" in encoded or b"pk-" in encoded or b"rk-" in encoded or b"xai-" in encoded or b"sess-" in encoded
    if marked or b"Bearer" in encoded or (b"@" in encoded and b"://" in encoded):
        return True
    return bool(_known) and any(form in encoded for form in _known.values())


def redact(text: str) -> str:
    """The text without API keys, bearer tokens, passwords in URLs and the secrets told to `remember_secret`."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, REDACTED)
    if not _is_marked(text):
        return text
    return _KEYS.sub(_replacement, _OTHERS.sub(REDACTED, text))  # apart: a key that is none must not hide a password


def _is_marked(text: str) -> bool:
    """Whether one of the expressions could find anything: they are tried at every character, this is not."""
    keys = "sk-" in text or "pk-" in text or "rk-" in text or "xai-" in text or "sess-" in text
    return keys or "Bearer" in text or ("@" in text and "://" in text)


def _replacement(match: re.Match[str]) -> str:
    """A key has a digit and 20 characters after its prefix, or stars as providers echo it; "sk-learn" is a word.

    Decided here, because an expression that decides reads what it refuses again from every prefix within.
    """
    key = match["key"]
    is_word = key is not None and "*" not in key and (len(key) < _KEY_CHARACTERS or not _DIGIT.search(key))
    return match[0] if is_word else REDACTED

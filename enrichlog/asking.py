"""Asking before anything is appended: whether to go on where it calls or costs, and why where a person decides."""

from __future__ import annotations

from collections.abc import Callable

from enrichlog.exceptions import Declined, NotConfirmed, UsageError

Confirm = Callable[[str], bool | None]
"""Asks a question; None where nobody could be asked."""


def ask(confirm: Confirm, plan: str) -> None:
    """Raises `Declined` when someone says no, and `NotConfirmed` when there was nobody to ask."""
    answer = confirm(f"{plan} Go on?")
    if answer is None:
        raise NotConfirmed(plan=plan)
    if not answer:
        raise Declined


def nobody(_question: str) -> None:
    """The answer where nobody can be asked."""


def require_reason(reason: str) -> str:
    """The reason. Raises `UsageError` where there is none."""
    if not reason.strip():
        raise UsageError(reason="Say why with --reason TEXT: whoever reads the history will ask.")
    return reason

"""Asking before anything is appended: whether to go on where it calls or costs, and why where a person decides."""

from __future__ import annotations

from collections.abc import Callable

from enrichlog.exceptions import NotConfirmed, UsageError

Confirm = Callable[[str], bool]


def ask(confirm: Confirm, plan: str) -> None:
    """Raises `NotConfirmed` unless someone says yes."""
    if not confirm(f"{plan} Go on?"):
        raise NotConfirmed(plan=plan)


def nobody(_question: str) -> bool:
    """The answer where nobody can be asked."""
    return False


def given(reason: str) -> str:
    """The reason. Raises `UsageError` where there is none."""
    if not reason.strip():
        raise UsageError(reason="Say why with --reason TEXT: whoever reads the history will ask.")
    return reason

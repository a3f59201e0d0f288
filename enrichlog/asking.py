"""Asking before anything is appended that calls or costs."""

from __future__ import annotations

from collections.abc import Callable

from enrichlog.exceptions import NotConfirmed

Confirm = Callable[[str], bool]


def ask(confirm: Confirm, plan: str) -> None:
    """Raises `NotConfirmed` unless someone says yes."""
    if not confirm(f"{plan} Go on?"):
        raise NotConfirmed(plan=plan)


def nobody(_question: str) -> bool:
    """The answer where nobody can be asked."""
    return False

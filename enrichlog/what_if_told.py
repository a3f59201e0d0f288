"""`retry --what-if`: what is asked, checked, and answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enrichlog.errors import find_error_types
from enrichlog.exceptions import UsageError
from enrichlog.odds import LEVEL, Estimate, chance
from enrichlog.replay import Policy
from enrichlog.selection import asked_maximum
from enrichlog.settings import Settings
from enrichlog.terminal import counting, print_json
from enrichlog.what_if import SAME_OUTCOMES, Addition, WhatIf, count_postings, what_if
from enrichlog.what_if_screen import show
from eventlog.database import Database

LONGEST_BASE_SECONDS = 86_400
_GO_WITH_IT = {"what_if", "max_attempts", "max_retries", "base", "error_types", "enrichment"}
_EVERYWHERE = {"as_json", "database", "log_level", "log_format"}


def tell(
    settings: Settings, database: Database, *, typed: Mapping[str, str], error_types: Sequence[str],
    max_attempts: int | None, max_retries: int | None, base: float | None, enrichment: str, as_json: bool,
) -> None:  # fmt: skip
    """Replay history under a policy and tell what it comes to. `typed` are the options that were given, by name."""
    _check_options(typed)
    policy = Policy(_most(max_attempts, max_retries), _checked(base))
    names = find_error_types(tuple(error_types))
    with counting("postings", count_postings(database, enrichment), quiet=as_json) as progress:
        found = what_if(database, enrichment, policy, names, settings.max_attempts, progress)
    print_json({"enrichment": enrichment, **document(found)}) if as_json else show(found)


def _check_options(typed: Mapping[str, str]) -> None:
    """Raises `UsageError` for the first option that means nothing where nobody is called."""
    for name, flag in typed.items():
        if name not in _GO_WITH_IT | _EVERYWHERE:
            reason = f"{flag} makes no sense with --what-if, which calls nobody and appends nothing. Leave it out."
            raise UsageError(reason=reason)


def _most(max_attempts: int | None, max_retries: int | None) -> int:
    asked = asked_maximum(max_attempts, max_retries)
    if asked is None:
        raise UsageError(reason="--what-if needs the policy to try: add --max-attempts N, the first attempt included.")
    return asked


def _checked(base: float | None) -> float | None:
    if base is not None and not 0 < base <= LONGEST_BASE_SECONDS:  # also false for what is no number
        raise UsageError(reason=f"--base {base:g} is no wait: give seconds above 0, at most {LONGEST_BASE_SECONDS:,}.")
    return base


def document(found: WhatIf) -> dict[str, Any]:
    """The answer for scripts: what is exact and what is estimated say so themselves."""
    policy = found.policy
    asked = {"max_attempts": policy.max_attempts, "max_retries": policy.max_attempts - 1}
    return {
        "position": found.position,
        "policy": {**asked, "base_seconds": policy.base_seconds},
        "error_types": list(found.error_types),
        "history": found.history.document(),
        "replayed": {"is": "exact", **found.replayed.document()},
        "further": _addition_document(found, addition) if (addition := found.addition()) else None,
        "deleted": found.deleted,
        "assumes": SAME_OUTCOMES if policy.base_seconds is not None else None,
    }


def _addition_document(found: WhatIf, addition: Addition) -> dict[str, Any]:
    sums = addition._asdict().items()
    told = {name: value._asdict() if isinstance(value, Estimate) else value for name, value in sums}
    chances = [
        {"error_type": name, "postings": count, **chance(found.follow_ups, name)._asdict()}
        for name, count in found.open_by_type()
    ]
    before = {"given_up_before": found.given_up_before}
    return {"is": "estimate", "level": LEVEL, **told, **before, "by_error_type": chances}

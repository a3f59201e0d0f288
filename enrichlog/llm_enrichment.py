"""The public face for Python: enrich a posting, save what others found, and ask what is left to do.

All of it works in a plain script, in threads, and inside a running event loop such as a notebook's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select

from enrichlog import reports
from enrichlog.actor import actor
from enrichlog.anew import with_failures_anew
from enrichlog.enrichment import enrichment_of
from enrichlog.errors import ERROR_TYPES
from enrichlog.exceptions import UnknownJob, UsageError
from enrichlog.external import record_error, record_result
from enrichlog.place import open_database
from enrichlog.postings import find_posting, notice_posting, store_postings
from enrichlog.runs import require_key
from enrichlog.scope import scope_branches
from enrichlog.settings import current as current_settings
from enrichlog.single import attempt_now, fail_without_description, require_free
from enrichlog.targets import open_scope
from eventlog.errors import Conflict, EnrichlogError
from eventlog.log import Recorded
from projections.enrichment_status import enrichment_status

logger = logging.getLogger(__name__)

NAME = "job"
"""The enrichment these functions are about; further ones are reached by the command line's --enrichment."""

Result = dict[str, Any]


def enrich_job_with_llm(job_id: str, description: str | None) -> tuple[Result | None, str | None]:
    """Ask the model about one posting with this description, and record the attempt: (data, None) or (None, error).

    The description becomes the posting's own; without one nobody is asked, and that is the recorded error. Raises
    `PostingsOfOthers` where the posting is another program's and says something else,
    `Conflict` while another attempt of the posting is in flight, `HeldBack` while the breaker is open, and the errors
    of the settings and the database.
    """
    job_id = _text(job_id)
    settings = current_settings()
    database = open_database(settings)
    if description is None or not description.strip():
        ended = _told(job_id, fail_without_description(database, settings, NAME, job_id))
    else:
        require_key(settings)
        require_free(database, settings, NAME, job_id)
        posting = find_posting(database, job_id)
        if posting.description != description:
            store_postings(database, [posting._replace(description=description)], [NAME], actor())
        else:
            notice_posting(database, job_id, NAME, actor())
        ended = _told(job_id, attempt_now(database, settings, NAME, job_id, force=True))
    return ended.get("data"), ended.get("error")


def process_job_enrichment(job_id: str, force: bool = False) -> Result:
    """Enrich one posting unless it is enriched already: {"success", "job_id", …}.

    A success has `data`, or `skipped: True` when it was enriched already; a failure has `error` and `error_type`, which
    is None where no attempt was made, such as while another is in flight. A posting that failed for good is not tried
    again without `force`. Raises `HeldBack` while the breaker is open or the money of the day is used up, and the
    errors of the settings and the database, `UnknownJob` among them.
    """
    job_id, settings = _text(job_id), current_settings()
    database = open_database(settings)
    notice_posting(database, job_id, NAME, actor())
    status = reports.current(database, NAME, job_id)
    if status.state == "succeeded" and not force:
        return {"success": True, "job_id": job_id, "skipped": True, "message": "Already enriched"}
    if status.state in ("failed", "dismissed") and not status.retryable and not force:
        error = reports.error_shown(database, NAME, job_id)
        return _failure(job_id, error or status.state, status.error_type) | {"skipped": True}
    try:
        return _told(job_id, attempt_now(database, settings, NAME, job_id, force=force))
    except Conflict as conflict:
        return _failure(job_id, str(conflict), None)


def save_enrichment_to_db(job_id: str, enrichment_data: Any) -> bool:
    """Record a result that was found elsewhere, as an attempt marked external; nothing right after our call found it.

    False when the posting is unknown, an attempt of it is in flight, or the data is no dictionary; the log says which.
    """
    if not isinstance(enrichment_data, dict):
        logger.warning("The enrichment of %s was not saved: a result is a dictionary", job_id)
        return False
    database = open_database(current_settings())
    return _saved(job_id, lambda: record_result(database, NAME, _text(job_id), enrichment_data))


def save_enrichment_error_to_db(job_id: str, error_message: str | BaseException) -> bool:
    """Record a failure that was met elsewhere, as an attempt marked external; nothing right after our call met it.

    False when the posting is unknown or an attempt of it is in flight; the log says which.
    """
    database = open_database(current_settings())
    message = str(error_message or "") or "No message was given"
    return _saved(job_id, lambda: record_error(database, NAME, _text(job_id), message))


def _saved(job_id: str, record: Callable[[], None]) -> bool:
    try:
        record()
    except EnrichlogError as error:
        logger.warning("The enrichment of %s was not saved: %s", job_id, error)
        return False
    return True


def get_unenriched_jobs(limit: int = 100, include_retries: bool = True) -> list[str]:
    """The ids of postings that are due: never tried first, then failed ones that may be tried again."""
    settings = current_settings()
    database = open_database(settings)
    scope = open_scope(database, NAME)
    scope = with_failures_anew(database, scope, enrichment_of(settings, NAME), settings.max_attempts)
    found: list[str] = []
    branches = [*scope_branches(database, NAME, scope, scope.horizon, settings.max_attempts)]
    branches += scope_branches(database, NAME, scope, scope.horizon, settings.max_attempts, alone=True)
    for branch in branches if include_retries else branches[:1]:
        query = select(enrichment_status.c.job_id).where(branch).order_by(enrichment_status.c.due_at)
        found += [row.job_id for row in database.page(query.limit(limit - len(found)))] if len(found) < limit else []
    return found


def batch_enrich_jobs(job_ids: Sequence[str], batch_size: int = 50, delay_between_jobs: float = 1.0) -> Result:
    """Enrich postings one after the other, with a pause (seconds) between calls.

    Returns {"total", "successful", "failed", "rate_limited", "results"}. It ends early when going on is useless, such
    as on an exhausted quota or without a database: the last result's `error` says why, and the log warns of it; the
    rest was not tried. Progress is logged every `batch_size` postings. Raises `UsageError`.
    """
    if isinstance(job_ids, str | bytes):
        raise UsageError(reason="A batch needs a list of ids of postings, not one text.")
    if batch_size < 1 or delay_between_jobs < 0:
        raise UsageError(reason="A batch needs a batch_size of 1 or more and a delay_between_jobs of 0 or more.")
    results: list[Result] = []
    for number, job_id in enumerate(job_ids, 1):
        result, is_useless = _one_of_many(job_id)
        results.append(result)
        if is_useless:
            logger.warning("The batch ended after %d of %d postings: %s", number, len(job_ids), result["error"])
            break
        if number % batch_size == 0:
            logger.info("%d of %d postings done", number, len(job_ids))
        if number < len(job_ids) and not result.get("skipped"):
            time.sleep(delay_between_jobs)
    limited = sum(result.get("error_type") in ("rate_limited", "quota_exceeded") for result in results)
    successful = sum(result["success"] for result in results)
    counts = {"total": len(job_ids), "successful": successful, "failed": len(results) - successful}
    return {**counts, "rate_limited": limited, "results": results}


def _text(job_id: Any) -> str:
    """Ids are text; tables of others number their postings."""
    return str(job_id)


def _one_of_many(job_id: str) -> tuple[Result, bool]:
    """What became of a posting, and whether going on with others is useless after that."""
    try:
        result = process_job_enrichment(job_id)
    except EnrichlogError as error:
        return _failure(job_id, str(error), None), not isinstance(error, UnknownJob | Conflict)
    kind = ERROR_TYPES.get(result.get("error_type") or "")
    return result, kind is not None and kind.stops


def _told(job_id: str, end: Recorded) -> Result:
    """What an end says, as it is recorded."""
    content, error_type = end.content or {}, end.facts.get("error_type")
    if error_type is None:
        return {"success": True, "job_id": job_id, "data": content.get("result")}
    return _failure(job_id, content.get("message") or error_type, error_type)


def _failure(job_id: str, error: str, error_type: str | None) -> Result:
    return {"success": False, "job_id": job_id, "error": error, "error_type": error_type}

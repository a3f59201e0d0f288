"""Import of history: what an adopted table knew before us becomes events, once, and nothing of the table is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import exists, func, select

from enrichlog.actor import actor
from enrichlog.exceptions import NoHistory
from enrichlog.history_report import HistoryImport
from enrichlog.legacy import classify_message
from enrichlog.one_ahead import one_ahead
from enrichlog.past_attempts import PastAttempt, proposals
from enrichlog.past_recorder import PastRecorder, Recorded, is_free
from enrichlog.past_rows import PastPage, PastRows, Unreadable
from enrichlog.postings import source_of
from enrichlog.result import load_model
from enrichlog.settings import Settings
from eventlog.cycles import collecting_cycles_seldom
from eventlog.database import Database
from eventlog.log import Proposal
from eventlog.streams import stream_of
from projections import enrichment_status
from projections.adoption import Adopted
from projections.llm_enrichment import shown

_MESSAGES_REMEMBERED = 4_096


class _Prepared(NamedTuple):
    """A page of rows, how many of their postings are known, and the attempts of the others by their streams.

    `events` are theirs; there are none in a dry run.
    """

    page: PastPage
    known: int
    attempts: dict[str, PastAttempt]
    events: dict[str, list[Proposal]]


def count_history(database: Database, settings: Settings) -> int:
    """How many rows there are to be looked at. Raises `NoHistory`."""
    return _rows_of(database, _adopted(database), settings).count()


def count_unimported(database: Database) -> int:
    """How many rows of the adopted table show what no attempt explains: their postings would be enriched again."""
    table, status = shown(database.adopted), enrichment_status.enrichment_status.c
    tried = exists(select(status.stream_id).where(status.stream_id == table.stream, status.attempts > 0))
    return database.count(select(func.count()).select_from(table.table).where(table.shows, ~tried))


def import_history(
    database: Database, settings: Settings, *, dry_run: bool, progress: Callable[[int], object] = lambda rows: None
) -> HistoryImport:
    """Append the attempt that each row of the adopted table tells of, for postings of which no attempt is known.

    It can be ended at any time, run again, and run beside workers or itself: each posting is decided under the lock of
    its stream. The users' table is read only, and nobody is called. A row that cannot be read is left out, and told.
    `progress` is called with the number of rows of each page. Raises `NoHistory` and `InvalidResultModel`.
    """
    adopted = _adopted(database)
    found, recorder = HistoryImport(dry_run, adopted.target.place), PastRecorder(database)
    with collecting_cycles_seldom():
        for one in one_ahead(_prepared(database, adopted, settings, dry_run=dry_run)):
            recorded = Recorded(set(one.attempts), 0, {}) if dry_run else recorder.record(one.events)
            _note(found, one, recorded)
            progress(one.page.size)
    return found


def _note(found: HistoryImport, prepared: _Prepared, recorded: Recorded) -> None:
    page, attempts = prepared.page, prepared.attempts
    found.rows += page.size
    found.untried += page.untried
    found.known += prepared.known + len(attempts) - len(recorded.streams) - len(recorded.refused)
    found.events += recorded.events
    for stream_id, past in attempts.items():
        if stream_id in recorded.streams:
            found.note(past)
    refused = [Unreadable(attempts[one].row.job_id, reason) for one, reason in recorded.refused.items()]
    found.leave_out([*page.unreadable, *refused])


def _adopted(database: Database) -> Adopted:
    if database.adopted is None:
        raise NoHistory()
    if not database.adopted.is_looked_up:
        with database.read() as connection:
            database.adopted = database.adopted.looked_up(database, connection)
    adopted: Adopted = database.adopted
    return adopted


def _rows_of(database: Database, adopted: Adopted, settings: Settings) -> PastRows:
    own = settings.for_enrichment(adopted.target.enrichment)
    model = load_model(own.result_model or settings.result_model)
    return PastRows(database, adopted.target, model.model_json_schema())


def _prepared(database: Database, adopted: Adopted, settings: Settings, *, dry_run: bool) -> Iterator[_Prepared]:
    """The pages of the table, with all that can be found out without a lock."""
    target, who = adopted.target, actor()
    tells_completion = target.of_kind("completed_at") is not None
    has_log = _has_log(database)
    read = lru_cache(_MESSAGES_REMEMBERED)(lambda message: classify_message(message, settings.error_codes))
    for page in _rows_of(database, adopted, settings).pages():
        streams = {stream_of(target.enrichment, row.job_id): row for row in page.rows}
        known = _find_known(database, streams) if has_log else set()
        new = {stream_id: row for stream_id, row in streams.items() if stream_id not in known}
        hashes = _find_hashes(database, [row.job_id for row in new.values()])
        attempts = {}
        for stream_id, row in new.items():
            kind = None if row.error is None else read(row.error)
            is_awaiting = kind is not None and tells_completion and row.completed_at is None  # people have emptied it
            attempts[stream_id] = PastAttempt(stream_id, row, kind, is_awaiting, hashes.get(row.job_id))
        told = {} if dry_run else attempts
        made = {name: proposals(past, who, settings.backoff_base_seconds) for name, past in told.items()}
        yield _Prepared(page, len(known), attempts, made)


def _has_log(database: Database) -> bool:
    """Whether our tables are made: a dry run may come before."""
    with database.read() as connection:
        return database.dialect.has_our_table(connection, enrichment_status.enrichment_status.name)


def _find_known(database: Database, streams: Collection[str]) -> set[str]:
    """Which of these streams have more to them than that they were noticed, at a glance."""
    status = enrichment_status.enrichment_status.c
    query = select(status.stream_id, status.version, status.attempts).where(status.stream_id.in_(sorted(streams)))
    return {row.stream_id for row in database.page(query) if not is_free(row._mapping)} if streams else set()


def _find_hashes(database: Database, job_ids: Sequence[str]) -> dict[str, str]:
    """The input hashes of these postings as they are now, as far as the source has them."""
    if not job_ids:
        return {}
    with database.read() as connection:
        return source_of(database).hashes(connection, job_ids)

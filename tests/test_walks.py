"""Walks over all postings of an enrichment: each page is a range of the primary key, and no page sorts the rest."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from enrichlog.enrichment import enrichment_of
from enrichlog.outdated import plan_outdated
from enrichlog.reclassify import reclassify
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.streams import bounds, stream_of
from tests.query_plans import plan_of_sql

SORTED = "USE TEMP B-TREE FOR ORDER BY"

WALKS: dict[str, Callable[[Database, Settings], Any]] = {
    "reclassify": lambda database, settings: reclassify(database, settings, "job", dry_run=True),
    "enrich --outdated": lambda database, settings: plan_outdated(database, enrichment_of(settings)),
}


@pytest.mark.parametrize("walk", WALKS)
def test_a_page_is_a_range_of_the_key(sqlite: Database, service: Settings, walk: str) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(sqlite.engine, "before_cursor_execute", note)
    WALKS[walk](sqlite, service)
    event.remove(sqlite.engine, "before_cursor_execute", note)
    (page,) = [(statement, parameters) for statement, parameters in asked if "LIMIT" in statement]
    found = plan_of_sql(sqlite, *page)
    assert "(stream_id>? AND stream_id<?)" in found
    assert SORTED not in found


def test_a_walk_by_the_name_of_the_enrichment_would_sort(sqlite: Database) -> None:
    walk = "FROM enrichment_status WHERE enrichment = 'job' AND state = 'failed' AND stream_id > 'a' ORDER BY stream_id"
    assert SORTED in plan_of_sql(sqlite, f"SELECT stream_id {walk} LIMIT 9")


@pytest.mark.parametrize("key", ["0", "-", "\x01", "z", "\N{GRINNING FACE}"])
def test_the_streams_of_a_category_lie_between_its_bounds_and_no_others(key: str) -> None:
    first, behind = bounds("job")
    assert first < stream_of("job", key) < behind
    assert not any(first < stream_of(other, key) < behind for other in ("jo", "job2", "job_x", "jobs", "$job", "k"))

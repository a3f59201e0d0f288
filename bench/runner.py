"""The same fold by the library `eventsourcing`: its ProjectionRunner, which commits each event with where it is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson
from eventsourcing.application import Application
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.types.json import Jsonb

from bench.databases import clear_read_models
from bench.rounds import Side
from eventlog.canonical import text
from eventlog.database import Database
from eventlog.log import Decided, Recorded, read_log
from projections import enriched, enrichment_status
from projections.llm_enrichment import shown
from projections.status import Status, fold
from tests.builders import run

PATIENCE_SECONDS = 600.0


class Told(DomainEvent):
    """One of our events, as the library keeps it."""

    stream_id: str
    type: str
    facts: str
    content: str | None


class Log(Application[uuid.UUID]):
    """The library's log."""


class ReadModels(PostgresTrackingRecorder):
    """Both tables, moved on by one event in one transaction with where the runner is."""

    def move_on(self, event: Decided, tracking: Tracking) -> None:
        """Read what is there, fold, write."""
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute("SELECT * FROM enrichlog.enrichment_status WHERE stream_id = %s", (event.stream_id,))
            found = cursor.fetchone()
            before = Status(*(found[name] for name in Status._fields)) if found else Status()
            status = fold(before, event)
            self._write(cursor, "enrichlog.enrichment_status", enrichment_status.row(event.stream_id, status))
            known = enriched.before(before)
            changes = shown(None).changes(event.stream_id, known, enriched.fold(known, event))
            if changes is not None:
                self._write(cursor, "llm_enrichment", changes)
            self._insert_tracking(cursor, tracking)

    def _write(self, cursor: Any, table: str, row: Mapping[str, Any]) -> None:
        key = "stream_id" if "stream_id" in row else "job_posting_id, enrichment"
        values = ", ".join(f"%({name})s" for name in row)
        changes = ", ".join(f"{name} = excluded.{name}" for name in row)
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {changes}",
            {name: Jsonb(value) if isinstance(value, dict) else value for name, value in row.items()},
        )


class Follower(Projection[ReadModels]):
    """What the runner calls with each event."""

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Move the tables on."""
        content = domain_event.content and orjson.loads(domain_event.content)
        facts = orjson.loads(domain_event.facts)
        version = domain_event.originator_version
        self.view.move_on(
            Decided(domain_event.stream_id, version, "", domain_event.type, facts, content, None),  # type: ignore[arg-type]
            tracking,
        )


@contextmanager
def projection_runner(database: Database) -> Iterator[Side]:
    """The rate of the runner over a log, ours of this database, which is copied into the library's own first."""
    environment = _environment(database.url)
    events, last = 0, 0
    with closing(Log(environment)) as log:
        for page in read_log(database):
            last = log.save(*map(_told, page))[-1].notification.id
            events += len(page)

    def follow() -> float:
        clear_read_models(database)
        run(database, f"DROP TABLE IF EXISTS {Follower.name.lower()}_tracking")
        started = time.perf_counter()
        runner = ProjectionRunner(
            application_class=Log, projection_class=Follower, view_class=ReadModels, env=environment
        )
        with runner:
            runner.wait(last, timeout=PATIENCE_SECONDS)
            return events / (time.perf_counter() - started)

    yield follow


def _told(event: Recorded) -> Told:
    values: dict[str, Any] = {
        "originator_id": uuid.uuid5(uuid.NAMESPACE_URL, event.stream_id),
        "originator_version": event.version,
        "timestamp": event.recorded_at,
        "stream_id": event.stream_id,
        "type": event.type,
        "facts": text(event.facts),
        "content": None if event.content is None else text(event.content),
    }
    return Told(**values)


def _environment(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.removeprefix("/"),
        "POSTGRES_HOST": parts.hostname or "",
        "POSTGRES_PORT": str(parts.port or 5432),
        "POSTGRES_USER": parts.username or "",
        "POSTGRES_PASSWORD": parts.password or "",
    }

"""Fresh, migrated databases to measure on, with the durability that users have: on a disk, every commit synced."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import psycopg

from eventlog import migration
from eventlog.database import Database
from tests.builders import run
from tests.postgres import server_for_tests

Kind = Literal["postgresql", "sqlite"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@contextmanager
def fresh_databases() -> Iterator[dict[Kind, Database]]:
    """One empty database of each kind. PostgreSQL is the server of TEST_DATABASE_URL, else one of our own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that a run that is stopped cleans up
    with tempfile.TemporaryDirectory(prefix="enrichlog-bench-") as folder, server_for_tests() as server:
        url = server.create_database()
        found: dict[Kind, Database] = {
            "postgresql": Database(url),
            "sqlite": Database(str(Path(folder) / "enrichlog.db")),
        }
        try:
            for database in found.values():
                migration.migrate(database)
            yield found
        finally:
            for database in found.values():
                database.close()
            server.drop_database(url)


def settle(database: Database) -> None:
    """Leave the tables as they are when nobody has written for a while: their statistics known, nothing to clean up."""
    if database.dialect.name == "postgresql":
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
    else:
        run(database, "ANALYZE")


def clear_read_models(database: Database) -> None:
    """Empty both tables, at once."""
    if database.dialect.name == "postgresql":
        run(database, "TRUNCATE {ours}enrichment_status, llm_enrichment")
    else:
        run(database, "DELETE FROM enrichment_status")
        run(database, "DELETE FROM llm_enrichment")

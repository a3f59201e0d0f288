"""The full fold as an expert would write it in SQL: both read models from the whole log, in one transaction.

It gives what our folds give of the histories in a long log, which are requests, retries, starts and ends. Those of all
other histories it does not: of late results, dismissals, withdrawn batches, errors read anew, erased content and dead
workers nothing is said in it, nor of inputs, models and prompts that change. On SQLite it is exact to the millisecond.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import psycopg

from eventlog.database import Database
from projections import bases, enrichment_status

MEMORY_KIB = 1_000_000
"""How much memory each side gets that may ask for some: more than it takes."""


def full_fold(database: Database) -> None:
    """Fill both tables, which are empty, with statements of the bare driver, on one core."""
    if database.dialect.name == "postgresql":
        _fold_on_postgresql(database.url)
    else:
        _fold_on_sqlite(database.dialect.where())


def _fold_on_postgresql(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        connection.execute("SET LOCAL jit = off")  # to compile so many aggregates takes longer than it saves
        connection.execute(f"SET LOCAL work_mem = {MEMORY_KIB}")
        connection.execute(_script("postgresql").encode())


def _fold_on_sqlite(path: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("basis", 3, lru_cache(bases.basis), deterministic=True)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA cache_size=-{MEMORY_KIB}")
        connection.executescript(f"BEGIN IMMEDIATE;\n{_script('sqlite')}\nCOMMIT;")


def _script(name: str) -> str:
    text = Path(__file__).with_name(f"full_fold_{name}.sql").read_text(encoding="utf-8")
    return text.replace(":fold_version", str(enrichment_status.projection.version))

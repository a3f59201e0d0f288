"""The long log that rebuilds are measured on: it is a true one, and the SQL beside them gives the same rows."""

from itertools import pairwise

import pytest

from bench.full_fold import full_fold
from bench.long_log import write_log
from bench.stories import ENDINGS
from eventlog.database import Database
from eventlog.integrity import verify_log
from projections.rebuild import reconcile_named
from tests.builders import run

NAMES = ("enrichment_status", "llm_enrichment")
STREAMS = 6 * len(ENDINGS)


@pytest.fixture
def long_log(database: Database) -> Database:
    write_log(database, 4 * STREAMS)
    return database


def test_the_long_log_is_unbroken_and_its_streams_are_told_between_each_other(long_log: Database) -> None:
    assert verify_log(long_log).faults == []
    rows = run(long_log, "SELECT stream_id FROM {ours}events ORDER BY position")
    names = [row["stream_id"] for row in rows]
    assert (len(names), len(set(names))) == (4 * STREAMS, STREAMS)
    assert sum(one == after for one, after in pairwise(names)) < STREAMS


def test_the_full_fold_in_sql_gives_the_rows_that_ours_gives(long_log: Database) -> None:
    assert all(drift.total for drift in reconcile_named(long_log, NAMES, write=False))
    full_fold(long_log)
    assert [drift.examples for drift in reconcile_named(long_log, NAMES, write=False)] == [[], []]
    states = {row["state"] for row in run(long_log, "SELECT state FROM {ours}enrichment_status")}
    assert states == {"pending", "running", "succeeded", "failed"}

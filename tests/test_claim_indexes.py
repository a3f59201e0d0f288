"""A claim reads small ranges of indexes, however many postings there are that it does not take."""

import re

import pytest
from sqlalchemy import ColumnElement, insert, select

from enrichlog.own_postings import job_postings
from enrichlog.scope import Scope, orphaned, scope_branches
from eventlog.database import Database
from projections.enrichment_status import enrichment_status, row
from projections.status import Status
from tests.builders import NOON, run
from tests.query_plans import is_walked, plan_of

MANY, FEW = 3_000, 20


@pytest.fixture(scope="module")
def grown(shared: Database) -> Database:
    """Many pending postings, as many that used up their budget, and a few of each other kind."""
    kinds = [
        *[Status(version=1, due_at=NOON)] * MANY,
        *[Status(version=9, state="failed", error_type="timeout", retryable=True, budget_used=5, due_at=NOON)] * MANY,
        *[Status(version=9, state="failed", error_type="timeout", retryable=True, budget_used=1, due_at=NOON)] * FEW,
        *[Status(version=9, state="failed", error_type="interrupted", retryable=True, deaths=1, due_at=NOON)] * FEW,
        *[Status(version=4, batch="batch-7", due_at=NOON)] * FEW,
        *[Status(version=2, state="running", due_at=NOON)] * FEW,
    ]
    values = {"title": "t", "description": "d", "input_hash": "h", "imported_at": NOON}
    with shared.write() as connection:
        connection.execute(insert(enrichment_status), [row(f"job-{n:05}", one) for n, one in enumerate(kinds)])
        connection.execute(insert(job_postings), [{"id": f"{n:05}", **values} for n in range(len(kinds))])
    run(shared, "ANALYZE")
    return shared


def plan_of_claim(database: Database, where: ColumnElement[bool]) -> str:
    """How the database finds what a claim takes."""
    return plan_of(database, select(enrichment_status).where(where).order_by(enrichment_status.c.due_at).limit(10))


def test_each_branch_of_a_claim_is_a_range_of_an_index(grown: Database) -> None:
    everything = Scope(NOON)
    *_, alone = scope_branches(grown, "job", everything, NOON, 5, alone=True)
    branches = [*scope_branches(grown, "job", everything, NOON, 5), alone]
    walked = [branch for branch in [*branches, orphaned("job", NOON)] if is_walked(plan_of_claim(grown, branch))]
    assert walked == []
    assert is_walked(plan_of_claim(grown, enrichment_status.c.worker == "w"))  # the control


def test_what_is_pending_is_found_in_its_order_without_sorting_all_of_it(grown: Database) -> None:
    found = plan_of_claim(grown, next(scope_branches(grown, "job", Scope(NOON), NOON, 5)))
    assert "enrichment_status_pending" in found
    assert "Sort" not in found
    assert "TEMP B-TREE" not in found
    assert re.search("Sort|TEMP B-TREE", plan_of_claim(grown, enrichment_status.c.state != "pending"))  # the control


def test_a_small_batch_is_found_by_its_own_index_among_many_that_are_pending(grown: Database) -> None:
    (branch,) = scope_branches(grown, "job", Scope(NOON, "batch-7"), NOON, 5)
    assert "enrichment_status_awaiting" in plan_of_claim(grown, branch)
    status = enrichment_status.c
    control = (status.batch == "batch-7") & (status.state != "pending")
    assert "enrichment_status_awaiting" not in plan_of_claim(grown, control)

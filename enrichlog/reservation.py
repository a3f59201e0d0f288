"""What a call must reserve before it may begin under a limit of money, told to whoever has set a lower one."""

from __future__ import annotations

from sqlalchemy import select

from enrichlog.attempt import reserve
from enrichlog.enrichment import Enrichment, request_for
from enrichlog.postings import load_postings
from enrichlog.price import money
from enrichlog.scope import Scope, scope_branches
from enrichlog.settings import Settings
from eventlog.database import Database
from projections.enrichment_status import enrichment_status


def why_none_fits(
    database: Database, settings: Settings, enrichment: Enrichment, scope: Scope, budget: int
) -> str | None:
    """Why not even the first call of a run fits into `budget` (micro-dollars), and what to do; None where it does."""
    bounded = enrichment.with_bounded_cost()
    with database.read() as connection:
        now = database.dialect.clock(connection)
        names = scope.turn(1)
        first = scope_branches(database, enrichment.name, scope, now, settings.max_attempts, names)
        queries = (select(enrichment_status.c.job_id).where(branch).limit(1) for branch in first)
        found = next((row for query in queries if (row := connection.execute(query).first())), None)
        postings = load_postings(connection, database, [found.job_id] if found else [])
    needed = 0
    for posting in postings.values():
        request = request_for(
            bounded, posting._asdict(), posting.input_hash, settings.max_input_tokens, cut=settings.cut_input
        )
        needed = reserve(bounded, request) or 0
    if needed <= budget:
        return None
    in_full = -(-needed // 100) * 100  # rounded up to what people see of it
    return (
        f"One call must reserve what it may cost at the most, {money(in_full)}: give --max-cost at least that, or "
        f"lower max_output_tokens, which is {bounded.output_cap:,}."
    )

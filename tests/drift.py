"""Whether read models are what the log adds up to."""

from eventlog.database import Database
from projections import enrichment_status, llm_enrichment
from projections.catalogue import names
from projections.rebuild import reconcile_named

STATUS, SHOWN = enrichment_status.projection, llm_enrichment.projection
PROJECTIONS = {one.name: one for one in (STATUS, SHOWN)}


def drift_of_all(database: Database) -> int:
    """How many rows of all projections are not what the log adds up to."""
    return sum(reconcile_named(database, name, write=False).total for name in names())

"""Whether a run could begin: all that would keep it from asking anybody, before anything is appended for it."""

from __future__ import annotations

from enrichlog.adoption_checks import require_fit
from enrichlog.enrichment import Enrichment
from enrichlog.runs import require_key
from enrichlog.settings import Settings
from enrichlog.source_check import require_source
from eventlog.database import Database


def require_ready(settings: Settings, database: Database, enrichment: Enrichment) -> None:
    """Raises `MissingApiKey` or `InvalidSetting` for the key, of an adopted database `UnusableSource` where no posting
    can be read, and `Unadoptable` where its table could not show a result.
    """
    require_key(settings)
    require_source(database)
    require_fit(database, settings, enrichment)

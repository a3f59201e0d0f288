"""enrichlog: an event-sourced log of LLM enrichment. What users import is here; it is loaded at first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enrichlog.llm_enrichment import (
        batch_enrich_jobs,
        enrich_job_with_llm,
        get_unenriched_jobs,
        process_job_enrichment,
        save_enrichment_error_to_db,
        save_enrichment_to_db,
    )
    from enrichlog.result import JobEnrichment
    from enrichlog.settings import configure

__all__ = [
    "JobEnrichment",
    "batch_enrich_jobs",
    "configure",
    "enrich_job_with_llm",
    "get_unenriched_jobs",
    "process_job_enrichment",
    "save_enrichment_error_to_db",
    "save_enrichment_to_db",
]
__version__ = "0.1.0"

_HOMES = {"configure": "enrichlog.settings", "JobEnrichment": "enrichlog.result"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is asked for: `import enrichlog` alone costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'enrichlog' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "enrichlog.llm_enrichment")), name)

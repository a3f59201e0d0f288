"""The names under which people keep postings, companies, descriptions and results."""

from __future__ import annotations

import re
from collections.abc import Iterable

from eventlog.inspection import Found

POSTINGS = ("job_postings", "postings", "jobs", "job_posting", "vacancies", "vacatures", "job_offers", "offers", "job")
RESULTS = ("llm_enrichment", "llm_enrichments", "job_enrichment", "job_enrichments", "enrichment", "enrichments")
ID_COLUMNS = ("job_posting_id", "posting_id", "job_id", "vacancy_id", "vacature_id", "id")
TITLES = ("title", "job_title", "position_title", "posting_title", "titel", "functietitel", "name")
DESCRIPTIONS = (
    "description", "full_description_text", "full_description", "description_text", "job_description", "body", "text",
    "content", "omschrijving", "description_html",
)  # fmt: skip
COMPANIES = ("company", "company_name", "employer", "employer_name", "organization", "organisation", "bedrijf")
COMPANY_TABLES = ("compan", "employer", "organi", "bedrijf", "bedrijven")
COMPANY_NAMES = ("name", "company_name", "display_name", "title", "naam")
FURTHER = {
    "location": ("location", "job_location", "city", "place", "locatie", "plaats"),
    "url": ("url", "job_url", "posting_url", "apply_url", "link"),
    "language": ("language", "lang", "taal"),
}
ERRORS = ("enrichment_error", "llm_error", "error_message", "error")
COMPLETIONS = (
    "enrichment_completed_at", "llm_completed_at", "completed_at", "enriched_at", "processed_at", "finished_at",
    "done_at", "classified_at", "extracted_at", "analyzed_at", "analysed_at", "ended_at",
)  # fmt: skip
MODEL_VERSIONS = ("enrichment_model_version", "llm_model_version", "model_version", "llm_model", "model_name", "model")


def plain(name: str) -> str:
    """A name without what camels and snakes differ in."""
    return re.sub(r"[^0-9a-z]", "", name.casefold())


def first_of(known: Iterable[str], names: Iterable[str]) -> str | None:
    """The first of the known names that is among these, however it is spelt."""
    spelt = {plain(name): name for name in names}
    return next((spelt[plain(name)] for name in known if plain(name) in spelt), None)


def find(tables: Iterable[Found], told: str) -> Found | None:
    """The table that somebody names, with or without its schema."""
    schema, _, name = told.rpartition(".")
    among = [one for one in tables if one.name == name and (not schema or one.schema in (None, schema))]
    return among[0] if among else None

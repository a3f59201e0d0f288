"""Short ways to a stored posting, an enrichment and a run, and to what the log then holds of them."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select

import enrichlog
from enrichlog.breakers import set_by_hand
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.posting import Posting
from enrichlog.postings import store_postings
from enrichlog.progress import Run
from enrichlog.runs import perform
from enrichlog.settings import Settings
from enrichlog.targets import open_scope
from enrichlog.workers import Registration
from eventlog.database import Database
from eventlog.log import Recorded, read_log
from eventlog.schema import events

SAMPLES = Path(enrichlog.__file__).parent / "samples" / "postings.jsonl"
"""The project's own postings, 44 of them."""

TEST_DATA = Path(os.environ["ENRICHLOG_TEST_DATA"]) if os.environ.get("ENRICHLOG_TEST_DATA") else None
"""Where real input is; without it the tests make do with our own."""

KEY = "sk-test-4f9a1c77d2e04b5b8a6e"


class Skills(BaseModel):
    """A small result model."""

    title: str
    skills: list[str]


def posting(job_id: str = "1", **values: Any) -> Posting:
    return Posting(**{"id": job_id, "title": f"Engineer {job_id}", "description": f"Work number {job_id}.", **values})


def worker(name: str = "host-worker-1", **values: Any) -> Registration:
    """A worker of a machine called `host`, as it registers."""
    given: dict[str, Any] = {
        "name": name, "host": "host", "pid": 7, "place": "place-1", "enrichment": "job", "request_model": "model-1",
        "prompt_hash": "p", "schema_hash": "s", "concurrency": 8,
    }  # fmt: skip
    return Registration(**given | values)


def import_postings(database: Database, *postings: Posting) -> None:
    store_postings(database, postings, ["job"], "tests")


def close_breaker(database: Database, settings: Settings) -> None:
    """Have calls go out again, as a person does who has mended what was wrong."""
    set_by_hand(database, "closed", None, enrichment_of(settings).called, "mended")


def import_many(database: Database, count: int) -> None:
    """Postings whose ids, 000 and on, sort as they were imported."""
    import_postings(database, *(posting(f"{number:03}") for number in range(count)))


def enrich(database: Database, settings: Settings, **options: Any) -> Run:
    """One run over everything that is due."""
    enrichment = enrichment_of(settings)
    return perform(database, settings, enrichment, open_scope(database, enrichment.name), **options)


def small(enrichment: Enrichment) -> Enrichment:
    """The same enrichment with the small result model."""
    return enrichment._replace(result_model=Skills, schema=Skills.model_json_schema())


def whole_log(database: Database) -> list[Recorded]:
    return [recorded for page in read_log(database) for recorded in page]


def of_type(database: Database, kind: str) -> list[Recorded]:
    return [recorded for recorded in whole_log(database) if recorded.type == kind]


def ends_of(database: Database) -> dict[str, list[Recorded]]:
    """For every attempt that was started its ends; late results are no ends."""
    starts = of_type(database, "EnrichmentStarted")
    found: dict[str, list[Recorded]] = {start.facts["attempt_id"]: [] for start in starts}
    for recorded in whole_log(database):
        if recorded.type in ("EnrichmentSucceeded", "EnrichmentFailed"):
            found[recorded.facts["attempt_id"]].append(recorded)
    return found


def error_types(database: Database) -> Counter[str]:
    return Counter(failed.facts["error_type"] for failed in of_type(database, "EnrichmentFailed"))


def texts_of_log(database: Database) -> str:
    """Everything the log says, as it is stored."""
    rows = database.page(select(events.c.facts, events.c.content))
    return "\n".join(f"{row.facts} {row.content}" for row in rows)


def real_rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of one file of real input; none where there is no real input."""
    if TEST_DATA is not None:
        with (TEST_DATA / name).open(encoding="utf-8") as file:
            yield from map(json.loads, file)

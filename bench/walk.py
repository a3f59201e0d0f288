"""The whole durable walk, claim → ask → record, beside the script people would write, which stores nothing."""

from __future__ import annotations

import asyncio
import time
from itertools import count

from openai import AsyncOpenAI

from bench.databases import fresh_databases
from bench.rounds import Side, Target, compare
from bench.service import import_postings, sample_postings, simulator_process
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.posting import Posting
from enrichlog.result import JobEnrichment
from enrichlog.runs import perform
from enrichlog.settings import Settings
from enrichlog.targets import open_scope
from eventlog.database import Database

POSTINGS, CONCURRENCY = 2_000, 100
KEY = "sk-bench"
NAIVE = "naive script, nothing stored"


def main() -> None:
    """Measure on both databases."""
    with simulator_process() as base_url, fresh_databases() as databases:
        settings = Settings(base_url=base_url, api_key=KEY, prices_of="openai", concurrency=CONCURRENCY)
        enrichment = enrichment_of(settings)
        sides: dict[str, Side] = {NAIVE: lambda: asyncio.run(naive(enrichment, POSTINGS))}
        for kind, database in databases.items():
            sides[f"enrichlog, {kind}"] = _walk(database, settings, enrichment)
        targets = [Target(f"enrichlog, {kind}", NAIVE, 1.5) for kind in databases]
        compare(f"walk of {POSTINGS:,} postings, {CONCURRENCY} at once", "postings/s", sides, targets, rounds=3)


def _walk(database: Database, settings: Settings, enrichment: Enrichment) -> Side:
    numbers = count()

    def walk() -> float:
        import_postings(database, f"round{next(numbers)}", POSTINGS)
        started = time.perf_counter()
        run = perform(database, settings, enrichment, open_scope(database, enrichment.name))
        seconds = time.perf_counter() - started
        if run.succeeded != POSTINGS:
            raise SystemExit(f"the walk did not succeed: {run}")
        return POSTINGS / seconds

    return walk


async def naive(enrichment: Enrichment, postings: int) -> float:
    """Enrich so many postings as the script would; returns how many a second."""
    room = asyncio.Semaphore(CONCURRENCY)
    started = time.perf_counter()
    async with AsyncOpenAI(base_url=enrichment.server, api_key=KEY) as client:

        async def ask(posting: Posting) -> JobEnrichment | None:
            async with room:
                response = await client.responses.parse(
                    model=enrichment.model,
                    instructions=enrichment.prompt.instructions,
                    input=f"{posting.title}\n{posting.company}\n\n{posting.description}",
                    text_format=JobEnrichment,
                )
                return response.output_parsed

        results = await asyncio.gather(*(ask(posting) for posting in sample_postings("naive", postings)))
    if not all(results):
        raise SystemExit("the naive script did not succeed")
    return postings / (time.perf_counter() - started)


if __name__ == "__main__":
    main()

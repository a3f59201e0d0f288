"""A simulator in another process, and postings for it to answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import enrichlog
from enrichlog import simulator
from enrichlog.posting import Posting
from enrichlog.postings import store_postings
from eventlog.database import Database

SAMPLES = Path(enrichlog.__file__).parent / "samples" / "postings.jsonl"
PAGE = 1_000


@contextmanager
def simulator_process() -> Iterator[str]:
    """The base URL of a simulator that answers at once and keeps no journal."""
    command = [sys.executable, str(simulator.__file__), "--port", "0", "--no-journal"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def import_postings(database: Database, name: str, number: int) -> None:
    """Store that many new postings, pending: our samples over and over, each under an id of its own."""
    postings = sample_postings(name, number)
    while page := list(islice(postings, PAGE)):
        store_postings(database, page, ["job"], "bench")


def sample_postings(name: str, number: int) -> Iterator[Posting]:
    """Our samples over and over, without those that would fail before the call."""
    samples: list[dict[str, Any]] = [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]
    filled = [sample for sample in samples if (sample.get("description") or "").strip()]
    for index, sample in enumerate(islice(cycle(filled), number)):
        known = {field: value for field, value in sample.items() if field in Posting._fields}
        yield Posting(**{**known, "id": f"{name}-{index}"})

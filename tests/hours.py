"""The hours of ended attempts, counted a second time from the texts of the log, by none of the product's code."""

import json
from collections import Counter, defaultdict
from typing import Any

from eventlog.database import Database
from tests.builders import run

Hours = dict[tuple[str, ...], dict[str, Any]]
SUMS = ("ends", "calls", "late", "input_tokens", "output_tokens", "cost_microdollars", "unpriced_calls")


def counted(database: Database, until: int | None = None) -> Hours:
    """Each row as it must be up to a position; latencies as a sorted list of all."""
    where = "" if until is None else f" WHERE position <= {until}"
    found: Hours = defaultdict(lambda: dict.fromkeys(SUMS, 0) | {"latency": [], "succeeded_at": Counter()})
    for event in run(database, f"SELECT * FROM {{ours}}events{where} ORDER BY position DESC"):
        if event["type"] in ("EnrichmentSucceeded", "EnrichmentFailed", "EnrichmentLateResult"):
            _count(found, event, json.loads(event["facts"]))
    return dict(found)


def _count(found: Hours, event: dict[str, Any], facts: dict[str, Any]) -> None:
    late = event["type"] == "EnrichmentLateResult"
    outcome = "interrupted" if late and not facts["used"] else facts.get("error_type", "")
    of_whom = event["stream_id"].split("-")[0], facts.get("request_model", ""), facts.get("prompt_version", "")
    row = found[facts["occurred_at"][:13], *of_whom, outcome]
    row["ends"] += not late
    row["late"] += late
    row["calls"] += facts["called"] and not late
    for name in ("input_tokens", "output_tokens", "cost_microdollars"):
        row[name] += facts.get(name, 0)
    row["unpriced_calls"] += facts["called"] and "cost_microdollars" not in facts
    row["latency"] = sorted(row["latency"] + ([facts["latency_ms"]] if "latency_ms" in facts else []))
    row["succeeded_at"].update([facts["attempt"]] * (outcome == ""))


def live(database: Database) -> Hours:
    """Each row as it is; of latencies the histogram."""
    found = {}
    for row in run(database, "SELECT * FROM {ours}enrichment_stats_hourly"):
        hour = row["hour"] if isinstance(row["hour"], str) else f"{row['hour']:%Y-%m-%dT%H}"
        key = (hour[:13], *(row[name] for name in ("enrichment", "request_model", "prompt_version", "error_type")))
        latency, numbers = (
            {int(n): count for n, count in json.loads(row[c]).items()} for c in ("latency", "succeeded_at")
        )
        found[key] = {name: row[name] for name in SUMS} | {"latency": latency, "succeeded_at": Counter(numbers)}
    return found


def check(database: Database, until: int | None = None) -> Hours:
    """Compare the two, and give the counted one: sums are equal, and each latency stands within 1 % of its bucket."""
    expected, found = counted(database, until), live(database)
    assert found.keys() == expected.keys()
    for key, row in found.items():
        latencies = [least for least, count in sorted(row.pop("latency").items()) for _ in range(count)]
        exact = expected[key]["latency"]
        assert row == {name: value for name, value in expected[key].items() if name != "latency"}
        assert len(latencies) == len(exact)
        assert all(least <= one <= least * 101 / 99 for least, one in zip(latencies, exact, strict=True))
    return expected

"""What a log adds up to, folded a second time into plain dicts: from the design alone, not by the product's code."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Row = dict[str, Any]
Read = Callable[[str], list[Row]]
"""Runs one SELECT and gives its rows; `{ours}` in it is the schema of our tables."""

BASIS = ("request_model", "prompt_hash", "schema_hash")
MOST_BASES = 32
PAID = ("cost_microdollars", "input_tokens", "output_tokens")
COUNTED = ("state", "attempts", "budget_used", "deaths", "successes", *PAID)


class Fold:
    """The log, folded: `postings` by stream, `attempts` by id, and `faults`, which are events that cannot stand there.

    An attempt's `outcomes` are what came of its call, in time or late; that nobody came back is none. `spent` is what
    the calls of each UTC day cost, in micro-dollars: a call belongs to the day that it began on.
    """

    def __init__(self, read: Read) -> None:
        self.postings: dict[str, Row] = {}
        self.attempts: dict[str, Row] = {}
        self.spent: Counter[str] = Counter()
        self._running: dict[str, dict[str, bool]] = {}  # of each worker its open attempts, and which are suspect
        events = [_event(row) for row in read("SELECT * FROM {ours}events ORDER BY position")]
        self.faults = list(_misnumbered(events))
        steps = {
            "EnrichmentRequested": self._request, "EnrichmentStarted": self._start, "EnrichmentSucceeded": self._end,
            "EnrichmentFailed": self._end, "EnrichmentLateResult": self._come_late,
        }  # fmt: skip
        for event in events:
            if not event["stream_id"].startswith("$"):
                posting = self.postings.setdefault(event["stream_id"], _new())
                steps[event["type"]](posting, event, event["facts"])

    def _request(self, posting: Row, _event: Row, facts: Row) -> None:
        posting["input"] = facts.get("input_hash") or posting["input"]
        if facts["why"] in ("new", "changed", "force"):
            _begin_anew(posting)
        posting |= {"rerun": True} if posting["open"] else {"state": "pending"}

    def _start(self, posting: Row, event: Row, facts: Row) -> None:
        attempt_id, stream = facts["attempt_id"], event["stream_id"]
        if posting["open"] or facts["attempt"] != posting["attempts"] + 1 or attempt_id in self.attempts:
            self.faults.append(f"{stream}: attempt {facts['attempt']} began beside another")
        if posting["state"] == "succeeded":
            self.faults.append(f"{stream}: attempt {facts['attempt']} began after a success, and nobody requested it")
        beside, is_suspect = self._running.setdefault(facts["worker"], {}), posting["deaths"] > 0
        if beside and (is_suspect or any(beside.values())):
            self.faults.append(f"{stream}: attempt {facts['attempt']} began beside one on which a worker had died")
        beside[attempt_id] = is_suspect
        self.attempts[attempt_id] = {
            "stream": stream, "worker": facts["worker"], "ends": 0, "late": 0, "outcomes": [], "died": False,
            "day": facts["occurred_at"][:10],
        }  # fmt: skip
        _rest_on(posting, facts)
        posting |= {"state": "running", "attempts": posting["attempts"] + 1, "open": attempt_id}

    def _end(self, posting: Row, event: Row, facts: Row) -> None:
        attempt, succeeded = self.attempts[facts["attempt_id"]], event["type"] == "EnrichmentSucceeded"
        if posting["open"] != facts["attempt_id"]:
            self.faults.append(f"{event['stream_id']}: attempt {facts['attempt']} ended and was not the open one")
        attempt["ends"] += 1
        self._running[attempt["worker"]].pop(facts["attempt_id"], None)
        attempt["died"] |= facts.get("worker_died", False)
        if succeeded or facts["error_type"] != "interrupted":
            attempt["outcomes"].append(facts)
        self.spent[attempt["day"]] += facts.get("cost_microdollars") or 0
        _pay(posting, facts)
        posting["open"] = None
        _succeed(posting, event) if succeeded else _fail(posting, event)
        posting |= {"state": "pending" if posting["rerun"] else "succeeded" if succeeded else "failed", "rerun": False}

    def _come_late(self, posting: Row, event: Row, facts: Row) -> None:
        """Its cost counts, its result when nothing else has succeeded; whoever holds the posting goes on holding it."""
        attempt, number = self.attempts[facts["attempt_id"]], facts["attempt"]
        if not attempt["ends"]:
            self.faults.append(f"{event['stream_id']}: attempt {number} came late and had not been closed")
        if facts["used"] != (facts["outcome"] == "succeeded" and not posting["successes"]):
            self.faults.append(f"{event['stream_id']}: attempt {number} came late and is used: {facts['used']}")
        attempt["late"] += 1
        attempt["outcomes"].append(facts)
        self.spent[attempt["day"]] += facts.get("cost_microdollars") or 0
        _pay(posting, facts)
        if facts["used"]:
            _succeed(posting, event)
            posting |= {} if posting["open"] else {"state": "succeeded"}


def _new() -> Row:
    nothing: Row = dict.fromkeys(COUNTED, 0)
    nothing |= {"state": "pending", "open": None, "rerun": False, "result": None, "error": None, "ended": None}
    return nothing | {"input": None, "basis": None, "tried": set()}


def _event(row: Row) -> Row:
    return row | {"facts": json.loads(row["facts"]), "content": json.loads(row["content"] or "{}")}


def _misnumbered(events: Sequence[Row]) -> Iterator[str]:
    """Positions and versions with gaps, and event ids that are there twice."""
    if [event["position"] for event in events] != list(range(1, len(events) + 1)):
        yield "positions have gaps"
    versions: Counter[str] = Counter()
    for event in events:
        versions[event["stream_id"]] += 1
        if event["version"] != versions[event["stream_id"]]:
            yield f"{event['stream_id']} has version {event['version']} at position {event['position']}"
    yield from (f"event {one} is there {n} times" for one, n in Counter(e["event_id"] for e in events).items() if n > 1)


def _pay(posting: Row, facts: Row) -> None:
    for name in PAID:
        posting[name] += facts.get(name) or 0


def _begin_anew(posting: Row) -> None:
    """A new budget; of what the posting was tried with only that is known which an open attempt rests on."""
    posting |= {"budget_used": 0, "deaths": 0, "tried": {posting["basis"]} - {None} if posting["open"] else set()}


def _rest_on(posting: Row, facts: Row) -> None:
    """Another input begins anew, and so does what the posting was not tried with since; to change back does not."""
    basis = tuple(facts[name] for name in BASIS if facts.get(name))
    wanted = {basis} if len(basis) == len(BASIS) else set()  # one that was made elsewhere does not say
    if None not in (posting["input"], facts.get("input_hash")) and posting["input"] != facts["input_hash"]:
        _begin_anew(posting)
    elif posting["tried"] and wanted - posting["tried"] and len(posting["tried"]) < MOST_BASES:
        posting |= {"budget_used": 0, "deaths": 0}
    tried = posting["tried"] | wanted if len(posting["tried"]) < MOST_BASES else posting["tried"]
    posting |= {"tried": tried, "basis": basis if wanted else posting["basis"]}
    posting["input"] = facts.get("input_hash") or posting["input"]


def _succeed(posting: Row, event: Row) -> None:
    _begin_anew(posting)
    posting |= {"successes": posting["successes"] + 1, "error": None}
    posting |= {"result": event["content"].get("result"), "ended": event["facts"]["occurred_at"]}


def _fail(posting: Row, event: Row) -> None:
    """A worker's death counts on; that a run was stopped changes nothing; whatever else shows that none died."""
    facts = event["facts"]
    was_stopped = facts["error_type"] == "interrupted" and not facts.get("http_status")
    deaths = posting["deaths"] if was_stopped else 0
    posting |= {"deaths": posting["deaths"] + 1 if facts["worker_died"] else deaths, "ended": facts["occurred_at"]}
    posting |= {"budget_used": posting["budget_used"] + facts["counts"]}
    posting |= {"error": event["content"].get("message", facts["error_type"])[:2_000]}

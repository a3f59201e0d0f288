"""The account of a fleet at rest: its log, folded a second time, beside its tables and the journal of the calls."""

import json
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from enrichlog.simulator import Call
from tests.independent import COUNTED, Fold, Read, Row

MOST_DEATHS, MINUTE_MS = 3, 60_000


class Account(NamedTuple):
    """What was done; `faults` are sentences that should not be true.

    An extra call is one that was made, and whose outcome nobody recorded: when its posting is called again it has been
    paid twice. `spent` is the cost of each UTC day, in micro-dollars.
    """

    postings: dict[str, Row]
    calls: int
    extra_calls: int
    late_results: int
    died: int
    spent: dict[str, int]
    faults: list[str]

    @property
    def unfinished(self) -> list[str]:
        """Postings that have not succeeded, and were not given up after too many deaths."""
        given_up = set(self.given_up)
        return [name for name, one in self.postings.items() if one["state"] != "succeeded" and name not in given_up]

    @property
    def given_up(self) -> list[str]:
        """Postings on which too many workers died."""
        failed = {name: one for name, one in self.postings.items() if one["state"] == "failed"}
        return [name for name, one in failed.items() if one["deaths"] >= MOST_DEATHS]

    @property
    def succeeded_again(self) -> list[str]:
        """Postings that succeeded more than once."""
        return [name for name, one in self.postings.items() if one["successes"] > 1]


def take_account(read: Read, journal: Sequence[Call], acknowledged: Collection[str] = ()) -> Account:
    """Fold and compare; `acknowledged` are attempts of which a process said that their ends are recorded."""
    fold = Fold(read)
    attempts = fold.attempts
    faults = [*fold.faults, *_not_at_rest(attempts), *_lost(acknowledged, attempts)]
    faults += [*_wrongly_called(journal, attempts), *_wrongly_paid(journal, attempts)]
    faults += [*_wrongly_counted(read, fold.postings), *_wrongly_shown(read, fold.postings)]
    called = {call.client_request_id or "" for call in journal} & attempts.keys()
    extra = sum(not attempts[attempt_id]["outcomes"] for attempt_id in called)
    late, died = (sum(one[name] for one in attempts.values()) for name in ("late", "died"))
    return Account(fold.postings, len(journal), extra, late, died, fold.spent, faults)


def most_in_a_minute(journal: Sequence[Call]) -> int:
    """The most calls that were received within 60 seconds, wherever these begin."""
    most, window = 0, deque[int]()
    for received in sorted(call.received_ms for call in journal):
        window.append(received)
        while window[0] <= received - MINUTE_MS:
            window.popleft()
        most = max(most, len(window))
    return most


def _not_at_rest(attempts: dict[str, Row]) -> Iterator[str]:
    """Every start has exactly one end, and at most one late result."""
    for attempt in attempts.values():
        if attempt["ends"] != 1 or attempt["late"] > 1:
            yield f"{attempt['stream']}: an attempt has {attempt['ends']} ends and {attempt['late']} late results"


def _wrongly_called(journal: Sequence[Call], attempts: dict[str, Row]) -> Iterator[str]:
    """Nobody is called without a start, or twice for one, and no outcome is of a call that was not made."""
    calls = Counter(call.client_request_id or "" for call in journal)
    for attempt_id, number in calls.items():
        if attempt_id not in attempts:
            yield f"a call was made for {attempt_id}, of which the log has no start"
        elif number > 1:
            yield f"{attempts[attempt_id]['stream']}: {number} calls were made for one attempt"
    for attempt_id, attempt in attempts.items():
        if attempt_id not in calls and any(facts.get("http_status") for facts in attempt["outcomes"]):
            yield f"{attempt['stream']}: an outcome of a call that nobody received"


def _wrongly_paid(journal: Sequence[Call], attempts: dict[str, Row]) -> Iterator[str]:
    """The tokens of an outcome are those of its call."""
    for call in journal:
        attempt = attempts.get(call.client_request_id or "", {})
        for facts in attempt.get("outcomes", ()):
            if facts.get("input_tokens", call.input_tokens) != call.input_tokens:
                yield f"{attempt['stream']}: {facts['input_tokens']} tokens in, of a call with {call.input_tokens}"
            if facts.get("output_tokens", call.output_tokens) != call.output_tokens:
                yield f"{attempt['stream']}: {facts['output_tokens']} tokens out, of a call with {call.output_tokens}"


def _lost(acknowledged: Collection[str], attempts: dict[str, Row]) -> Iterator[str]:
    for attempt_id in acknowledged:
        attempt = attempts.get(attempt_id, {"ends": 0})
        if not attempt["ends"] or (attempt["died"] and not attempt["outcomes"]):
            yield f"the end of {attempt_id} was acknowledged and is not there"


def _wrongly_counted(read: Read, postings: dict[str, Row]) -> Iterator[str]:
    """Where `enrichment_status` says something else."""
    found = {row["stream_id"]: row for row in read("SELECT * FROM {ours}enrichment_status")}
    yield from (f"{name} stands in enrichment_status alone" for name in found.keys() - postings.keys())
    for name, posting in postings.items():
        row = found.get(name, {})
        yield from (f"{name}: {c} is {row.get(c)}, not {posting[c]}" for c in COUNTED if row.get(c) != posting[c])


def _wrongly_shown(read: Read, postings: dict[str, Row]) -> Iterator[str]:
    """Where `llm_enrichment` says something else."""
    found = {f"{row['enrichment']}-{row['job_posting_id']}": row for row in read("SELECT * FROM llm_enrichment")}
    for name, posting in postings.items():
        row = found.get(name, {})
        shown = {"result": _value(row.get("result")), "error": row.get("enrichment_error")}
        if posting["state"] != "pending":  # then the time of a failed one is withheld
            shown["ended"] = _moment(row.get("enrichment_completed_at"))
        yield from (f"{name}: {c} is {shown[c]!r}, not {posting[c]!r}" for c in shown if shown[c] != posting[c])


def _value(stored: Any) -> Any:
    return json.loads(stored) if isinstance(stored, str) else stored


def _moment(stored: Any) -> Any:
    if isinstance(stored, datetime):
        return stored.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return stored

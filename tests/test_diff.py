"""What changed between two positions is what folding the log up to each of them differs in."""

import re
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from rich.console import Console

from enrichlog import differences as differences_module
from enrichlog import differences_screen, terminal
from enrichlog.as_of import AsOf, as_of
from enrichlog.as_of_reports import status as status_as_of
from enrichlog.differences import Change, Differences, differences
from enrichlog.exceptions import WrongOrder
from enrichlog.reports import SUMMED
from eventlog.category import touched, walk_streams
from eventlog.database import Database
from eventlog.streams import split_stream
from projections.status import Status, fold
from tests.builders import NOON, StoppedClock, failed, requested, started, succeeded, tell
from tests.command_line import Command, contents
from tests.service import whole_log
from tests.test_as_of import live_on

BETWEEN = [(1, 5), (5, 6), (6, 20), (11, 11), (3, 32)]


def folded(database: Database, until: int) -> dict[str, Status]:
    """The status of each posting, the obvious way: the log read whole, in its order."""
    found: dict[str, Status] = {}
    for event in whole_log(database):
        if event.position <= until and event.stream_id.startswith("job-"):
            found[event.stream_id] = fold(found.get(event.stream_id, Status()), event)
    return found


@pytest.fixture
def lived(timed: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A rich history, read in pages of which a few events make several."""
    assert list(live_on(timed, clock, acts=40))
    clock.advance(hours=1)
    monkeypatch.setattr(differences_module, "STREAMS_PER_PAGE", 2)
    monkeypatch.setattr(differences_module, "walk_streams", partial(walk_streams, page=2))
    return timed


def test_each_posting_that_was_touched_is_counted_by_what_it_was_and_is(lived: Database) -> None:
    for start, end in BETWEEN:
        before, after = folded(lived, start), folded(lived, end)
        moved = {one: status for one, status in after.items() if before.get(one) != status}
        changes = list[Change]()
        found = differences(lived, "job", start, end, changes.append)
        assert (found.touched, found.new) == (len(moved), len(after.keys() - before.keys()))
        states = {one: before[one].state if one in before else None for one in moved}
        assert found.transitions == Counter((states[one], status.state) for one, status in moved.items())
        errors = [(before.get(one, Status()).error_type, status.error_type) for one, status in moved.items()]
        assert found.appeared == Counter(new for old, new in errors if old is None and new is not None)
        assert found.disappeared == Counter(old for old, new in errors if old is not None and new is None)
        assert found.changed == Counter(one for one in errors if None not in one and one[0] != one[1])
        spent = (status_as_of(lived, "job", as_of(lived, start)), status_as_of(lived, "job", as_of(lived, end)))
        assert {name: found.spent[name] for name in SUMMED} == {
            name: spent[1][name] - spent[0][name] for name in SUMMED
        }
        assert {one.job_id for one in changes} == {
            split_stream(one)[1] for one, status in moved.items()
            if (states[one], before.get(one, Status()).error_type) != (status.state, status.error_type)
        }  # fmt: skip


def test_each_stream_is_touched_once_however_the_pages_fall(lived: Database) -> None:
    log = whole_log(lived)
    for start, end in BETWEEN:
        expected = {e.stream_id for e in log if start < e.position <= end and e.stream_id.startswith("job-")}
        for page in (1, 2, 7, 1_000):
            names = [name for names in touched(lived, "job", start, end, page) for name in names]
            assert sorted(names) == sorted(expected)


def test_progress_tells_of_each_position_between_once(lived: Database) -> None:
    for start, end in BETWEEN:
        told = list[int]()
        differences(lived, "job", start, end, progress=told.append)
        assert (sum(told), max(told, default=0) <= 2) == (end - start, True)


def test_the_bar_counts_the_positions_between(
    enrichlog: Command, lived: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "err", Console(stderr=True, force_terminal=True, width=140, _environ={}))
    said = enrichlog.done("diff", "--from", "3", "--to", "20").err
    counts = re.findall(r"Folding events \S+ +(\d+/\d+)", re.sub(r"\x1b\[[\d;?]*\w", "", said))
    assert (set(counts) <= {f"{done}/17" for done in range(18)}, counts[-1]) == (True, "17/17")


def test_where_nothing_is_between_nothing_changed(lived: Database) -> None:
    found = differences(lived, "job", 7, 7)
    assert (found.touched, found.transitions, found.examples) == (0, Counter(), [])


def test_times_mean_the_positions_that_were_the_last_by_then(timed: Database, clock: StoppedClock) -> None:
    tell(timed, "job-1", requested(), started())
    clock.advance(hours=1)
    tell(timed, "job-1", failed(cost_microdollars=5))
    found = differences(timed, "job", NOON, NOON + timedelta(hours=1))
    assert (found.start.position, found.end.position) == (2, 3)
    assert found.examples == [Change("1", "running", "failed", None, "timeout")]
    assert found.spent["cost_microdollars"] == 5
    with pytest.raises(WrongOrder, match="--from is position 3, which is after --to, position 2"):
        differences(timed, "job", NOON + timedelta(hours=1), NOON)


def test_people_see_the_first_and_scripts_all_that_changed(
    enrichlog: Command, timed: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences_screen, "_SPOOLED", 100)
    names = [f'"{number}\u2028é' for number in range(9)]
    for name in names:
        tell(timed, f"job-{name}", requested())
    assert [one.job_id for one in differences(timed, "job", 1, None).examples] == names[1:6]
    assert [one["job_id"] for one in enrichlog.json("diff", "--from", "1")["postings"]] == names[1:]


def test_an_error_is_counted_by_what_became_of_it() -> None:
    found = Differences("job", AsOf(1, NOON), AsOf(2, NOON))
    kept, gone = Status(error_type="timeout"), Status()
    for before, after in ((kept, gone), (gone, kept), (kept, Status(error_type="refusal")), (kept, kept), (None, kept)):
        found.add("1", before, after)
    assert (found.appeared, found.disappeared) == (Counter(timeout=2), Counter(timeout=1))
    assert found.changed == Counter({("timeout", "refusal"): 1})


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def told(enrichlog: Command, timed: Database, clock: StoppedClock) -> Command:
    """Two postings that failed at noon; an hour later one recovered, and one more was seen."""
    for job in ("job-1", "job-2"):
        tell(timed, job, requested(), started(), failed())
    clock.advance(hours=1)
    tell(timed, "job-2", started(2), failed(2, error_type="refusal", retryable=False))
    tell(timed, "job-1", started(2), succeeded(2, input_tokens=70, output_tokens=7, cost_microdollars=5_000))
    tell(timed, "job-3", requested())
    return enrichlog


def test_what_changed_is_one_document(told: Command, timed: Database) -> None:
    before = contents(timed)
    document = told.json("diff", "--from", "2024-01-01T12:30", "--to", "11")
    assert document == {
        "from": {"position": 6, "recorded_at": "2024-01-01T12:00:00.000000Z"},
        "to": {"position": 11, "recorded_at": "2024-01-01T13:00:00.000000Z"},
        "enrichment": "job",
        "touched": 3,
        "new": 1,
        "transitions": [
            {"before": "failed", "after": "failed", "count": 1},
            {"before": "failed", "after": "succeeded", "count": 1},
            {"before": None, "after": "pending", "count": 1},
        ],
        "errors": {
            "appeared": {},
            "disappeared": {"timeout": 1},
            "changed": [{"before": "timeout", "after": "refusal", "count": 1}],
        },
        "spent": {
            "attempts": 2, "input_tokens": 70, "output_tokens": 7, "cost_microdollars": 5_000, "unpriced_calls": 1,
        },
        "postings": [
            {"job_id": "2", "before": "failed", "after": "failed", "error_before": "timeout", "error_after": "refusal"},
            {"job_id": "1", "before": "failed", "after": "succeeded", "error_before": "timeout", "error_after": None},
            {"job_id": "3", "before": None, "after": "pending", "error_before": None, "error_after": None},
        ],
    }  # fmt: skip
    assert contents(timed) == before


def test_people_see_counts_and_the_first_examples(told: Command) -> None:
    said = told.done("diff", "--from", "6").out.splitlines()
    assert said == [
        "From: as of position 6, 2024-01-01 12:00:00 UTC",
        "To:   as of position 11, 2024-01-01 13:00:00 UTC",
        "Touched: 3 postings, 1 of them new",
        "  1 × failed, as before",
        "  1 × failed → succeeded",
        "  1 × new → pending",
        "Errors that disappeared: 1 × timeout",
        "Errors that changed: 1 × timeout → refusal",
        "Attempts: 2; 77 tokens, $0.005 + 1 call of unknown price",
        "The first of them; --json lists all:",
        "  2: failed (timeout) → failed (refusal)",
        "  1: failed (timeout) → succeeded",
        "  3: new → pending",
    ]
    assert told.done("diff", "--from", "11").out.splitlines()[-1] == "Nothing changed."


def test_another_enrichment_has_differences_of_its_own(told: Command, timed: Database) -> None:
    tell(timed, "job_x-1", requested())
    assert differences(timed, "job_x", 11, None).new == 1
    document = told.json("diff", "--from", "11")
    assert (document["touched"], document["postings"]) == (0, [])


WRONG = {
    ("diff",): "Missing option '--from'. See: enrichlog diff --help",
    ("diff", "--from", "9", "--to", "3"): "--from is position 9, which is after --to, position 3. Give the earlier",
    ("diff", "--from", "0"): "There is no position 0: positions go from 1 to 11",
    ("diff", "--from", "3", "--to", "12"): "There is no position 12 yet: the log ends at position 11",
    ("diff", "--from", "2020-01-01"): "Nothing was recorded by 2020-01-01 00:00:00 UTC: the log begins at 2024-01",
    ("diff", "--from", "1", "--to", "9000-01-01"): "9000-01-01 00:00:00 UTC is yet to come",
    ("diff", "--from", "then"): "'then' is neither a position nor a time",
    ("diff", "--from", "1", "--enrichment", "pay"): "no enrichment pay. Known are: job",
}


def test_what_was_typed_wrongly_is_told_in_one_line(told: Command) -> None:
    for words, cause in WRONG.items():
        said = told(*words)
        assert (said.code, said.out, cause in said.error) == (2, "", True), said.err


def test_an_empty_log_has_no_differences(enrichlog: Command) -> None:
    said = enrichlog("diff", "--from", "1")
    assert (said.code, said.out, "The log is empty" in said.error) == (1, "", True)

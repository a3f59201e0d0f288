"""The history of a posting as people read it: who did what, when, and why."""

from enrichlog.batches import cancel
from enrichlog.rulings import dismiss, requeue
from eventlog.database import Database
from tests.builders import failed, reclassified, requested, started, tell
from tests.command_line import Command
from tests.service import import_postings, posting

BATCH = "1c6e0d09-1367-421b-a4ed-752e0d737cd7"


def acts(enrichlog: Command) -> list[str]:
    """What each event tells behind its time."""
    return [" ".join(line.split()[4:]) for line in enrichlog.done("history", "1").out.splitlines()[1:]]


def test_what_people_did_is_told_with_their_name_and_reason(enrichlog: Command, database: Database) -> None:
    import_postings(database, posting("1"))
    tell(database, "job-1", started(), failed(), requested("retry", batch=BATCH, reason="the quota is back"))
    cancel(database, BATCH, "the wrong model")
    dismiss(database, "job", ["1"], "no real posting")
    requeue(database, "job", ["1"], "it is one")
    tell(database, "job-1", requested("retry"))
    told = acts(enrichlog)
    me = told[4].split(": ")[0].rpartition(" ")[2]
    assert told[0] == "EnrichmentRequested new, by tests"
    assert told[3:] == [
        "EnrichmentRequested retry, batch 1c6e0d09, by tests: the quota is back",
        f"BatchCancelled batch 1c6e0d09, by {me}: the wrong model",
        f"EnrichmentDismissed by {me}: no real posting",
        f"EnrichmentRequested requeue, by {me}: it is one",
        "EnrichmentRequested retry, by tests",
    ]


def test_a_reclassification_says_by_whom(enrichlog: Command, database: Database) -> None:
    import_postings(database, posting("1"))
    tell(database, "job-1", started(), failed(), reclassified())
    assert acts(enrichlog)[-1] == "FailureReclassified timeout → refusal, by rules"

"""How long a run waits for the provider, when it had better end, and what it tells of that."""

from datetime import timedelta

import pytest

from enrichlog.patience import Patience
from eventlog.errors import DatabaseReadOnly, DatabaseUnavailable
from projections.breaker import Breaker
from tests.builders import NOON


def until(seconds: float) -> Breaker:
    """Closed, and the provider has asked for a wait of so long."""
    return Breaker(not_before=NOON + timedelta(seconds=seconds))


def open_until(seconds: float) -> Breaker:
    return Breaker("open", opened_at=NOON, open_until=NOON + timedelta(seconds=seconds))


def probed_until(seconds: float) -> Breaker:
    return Breaker("half_open", opened_at=NOON, probe_until=NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("breaker", "impatient", "patient"),
    [
        (until(20), 20.0, 20.0),
        (until(-20), 0.0, 0.0),
        (until(120), 120.0, 120.0),
        (until(121), None, None),
        (open_until(120), None, 120.0),
        (open_until(121), None, None),
        (Breaker("open", opened_at=NOON), None, None),
        (probed_until(300), None, 1.0),
        (probed_until(0.5), None, 0.5),
    ],
    ids=[
        "asked to wait", "the wait is over", "the longest wait", "too long a wait", "the longest cooldown",
        "too long a cooldown", "until someone closes it", "another's probe", "a probe whose lease ends",
    ],
)  # fmt: skip
def test_a_run_waits_for_what_ends_soon_and_an_impatient_one_for_no_open_breaker(
    breaker: Breaker, impatient: float | None, patient: float | None
) -> None:
    assert Patience(waits_for_probe=False).seconds(breaker, NOON) == impatient
    assert Patience(waits_for_probe=True).seconds(breaker, NOON) == patient


def test_each_longer_wait_is_told_once_and_short_ones_are_not(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience(waits_for_probe=False)
    for breaker in (until(4), until(20), until(20), until(5), until(60)):
        patience.seconds(breaker, NOON)
    assert [record.getMessage().split("before ")[1] for record in caplog.records] == [
        f"2024-01-01 12:{time} UTC. Waiting." for time in ("00:20", "00:05", "01:00")
    ]


def test_a_run_does_not_wait_for_a_database_that_nobody_may_write_to_and_a_daemon_does() -> None:
    read_only = DatabaseReadOnly(where="there", remedy="Connect elsewhere")
    away = DatabaseUnavailable(where="there", reason="connection refused")
    run, daemon = Patience(waits_for_probe=True), Patience(waits_for_probe=True, is_endless=True)
    with pytest.raises(DatabaseReadOnly):
        run.seconds_away(read_only, 0.0)
    assert min(run.seconds_away(away, 0.0), daemon.seconds_away(read_only, 0.0)) > 0

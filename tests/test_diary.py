"""What a worker tells while it works: a line for each minute in which something was done, and when a wait is over."""

import pytest

from enrichlog.diary import Diary
from enrichlog.progress import Run
from enrichlog.screens import SIMULATED


class Watch:
    """A diary, the run that it looks at, and the steady clock that it goes by."""

    def __init__(self, due: int | None = 7) -> None:
        self.now, self.run = 0.0, Run()
        self._diary = Diary(lambda: due, lambda: self.now)

    def after(self, seconds: float, state: str = "working") -> list[str]:
        """What is told so long after the last look."""
        self.now += seconds
        return self._diary.look(state, self.run)


def succeed(run: Run, count: int) -> None:
    run.succeeded += count
    run.input_tokens += 1_000 * count
    run.cost_microdollars += 100 * count


def test_a_minute_in_which_something_was_done_has_a_line_of_its_own() -> None:
    watch = Watch()
    succeed(watch.run, 10)
    watch.run.failed, watch.run.errors["timeout"], watch.run.errors["refusal"] = 3, 2, 1
    assert watch.after(59) == []
    first = "13 attempts in 60 s: 10 succeeded, 3 failed (2 timeout, 1 refusal); 10,000 tokens, $0.001; 7 postings due."
    assert watch.after(1) == [first]
    assert watch.after(60) == []
    succeed(watch.run, 1)
    second = "1 attempt in 60 s: 1 succeeded, 0 failed; 1,000 tokens, $0.0001; 7 postings due."
    assert watch.after(60) == [second]


def test_what_is_due_is_left_out_while_the_database_cannot_tell() -> None:
    watch = Watch(due=None)
    succeed(watch.run, 1)
    assert watch.after(60) == ["1 attempt in 60 s: 1 succeeded, 0 failed; 1,000 tokens, $0.0001."]


@pytest.mark.parametrize("state", ["waiting", "away"])
def test_the_end_of_a_longer_wait_is_told_with_how_long_it_took(state: str) -> None:
    watch = Watch()
    assert watch.after(1, state) == []
    assert watch.after(30, state) == []
    assert watch.after(12) == ["Going on, after a wait of 42 s."]
    assert watch.after(1) == []


def test_the_end_of_a_short_wait_is_not_told_nor_that_of_one_that_is_broken_off() -> None:
    watch = Watch()
    watch.after(1, "waiting")
    assert watch.after(9, "idle") == []
    watch.after(1, "waiting")
    assert watch.after(50, "draining") == []


def test_that_the_simulator_answers_is_told_once() -> None:
    watch = Watch()
    watch.run.simulated = True
    succeed(watch.run, 1)
    assert watch.after(1) == [SIMULATED]
    assert SIMULATED not in watch.after(60)

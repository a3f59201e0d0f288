"""`enrichlog demo`: every act is there, a second run starts clean, and what it kept can be looked at."""

from pathlib import Path

import pytest

from enrichlog.demo import FILE
from enrichlog.simulator import Rule
from tests.command_line import Command, Demo

ACTS = [
    "This is the simulator: no model is asked, nothing leaves this machine",
    "OPENAI_BASE_URL and --api chat for any",
    "$ enrichlog init",
    "$ enrichlog import postings.jsonl",
    "44 added, 0 unchanged, 0 changed, 0 rejected",
    "$ enrichlog enrich --limit 36",
    "36 attempts in ",
    "$ enrichlog failed",
    "Senior Data Scientist\n   Company:   Acme Corp\n   Failed at: 20",
    "   Error:     Request timeout after 2 seconds\n",
    "Artificial Intelligence Engineer\n   Company:   Randstad Digital Belgium\n   Failed at: 20",
    "   Error:     Error code: 429 - Rate limit reached",
    "$ enrichlog errors",
    "$ enrichlog history sample-002",
    "sample-002: 3 events",
    "$ enrichlog retry --yes",
    "4 attempts in ",
    "$ enrichlog rebuild",
    "3 missing, 1 stale; 4 rows written",
    "$ enrichlog verify",
    "Sound.",
    "The simulator's quota runs out",
    "Stopped early. Quota Exceeded: Error code: 429",
    "$ enrichlog breaker list",
    "The breaker has been open since 20",
    "… and is restored.",
    "$ enrichlog breaker close --reason",
    " closed: gpt-4o-mini at http://127.0.0.1:",
    "$ enrichlog retry --yes --error-type quota",
    "5 attempts in ",
    "$ enrichlog status",
    "0 pending, 0 running, 42 succeeded, 2 failed, 0 dismissed",
    "What to type next",
]


SET = {
    "OPENAI_BASE_URL": "http://127.0.0.1:1/never-asked", "ENRICHLOG_PROMPT": "gone.md", "ENRICHLOG_MAX_ATTEMPTS": "1",
    "ENRICHLOG_MAX_INPUT_TOKENS": "1", "ENRICHLOG_ERROR_CODES": '{"rate_limit_exceeded": "refusal"}',
    "ENRICHLOG_API": "chat", "ENRICHLOG_RESULT_MODEL": "gone:Model",
}  # fmt: skip
"""What a user may have set, each of which would spoil the demo."""


def test_every_act_is_played_in_its_order(demo: Demo) -> None:
    assert (demo.code, "Traceback" in demo.said) == (0, False)
    place = 0
    for act in ACTS:
        if "Company:" in act or "Error: " in act:  # which of the failed is the newest is a matter of milliseconds
            assert act in demo.said
        else:
            place = demo.said.find(act, place)
            assert place >= 0, act


def test_its_progress_is_live_with_rate_tokens_and_cost(demo: Demo) -> None:
    first = next(line for line in demo.said.splitlines() if line.startswith("Enriching "))
    assert all(part in first for part in ("36/36", "6 failed", "/s", "tokens", "$0.0"))


def test_what_it_kept_can_be_looked_at(demo: Demo, user: Command) -> None:
    kept = demo.folder / FILE
    assert demo.said.endswith(f"The files are kept: enrichlog status --database {kept}\n")
    assert user.done("verify", "--database", kept).out.endswith("Sound.\n")
    assert user.json("status", "--database", kept)["attempts"] == 53


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that waits less."""
    for name, seconds in (("DEADLINE_SECONDS", 0.5), ("BACKOFF_SECONDS", 0.2), ("LATENCY_SECONDS", 0.0)):
        monkeypatch.setattr(f"enrichlog.demo.{name}", seconds)


@pytest.mark.usefixtures("quick")
def test_a_second_run_starts_clean_obeys_no_setting_and_tells_scripts_how_it_ended(
    demo: Demo, user: Command, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SET.items():
        monkeypatch.setenv(name, value)
    (bare / "enrichlog.toml").write_text("no TOML")
    again = user.done("demo", "--keep", demo.folder, "--json")
    assert (again.document["attempts"], again.document["simulated"]) == (53, True)
    assert again.document["postings"]["succeeded"] == 42
    assert "44 added" in again.err


@pytest.mark.usefixtures("quick")
def test_a_demo_in_which_nothing_succeeds_has_failed(user: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enrichlog.demo.FAULTS", (Rule("", ("server_error",)),))
    said = user("demo")
    assert (said.code, "$ enrichlog failed" in said.out) == (1, False)
    assert said.err.splitlines()[-1].startswith("Error: The demo has ended early: none of its first postings could be")


@pytest.mark.usefixtures("quick")
def test_nothing_in_its_folder_is_deleted_but_its_own_file(
    user: Command, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {f"{FILE}.bak", f"{FILE}-mine", "notes"}
    for name in {*others, FILE, f"{FILE}-wal"}:
        (bare / name).write_text("old")
    monkeypatch.setattr("enrichlog.demo.FAULTS", (Rule("", ("server_error",)),))
    user("demo", "--keep", ".")
    left = {path.name for path in bare.iterdir() if path.read_bytes() == b"old"}
    assert left == others


def test_a_folder_that_cannot_be_used_is_told_in_one_line(user: Command, bare: Path) -> None:
    (bare / "file").touch()
    said = user("demo", "--keep", "file/below")
    assert (said.code, said.out) == (2, "")
    assert said.error == "Error: The folder file/below cannot be used: Not a directory."

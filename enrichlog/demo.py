"""The demo: the whole loop on sample postings, with the simulator in the place of a model."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import text

from enrichlog import (
    breaker_screen,
    breakers,
    commands,
    history_screen,
    reconciling,
    reports,
    screens,
    terminal,
    told_run,
)  # fmt: skip
from enrichlog.actor import actor
from enrichlog.bulk_retry import retry
from enrichlog.enrichment import enrichment_of
from enrichlog.exceptions import DemoEnded, UsageError
from enrichlog.posting_files import import_file
from enrichlog.retry_plan import plan_retry
from enrichlog.selection import Allowance, Selection
from enrichlog.settings import Settings
from enrichlog.simulator import Rule, Script, Simulator
from eventlog import migration
from eventlog.database import Database
from projections.shown import place_of

SAMPLES = Path(__file__).parent / "samples" / "postings.jsonl"
FILE = "enrichlog-demo.db"
FIRST_PART, LAST_PART_QUOTA = 36, 3
DEADLINE_SECONDS, BACKOFF_SECONDS = 2.0, 2.0
LATENCY_SECONDS = (0.1, 0.4)
FAULTS = (
    Rule("Title: Artificial Intelligence Engineer\n", ("rate_limit", "ok")),
    Rule("Title: Senior Data Scientist\n", ("hang", "ok")),
    Rule("Title: Analytics Engineer\n", ("invalid_json", "ok")),
    Rule("Title: BI Developer\n", ("bad_gateway", "ok")),
    Rule("Title: Data Steward\n", ("refusal",)),
)
SHOWN = "sample-002"
ADDED = "credit was added"
INTRODUCTION = f"""\
This is the simulator: no model is asked, nothing leaves this machine, and costs are list prices for what was simulated.
It plays some faults, and waits at most {DEADLINE_SECONDS:g} s for an answer (usually 300) and {BACKOFF_SECONDS:g} s \
before a retry (usually 30 and more).
For real answers set OPENAI_API_KEY, or OPENAI_BASE_URL and --api chat for any OpenAI-compatible server such as Ollama \
or vLLM."""
NEXT = """\
What to type next, with a key of yours or a server in OPENAI_BASE_URL:

  enrichlog init                              a SQLite file here, or --database postgresql://…
  enrichlog import jobs.csv --map title=…     CSV, JSON or JSON lines
  enrichlog enrich --limit 10                 begin with a few
  enrichlog failed                            what failed, and why
  enrichlog retry --error-type quota          only that, once the cause is gone"""


def play(keep: Path | None, *, as_json: bool) -> int:
    """Play the demo; `keep` is the folder for its files. Returns the exit code."""
    script = Script(rules=list(FAULTS), latency=LATENCY_SECONDS)
    with _folder(keep) as folder, Simulator(script) as simulator:
        database = Database(str(folder / FILE))
        settings = _settings(database, simulator)
        with terminal.on_standard_error() if as_json else nullcontext():
            _Demo(settings, database, simulator).play()
        if as_json:
            terminal.print_json(reports.status(database, "job") | {"simulated": True})
        elif keep is not None:
            terminal.say(f"\nThe files are kept: enrichlog status --database {folder / FILE}")
        database.close()
    return told_run.DONE


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The folder to play in, without what an earlier demo left there."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="enrichlog-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        for suffix in ("", "-journal", "-wal", "-shm"):
            (keep / f"{FILE}{suffix}").unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(reason=f"The folder {keep} cannot be used: {error.strerror}.") from error
    yield keep.absolute()


class _Own(Settings):
    """The demo's own settings, whatever is configured here: it must never ask a model that costs money."""

    model_config = SettingsConfigDict(toml_file=None)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: object, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Neither the environment nor a file."""
        return (init_settings,)


def _settings(database: Database, simulator: Simulator) -> Settings:
    return _Own(
        database=database.url, base_url=simulator.base_url, api_key=SecretStr("simulator-needs-no-key"),
        prices_of="openai", deadline_seconds=DEADLINE_SECONDS, backoff_base_seconds=BACKOFF_SECONDS,
    )  # fmt: skip


def _go_on_unless_ended(code: int) -> None:
    """A signal that ends one act ends the demo, with the exit code of the act."""
    if code >= 128:
        sys.exit(code)


class _Demo:
    """The acts, each a command that the user could have typed."""

    def __init__(self, settings: Settings, database: Database, simulator: Simulator) -> None:
        self._settings, self._database, self._simulator = settings, database, simulator

    def play(self) -> None:
        terminal.say(INTRODUCTION)
        self._fill()
        self._enrich("The first postings are enriched; some fail.", limit=FIRST_PART)
        if not reports.status(self._database, "job")["postings"]["succeeded"]:
            raise DemoEnded
        self._look()
        self._retry("What can be tried again is tried again, once its wait is over.")
        self._damage_and_rebuild()
        self._run_out_of_quota()
        self._command("status", "Where everything stands.")
        screens.status(reports.status(self._database, "job"), place_of(self._database.adopted))
        terminal.say("\n" + NEXT)

    def _fill(self) -> None:
        self._command("init", "A database: one file.")
        migration.migrate(self._database)
        self._command(f"import {SAMPLES.name}", "Sample postings go in.")
        screens.imported(import_file(self._database, SAMPLES, {}, ["job"], actor()))

    def _enrich(self, why: str, limit: int | None = None) -> None:
        self._command("enrich" + (f" --limit {limit}" if limit else ""), why)
        code = commands.enrich(
            self._settings, self._database, job_ids=(), limit=limit, max_cost=None, dry_run=False, force=False,
            everything=False, yes=True, enrichment="job", fail_on_error=False, as_json=False, confirm=lambda _: True,
        )  # fmt: skip
        _go_on_unless_ended(code)

    def _look(self) -> None:
        self._command("failed", "What failed, and why.")
        screens.failed(reports.failed(self._database, "job", Selection(), 50, self._settings.max_attempts))
        self._command("errors", "The same by error type, and what to do about each.")
        screens.errors(reports.errors(self._database, "job"))
        self._command(f"history {SHOWN}", "Everything that ever happened to one posting.")
        history_screen.show(reports.history(self._database, "job", SHOWN))

    def _retry(self, why: str, *error_types: str) -> None:
        while due := plan_retry(
            self._database, "job", Selection(), Allowance(None, self._settings.max_attempts)
        ).next_due:
            with self._database.read() as connection:
                wait = due - self._database.dialect.clock(connection)
            time.sleep(max(0.0, wait.total_seconds()) + 0.01)
        self._command(" ".join(("retry --yes", *(f"--error-type {name}" for name in error_types))), why)
        code = retry(self._settings, self._database, error_types=error_types, yes=True)
        _go_on_unless_ended(code)

    def _damage_and_rebuild(self) -> None:
        terminal.say("\nSomeone deletes three rows of llm_enrichment and clears an error by hand …")
        with self._database.write() as connection:
            connection.execute(
                text("DELETE FROM llm_enrichment WHERE job_posting_id IN ('sample-003', 'sample-004', 'sample-005')")
            )
            connection.execute(
                text("UPDATE llm_enrichment SET enrichment_error = NULL WHERE job_posting_id = 'sample-013'")
            )
        self._command("rebuild", "… and the log gives them back, without asking the model again.")
        reconciling.rebuild(self._database)
        self._command("verify", "The proof: the chain of hashes, and every row against the log.")
        reconciling.verify(self._database)

    def _run_out_of_quota(self) -> None:
        terminal.say(f"\nThe simulator's quota runs out after {LAST_PART_QUOTA} more answers …")
        self._simulator.restore_quota(LAST_PART_QUOTA)
        self._enrich("The run stops by itself, says why, and loses nothing.")
        self._command("breaker list", "Nobody calls in vain: the breaker holds every program back.")
        breaker_screen.show(*breakers.list_breakers(self._database), self._settings)
        terminal.say("\n… and is restored.")
        self._simulator.restore_quota()
        self._command(f'breaker close --reason "{ADDED}"', "A person who knows that need not wait for the next probe.")
        ours = enrichment_of(self._settings).called
        done = breakers.set_by_hand(self._database, "closed", None, ours, ADDED)
        breaker_screen.was_set(done, self._database.now(), self._settings)
        self._retry("Only what the quota stopped.", "quota")

    def _command(self, words: str, why: str) -> None:
        terminal.say(f"\n{why}")
        terminal.headline(f"$ enrichlog {words}")

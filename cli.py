"""The command line: each command parses, calls one function, prints. `python cli.py …` is `enrichlog …`."""

from __future__ import annotations

import errno
import functools
import io
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

import enrichlog
from enrichlog.price import LEAST_DOLLARS, MOST_DOLLARS

if TYPE_CHECKING:  # commands import what they need: --help must not wait for SQLAlchemy and the SDK
    from enrichlog.settings import Settings
    from eventlog.database import Database

EXIT_STOPPED, EXIT_USAGE, EXIT_FOUND = 1, 2, 3
COUNT, LIMIT, JOBS = click.IntRange(1, 10_000_000), click.IntRange(1, 1_000_000_000), click.IntRange(1, 64)
CANNOT_WRITE = (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EBADF)
CALLED = ("--model", "--api", "--base-url")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
POSITION = re.compile(r"[+-]?[0-9]+")
SPELT_OUT = re.compile(r" UTC$")  # as every screen has it


class Moment(click.ParamType[datetime]):
    """A time: ISO 8601 (UTC unless it says otherwise), as screens show it, or how long ago, such as 30m, 2h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment meant."""
        text = str(value)
        try:
            if text[-1:] in UNITS and text[:-1].isdigit():
                return datetime.now(UTC) - timedelta(**{UNITS[text[-1]]: int(text[:-1])})
            moment = datetime.fromisoformat(SPELT_OUT.sub("Z", text))
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is no time: write 2026-01-31, 2026-01-31T08:00, or 30m, 2h, 7d for how long ago")


class LogPlace(click.ParamType["int | datetime"]):
    """A place in the log: a position, which is a whole number, or a time."""

    name = "position or time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | datetime:
        """The position or the moment meant."""
        text = str(value)
        if POSITION.fullmatch(text):  # never a time, though 20260131 could be one
            return int(text) if len(text) < 19 else self.fail(f"{text[:19]}… is no position: no log is that long")
        try:
            return Moment().convert(text, param, ctx)
        except click.BadParameter:
            forms = "write 1204 for a position, or 2026-01-31, 2026-01-31T08:00, or 30m, 2h, 7d for how long ago"
            self.fail(f"{text!r} is neither a position nor a time: {forms}")


class Span(click.ParamType[int]):
    """How long, in seconds: 30m, 2h or 7d."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds meant."""
        text = str(value)
        if text[-1:] not in UNITS or not text[:-1].isdecimal() or len(text) > 5 or not int(text[:-1]):
            self.fail(f"{text!r} is no span: write 30m, 2h or 7d")
        return int(timedelta(**{UNITS[text[-1]]: int(text[:-1])}).total_seconds())


class Amount(click.FloatRange):
    """A number within bounds."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        amount = super().convert(value, param, ctx)
        if math.isnan(amount):  # it is within every range
            self.fail(f"{value!r} is no amount")
        return amount


class Seconds(Amount):
    """A number of seconds."""

    name = "number"


class Dollars(Amount):
    """An amount of money that a limit can be."""

    def __init__(self) -> None:
        super().__init__(0, MOST_DOLLARS, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The amount in dollars."""
        amount = super().convert(value, param, ctx)
        if amount < LEAST_DOLLARS:
            self.fail(f"{value} is less than the least amount that is counted, {LEAST_DOLLARS:f}")
        return amount


class JobId(click.ParamType[str]):
    """The id of a posting: any text that a database can hold, since an id is the user's."""

    name = "job id"
    what = "a posting"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id as given."""
        from eventlog.canonical import storable

        text = str(value)
        if not text or text != storable(text):  # bytes that are no UTF-8 arrive as surrogates
            self.fail(f"{text!r} is no id of {self.what}")
        return text


class BatchId(JobId):
    """The id of a batch."""

    name = "batch id"
    what = "a batch"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(enrichlog.__version__, prog_name="enrichlog")
def cli() -> None:
    """An event-sourced log of LLM enrichment: every attempt is recorded, with its outcome, its cost and its error.

    \b
    Try it without a key or a database:   enrichlog demo
    Start for real:                       enrichlog init
                                          enrichlog import postings.csv --map title=job_title
                                          enrichlog enrich
                                          enrichlog failed
                                          enrichlog retry --error-type quota
    """  # noqa: D301 - the backspace is click's mark of a paragraph that is not to be wrapped


@cli.group("breaker", epilog="Example:  enrichlog breaker list --json")
def breaker() -> None:
    """Whether calls go out at all: list, open or close breakers."""


@cli.group("limits", epilog="Example:  enrichlog limits list --json")
def limits() -> None:
    """What all workers together may do at most: requests and tokens per minute, money per day."""


@cli.group("batch", epilog="Example:  enrichlog batch list --json")
def batch() -> None:
    """The batches that retries and named postings were requested in: what became of each, and taking one back."""


@cli.group("projections", epilog="Example:  enrichlog projections list --json")
def projections() -> None:
    """The tables that are folded from the log: how each stands, and what the users' table refused."""


def command(
    name: str, example: str, *, needs_database: bool = True, group: click.Group = cli
) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with an example in its help and the options that all of them have.

    The function gets `settings`, `as_json` and, when it needs one, the checked `database`. While nothing can be begun,
    every command that has a database says why, on standard error; a document for scripts is left alone. Rows of another
    version's fold are told of there too, to scripts as well: nobody else would tell those who run no other command.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(as_json: bool, **options: Any) -> None:
            settings = _settings(options)
            if "enrichment" in options:
                settings.for_enrichment(options["enrichment"])
            _remember_flags(settings, options.get("enrichment", "job"))
            if needs_database:
                from enrichlog.breaker_screen import warn as warn_of_breakers
                from enrichlog.place import open_database

                options["database"] = open_database(settings)
                is_of_today = options.get("as_of") is None and name not in ("rebuild", "verify")
                if group is not breaker and not as_json and is_of_today:
                    warn_of_breakers(options["database"], settings)
                if group is not projections and name != "rebuild":
                    from enrichlog.read_models_screen import warn as warn_of_read_models

                    warn_of_read_models(options["database"], settings)
            function(settings=settings, as_json=as_json, **options)

        for option in (
            click.option("--log-format", type=click.Choice(["text", "json"]), help="Form of the log on stderr."),
            click.option(
                "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged."
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
            click.option("--database", metavar="URL", help="SQLite file or PostgreSQL URL.  [default: enrichlog.db]"),
        ):
            run = option(run)
        return group.command(name, epilog=f"Example:  {example}")(run)

    return decorate


def _settings(options: dict[str, Any]) -> Settings:
    """The settings with the flags that every command has, and logging set up by them."""
    from enrichlog.logs import set_up_logging
    from enrichlog.settings import configure

    shared = (
        "database", "log_level", "log_format", "concurrency", "model", "api", "base_url",
        "requests_per_minute", "tokens_per_minute", "dollars_per_day", "result_model",
    )  # fmt: skip
    settings = configure(**{name: options.pop(name) for name in shared if name in options})
    set_up_logging(settings.log_level, settings.log_format)
    return settings


def _remember_flags(settings: Settings, enrichment: str) -> None:
    """Have each command that an output names be about the same database and enrichment."""
    from enrichlog import terminal
    from enrichlog.place import flag_for

    terminal.remember_flags(flag_for(settings), enrichment)


def enrichment_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Which enrichment a command is about."""
    return click.option("--enrichment", default="job", show_default=True, help="Name of the enrichment.")(function)


def as_of_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """When a command looks back to."""
    what = "What this said when the log ended there: a position, a date, or 30m, 2h, 7d ago."
    return click.option("--as-of", type=LogPlace(), metavar="POSITION|TIME", help=what)(function)


def called_options(function: Callable[..., Any], model: str = "--model") -> Callable[..., Any]:
    """Whom calls go to; `model` is how the option that names the model is called."""
    for option in (
        click.option("--base-url", metavar="URL", help="An OpenAI-compatible server."),
        click.option("--api", type=click.Choice(["responses", "chat"]), help="chat for compatible servers."),
        click.option(model, "model", help="Model to ask."),
    ):
        function = option(function)
    return function


def limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Limits as settings of a process: beside those for all, and shared by all that have the same number."""
    for name, kind, metavar, what in (
        ("--dollars-per-day", Dollars(), "USD", "Spend at most so much per UTC day."),
        ("--tokens-per-minute", LIMIT, "N", "Take at most so many tokens, in and out, per minute."),
        ("--requests-per-minute", LIMIT, "N", "Begin at most so many calls per minute."),
    ):
        function = click.option(name, type=kind, metavar=metavar, help=what)(function)
    return function


def call_options(function: Callable[..., Any], model: str = "--model") -> Callable[..., Any]:
    """The options of commands that call the model."""
    function = limit_options(function)
    function = click.option("--fail-on-error", is_flag=True, help="Exit with 3 when any posting failed.")(function)
    function = called_options(function, model)
    many = click.option("--concurrency", type=click.IntRange(1, 1000), help="Calls at the same time.  [default: 8]")
    return many(function)


@command("init", "enrichlog init --database postgresql://me@localhost/jobs", needs_database=False)
@click.option("--sql", is_flag=True, help="Print the SQL instead of running it.")
@click.option("--rollback", is_flag=True, help="With --sql: print the SQL that takes it back, the log included.")
def init(settings: Settings, as_json: bool, sql: bool, rollback: bool) -> None:
    """Create the tables, or bring them up to date."""
    from enrichlog import terminal
    from enrichlog.place import database_of, flag_for
    from eventlog import migration
    from eventlog.position import head

    if rollback and not sql:
        raise click.UsageError("--rollback goes with --sql: what it prints drops the log, so you run it yourself.")
    database = database_of(settings)
    if sql:
        script = migration.rollback_sql(database) if rollback else migration.sql(database)
        terminal.print_json({"sql": script}) if as_json else click.echo(script, nl=False)
        return
    revision, where, lacking = migration.migrate(database), database.dialect.where(), migration.lacking_role(database)
    if as_json:
        terminal.print_json({"database": where, "migration": revision, "lacking_role": lacking})
        return
    if lacking is not None:
        terminal.say(
            f"There is no role {lacking}, and this user may not create it: workers need this user's own login. To give "
            f"them less, have somebody run CREATE ROLE {lacking}, then run enrichlog init{flag_for(settings)} again."
        )
    following = "status" if head(database) else "import FILE"
    terminal.say(f"Ready: {where}, migration {revision}. Next: enrichlog {following}{flag_for(settings)}")


@command("adopt", "enrichlog adopt --database URL --where \"kind = 'Data'\" --dry-run", needs_database=False)
@click.option("--postings", metavar="TABLE", help="The table that has the postings.")
@click.option("--where", metavar="SQL", help="Which of them are wanted.")
@click.option("--query", metavar="SQL", help="Instead of both: a SELECT of id, title, description, company, …")
@click.option("--table", metavar="TABLE", help="The table that takes the results.")
@click.option("--id-column", metavar="COLUMN", help="Its column that has the posting's id.")
@click.option("--map", "pairs", multiple=True, metavar="COLUMN=WHAT",
              help="A field, @error, @completed_at, @model_version, constant:VALUE, or nothing.")  # fmt: skip
@click.option("--result-model", metavar="MODULE:CLASS", help="The pydantic model of the result.")
@click.option("--after-success", metavar="SQL", help="To run with each result; :id is the posting's id.")
@click.option("--no-index", is_flag=True, help="Make no index that finds failures.")
@click.option("--dry-run", is_flag=True, help="Say what is found and what would change, change nothing.")
@click.option("--import-history", is_flag=True, help="Have the log know what the table does: old results and errors.")
@click.option("--sql", is_flag=True, help="Print the SQL, for whoever may run it.")
@click.option("--rollback", is_flag=True, help="With --sql: print the SQL that takes it back, the log included.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def adopt(
    settings: Settings, as_json: bool, pairs: tuple[str, ...], no_index: bool, dry_run: bool,
    import_history: bool, sql: bool, rollback: bool, yes: bool, **wishes: str | None,
) -> None:  # fmt: skip
    """Use tables that are there already: read postings by a query, write results into columns of yours.

    Nothing of yours is changed but that a column for errors is added, and an index, where they are missing. What is
    proposed is written into enrichlog.toml; a configuration that is there is checked.
    """
    from enrichlog import terminal
    from enrichlog.adopt import Asked
    from enrichlog.adopt import adopt as run
    from enrichlog.adopt_proposal import Wishes, read_columns
    from enrichlog.adopt_sql import printed

    if rollback and not sql:
        raise click.UsageError("--rollback goes with --sql: what it prints drops the log, so you run it yourself.")
    if sql and (import_history or dry_run or yes):
        raise click.UsageError(
            "--sql changes nothing: leave out --dry-run, --yes and --import-history (for afterwards)."
        )
    said = Wishes(columns=read_columns(pairs), **wishes)
    asked = Asked(dry_run, yes, not no_index, import_history, as_json)
    if sql:
        script = printed(settings, said, index=not no_index, rollback=rollback)
        terminal.print_json({"sql": script}) if as_json else click.echo(script, nl=False)
        return
    is_asked = sys.stdin.isatty() and not (dry_run or yes or as_json)
    try:
        sys.exit(run(settings, said, asked, _confirm, _question if is_asked else None))
    except click.Abort:  # at a question: what comes after the last of them ends with KeyboardInterrupt
        click.echo("\nNothing was done.", err=True)
        raise


@command("import", "enrichlog import jobs.csv --map title=job_title --map description=text")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--map", "pairs", multiple=True, metavar="OURS=THEIRS", help="Which column is our id, title, …")
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
def import_(
    settings: Settings, database: Database, as_json: bool, path: Path, pairs: tuple[str, ...], dry_run: bool
) -> None:
    """Import postings from a CSV, JSON or JSON lines file.

    Needed are an id, a title and a description; company, location, url and language are taken when they are there.
    """
    from enrichlog import screens, terminal
    from enrichlog.actor import actor
    from enrichlog.posting_files import import_file, read_map

    names = ["job", *(name for name in settings.enrichments if name != "job")]
    report = import_file(database, path, read_map(pairs), names, actor(), dry_run=dry_run)
    terminal.print_json(report.document()) if as_json else screens.imported(report)


@command("sync", "enrichlog sync --refresh --dry-run")
@click.option("--refresh", is_flag=True, help="Read all texts, to find those that have changed.")
@click.option("--dry-run", is_flag=True, help="Say what would be requested, change nothing.")
@enrichment_option
def sync(
    settings: Settings, database: Database, as_json: bool, refresh: bool, dry_run: bool, enrichment: str
) -> None:  # fmt: skip
    """Look for new postings, as enrich and worker do by themselves; with --refresh also for changed texts.

    Postings that are not there any more are counted; nothing is tried for them.
    """
    from enrichlog import sync_screen, terminal
    from enrichlog.actor import actor
    from enrichlog.sync import synced

    done = synced(database, enrichment, actor(), reads=refresh, dry_run=dry_run)
    terminal.print_json(done.document()) if as_json else sync_screen.show(done)


@command("enrich", "enrichlog enrich --limit 100 --max-cost 0.50")
@click.argument("job_ids", metavar="[JOB_ID]...", nargs=-1, type=JobId())
@click.option("--limit", type=COUNT, help="Take at most so many postings.")
@click.option("--max-cost", type=Dollars(), metavar="USD", help="Spend at most so much.")
@click.option("--dry-run", is_flag=True, help="Say how many would be taken, call nobody.")
@click.option("--force", is_flag=True, help="Also what is enriched or has failed for good; needs ids or --all.")
@click.option("--all", "everything", is_flag=True, help="With --force: every posting.")
@click.option("--outdated", is_flag=True, help="Results of another prompt, schema, model or input: first the plan.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@enrichment_option
@call_options
def enrich(settings: Settings, database: Database, outdated: bool, **options: Any) -> None:
    """Enrich what is due: new and changed postings, and failures whose wait is over. Each at most once."""
    from enrichlog.commands import enrich as run
    from enrichlog.renewal import renew

    sys.exit((renew if outdated else run)(settings, database, confirm=_confirm, **options))


@command("retry", "enrichlog retry --error-type quota --max-attempts 3 --dry-run")
@click.option("--error-type", "error_types", multiple=True, metavar="TYPE", help="Only this type; can be repeated.")
@click.option("--since", type=Moment(), help="Only what failed since: a date, or 30m, 2h, 7d.")
@click.option("--until", type=Moment(), help="Only what failed before.")
@click.option("--model", "failed_model", help="Only what failed with this model; --ask-model is the one to ask now.")
@click.option("--limit", type=COUNT, help="Take at most so many postings.")
@click.option("--reason", help="Why; it is kept with each request.")
@click.option("--max-attempts", type=click.IntRange(1, 100), help="Counted attempts in all; overrides the usual caps.")
@click.option("--max-retries", type=click.IntRange(0, 99), help="The same less one: the first attempt is not a retry.")
@click.option("--dry-run", is_flag=True, help="Print the plan only.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--what-if", is_flag=True, help="Call nobody: what would the past have come to under --max-attempts?")
@click.option("--base", type=float, metavar="SECONDS", help="With --what-if: wait after the first failure.")
@enrichment_option
@functools.partial(call_options, model="--ask-model")
def retry(settings: Settings, database: Database, what_if: bool, base: float | None, **options: Any) -> None:
    """Try failed postings again: first the plan, then the run.

    \b
    What the past would have come to under another maximum:
        enrichlog retry --what-if --max-attempts 3
    """  # noqa: D301 - as above
    if what_if or base is not None:
        _what_if(settings, database, what_if=what_if, base=base, **options)
        return
    from enrichlog.bulk_retry import retry as run

    sys.exit(run(settings, database, confirm=_confirm, **options))


def _what_if(settings: Settings, database: Database, *, what_if: bool, base: float | None, **options: Any) -> None:
    """Tell what another policy would have come to."""
    from enrichlog.what_if_told import tell

    if not what_if:
        raise click.UsageError("--base goes with --what-if: a retry waits as the settings say.")
    asked = ("error_types", "max_attempts", "max_retries", "enrichment", "as_json")
    tell(settings, database, typed=_typed(), base=base, **{name: options[name] for name in asked})


def _typed() -> dict[str, str]:
    """The options that were given on the command line, by the name of their values."""
    context = click.get_current_context()
    given = click.core.ParameterSource.COMMANDLINE
    return {
        str(one.name): one.opts[0]
        for one in context.command.params
        if one.name and context.get_parameter_source(one.name) is given
    }


def ruling_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The postings that a person rules on, and why."""
    for option in (
        enrichment_option,
        click.option("--reason", required=True, help="Why; it is kept in the history of each."),
        click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True, type=JobId()),
    ):
        function = option(function)
    return function


@command("dismiss", "enrichlog dismiss job-4711 --reason 'no real posting'")
@ruling_options
def dismiss(
    settings: Settings, database: Database, as_json: bool, job_ids: tuple[str, ...], reason: str, enrichment: str
) -> None:
    """Leave postings alone until somebody requeues or changes them."""
    from enrichlog import ruling_screen, rulings

    ruled = rulings.dismiss(database, enrichment, job_ids, reason)
    sys.exit(ruling_screen.tell(ruled, "dismissed", as_json=as_json))


@command("requeue", "enrichlog requeue job-4711 --reason 'the description was mended'")
@ruling_options
def requeue(
    settings: Settings, database: Database, as_json: bool, job_ids: tuple[str, ...], reason: str, enrichment: str
) -> None:
    """Grant postings one more attempt, whatever became of them; the next enrich takes them."""
    from enrichlog import ruling_screen, rulings

    ruled = rulings.requeue(database, enrichment, job_ids, reason)
    sys.exit(ruling_screen.tell(ruled, "requeued", as_json=as_json))


@command("list", "enrichlog batch list --limit 5", group=batch)
@click.option("--limit", type=COUNT, default=20, show_default=True, help="How many to show, the newest first.")
def batch_list(settings: Settings, database: Database, as_json: bool, limit: int) -> None:
    """Which batches there are: when, who, why, how many postings, and whether any still wait."""
    from enrichlog import batch_screen, batches, terminal

    total, found = batches.list_batches(database, limit)
    if as_json:
        terminal.print_json({"total": total, "batches": [batch_screen.document(one) for one in found]})
    else:
        batch_screen.listed(total, found)


@command("show", "enrichlog batch show 5b0c8a3e-…", group=batch)
@click.argument("batch_id", metavar="ID", type=BatchId())
def batch_show(settings: Settings, database: Database, as_json: bool, batch_id: str) -> None:
    """What became of a batch: recovered, failed the same way, failed differently, not yet, withdrawn.

    Its id may be cut to the first 8 characters.
    """
    from enrichlog import batch_screen, batches, terminal

    told = batches.find_batch(database, batch_id)
    fates = batch_screen.fate_document(batches.fates(database, told))
    if as_json:
        terminal.print_json({**batch_screen.document(told), "cancelled_for": told.cancelled_for, **fates})
    else:
        batch_screen.shown(told, fates)


@command("cancel", "enrichlog batch cancel 5b0c8a3e-… --reason 'the wrong model'", group=batch)
@click.argument("batch_id", metavar="ID", type=BatchId())
@click.option("--reason", required=True, help="Why; it is kept with each posting that is given back.")
def batch_cancel(settings: Settings, database: Database, as_json: bool, batch_id: str, reason: str) -> None:
    """Take a batch back: what still waits for it is as it was before, what runs will end.

    Its id may be cut to the first 8 characters.
    """
    from enrichlog import batch_screen, batches, terminal

    done = batches.cancel(database, batch_id, reason)
    terminal.print_json(done._asdict()) if as_json else batch_screen.cancelled(done)


@command("failed", "enrichlog failed --error-type timeout --since 24h")
@click.option("--error-type", "error_types", multiple=True, metavar="TYPE", help="Only this type; can be repeated.")
@click.option("--since", type=Moment(), help="Only what failed since: a date, or 30m, 2h, 7d.")
@click.option("--limit", type=COUNT, default=50, show_default=True, help="How many to show.")
@as_of_option
@enrichment_option
def failed(
    settings: Settings, database: Database, as_json: bool, error_types: tuple[str, ...], since: datetime | None,
    limit: int, enrichment: str, as_of: int | datetime | None,
) -> None:  # fmt: skip
    """The failed postings, newest first, each with its exact error."""
    from enrichlog import reports, screens, terminal
    from enrichlog.errors import find_error_types
    from enrichlog.selection import Selection

    selection = Selection(find_error_types(error_types), since)
    if as_of is not None:
        from enrichlog import as_of_commands

        as_of_commands.failed(settings, database, enrichment, as_of, selection, limit, as_json=as_json)
        return
    page = reports.failed(database, enrichment, selection, limit, settings.max_attempts)
    terminal.print_json(page.rows) if as_json else screens.failed(page, narrowed=bool(error_types or since))


@command("errors", "enrichlog errors")
@as_of_option
@enrichment_option
def errors(
    settings: Settings, database: Database, as_json: bool, enrichment: str, as_of: int | datetime | None
) -> None:
    """How many postings failed with each error type, and what to do about it."""
    from enrichlog import reports, screens, terminal

    if as_of is not None:
        from enrichlog import as_of_commands

        as_of_commands.errors(database, enrichment, as_of, as_json=as_json)
        return
    rows = reports.errors(database, enrichment)
    if as_json:
        terminal.print_json([row | {"advice": terminal.advise(row["advice"])} for row in rows])
    else:
        screens.errors(rows)


@command("classify", "enrichlog classify old_errors.txt", needs_database=False)
@click.argument("path", metavar="[FILE|-]", required=False, type=click.Path(path_type=Path))
def classify(settings: Settings, as_json: bool, path: Path | None) -> None:
    """Tell the error type of messages of which only the text is left, such as those of an old column.

    One message per line, or JSON lines with message and, to find them again, id. With --json one object per line. The
    setting error_codes wins over what we know. Lines without a message are named; then the exit code is 1.
    """
    from enrichlog import classification
    from enrichlog.messages import read_messages

    messages = read_messages(path)
    tell = classification.print_lines if as_json else classification.show
    sys.exit(EXIT_STOPPED if tell(messages, settings.error_codes) else 0)


@command("history", "enrichlog history job-4711")
@click.argument("job_id", type=JobId())
@as_of_option
@enrichment_option
def history(
    settings: Settings, database: Database, as_json: bool, job_id: str, enrichment: str, as_of: int | datetime | None
) -> None:
    """Everything that ever happened to a posting."""
    from enrichlog import history_screen, reports, terminal

    if as_of is not None:
        from enrichlog import as_of_commands

        as_of_commands.history(database, enrichment, job_id, as_of, as_json=as_json)
        return
    document = reports.history(database, enrichment, job_id)
    terminal.print_json(document) if as_json else history_screen.show(document)


@command("why", "enrichlog why job-4711")
@click.argument("job_id", type=JobId())
@as_of_option
@enrichment_option
def why(
    settings: Settings, database: Database, as_json: bool, job_id: str, enrichment: str, as_of: int | datetime | None
) -> None:
    """Why the rows of a posting are as they are: which event set each column, and when."""
    from enrichlog import terminal, why_screen
    from enrichlog.why import why as explain

    found = explain(database, enrichment, job_id, as_of)
    terminal.print_json(found.document()) if as_json else why_screen.show(found)


@command("diff", "enrichlog diff --from 7d --to 2026-01-31")
@click.option("--from", "start", type=LogPlace(), required=True, metavar="POSITION|TIME", help="Where to begin.")
@click.option("--to", "end", type=LogPlace(), metavar="POSITION|TIME", help="Where to end.  [default: the head]")
@enrichment_option
def diff(
    settings: Settings, database: Database, as_json: bool, start: int | datetime, end: int | datetime | None,
    enrichment: str,
) -> None:  # fmt: skip
    """What changed between two positions of the log, or two times."""
    from enrichlog import as_of_commands

    as_of_commands.diff(database, enrichment, start, end, as_json=as_json)


@command("status", "enrichlog status --watch")
@as_of_option
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C; with --json one line each time.")
@click.option("--every", type=Seconds(0.1, 86_400), metavar="SECONDS", default=2.0, show_default=True,
              help="How often, with --watch.")  # fmt: skip
@enrichment_option
def status(
    settings: Settings, database: Database, as_json: bool, enrichment: str, as_of: int | datetime | None, watch: bool,
    every: float,
) -> None:  # fmt: skip
    """How many postings are in which state, and what was spent."""
    if not watch and "every" in _typed():
        raise click.UsageError("--every goes with --watch: without, it is shown once.")
    if as_of is not None:
        from enrichlog import as_of_commands
        from enrichlog.exceptions import UsageError

        if watch:
            raise UsageError(reason="--watch shows what changes, and what --as-of looks back to does not.")
        as_of_commands.status(database, enrichment, as_of, as_json=as_json)
        return
    from enrichlog import status_screen, status_watch, terminal

    if watch:
        status_watch.watch(settings, database, enrichment, every=every, as_json=as_json)
    elif as_json:
        terminal.print_json(status_screen.document(settings, database, enrichment))
    else:
        status_screen.show(settings, database, enrichment)


@command("worker", "enrichlog worker --concurrency 50")
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Calls at the same time.  [default: 8]")
@click.option("--max-attempts", type=click.IntRange(1, 100), help="Counted attempts of a posting.  [default: 5]")
@click.option("--poll", type=Seconds(0.1, 3600), metavar="SECONDS", default=5.0, show_default=True,
              help="How often to look when nothing is due.")  # fmt: skip
@click.option("--name", help="Name of this worker.  [default: the first free of HOST-worker-1, -2, …]")
@click.option("--grace", type=Seconds(0, 86_400), metavar="SECONDS", default=10.0, show_default=True,
              help="How long open calls may take to end after SIGTERM.")  # fmt: skip
@click.option("--check", is_flag=True, help="Only say whether that worker, or one of this machine, is ready.")
@enrichment_option
@limit_options
@called_options
def worker(
    settings: Settings, database: Database, as_json: bool, max_attempts: int | None, poll: float, name: str | None,
    grace: float, check: bool, enrichment: str,
) -> None:  # fmt: skip
    """Enrich for ever: what is new or changed as it appears, and failures as their waits are over.

    SIGTERM lets open calls end within the grace, and ends with 0; a second one closes them at once. As many workers as
    you like may run, on as many machines. With --check: 0 when it is ready, else 1.
    """
    from enrichlog import daemon, health
    from enrichlog.settings import configure

    if check:
        sys.exit(health.check(settings, database, name, as_json=as_json))
    settings = configure(max_attempts=max_attempts)
    sys.exit(
        daemon.work(
            settings, database, enrichment=enrichment, name=name, poll_seconds=poll, grace_seconds=grace,
            as_json=as_json,
        )
    )  # fmt: skip


@command("list", "enrichlog breaker list", group=breaker)
def breaker_list(settings: Settings, database: Database, as_json: bool) -> None:
    """Every breaker: whether calls go out, and if not, why, since when and until when."""
    from enrichlog import breaker_screen, breakers, terminal

    found, now = breakers.list_breakers(database)
    terminal.print_json([one.document(now) for one in found]) if as_json else breaker_screen.show(found, now, settings)


@command("open", 'enrichlog breaker open --reason "the provider is being moved" --for 2h', group=breaker)
@click.argument("name", metavar="[BREAKER]", required=False)
@click.option("--reason", required=True, help="Why; it is recorded, with your name.")
@click.option("--for", "span", type=Span(), help="How long: 30m, 2h, 7d.  [default: until it is closed]")
@enrichment_option
@called_options
def breaker_open(settings: Settings, database: Database, **options: Any) -> None:
    """Have nobody begin anything: by default where this folder's settings would call, else the one named."""
    _set_breaker(settings, database, "open", **options)


@command("close", 'enrichlog breaker close --reason "credit was added"', group=breaker)
@click.argument("name", metavar="[BREAKER]", required=False)
@click.option("--reason", required=True, help="Why; it is recorded, with your name.")
@enrichment_option
@called_options
def breaker_close(settings: Settings, database: Database, **options: Any) -> None:
    """Let calls go out again at once, without a probe, and without the wait that the provider asked for."""
    _set_breaker(settings, database, "closed", **options)


def _refuse_both(what: str, name: str | None) -> None:
    """Refuse a name beside options that say whom calls go to."""
    if name and (meant := next((flag for flag in _typed().values() if flag in CALLED), None)):
        raise click.UsageError(f"Give {what} or {meant}, not both: it stands for a server, a model and a key.")


def _set_breaker(
    settings: Settings, database: Database, state: Literal["open", "closed"], name: str | None, reason: str,
    enrichment: str, as_json: bool, span: int | None = None,
) -> None:  # fmt: skip
    from enrichlog import breaker_screen, breakers, terminal
    from enrichlog.enrichment import enrichment_of

    _refuse_both("BREAKER", name)
    ours = enrichment_of(settings, enrichment).called
    done = breakers.set_by_hand(database, state, name, ours, reason, span)
    now = database.now()
    if as_json:
        terminal.print_json({**done.named.document(now), "changed": done.changed})
    else:
        breaker_screen.was_set(done, now, settings)


@command("set", "enrichlog limits set --requests-per-minute 600 --dollars-per-day 20", group=limits)
@click.option("--requests-per-minute", "requests", type=LIMIT, metavar="N", help="Calls that begin.")
@click.option("--tokens-per-minute", "tokens", type=LIMIT, metavar="N", help="Tokens, in and out.")
@click.option("--dollars-per-day", "dollars", type=Dollars(), metavar="USD", help="Money.")
@enrichment_option
@called_options
def limits_set(
    settings: Settings, database: Database, as_json: bool, requests: int | None, tokens: int | None,
    dollars: float | None, enrichment: str,
) -> None:  # fmt: skip
    """Limit all workers together: rates where this folder's settings would call, money over all calls per UTC day."""
    from enrichlog import limits, limits_screen
    from enrichlog.enrichment import enrichment_of
    from enrichlog.runs import require_key

    if requests is not None or tokens is not None:
        require_key(settings)  # a rate is that of a key
    most = limits.microdollars(dollars)
    limits.set_limits(database, enrichment_of(settings, enrichment), requests, tokens, most)
    limits_screen.listed(database, settings, as_json=as_json)


@command("list", "enrichlog limits list --json", group=limits)
def limits_list(settings: Settings, database: Database, as_json: bool) -> None:
    """Which limits there are, what is in force now, and how much of today's money is used."""
    from enrichlog import limits_screen

    limits_screen.listed(database, settings, as_json=as_json)


@command("clear", "enrichlog limits clear --dollars-per-day", group=limits)
@click.argument("name", metavar="[ID]", required=False)
@click.option("--requests-per-minute", "requests", is_flag=True, help="Only this one; also ends its brake.")
@click.option("--tokens-per-minute", "tokens", is_flag=True, help="Only this one.")
@click.option("--dollars-per-day", "microdollars", is_flag=True, help="Only this one.")
@enrichment_option
@called_options
def limits_clear(
    settings: Settings, database: Database, as_json: bool, name: str | None, enrichment: str, **chosen: bool
) -> None:
    """Take limits away again: those named, else all, where this folder's settings would call, or of that ID.

    Exit with 1 when one that was named was not there.
    """
    from enrichlog import limits, limits_screen
    from enrichlog.enrichment import enrichment_of
    from enrichlog.runs import require_key

    named = [unit for unit in limits.SETTINGS if chosen[unit]]
    if name and chosen["microdollars"]:
        raise click.UsageError("Give ID or --dollars-per-day, not both: money is limited for all calls.")
    _refuse_both("ID", name)
    units = named or [unit for unit in limits.SETTINGS if not name or unit != "microdollars"]
    if not name and units != ["microdollars"]:
        require_key(settings)  # a rate is that of a key
    place = limits.place_of(database, name) if name else enrichment_of(settings, enrichment).called
    cleared = limits.clear_limits(database, place, units)
    missing = [unit for unit in named if unit not in cleared]
    limits_screen.cleared(database, place, cleared, missing, as_json=as_json)
    sys.exit(EXIT_STOPPED if missing else 0)


@command("stats", "enrichlog stats --by day,model --since 7d")
@click.option(
    "--by",
    "words",
    multiple=True,
    metavar="WHAT",
    help="hour, day, model, prompt-version, error-type; repeat it or use commas.  [default: day]",
)
@click.option("--since", type=Moment(), help="Only what ended since: a date, or 30m, 2h, 7d; whole hours count.")
@click.option("--until", type=Moment(), help="Only what ended before; whole hours count.")
@enrichment_option
def stats(
    settings: Settings, database: Database, as_json: bool, words: tuple[str, ...], since: datetime | None,
    until: datetime | None, enrichment: str,
) -> None:  # fmt: skip
    """Success, error types, attempts until success, tokens, cost, latency, and what failures cost: the retry tax."""
    from enrichlog import stats, stats_screen, terminal

    by, behind = stats.groupings(words), stats.behind(database)
    with terminal.counting("Catching up", behind, quiet=as_json or not behind) as progress:
        found = stats.stats(database, enrichment, by, since, until, progress)
    terminal.print_json(found.document()) if as_json else stats_screen.show(found)


@command("rebuild", "enrichlog rebuild llm_enrichment --dry-run")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Show what would change; exit with 3 when anything would.")
@click.option("--overwrite-edits", is_flag=True, help="Also columns of llm_enrichment that somebody has corrected.")
@click.option("--jobs", type=JOBS, default=1, show_default=True, help="Processes that share the work.")
@click.option("--anew", is_flag=True, help="Begin with the first posting, not where an earlier rebuild was stopped.")
def rebuild(settings: Settings, database: Database, **options: Any) -> None:
    """Make the read models equal to the log again; what is right already is left alone.

    Readers see every row all the time, workers go on. A row that no event explains is removed from our tables and only
    reported in llm_enrichment. A rebuild of postings' tables that was stopped goes on where it was.
    """
    from enrichlog.reconciling import rebuild as run

    sys.exit(run(database, **options))


@command("list", "enrichlog projections list --json", group=projections)
def projections_list(settings: Settings, database: Database, as_json: bool) -> None:
    """Every projection: which fold made its rows, how many, how far it is, and what the last check found."""
    from enrichlog import read_models, read_models_screen, terminal

    head, found = read_models.list_read_models(database)
    if as_json:
        terminal.print_json({"position": head, "projections": [one.document() for one in found]})
    else:
        read_models_screen.show(found, head, database.now(), settings)


@command("failed", "enrichlog projections failed --limit 5", group=projections)
@click.option("--limit", type=COUNT, default=10, show_default=True, help="Name at most so many postings per reason.")
def projections_failed(settings: Settings, database: Database, as_json: bool, limit: int) -> None:
    """The postings that llm_enrichment did not take, each with the database's own reason; all is kept in the log."""
    from enrichlog import refusals, refusals_screen, terminal
    from projections.shown import place_of

    found, trouble = refusals.list_refusals(database, limit), refusals.find_table_trouble(database)
    if as_json:
        terminal.print_json(refusals.document(found, trouble))
    else:
        refusals_screen.show(found, trouble, place_of(database.adopted))


@command("verify", "enrichlog verify --anchor 1204:9f86d0…")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--anchor", "anchors", multiple=True, metavar="POSITION:HASH", help="An anchor kept elsewhere.")
@click.option("--jobs", type=JOBS, default=1, show_default=True, help="Processes that share the work.")
def verify(settings: Settings, database: Database, **options: Any) -> None:
    """Prove that the log is what was appended, and that the read models are what it adds up to.

    Exit with 3 when anything differs.
    """
    from enrichlog.reconciling import verify as run

    sys.exit(run(database, **options))


@command("reclassify", "enrichlog reclassify --dry-run")
@click.option("--dry-run", is_flag=True, help="Show what would change; exit with 3 when anything would.")
@enrichment_option
def reclassify(settings: Settings, database: Database, as_json: bool, dry_run: bool, enrichment: str) -> None:
    """Read the failures that postings ended with by today's rules, error_codes included; nobody is called."""
    from enrichlog import plan_screens, terminal
    from enrichlog.reclassify import EXAMPLES, count_failed
    from enrichlog.reclassify import reclassify as run

    total, examples = count_failed(database, enrichment), None if as_json else EXAMPLES
    with terminal.counting("Reading failures", total, quiet=as_json) as progress:
        found = run(database, settings, enrichment, dry_run=dry_run, examples=examples, progress=progress)
    terminal.print_json(found.document()) if as_json else plan_screens.reclassified(found)
    sys.exit(EXIT_FOUND if dry_run and found.count else 0)


@command("export", "enrichlog export results --format csv --output results.csv")
@click.argument("what", type=click.Choice(["results", "events"]))
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of standard output.")
@as_of_option
@enrichment_option
def export(settings: Settings, database: Database, **options: Any) -> None:
    """Write results or the whole log, as JSON lines or CSV."""
    from enrichlog.commands import export as run

    run(settings, database, **options)


@command("config", "enrichlog config", needs_database=False)
def config(settings: Settings, as_json: bool) -> None:
    """The settings, and where each came from; secrets are masked."""
    from enrichlog import screens, terminal

    rows = settings.listed()
    terminal.print_json(rows) if as_json else screens.config(rows)


@cli.command("simulator", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulator(arguments: tuple[str, ...]) -> None:
    """Start the simulated API by hand: answers without a model, faults on request."""
    from enrichlog.simulator import main as start

    sys.exit(start(list(arguments)))


@cli.command("demo", epilog="Example:  enrichlog demo --keep ./demo")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the files in this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def demo(keep: Path | None, as_json: bool) -> None:
    """The whole loop on sample postings, with the simulator: no key, no database, a quarter of a minute."""
    from enrichlog.demo import play

    sys.exit(play(keep, as_json=as_json))


def _confirm(question: str) -> bool | None:
    """The answer given at a terminal; None elsewhere, where nobody could be asked."""
    return click.confirm(question, err=True) if sys.stdin.isatty() else None


def _question(what: str, proposed: str) -> str:
    """The answer given at a terminal, where Enter takes what is proposed."""
    answer: str = click.prompt(what, default=proposed, show_default=bool(proposed), err=True)
    return answer


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 stopped, 2 usage, 3 a check found something, 130/143 on signals."""
    started = time.monotonic()
    _require_output()
    try:
        sys.exit(_run(arguments))
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        asked = context.command_path if context else "enrichlog"
        message = " ".join(error.format_message().split())  # the choices of an argument are told on several lines
        stop = "" if message.endswith((".", "?")) else "."
        dash = _dash(error, sys.argv[1:] if arguments is None else arguments)
        click.echo(f"Error: {message}{stop}{dash} See: {asked} --help", err=True)
        sys.exit(EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        from enrichlog import terminal

        terminal.show_cursor()
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has left
        _leave_output()
        sys.exit(EXIT_STOPPED)
    except Exception as error:
        sys.exit(_tell(error, time.monotonic() - started))


def _run(arguments: list[str] | None) -> int:
    """Run the command and return its exit code, once all that it said is written."""
    try:
        result = cli.main(args=arguments, prog_name="enrichlog", standalone_mode=False)
    except SystemExit as ended:
        result = ended.code
    sys.stdout.flush()
    return result if isinstance(result, int) else 0


def _require_output() -> None:
    """End where there is no standard output; else have it take any character.

    A pipe on Windows, or an odd locale, would refuse most of those that titles hold.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process
    if sys.stdout is None:
        click.echo("Error: Standard output is closed. Send it to a file, or to nowhere with > /dev/null", err=True)
        sys.exit(EXIT_STOPPED)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def _dash(error: click.ClickException, words: Sequence[str]) -> str:
    """What to do about an id that was taken for an option, and about options that were taken for ids."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None or not any(isinstance(one.type, JobId) for one in context.command.params):
        return ""
    if isinstance(error, click.NoSuchOption):
        return " An id that begins with a dash stands after --, as in: -- -7."
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option) and "--" in words:
        return f" Options stand before --, as in: {error.param.opts[0]} TEXT -- -7."
    return ""


def _leave_output() -> None:
    """Give up what could not be written: it would be tried again, and told again, at the exit."""
    with suppress(OSError):
        sys.stdout.close()


def _tell(error: Exception, seconds: float) -> int:
    """Say what went wrong in one line, and with which exit code."""
    from enrichlog.exceptions import Declined
    from enrichlog.terminal import advise, note
    from eventlog.errors import EnrichlogError
    from eventlog.redaction import redact

    said = error.told(advise) if isinstance(error, EnrichlogError) else str(error)
    text = " ".join(redact(said).splitlines())
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE and error.filename is None:
        _leave_output()
        note(f"Error: The output cannot be written: {error.strerror}. Send it to a place that has room.")
        return EXIT_STOPPED
    if isinstance(error, EnrichlogError):
        note(text if isinstance(error, Declined) else f"Error: {text}")
        return EXIT_USAGE if error.kind == "usage" else EXIT_STOPPED
    logging.getLogger("enrichlog").debug("a defect, after %.1f s", seconds, exc_info=error)
    what = f"{type(error).__name__}: {text}"
    note(f"Error: this is a defect of enrichlog: {what}. See more with --log-level debug")
    return EXIT_STOPPED


if __name__ == "__main__":
    main()

"""What the service says when it cannot go on: the docstring is the message, the raise adds the facts."""

from __future__ import annotations

from eventlog.errors import EnrichlogError


class UsageError(EnrichlogError):
    """{reason}"""

    kind = "usage"


class InvalidSetting(UsageError):
    """The setting {name} from {source} is not usable: {reason}. Mend it there, or take it out"""


class UnreadableRow(EnrichlogError):
    """A row of llm_enrichment behind that of {after} holds what is no value of its column: {reason}. See which with: enrichlog verify llm_enrichment. To write it anew: enrichlog rebuild llm_enrichment --overwrite-edits"""


class UnknownJob(UsageError):
    """There is no posting with the id {job_id}. Postings come in with: enrichlog import FILE"""


class UnknownJobOfTheirs(UnknownJob):
    """The query under [source] in enrichlog.toml brings no posting with the id {job_id}. See in SQL whether it is there, and what the query leaves out."""


class PostingsOfOthers(UsageError):
    """Postings come from the query under [source] in enrichlog.toml: their table is written by your own programs, never by enrichlog. Write them there, then: enrichlog sync"""


class UnusableSource(UsageError):
    """The query under [source] in enrichlog.toml cannot be used. {faults}"""


class UnknownErrorType(UsageError):
    """There is no error type {name}. Known are: {known}."""


class UnknownBreaker(UsageError):
    """There is no breaker {name}. Known are: {known}. See them with: enrichlog breaker list"""


class UnknownLimit(UsageError):
    """There is no limit {name}. Known are: {known}. See them with: enrichlog limits list"""


class UnknownBatch(UsageError):
    """There is no batch {batch}. See which there are with: enrichlog batch list"""


class AmbiguousBatch(UsageError):
    """Several batches begin with {batch}. Give more of its id; see them with: enrichlog batch list"""


class NothingWaits(EnrichlogError):
    """Nothing of batch {batch} waits any more. See what became of it with: enrichlog batch show {batch}"""


class UnknownProjection(UsageError):
    """There is no projection {name}. Known are: {known}."""


class UnknownEnrichment(UsageError):
    """There is no enrichment {name}. Known are: {known}; add one under [enrichments.{name}] in enrichlog.toml."""


class UnreadableFile(UsageError):
    """{path} cannot be read: {reason}. Name a CSV, JSON or JSON lines file with postings in it."""


class UnreadableMessages(UsageError):
    """{path} cannot be read: {reason}. Name a file of messages, one per line, or - for standard input."""


class NoMessage(UsageError):
    """Line {number} of {path} cannot be taken: {reason}. Write one message per line, in UTF-8, or JSON lines with message."""


class UnwritableFile(UsageError):
    """{path} cannot be written: {reason}. Name another file with --output."""


class MalformedFile(UsageError):
    """{path} is not valid {format}: {reason}. Nothing was imported; mend the file and import it again."""


class MissingColumns(UsageError):
    """{path} has no column for {missing}. It has: {found}. Say which is which, for example: --map {example}"""


class NoPostings(UsageError):
    """No posting of {path} can be taken; {unit} {number}: {reason}. Nothing was imported; mend the file and import it again."""


class MissingApiKey(UsageError):
    """There is no API key. Set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that needs none. To try it without either: enrichlog demo"""


class InvalidPrompt(UsageError):
    """The prompt {path} is not usable: {reason}. Mend it, or name another file in the setting prompt."""


class InvalidResultModel(UsageError):
    """The result model {reference} is not usable: {reason}. Name a pydantic model as package.module:Class."""


class InvalidWorkerName(UsageError):
    """{name} cannot be the name of a worker: {reason}. Name another with --name, or leave it out."""


class UnusableStateFolder(UsageError):
    """{path} cannot be used to keep the names of workers: {reason}. Name a folder in the setting state_folder."""


class NameHeld(EnrichlogError):
    """There is a worker {name} on this machine already: process {pid}, since {since}. End it first, name another with --name, or leave that out: then the next free name is taken."""


class NameElsewhere(EnrichlogError):
    """A worker {name} is alive on {host}, last seen {last_seen}. End it first, name another with --name, or leave that out; once it is gone its name is free after {seconds} s."""


class UnknownPrice(UsageError):
    """The price of {model} at {server} is not known, so the limit of money of this run cannot be kept. Leave --max-cost out, or say whose prices apply, for example: ENRICHLOG_PRICES_OF=openai"""


class UnknownPriceInProcess(UnknownPrice):
    """The price of {model} at {server} is not known, so this process's own limit of money cannot be kept. Leave dollars_per_day out, or say whose prices apply, for example: ENRICHLOG_PRICES_OF=openai"""


class UnknownPriceInAll(UnknownPrice):
    """The price of {model} at {server} is not known, so the limit of money for all calls cannot be kept. Say whose prices apply, for example ENRICHLOG_PRICES_OF=openai, or take the limit away: enrichlog limits clear --dollars-per-day"""


class UnknownPriceInNew(UnknownPrice):
    """The price of {model} at {server} is not known, so a limit of money could not be kept. Set none, or say whose prices apply, for example: ENRICHLOG_PRICES_OF=openai"""


class Declined(EnrichlogError):
    """Nothing was done."""


class NotConfirmed(UsageError):
    """{plan} Nothing was done: confirm with --yes."""


class NothingRequested(EnrichlogError):
    """Nothing was requested: the breaker of {model} at {endpoint} lets no call out {until}. See why with: enrichlog breaker list"""


class DemoEnded(EnrichlogError):
    """The demo has ended early: none of its first postings could be enriched. Why stands above; nothing was asked but the simulator."""


class NotRecorded(EnrichlogError):
    """An attempt could not be ended as it should: {reason}. Its lease runs out by itself; please report this."""


class EmptyLog(EnrichlogError):
    """The log is empty: there is nothing to look back on. Postings come in with: enrichlog import FILE, or from your tables: enrichlog sync"""


class NoPosition(UsageError):
    """There is no position {position}: positions go from 1 to {head}, where the log ends. Name one of them, or a time."""


class BeyondTheHead(UsageError):
    """There is no position {position} yet: the log ends at position {head}. Name one up to there, or a time (a number alone is a position; a date is written 2026-01-31)."""


class YetToCome(UsageError):
    """{time} is yet to come: the database's clock says {now}. Name a time that has passed, or a position."""


class BeforeTheLog(UsageError):
    """Nothing was recorded by {time}: the log begins at {begins}. Name a later time, or a position."""


class WrongOrder(UsageError):
    """--from is position {start}, which is after --to, position {end}. Give the earlier one to --from."""


class NoHistory(UsageError):
    """There is no history to import: the tables of this database are enrichlog's own. That of tables of yours is imported once they are adopted, with: enrichlog adopt"""


class Unadoptable(UsageError):
    """The adopted database cannot be worked with: {faults} See all that is wrong with: enrichlog adopt --dry-run"""


class NothingAdopted(UsageError):
    """Nothing was adopted: {count} above. Mend what is wrong, and run it again."""


class NowhereToAdopt(UsageError):
    """There is no database to adopt: {where} is not there. Name yours with --database URL, or in DATABASE_URL."""


class NothingToAdopt(UsageError):
    """{reason}"""


class IndexNotMade(EnrichlogError):
    """The database is adopted, and the index {name} could not be made: {reason}. Drop what there is of it (DROP INDEX {name};) and run this again, or leave it out with --no-index."""


class TableInUse(EnrichlogError):
    """{table} is in use: it could not be altered within {seconds} s, and others are not kept waiting for longer. Nothing was changed. Run it again when no long transaction holds the table, or run what enrichlog adopt --sql prints yourself."""

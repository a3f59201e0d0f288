"""Every error a caller of the log can meet: the docstring is the message, the raise adds the facts."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain, zip_longest
from typing import Any, ClassVar, Literal

_FACT = re.compile(r"\{(\w+)\}")
Kind = Literal["usage", "stopped", "conflict"]


class EnrichlogError(Exception):
    """Something went wrong: {reason}."""

    kind: ClassVar[Kind] = "stopped"

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(self.told())

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is sent from one process to another."""
        return _remade, (type(self), self.facts)

    def told(self, worded: Callable[[str], str] = lambda words: words) -> str:
        """The message; `worded` may change our own words in it, and not the facts."""
        parts = _FACT.split(type(self).__doc__ or "")
        facts = [str(self.facts[name]) for name in parts[1::2]]
        return "".join(chain.from_iterable(zip_longest(map(worded, parts[::2]), facts, fillvalue="")))


def _remade(kind: type[EnrichlogError], facts: dict[str, Any]) -> EnrichlogError:
    return kind(**facts)


class DatabaseUnavailable(EnrichlogError):
    """The database {where} cannot be reached: {reason}. Check that it runs and that the URL is right."""


class NoSessionFree(DatabaseUnavailable):
    """The pooler in front of the database {where} had no session free in time ({reason}). Run fewer workers or give its pool more sessions; if the server behind it is down, start it."""


class DiskFailed(DatabaseUnavailable):
    """The disk of the database {where} is full or failing: {reason}. Make room there, or mend it, and go on: what was acknowledged is kept."""


class DatabaseBusy(EnrichlogError):
    """The database {where} is busy: {reason}. Another program holds it; try again when that has ended."""


class DatabaseReadOnly(DatabaseUnavailable):
    """The database {where} is read-only. {remedy}."""


class RightMissing(EnrichlogError):
    """The database {where} refuses this user: {reason}. Connect as the role that ran enrichlog init, or have it run: GRANT enrichlog_app TO <user>; where it is a table of your own, have its owner run: GRANT … ON <table> TO <user>"""


class DatabaseRefused(EnrichlogError):
    """The database {where} refused a statement: {reason}."""


class NotADatabase(EnrichlogError):
    """{where} is not a SQLite database. Name another file with --database."""


class UnusableDatabaseUrl(EnrichlogError):
    """The database URL {where} cannot be used: {reason}. Use sqlite:///file.db or postgresql://user@host/name."""

    kind = "usage"


class NotInitialised(EnrichlogError):
    """There is no enrichlog in {where}. Create it with: enrichlog init{flag}"""


class SchemaOutdated(EnrichlogError):
    """The database {where} is at migration {found}, this version needs {needed}. Bring it up to date with: enrichlog init{flag}"""


class TableNotMade(EnrichlogError):
    """The database {where} lacks the table {table}, which this version of enrichlog needs. Have it made by: enrichlog init{flag}"""


class SchemaTooNew(EnrichlogError):
    """The database {where} is at migration {found}, which this version of enrichlog does not know. Upgrade enrichlog."""


class TablesOfOthers(EnrichlogError):
    """{where} already has a table {table} that enrichlog did not make; it is left alone. To use it as it is: enrichlog adopt"""


class AdoptedElsewhere(EnrichlogError):
    """{where} works on tables of your own, and the settings here do not say which. Run this in the folder of the enrichlog.toml that has [source] and [target], copy them from there, or have them proposed anew: enrichlog adopt{flag}"""


class NotAppended(EnrichlogError):
    """An event could not be appended: {reason}. Nothing was written."""

    kind = "usage"


class Conflict(EnrichlogError):
    """The stream {stream_id} has moved on: {reason}."""

    kind = "conflict"


class HeldBack(EnrichlogError):
    """No attempt can begin now: {reason}."""


class LimitReached(HeldBack):
    """No attempt can begin now: {reason}."""


class BatchWasCancelled(EnrichlogError):
    """The batch {batch} was cancelled by {actor}: no more of it is requested. Plan it anew with: enrichlog retry"""


class UnknownEventType(EnrichlogError):
    """The log holds an event that this version cannot read: {type} version {schema_version}{where}. Upgrade enrichlog."""


class ProcessDied(EnrichlogError):
    """A process that shared the work has died, and the others were stopped. What was written is right; run the command again, and it goes on"""


class Unfoldable(EnrichlogError):
    """The log holds an event that cannot be folded: {type} at position {position}: {reason}. If a newer enrichlog wrote it, upgrade; enrichlog verify tells what is wrong with it."""


class LogUnsound(EnrichlogError):
    """The log is not what was appended: at position {position}: {reason}. Nothing is folded from it. See all that is wrong: enrichlog verify"""


class FoldOutdated(EnrichlogError):
    """The rows of {projection} are those of version {found} of its fold, this is version {needed}. They are served as they are and not carried on until: enrichlog rebuild {projection}"""


class FoldTooNew(EnrichlogError):
    """The rows of {projection} are those of version {found} of its fold, this is version {needed}. They are served as they are; to carry them on, upgrade enrichlog."""


class TableTrouble(EnrichlogError):
    """The table {table} is not as it was made."""


class TableMissing(TableTrouble):
    """The table {table} is not there: somebody has dropped it. {remedy}, then fill it with: enrichlog rebuild {projection}"""


class ColumnMissing(TableTrouble):
    """The table {table} lacks {columns}: somebody has dropped or renamed it. {remedy}, then: enrichlog rebuild {projection}"""

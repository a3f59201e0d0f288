"""Whether the users' SQL that runs with each result does run, and leaves alone what a result is shown in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from enrichlog.named_tables import named_tables, rights_of
from eventlog.database import Database
from eventlog.errors import RightMissing
from eventlog.streams import stream_of
from projections.adoption import Target
from projections.target import shown_in

_PARAMETER = re.compile(r"(?<!:):id\b")
_WHOLE = re.compile(r"(small|big)?int")
_UPDATE = (
    r"""\bUPDATE\s+(?:(?:ONLY|OR\s+\w+)\s+)*(?:"?\w+"?\.)?"?{}"?(?!\w)"""
    r""".*?\bSET\b(.*?)(?:\b(?:WHERE|FROM)\b|;|\Z)"""
)
_ASSIGNED = r"""(?<![\w'])"?{}"?\s*(?:=|,[^=()]*\)\s*=|\)\s*=)"""


def check_after_success(database: Database, target: Target) -> Iterator[str]:
    """What is wrong with it: it is tried for a posting that is not there, and taken back."""
    if target.after_success is None:
        return
    if not _PARAMETER.search(target.after_success):
        yield "after_success names no :id, so each result would run it for all postings: add WHERE id = :id."
        return
    is_whole = _WHOLE.match(target.types.get(target.id_column, ""))
    nobody = stream_of(target.enrichment, "-1" if is_whole else "00000000-0000-0000-0000-000000000000")
    run = shown_in(target).after
    refused = None
    with database.write() as connection:
        database.dialect.wait_briefly(connection)
        tried = connection.begin_nested()
        try:
            run(connection, [nobody])  # type: ignore[misc] # there is one: the target says what to run
        except IntegrityError:
            pass  # such as that there is no posting of this id
        except DBAPIError as error:
            refused = error
        finally:
            tried.rollback()
        if refused is not None:
            yield _refusal(database, connection, target.after_success, refused)


def _refusal(database: Database, connection: Connection, sql: str, refused: DBAPIError) -> str:
    """Why it does not run, and what to do."""
    reason = str(refused.orig).strip().split("\n", 1)[0]
    if not isinstance(database.dialect.translate(refused), RightMissing):
        return f"after_success does not run: {reason}. Mend it in [target], or with --after-success."
    inspection = database.dialect.inspection
    role, tables = inspection.role(connection), inspection.tables(connection)
    named = [(table, rights_of(sql, table)) for table in named_tables(inspection, connection, sql, tables)]
    missing = [one for table, rights in named for one in inspection.missing_grants(connection, table, rights)]
    for table, rights in named:
        if inspection.hidden(connection, table) == "all":
            writes = set(rights) != {"SELECT"}
            missing += inspection.missing_policies(connection, table, role, writes=writes)
    remedy = f"Have their owner run: {' '.join(missing)}" if missing else "Have whoever owns what it names grant it."
    return f"The role {role} lacks a right that after_success takes ({reason}). {remedy}"


def columns_written_after(target: Target) -> list[str]:
    """The mapped columns that it sets as well, as far as its text tells."""
    update = re.compile(_UPDATE.format(re.escape(target.table)), re.IGNORECASE | re.DOTALL)
    written = " ".join(update.findall(target.after_success or ""))
    names = [one.column for one in target.columns]
    return [name for name in names if re.search(_ASSIGNED.format(re.escape(name)), written, re.IGNORECASE)]

"""The migrations as files: which there are, and the SQL of each for one database."""

from __future__ import annotations

import re
from pathlib import Path

from eventlog.database import Database
from eventlog.dialects import Dialect, quoted

VERSION_TABLE = "alembic_version"


def scripts() -> Path:
    """The folder of the migrations: beside this module when installed, else that of the checkout."""
    installed = Path(__file__).parent / "migrations"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "alembic"


def revisions() -> list[str]:
    """The revisions that there are, in their order."""
    return sorted(path.name[:4] for path in scripts().glob("versions/[0-9]*.py"))


def newest() -> str:
    """The revision that this version of the code needs."""
    return revisions()[-1]


def script(database: Database, revision: str) -> str:
    """The SQL of a revision: what is ours, then what is among the users' tables or, when adopted, stands for it."""
    dialect = database.dialect
    places = "adopted" if database.adopted is not None else "users"
    text = "\n".join(_text(dialect, revision, part) for part in ("", f"_{places}"))
    if dialect.schema:
        text = text.replace("{schema}", quoted(dialect.schema))
    return text.replace("{ours}", f"{quoted(dialect.schema)}." if dialect.schema else "")


def version_table(dialect: Dialect) -> str:
    """The statement that makes the table of the revision reached, where it is not there."""
    return (
        f"CREATE TABLE IF NOT EXISTS {dialect.qualified(VERSION_TABLE)} (\n    version_num VARCHAR(32) NOT NULL,\n"
        f"    CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num)\n)"
    )


def tables_made(dialect: Dialect) -> list[str]:
    """The names of the tables of ours that the migrations make, that of the revision reached first."""
    texts = (_text(dialect, revision) for revision in revisions())
    made = (name for text in texts for name in re.findall(r"^CREATE TABLE (?:\{ours\})?(\w+)", text, re.MULTILINE))
    return [VERSION_TABLE, *made]


def _text(dialect: Dialect, revision: str, part: str = "") -> str:
    path = scripts() / "versions" / f"{revision}_{dialect.name}{part}.sql"
    return path.read_text(encoding="utf-8") if path.exists() else ""

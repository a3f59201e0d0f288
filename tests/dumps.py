"""The whole schema of a database as text, rights and policies included, by what the database itself says."""

import shutil
import subprocess

from eventlog.database import Database
from tests.builders import run
from tests.postgres import GivenServer, Server, find_binaries


def program(server: GivenServer, name: str) -> str:
    """One of PostgreSQL's own programs, of those beside the server's."""
    folder = server.binaries if isinstance(server, Server) else find_binaries()
    found = shutil.which(name, path=folder) or shutil.which(name)
    assert found, f"there is no {name} in {folder}"
    return found


def dump(database: Database, server: GivenServer) -> list[str]:
    """The whole schema as text, statement by statement, in one order."""
    if database.dialect.name == "sqlite":
        found = run(database, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        return sorted(" ".join(row["sql"].split()) for row in found)
    command = [program(server, "pg_dump"), "--schema-only", "--no-owner", "--dbname", database.url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line for line in text.splitlines() if not line.startswith(("--", "\\"))]  # \restrict: new in every dump
    return sorted(" ".join(part.split()) for part in "\n".join(lines).split(";\n"))

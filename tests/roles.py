"""Roles for tests: they are of the whole server, which other tests may be using."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import psycopg

from tests.postgres import GivenServer


@contextmanager
def made_roles(server: GivenServer, *names: str, options: str = "") -> Iterator[None]:
    """Roles, those of them that are not there; dropped afterwards unless something still depends on them."""
    with psycopg.connect(server.url, autocommit=True) as owner:
        made = [name for name in names if _is_made(owner, name, options)]
    yield
    with psycopg.connect(server.url, autocommit=True) as owner:
        for name in made:
            with suppress(psycopg.errors.DependentObjectsStillExist):
                owner.execute(f'DROP ROLE "{name}"'.encode())


def _is_made(owner: psycopg.Connection, name: str, options: str) -> bool:
    try:
        owner.execute(f'CREATE ROLE "{name}" {options}'.encode())
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return False
    return True


def forget_role(url: str, name: str) -> None:
    """Take from a role all that it has in a database, and hand over what it made."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f'REASSIGN OWNED BY "{name}" TO CURRENT_USER; DROP OWNED BY "{name}"'.encode())


def url_for(url: str, name: str) -> str:
    """The way to the same database for a role whose password is its name."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{name}:{name}@{place}").geturl()

"""Which columns of a table a query of the users' reads, as far as its text tells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from enrichlog.posting import Posting

_NO_SQL = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_SOURCES = re.compile(r"\b(?:FROM|JOIN)\b", re.IGNORECASE)
_NO_ALIAS = {
    "where", "on", "using", "join", "left", "right", "inner", "outer", "full", "cross", "natural", "lateral", "order",
    "group", "having", "limit", "offset", "union", "except", "intersect", "window", "fetch", "for", "tablesample",
}  # fmt: skip


class Reads(NamedTuple):
    """The columns that are read of a table, and those that are read of it or of another."""

    surely: frozenset[str] = frozenset()
    perhaps: frozenset[str] = frozenset()


def reads(query: str, table: str, columns: Iterable[str]) -> Reads:
    """What a query reads of a table."""
    sql = without_texts(query)
    named = re.compile(
        rf'(?:\bFROM\b|\bJOIN\b|,)\s*(?:(?:"[^"]+"|\w+)\s*\.\s*)?(?:"{re.escape(table)}"|{re.escape(table)}\b)'
        r'(?:\s+(?:AS\s+)?("[^"]+"|\w+))?',
        re.IGNORECASE,
    )
    aliases = [found[1] for found in named.finditer(sql)]
    if not aliases:
        return Reads()
    spelt = {table if one is None or one.casefold() in _NO_ALIAS else one.strip('"') for one in aliases}
    is_alone = len(_SOURCES.findall(sql)) <= len(aliases)
    names = list(columns)
    qualified = {name for name in names if any(_is_named(sql, f"{_spelt(one)}\\s*\\.\\s*", name) for one in spelt)}
    whole = is_alone and re.search(r"\bSELECT\s+(?:DISTINCT\s+)?\*", sql, re.IGNORECASE)
    if whole or any(re.search(rf"{_spelt(one)}\s*\.\s*\*", sql, re.IGNORECASE) for one in spelt):
        qualified |= {name for name in names if name.casefold() in Posting._fields}
    bare = {name for name in names if _is_named(sql, r'(?<![\w."])(?<!\bAS )', name)} - qualified
    return Reads(frozenset(qualified | bare), frozenset()) if is_alone else Reads(frozenset(qualified), frozenset(bare))


def without_texts(sql: str) -> str:
    """SQL without comments and what stands in texts."""
    return _NO_SQL.sub("''", sql)


def _spelt(name: str) -> str:
    return rf'(?<![\w"])"?{re.escape(name)}"?'


def _is_named(sql: str, before: str, name: str) -> bool:
    return re.search(rf'{before}"?{re.escape(name)}"?(?![\w"]|\s*[.(])', sql, re.IGNORECASE) is not None

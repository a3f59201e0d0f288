"""The statement that makes a table of results where there is none, for somebody to read, change and run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from enrichlog.adopt_names import COMPLETIONS, ERRORS, ID_COLUMNS, MODEL_VERSIONS, RESULTS, plain
from enrichlog.adopt_source import Quote, key_of
from enrichlog.look import place_of
from enrichlog.mapping_checks import type_for
from enrichlog.result_fields import Field, Path
from eventlog.inspection import Found, Inspection

_OURS = {ERRORS[0]: "text", COMPLETIONS[0]: "timestamptz", MODEL_VERSIONS[0]: "text"}


def creation(
    name: str | None, postings: Found, fields: Mapping[Path, Field], inspection: Inspection, quote: Quote
) -> str:
    """The SQL, on one line, of a table with a column for each field; without a name it has a usual one."""
    place = ".".join(map(quote, (name or RESULTS[0]).split(".")))
    columns = ", ".join((_key(postings, fields, quote), *_columns(fields, inspection, quote)))
    return f"CREATE TABLE {place} ({columns});"


def _key(postings: Found, fields: Mapping[Path, Field], quote: Quote) -> str:
    """The column of the id: of the type that it has among the postings, and referring to them where it can."""
    key, taken = key_of(postings), {plain(path[0]) for path in fields}
    name = next((one for one in ID_COLUMNS if plain(one) not in taken), ID_COLUMNS[0])
    spelt = postings.columns[key].type if key in postings.columns else "text"
    refers = f" REFERENCES {place_of(postings, quote)} ({quote(key)}) ON DELETE CASCADE"
    told = f"{quote(name)} {spelt}".rstrip()
    return f"{told} PRIMARY KEY{refers if postings.is_table and key in postings.unique else ''}"


def _columns(fields: Mapping[Path, Field], inspection: Inspection, quote: Quote) -> Iterator[str]:
    for path, field in fields.items():
        if len(path) == 1 and path[0] not in _OURS:
            yield f"{quote(path[0])} {type_for(field, inspection)}".rstrip()
    yield from (f"{name} {spelt}" for name, spelt in _OURS.items())

"""The table of results that is proposed, and which field of the result goes to which of its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from enrichlog.adopt_names import COMPLETIONS, ERRORS, ID_COLUMNS, MODEL_VERSIONS, RESULTS, first_of, plain
from enrichlog.adopted import KINDS
from enrichlog.mapping_checks import fits
from enrichlog.result_fields import Field, Path
from eventlog.inspection import Found, Inspection
from projections.adoption import Kind, Mapped

_LEAST_FIELDS = 2  # that a table of another name must have a column for


def target_of(tables: Sequence[Found], fields: Mapping[Path, Field]) -> Found | None:
    """The table that has the results: one with a usual name, else that with columns for the most fields."""
    named = {table.name: table for table in tables if table.is_table}
    if name := first_of(RESULTS, named):
        return named[name]
    counts = {name: len(dict(_of_fields(table, fields))) for name, table in named.items() if table.references}
    best = max(counts, key=lambda name: counts[name], default=None)
    return named[best] if best is not None and counts[best] >= _LEAST_FIELDS else None


def id_column_of(target: Found, postings: Found | None) -> str | None:
    """The column that has the posting's id: that which refers to the postings, else one with a usual name."""
    refers = [one.column for one in target.references if postings and one.table == postings.name]
    unique = [name for name in refers if name in target.unique]
    if unique or refers:
        return (unique or refers)[0]
    return first_of(ID_COLUMNS, target.unique) or first_of(ID_COLUMNS, target.columns)


def columns_of(target: Found, id_column: str, fields: Mapping[Path, Field], inspection: Inspection) -> dict[str, Any]:
    """What goes to which column that takes it; the column of errors is there also where it has to be made."""

    def takes(name: str, kind: Kind, path: Path = ()) -> bool:
        return fits(Mapped(name, kind, path), fields, target.columns[name], inspection)

    left = {name for name, column in target.columns.items() if name != id_column and not column.is_generated}
    known = {"@error": ERRORS, "@completed_at": COMPLETIONS, "@model_version": MODEL_VERSIONS}
    found = {told: name for told, names in known.items() if (name := names[0]) in left}
    of_fields = {
        name: path
        for name, path in _of_fields(target, fields)
        if name in left - set(found.values()) and takes(name, "result", path)
    }
    for told, names in known.items():
        free = {name for name in left - set(found.values()) - set(of_fields) if takes(name, KINDS[told])}
        if told not in found and (other := first_of(names, free)) is not None:
            found[told] = other
    mapped = {name: ".".join(path) for name, path in of_fields.items()} | {name: told for told, name in found.items()}
    ordered = {name: mapped[name] for name in target.columns if name in mapped}
    return ordered if "@error" in found else {**ordered, ERRORS[0]: "@error"}


def _of_fields(target: Found, fields: Mapping[Path, Field]) -> Iterator[tuple[str, Path]]:
    """The columns that are called like a field, or like the path of one within an object that has no column."""
    spelt = {plain(name): name for name in target.columns}
    taken: set[Path] = set()
    for path in fields:
        if any(path[:length] in taken for length in range(1, len(path))):
            continue
        if (name := spelt.get(plain("".join(path)))) is not None:
            taken.add(path)
            yield name, path

"""Whether a mapping fits the result model and the table: the columns are there and hold what is written to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from enrichlog.findings import Findings, listed
from enrichlog.result_fields import Field, Path, kind_of
from eventlog.inspection import Column, Found, Inspection
from projections.adoption import Mapped, Target
from projections.enriched import ERROR_CHARACTERS

_KNOWN = {"error": "string", "completed_at": "moment", "model_version": "string"}
_USUAL = {
    "error": ("failures", ""),
    "completed_at": (
        "when a posting was enriched, or failed,",
        " A row that was never tried passes for a result then, where a column has a default such as {}, and verify "
        "tells of it as extra. Map a column of times to it: --map COLUMN=@completed_at.",
    ),
}
_ARTICLES = {"any": "any value", "moment": "a time with its zone, such as timestamptz", "object": "an object"}
_HOLDERS = {
    "string": "text", "integer": "integer", "number": "double precision", "boolean": "boolean", "object": "jsonb",
    "any": "jsonb", "moment": "timestamptz", "array": "jsonb",
}  # fmt: skip


def check_mapping(
    target: Target, fields: Mapping[Path, Field], found: Found, inspection: Inspection, adds: str | None = None
) -> Findings:
    """What is wrong with it; `adds` is a column that is about to be made."""
    findings = Findings()
    for mapped in target.columns:
        column = found.columns.get(mapped.column)
        if column is None and mapped.column != adds:
            findings.faults.append(_missing(mapped, found))
        if mapped.column == target.id_column:
            findings.faults.append(f"{mapped.column} is the id of the row and cannot be mapped: take it out.")
        field = _field(mapped, fields)
        if mapped.kind == "result" and field is None:
            findings.faults.append(_no_such_field(mapped, fields))
        if column is not None:
            findings.faults += _misfits(mapped, field, column, inspection)
    findings.warnings += _not_shown(target, fields, found, inspection)
    findings.warnings += _too_long(target, fields, found, inspection)
    return findings


def fits(mapped: Mapped, fields: Mapping[Path, Field], column: Column, inspection: Inspection) -> bool:
    """Whether a column takes whatever is mapped to it."""
    return not any(_misfits(mapped, _field(mapped, fields), column, inspection))


def type_for(field: Field, inspection: Inspection) -> str:
    """The type of a column, as SQL, that holds all values of a field; empty for a column of no type."""
    usual = [_HOLDERS["array" if "array" in kind else kind] for kind in sorted(field.kinds)]
    tried = (*usual[:1], _HOLDERS["any"], "")
    return next((one for one in tried if _holds(one, field, inspection)), _HOLDERS["any"])


def _holds(spelt: str, field: Field, inspection: Inspection) -> bool:
    column = Column("", spelt, is_nullable=True, has_default=False, is_generated=False)
    return all(inspection.fits(kind, column) for kind in field.kinds)


def unmapped(target: Target, fields: Mapping[Path, Field]) -> list[str]:
    """The fields that go to no column, neither by themselves nor within an object nor in all their parts."""
    paths = {one.path for one in target.columns if one.kind == "result"}

    def is_mapped(path: Path) -> bool:
        if any(path[:length] in paths for length in range(1, len(path) + 1)):
            return True
        parts = [other for other in fields if other[:-1] == path]
        return bool(parts) and all(is_mapped(part) for part in parts)

    def is_left(path: Path) -> bool:
        """Whether it is to be told: an object that is mapped in part is told by its parts."""
        parts = [other for other in fields if other[: len(path)] == path and other != path]
        has_part = any(is_mapped(part) for part in parts)
        above = path[:-1]
        in_part = not above or any(is_mapped(other) for other in fields if other[:-1] == above)
        return not is_mapped(path) and not has_part and in_part

    return [".".join(path) for path in fields if is_left(path)]


def _missing(mapped: Mapped, found: Found) -> str:
    hint = _alike(mapped.column, found.columns)
    return f"{found.place} has no column {mapped.column}{hint}: mend [target.columns], or add the column."


def _no_such_field(mapped: Mapped, fields: Mapping[Path, Field]) -> str:
    told = ".".join(mapped.path)
    hint = _alike(told, [".".join(path) for path in fields])
    return f"{mapped.column} is to have {told}, which is no field of the result model{hint}: mend [target.columns]."


def _alike(name: str, names: Iterable[str]) -> str:
    """What may have been meant."""
    spelt = {one.casefold(): one for one in names}
    found = get_close_matches(name.casefold(), spelt, 1)
    return f" (there is {spelt[found[0]]})" if found else ""


def _field(mapped: Mapped, fields: Mapping[Path, Field]) -> Field | None:
    if mapped.kind == "result":
        return fields.get(mapped.path)
    if mapped.kind == "constant":
        return Field(frozenset({kind_of(mapped.constant)} - {"null"}), (mapped.constant,), None, False)
    return Field(frozenset({_KNOWN[mapped.kind]}), None, None, False)


def _misfits(mapped: Mapped, field: Field | None, column: Column, inspection: Inspection) -> Iterator[str]:
    if column.is_generated:
        yield f"{column.name} is filled by the database itself and cannot be written: take it out of [target.columns]."
        return
    wrong = sorted(kind for kind in (field.kinds if field else ()) if not inspection.fits(kind, column))
    if wrong:
        of = ".".join(mapped.path) if mapped.kind == "result" else f"@{mapped.kind}".replace("@constant", "a constant")
        told = " or ".join(_ARTICLES.get(kind, _article(kind)) for kind in wrong)
        remedy = "map it to another column" if len(wrong) > 1 else f"map it to a column of type {_holder(wrong[0])}"
        also = ", or change the result model" if mapped.kind == "result" else ""
        what = f"the field {of}" if mapped.kind == "result" else of
        own = f"The column {column.name} is {column.type or 'of no type'}"
        yield f"{own}, and {what} is {told}: {remedy}{also}, or leave the column alone: --map {column.name}=."
    elif field and "string" in field.kinds and not field.has_form and not inspection.takes_any_text(column):
        what = f"the field {'.'.join(mapped.path)}" if mapped.path else f"@{mapped.kind}"
        own = f"The column {column.name} is {column.type}"
        yield f"{own}, and {what} can be any text: map it elsewhere, or give the field a type; or --map {column.name}=."


def _article(kind: str) -> str:
    name = kind.replace("array", "a list", 1).replace("string", "texts" if "array" in kind else "text")
    return name if name[:2] in ("a ", "te") else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _holder(kind: str) -> str:
    member = kind.removeprefix("array of ")
    return f"{_HOLDERS[member]}[] or jsonb" if member != kind else _HOLDERS.get(kind, "jsonb")


def _not_shown(
    target: Target, fields: Mapping[Path, Field], found: Found, inspection: Inspection
) -> Iterator[str]:  # fmt: skip
    def told(name: str) -> str:
        column, mapped = found.columns.get(name), Mapped(name, "result", tuple(name.split(".")))
        is_other = column is not None and not fits(mapped, fields, column, inspection)
        return f"{name} (the column {name} is {column.type})" if column and is_other else name

    for kind, (what, also) in _USUAL.items():
        if not any(one.kind == kind for one in target.columns):
            yield f"No column is mapped to @{kind}: {what} will not be seen in {target.place}.{also}"
    if left := unmapped(target, fields):
        yield f"{listed(map(told, left))}: no column takes it. It is kept in the log only, and exported from there."


def _too_long(target: Target, fields: Mapping[Path, Field], found: Found, inspection: Inspection) -> Iterator[str]:
    """Texts that may be longer than their column, by the length of that."""
    by_length: dict[int, list[str]] = defaultdict(list)
    for mapped in target.columns:
        column, field = found.columns.get(mapped.column), _field(mapped, fields)
        most = inspection.longest(column) if column else None
        if column is None or field is None or most is None:
            continue
        if mapped.kind == "error":
            if most < ERROR_CHARACTERS:
                yield (
                    f"{column.name} takes {most} characters and messages have up to {ERROR_CHARACTERS:,}: longer ones "
                    f"would be refused. Change it: ALTER TABLE {found.place} ALTER COLUMN {column.name} TYPE text;"
                )
        elif "string" in field.kinds and (field.longest is None or field.longest > most):
            by_length[most].append(column.name)
    for most, names in by_length.items():
        yield (
            f"{listed(names)}: at most {most} characters fit, and the result model allows more. A longer text is "
            f"refused with its row, which the log keeps; to have it asked for, give the fields max_length={most}."
        )

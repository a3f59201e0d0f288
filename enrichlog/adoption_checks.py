"""Whether an adopted database can be worked with as the settings say: all that is wrong, before anything changes."""

from __future__ import annotations

from collections.abc import Mapping

from enrichlog.adopted import adopted_of
from enrichlog.after_success_check import check_after_success, columns_written_after
from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import Unadoptable
from enrichlog.findings import Findings, listed
from enrichlog.look import Look
from enrichlog.mapping_checks import check_mapping
from enrichlog.result import load_model
from enrichlog.result_fields import Field, Path, fields_of
from enrichlog.rights_checks import check_rights, check_rights_to_change, check_rights_to_write
from enrichlog.settings import Settings
from enrichlog.source_check import check_source
from enrichlog.target_checks import check_target
from eventlog.database import Database
from projections.adoption import Adopted


def check(database: Database, settings: Settings, *, adds: str | None = None, alters: bool | None = None) -> Findings:
    """All faults and warnings; none where nothing is adopted.

    `adds` is a column that is about to be made, `alters` says whether the table is about to be altered; None where it
    is not this role that is about to make anything. Raises `InvalidSetting` and `InvalidResultModel`.
    """
    adopted = _adopted(database, settings)
    if adopted is None:
        return Findings()
    findings = Findings([f"The source query: {fault}" for fault in check_source(database)])
    findings.add(_check_table(database, adopted, fields_of_target(settings), adds, alters=alters))
    findings.faults += check_after_success(database, adopted.target)
    if written := columns_written_after(adopted.target):
        findings.warnings.append(
            f"after_success sets {listed(written)}, where the result is shown: verify would take each for edited by "
            "hand. Have it set other columns, or take these out of [target.columns]."
        )
    return findings


def require_fit(database: Database, settings: Settings, enrichment: Enrichment) -> None:
    """Raises `Unadoptable` before the first call is paid whose result could not be shown."""
    adopted = database.adopted
    if adopted is None or adopted.target.enrichment != enrichment.name:
        return
    with database.read() as connection:
        found = database.dialect.inspection.table(connection, adopted.target.schema, adopted.target.table)
        if found is None:
            raise Unadoptable(faults=f"There is no table {adopted.target.place}.")
        look = Look(database, connection, adopted, found, fields_of(enrichment.result_model))
        findings = check_mapping(adopted.target, look.fields, found, look.inspection)
        if found.is_table:
            findings.add(check_rights_to_write(look))
    if findings.faults:
        raise Unadoptable(faults=" ".join(findings.faults))


def fields_of_target(settings: Settings) -> Mapping[Path, Field]:
    """The fields of the results that the users' table shows. Raises `InvalidResultModel`."""
    own = settings.for_enrichment(settings.target.enrichment if settings.target else "job")
    return fields_of(load_model(own.result_model or settings.result_model))


def _adopted(database: Database, settings: Settings) -> Adopted | None:
    """What is adopted, with the types where these are known."""
    looked_up: Adopted | None = database.adopted
    return looked_up if looked_up is not None and looked_up.is_looked_up else adopted_of(settings)


def _check_table(
    database: Database, adopted: Adopted, fields: Mapping[Path, Field], adds: str | None, *, alters: bool | None
) -> Findings:
    inspection, target = database.dialect.inspection, adopted.target
    with database.read() as connection:
        found, tables = inspection.table(connection, target.schema, target.table), inspection.tables(connection)
        if found is None:
            there = listed(one.place for one in tables) or "none"
            return Findings([f"There is no table {target.place}: name it with --table. There are {there}."])
        look = Look(database, connection, adopted, found, fields)
        findings = check_mapping(target, fields, found, inspection, adds)
        findings.add(check_target(look))
        if found.is_table:
            findings.add(check_rights(look, tables))
            findings.faults += [] if alters is None else check_rights_to_change(look, alters=alters)
    return findings

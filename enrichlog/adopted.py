"""What the settings say of an adopted database: the query of its postings, and its table of results."""

from __future__ import annotations

from collections.abc import Mapping

from enrichlog.exceptions import InvalidSetting
from enrichlog.settings import FILE, Constant, Settings, TargetSettings
from projections.adoption import Adopted, Kind, Mapped, Source, Target

KINDS: Mapping[str, Kind] = {"@error": "error", "@completed_at": "completed_at", "@model_version": "model_version"}


def adopted_of(settings: Settings) -> Adopted | None:
    """The adopted tables; None where the tables are those that `init` makes. Raises `InvalidSetting`."""
    source, target = settings.source, settings.target
    if source is None and target is None:
        return None
    if source is None or target is None:
        lacking = "source" if source is None else "target"
        reason = f"an adopted database needs both: [{lacking}] is missing. To have both proposed: enrichlog adopt"
        raise InvalidSetting(name="source" if lacking == "target" else "target", source=FILE, reason=reason)
    return Adopted(Source(source.query.strip().rstrip(";").rstrip()), _target(target))


def _target(settings: TargetSettings) -> Target:
    schema, _, table = settings.table.rpartition(".")
    columns = tuple(_mapped(name, told) for name, told in settings.columns.items())
    after = settings.after_success
    return Target(schema or None, table, settings.id_column, settings.enrichment, columns, after and after.strip())


def _mapped(column: str, told: str | Constant) -> Mapped:
    if isinstance(told, Constant):
        return Mapped(column, "constant", constant=told.constant)
    if told.startswith("@"):
        if told not in KINDS:
            known = ", ".join(KINDS)
            raise InvalidSetting(name=f"target.columns.{column}", source=FILE, reason=f"{told} is none of {known}")
        return Mapped(column, KINDS[told])
    return Mapped(column, "result", tuple(told.split(".")))

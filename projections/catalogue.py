"""All projections by name: each module of this folder that has a `projection` is one, and is listed nowhere else."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from sqlalchemy import Table

import projections
from projections.projection import Projection
from projections.spanning import SpanningProjection


class _Catalogue(NamedTuple):
    of_streams: Mapping[str, Projection[Any]]
    spanning: Mapping[str, SpanningProjection[Any]]
    following: Mapping[str, SpanningProjection[Any]]


def of_streams(adopted: Any = None) -> Mapping[str, Projection[Any]]:
    """Those with one row per stream, which moves with each append; `adopted` is what their database knows of tables of
    the users'.
    """
    found = _catalogue().of_streams
    return found if adopted is None else {name: one.within(adopted) for name, one in found.items()}


def spanning() -> Mapping[str, SpanningProjection[Any]]:
    """Those whose rows span streams and move with each append, under the log lock."""
    return _catalogue().spanning


def following() -> Mapping[str, SpanningProjection[Any]]:
    """Those whose rows span streams and follow the log with a checkpoint."""
    return _catalogue().following


def names() -> tuple[str, ...]:
    """The names of all."""
    return (*of_streams(), *spanning(), *following())


def version_of(name: str) -> int:
    """The version of a projection's fold, as this code has it. Raises `KeyError`."""
    return next(kind[name].version for kind in _catalogue() if name in kind)


def table_of(name: str, adopted: Any = None) -> Table:
    """The table of a projection. Raises `KeyError`."""
    kinds: tuple[Mapping[str, Any], ...] = (of_streams(adopted), spanning(), following())
    return next(kind[name].table for kind in kinds if name in kind)


def tables_of_ours() -> list[Table]:
    """The tables of all projections but those of the users'."""
    return [table_of(name) for name in names() if not is_users(name)]


def is_users(name: str) -> bool:
    """Whether the table of this projection is the users' own, of which no row is ever removed."""
    return name in of_streams() and of_streams()[name].is_users


@lru_cache(maxsize=1)
def _catalogue() -> _Catalogue:
    folder = [one.name for one in pkgutil.iter_modules(projections.__path__)]
    modules = [import_module(f"{projections.__name__}.{name}") for name in folder]
    found = [module.projection for module in modules if hasattr(module, "projection")]
    return _Catalogue(
        {one.name: one for one in found if isinstance(one, Projection)},
        {one.name: one for one in found if isinstance(one, SpanningProjection) and not one.is_following},
        {one.name: one for one in found if isinstance(one, SpanningProjection) and one.is_following},
    )

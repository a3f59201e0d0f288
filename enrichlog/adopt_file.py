"""The sections of an adoption in `enrichlog.toml`; all else in that file stays as it is, comments too."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from enrichlog.exceptions import InvalidSetting
from enrichlog.masking import masked_lines
from enrichlog.replacement import replacing
from enrichlog.settings import FILE, SourceSettings, TargetSettings

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}\s*(?:#.*)?$")
_OURS = re.compile(r"(source|target)\s*(\..*)?")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class FilePlan:
    """What the file is now, and what it is to be."""

    def __init__(self, source: SourceSettings, target: TargetSettings, top: Mapping[str, str]) -> None:
        """`top` has settings to be kept that stand above all sections. Raises `InvalidSetting` when it cannot be so."""
        self.path = Path(FILE)
        held = _held(self.path)
        self._ends = "\r\n" if "\r\n" in held else "\n"
        self.before = held.replace("\r\n", "\n")
        told = tomllib.loads(self.before)
        wanted = {"source": _source(source), "target": _target(target)}
        self.replaces = [name for name, section in wanted.items() if name in told and not _is_same(told[name], section)]
        lacking = {name: value for name, value in top.items() if told.get(name) != value}
        is_same = not self.replaces and not lacking and all(name in told for name in wanted)
        self.after = self.before if is_same else _with(self.before, lacking, wanted)
        _require({**told, **lacking, **wanted}, self.after)

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return self.after != self.before

    @property
    def can_be_written(self) -> bool:
        """Whether it may be, as far as that can be known before."""
        folder = self.path.resolve().parent
        return os.access(folder, os.W_OK) and (not self.path.exists() or os.access(self.path, os.W_OK))

    def diff(self) -> str:
        """What would change, as `diff -u` tells it, without secrets: lines around a change are shown too."""
        lines = (masked_lines(self.before), masked_lines(self.after))
        return "\n".join(difflib.unified_diff(*lines, FILE, FILE, lineterm=""))

    def write(self) -> None:
        """Write it, at once or not at all. Raises `UnwritableFile`."""
        if self.changes:
            with replacing(self.path) as out:
                out.write(self.after.replace("\n", self._ends))


def _held(path: Path) -> str:
    """What a file holds, nothing where there is none. Raises `InvalidSetting` where it cannot be read."""
    try:
        return path.read_bytes().decode() if path.exists() else ""
    except OSError as error:
        raise InvalidSetting(name=FILE, source=str(path.absolute()), reason=str(error.strerror)) from error


def _source(settings: SourceSettings) -> dict[str, Any]:
    return {"query": settings.query.strip() + "\n"}


def _target(settings: TargetSettings) -> dict[str, Any]:
    told = settings.model_dump(mode="json", exclude_none=True)
    usual = {name: field.default for name, field in TargetSettings.model_fields.items()}
    names = ("table", "id_column")  # these are always told: who reads the file wants to know
    return {name: value for name, value in told.items() if name in names or value != usual[name]}


def _is_same(one: Any, other: Any) -> bool:
    """Whether two sections mean the same: with the defaults of what they do not say."""
    if "query" in other:
        return bool(one.get("query", "").strip() == other["query"].strip())
    try:
        return TargetSettings(**one) == TargetSettings(**other)
    except (TypeError, ValueError):
        return False


def _with(text: str, top: Mapping[str, str], sections: Mapping[str, Any]) -> str:
    """The text with these settings on top, and with these sections at its end instead of those it has."""
    kept = "".join(line for name, line in _lines(text) if not _OURS.fullmatch(name)).rstrip("\n")
    head = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in top.items()]
    before = "".join(line for name, line in _lines(kept + "\n") if not name) if kept else ""
    names = "|".join(map(re.escape, top)) or "(?!)"
    before = "".join(line for line in before.splitlines(keepends=True) if not re.match(rf"\s*({names})\s*=", line))
    after = "".join(line for name, line in _lines(kept + "\n") if name) if kept else ""
    parts = [(before.rstrip("\n") + "\n" if before.strip() else "") + "".join(head), after.rstrip("\n") + "\n"]
    return "\n".join([*(part for part in parts if part.strip()), *_told(sections)])


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line with the section that it is in; what looks like a header within a text of several lines is none."""
    section, quotes = "", None
    for line in text.splitlines(keepends=True):
        found = None if quotes else _HEADER.fullmatch(line.rstrip("\r\n"))
        section = found[1] if found else section
        yield section, line
        for mark in re.findall(r"'''|\"\"\"|(?<!['\"])#.*", line):
            if mark[0] == "#":
                break
            quotes = None if quotes == mark else quotes or mark


def _told(sections: Mapping[str, Any]) -> Iterator[str]:
    query = sections["source"]["query"]
    quoted = f"'''\n{query}'''" if "'''" not in query else json.dumps(query, ensure_ascii=False)
    yield f"[source]\nquery = {quoted}\n"
    target = sections["target"]
    plain = [f"{name} = {_value(value)}\n" for name, value in target.items() if name != "columns"]
    yield "[target]\n" + "".join(plain)
    yield "[target.columns]\n" + "".join(f"{_key(name)} = {_value(told)}\n" for name, told in target["columns"].items())


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{_key(name)} = {_value(inner)}" for name, inner in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _require(wanted: Mapping[str, Any], text: str) -> None:
    """Raises `InvalidSetting` where the text does not say what it should: the file is spelt in a way not known here."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        told = {}
    alike: Sequence[str] = [name for name in wanted if _same_value(told.get(name), wanted[name])]
    if len(alike) < len(wanted) or told.keys() != wanted.keys():
        names = [name for name in wanted if name not in alike]
        reason = (
            f"{', '.join(names) or 'it'} cannot be written into it by itself: write it by hand, as --dry-run has it"
        )
        raise InvalidSetting(name=FILE, source=str(Path(FILE).absolute()), reason=reason)


def _same_value(told: Any, wanted: Any) -> bool:
    return told == wanted or (isinstance(told, dict) and isinstance(wanted, dict) and _is_same(told, wanted))

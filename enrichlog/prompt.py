"""Prompts live in files: a head with name and version, the instructions, and what is sent for each posting."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from enrichlog.exceptions import InvalidPrompt

DEFAULT = Path(__file__).parent / "prompts" / "job.md"
FIELDS = ("id", "title", "company", "location", "description", "url", "language")
_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_MARK = "---"


class Prompt(NamedTuple):
    """A prompt file: `hash` is the SHA-256 of the whole text, so that a change shows even when the version stays."""

    name: str
    version: str
    hash: str
    instructions: str
    template: str

    def render(self, posting: Mapping[str, str | None], input_hash: str) -> str:
        """What is sent for a posting.

        `{{posting}}` and `{{description}}` stand between marks that the text itself cannot contain.
        """
        values = {name: posting.get(name) or "" for name in FIELDS} | {
            "posting": _delimited(_whole(posting), input_hash),
            "description": _delimited(posting.get("description") or "", input_hash),
        }
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.template)


def load_prompt(path: Path = DEFAULT) -> Prompt:
    """Read a prompt file. Raises `InvalidPrompt`.

    The file is `---`, lines `name: …` and `version: …`, `---`, the instructions, `---`, and the template with
    placeholders such as `{{title}}`; without a second part the template is `{{posting}}`. It may send `{{id}}`,
    `{{url}}` and `{{language}}` too, but a change of those alone is no reason to ask about a posting again.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPrompt(path=path, reason=getattr(error, "strerror", None) or str(error)) from error
    head, body = _split_head(text)
    instructions, _, template = body.partition(f"\n{_MARK}\n")
    template = template.strip() or "{{posting}}"
    _check_placeholders(path, template)
    if found := _PLACEHOLDER.search(instructions):
        reason = f"{found[0]} stands in the instructions, the same for every posting; write it after a line {_MARK}"
        raise InvalidPrompt(path=path, reason=reason)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Prompt(head.get("name", path.stem), head.get("version", digest[:8]), digest, instructions.strip(), template)


def _split_head(text: str) -> tuple[dict[str, str], str]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != _MARK or _MARK not in (line.strip() for line in lines[1:]):
        return {}, text
    end = next(index for index, line in enumerate(lines[1:], 1) if line.strip() == _MARK)
    pairs = (line.partition(":") for line in lines[1:end] if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}, "\n".join(lines[end + 1 :])


def _check_placeholders(path: Path, template: str) -> None:
    known = {*FIELDS, "posting"}
    for name in _PLACEHOLDER.findall(template):
        if name not in known:
            listed = ", ".join(sorted(known))
            raise InvalidPrompt(path=path, reason=f"it has the unknown placeholder {{{{{name}}}}}; known are {listed}")
    if not _PLACEHOLDER.search(template):
        raise InvalidPrompt(
            path=path, reason="its template sends nothing of the posting; write {{posting}} where it belongs"
        )


def _whole(posting: Mapping[str, str | None]) -> str:
    head = [f"{name.capitalize()}: {posting[name]}" for name in ("title", "company", "location") if posting.get(name)]
    return "\n".join((*head, "", posting.get("description") or ""))


def _delimited(text: str, input_hash: str) -> str:
    mark = f"posting {input_hash[:16]}"
    return f"[begin {mark}]\n{text}\n[end {mark}]"

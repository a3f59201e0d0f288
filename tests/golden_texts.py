"""The golden texts: how each event type was written in each of its schema versions, kept for ever."""

from pathlib import Path

import orjson

from eventlog.events import Payload

FOLDER = Path(__file__).parent / "golden"
GOLDEN = sorted(FOLDER.glob("*.json"))


def texts_of(name: str) -> tuple[str, str]:
    """Facts and content of `Type.version`, exactly as they are stored: each stands on a line of its own."""
    facts, content = (FOLDER / f"{name}.json").read_text(encoding="utf-8").splitlines()[1:3]
    return facts.removeprefix('"facts": ').removesuffix(","), content.removeprefix('"content": ')


def payload_of(name: str) -> Payload:
    """Both halves of `Type.version`, read."""
    facts, content = map(orjson.loads, texts_of(name))
    return Payload(facts, content)

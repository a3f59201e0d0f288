"""Our own logging: silent on import, set up by the command line, and the single gate where secrets are taken out."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from eventlog.events import iso
from eventlog.redaction import redact

OURS = ("enrichlog", "eventlog", "projections")
THEIRS = ("openai", "httpx2", "httpcore2", "aiohttp", "psycopg", "sqlalchemy", "alembic", "asyncio")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(f"{record.levelname.lower()}: {super().format(record)}")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = iso(datetime.fromtimestamp(record.created, UTC))
        entry = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": super().format(record)}
        for name in ("job_id", "attempt_id"):
            if hasattr(record, name):
                entry[name] = getattr(record, name)
        return redact(json.dumps(entry, ensure_ascii=False))


def set_up_logging(level: str, form: Literal["text", "json"]) -> None:
    """Send our records, and the warnings of the libraries we use, to standard error. Called again it changes both."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_Json() if form == "json" else _Text())
    for name in (*OURS, *THEIRS):
        logger = logging.getLogger(name)
        logger.handlers = [output]
        logger.propagate = False
        logger.setLevel(level.upper() if name in OURS else max(logging.WARNING, logging.getLevelName(level.upper())))

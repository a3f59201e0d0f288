"""Who acts: events name a person or a service, as this machine knows them."""

from __future__ import annotations

import getpass


def actor() -> str:
    """Who acts: the user of this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # ImportError: Windows without USERNAME, before Python 3.13
        return "unknown"

"""The projection that docs/adding-a-projection.md shows, put where projections are found.

It is there word for word but for its name: whoever follows the page has a projection of that name already.
"""

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import projections
from eventlog.schema import metadata
from projections import catalogue
from tests.command_line import CLI

PAGE = (CLI.parent / "docs" / "adding-a-projection.md").read_text(encoding="utf-8")
(NAME,) = set(re.findall(r"`projections/(\w+)\.py`", PAGE))
EXAMPLE = f"{NAME}_in_tests"
(_SHOWN,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CODE = _SHOWN.replace(NAME, EXAMPLE)


@contextmanager
def added(folder: Path, code: str = CODE) -> Iterator[None]:
    """Have the example be one of the projections, as if its file were among theirs."""
    (folder / f"{EXAMPLE}.py").write_text(code, encoding="utf-8")
    projections.__path__.append(str(folder))
    importlib.invalidate_caches()
    catalogue._catalogue.cache_clear()
    try:
        yield
    finally:
        metadata.remove(catalogue.table_of(EXAMPLE))
        del sys.modules[f"{projections.__name__}.{EXAMPLE}"]
        delattr(projections, EXAMPLE)
        projections.__path__.remove(str(folder))
        catalogue._catalogue.cache_clear()

"""The house keeps its floors: imports point down only, and what belongs in one file is in one file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
FLOORS = ["eventlog", "projections", "enrichlog", "enrichlog.web", "cli"]
FLOOR_OF = {name: number for number, name in enumerate(FLOORS)} | {"enrichlog.alerts": FLOORS.index("enrichlog.web")}
SOURCES = sorted(
    path
    for root in ("eventlog", "projections", "enrichlog", "cli.py", "run.py", "bench")
    for path in ([CHECKOUT / root] if root.endswith(".py") else (CHECKOUT / root).rglob("*.py"))
    if path.exists()
)


def name_of(path: Path) -> str:
    return path.relative_to(CHECKOUT).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")


def imports(source: str) -> Iterator[str]:
    """Everything that a module imports, also inside functions, with the name that is imported from it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def floor(module: str) -> int | None:
    """The floor that a module is on, None when it is not ours."""
    rooms = [room for room in FLOOR_OF if module == room or module.startswith(f"{room}.")]
    return max((FLOOR_OF[room] for room in rooms), default=None)


def upward(module: str, source: str) -> list[str]:
    """The imports of a module that point to a floor above its own, or across from one room on top to the other."""
    own, found = floor(module), []
    for imported in imports(source):
        above = floor(imported)
        across = {"enrichlog.web", "enrichlog.alerts"} <= {".".join(name.split(".")[:2]) for name in (module, imported)}
        if (own is not None and above is not None and (above > own or across)) or imported.startswith("."):
            found.append(imported)
    return found


def importing(library: str) -> list[str]:
    return [
        name_of(path) for path in SOURCES if any(re.match(rf"{library}(\.|$)", i) for i in imports(path.read_text()))
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("eventlog.log", "from projections.inline import InlineReadModels"),
        ("eventlog.log", "def f():\n    import enrichlog.postings"),
        ("projections.inline", "from enrichlog import postings"),
        ("enrichlog.worker", "from enrichlog.web import app"),
        ("enrichlog.alerts.rules", "import enrichlog.web.app"),
        ("enrichlog.worker", "import cli"),
        ("eventlog.log", "from . import chain"),
    ],
)
def test_an_import_that_points_up_is_noticed(module: str, source: str) -> None:
    assert upward(module, source)


def test_imports_point_down_only() -> None:
    assert len(SOURCES) > 20
    assert {name_of(path): found for path in SOURCES if (found := upward(name_of(path), path.read_text()))} == {}


@pytest.mark.parametrize("library", ["openai", "click"])
def test_a_library_of_the_border_is_imported_in_one_file(library: str) -> None:
    assert len([module for module in importing(library) if not module.startswith("bench")]) <= 1


def test_the_first_two_floors_know_no_llm_and_no_http() -> None:
    outside = {"openai", "click", "rich", "aiohttp", "httpx", "httpx2", "http", "urllib", "requests", "fastapi"}
    below = [path for path in SOURCES if name_of(path).split(".")[0] in ("eventlog", "projections")]
    found = {name_of(path): outside & {i.split(".")[0] for i in imports(path.read_text())} for path in below}
    assert not any(found.values())


def names_of_databases(source: str) -> list[int]:
    """The lines that ask which database it is, or compare with the name of one."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value="sqlite" | "postgresql" | "postgres"):
                lines.append(node.lineno)
            case ast.Attribute(attr="name") if ast.unparse(node.value).endswith("dialect"):
                lines.append(node.lineno)
    return lines


ALLOWED_TO_NAME_DATABASES = {
    "eventlog.dialects": "the one place where they differ",
    "eventlog.revisions": "the SQL file of a revision is chosen by it",
    "eventlog.schema": "a type's variant",
    "projections.llm_enrichment": "a type's variant",
}


@pytest.mark.parametrize("source", ["if database.dialect.name == x: ...", "a = 'postgresql' if x else 'sqlite'"])
def test_asking_which_database_it_is_is_noticed(source: str) -> None:
    assert names_of_databases(source)


def test_nobody_else_asks_which_database_it_is() -> None:
    ours = [path for path in SOURCES if floor(name_of(path)) is not None]
    asking = {name_of(path) for path in ours if names_of_databases(path.read_text())}
    assert asking <= set(ALLOWED_TO_NAME_DATABASES)
    for module in asking - {"eventlog.dialects", "eventlog.revisions"}:
        lines = (CHECKOUT / f"{module.replace('.', '/')}.py").read_text().splitlines()
        asked = [lines[number - 1] for number in names_of_databases("\n".join(lines))]
        assert all("with_variant(" in line for line in asked)


def inserts_events(source: str) -> bool:
    """Whether a module writes into the `events` table by itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and re.search(
            r"INSERT\b.*\bINTO\b.*\bevents\b", str(node.value), re.I | re.S
        ):
            return True
        if isinstance(node, ast.JoinedStr) and re.search(r"INSERT INTO .*events", ast.unparse(node)):
            return True
        if isinstance(node, ast.Call) and re.search(r"insert(_events)?$", ast.unparse(node.func)):
            subject = " ".join([ast.unparse(node.func), *map(ast.unparse, node.args)])
            if "insert_events" in subject or re.search(r"\bevents\b", subject):
                return True
    return False


@pytest.mark.parametrize(
    "source",
    ["insert(events).values()", "x('INSERT OR IGNORE INTO events VALUES (1)')", "x(f'INSERT INTO {s}.events')",
     "events.insert()", "dialect.insert_events(connection, rows)"],
)  # fmt: skip
def test_writing_into_the_log_is_noticed(source: str) -> None:
    assert inserts_events(source)


def test_only_the_append_writes_into_the_log() -> None:
    ours = [path for path in SOURCES if floor(name_of(path)) is not None]
    writing = {name_of(path) for path in ours if inserts_events(path.read_text())}
    assert writing == {"eventlog.log", "eventlog.dialects"}


def test_the_migrations_are_no_package_because_that_would_hide_the_library() -> None:
    assert (CHECKOUT / "alembic" / "env.py").exists()
    assert list((CHECKOUT / "alembic").rglob("__init__.py")) == []


def test_no_module_opens_a_database_when_it_is_imported() -> None:
    for path in SOURCES:
        top = [
            node for node in ast.parse(path.read_text()).body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))
        ]
        calls = [ast.unparse(call.func) for node in top for call in ast.walk(node) if isinstance(call, ast.Call)]
        assert not {"create_engine", "Database", "psycopg.connect", "sqlite3.connect"} & set(calls), path

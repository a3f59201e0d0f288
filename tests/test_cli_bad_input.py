"""What cannot be done: one line that names the cause and the next step, the right exit code, and nothing changed."""

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from tests.builders import run
from tests.command_line import Command, Said, contents, start
from tests.conftest import Files
from tests.service import import_many

PASSWORD = "hunter2-is-secret"
NOBODY = 65534

FILES = {
    "empty.csv": "", "empty.json": "", "empty.jsonl": "\n", "columns.csv": "nr,name,text\n1,a,b\n",
    "two.csv": "nr,name\n1,a\n",
    "twice.csv": "id,title,description\n1,a,b\n2,a,b\n1,c,d\n", "twice.jsonl": '{"id": 1, "title": "a"}\n' * 2,
    "broken.json": '[{"id": "1", "title": "a"},\n {"id": }]', "object.json": '{"id": "1"}', "sheet.xlsx": "PK",
    "late.csv": 'id,title,description\n1,a,b\n2,"c,d\n', "placeholder.md": "Find it.\n---\n{{posting}} {{salery}}",
    "misplaced.md": "Find the pay of {{title}}.", "results.py": "class Plain: ...\n",
}  # fmt: skip

WRONG = {
    "an unknown command": (["enrol"], "No such command 'enrol'. See: enrichlog --help"),
    "an unknown option": (["enrich", "--fast"], "Error: No such option '--fast'. Did you mean"),
    "a missing argument": (["history"], "Missing argument 'JOB_ID'. See: enrichlog history --help"),
    "an id with a dash": (["history", "-7"], "No such option '-7'. An id that begins with a dash stands after --, as"),
    "an option behind a dash": (
        ["dismiss", "--", "-7", "--reason", "x"],
        "Missing option '--reason'. Options stand before --, as in: --reason TEXT -- -7. See: enrichlog dismiss --help",
    ),
    "an option that is missing": (["dismiss", "7"], "Missing option '--reason'. See: enrichlog dismiss --help"),
    "no error type": (["failed", "--error-type", ""], "There is no error type ''. Known are: quota_exceeded"),
    "no choice": (["export"], "Missing argument '{results|events}'. Choose from: results, events. See: enrichlog exp"),
    "an amount that is none": (["enrich", "--max-cost", "nan"], "'nan' is no amount. See: enrichlog enrich --help"),
    "a limit of none": (["enrich", "--limit", "0"], "0 is not in the range 1<=x<=10000000"),
    "a time that is none": (["failed", "--since", "soon"], "'soon' is no time: write 2026-01-31"),
    "a time of two zones": (["failed", "--since", "2026-01-31 08:00:00+01:00 UTC"], "UTC' is no time: write 2026"),
    "an unknown job id": (["history", "nobody"], "no posting with the id nobody. Postings come in with: enrichlog"),
    "an unknown job id among known": (["enrich", "000", "nobody"], "no posting with the id nobody"),
    "an unknown job id to force": (["enrich", "nobody", "--force"], "no posting with the id nobody"),
    "an unknown error type": (["failed", "--error-type", "quotas"], "no error type quotas. Known are: quota_exc"),
    "an unknown error type to retry": (["retry", "--error-type", "x"], "no error type x. Known are: quota_exceeded"),
    "both of two maxima": (["retry", "--max-attempts", "3", "--max-retries", "2"], "N retries are N + 1 attempts"),
    "an unknown grouping": (["stats", "--by", "week"], "no grouping 'week'. Known to --by are: hour, day, model"),
    "an unknown enrichment": (["enrich", "--enrichment", "pay"], "no enrichment pay. Known are: job; add one under"),
    "an unknown projection": (["rebuild", "stats"], "no projection stats. Known are: enrichment_status, llm_"),
    "what is no anchor": (["verify", "--anchor", "12"], "'12' is no anchor: it is POSITION:HASH as verify prints it"),
    "force without ids": (["enrich", "--force"], "--force needs the ids of postings, or --all for every one"),
    "all without force": (["enrich", "--all"], "--all goes with --force"),
    "everything, unconfirmed": (["enrich", "--force", "--all"], "3 postings; what they cost is not known"),
    "everything, unconfirmed: how": (["enrich", "--force", "--all"], "Nothing was done: confirm with --yes."),
    "an export and its summary in one": (["export", "events", "--json"], "the export itself needs a file: --output"),
    "a place to write that is none": (["export", "events", "--output", "no/x"], "no/x cannot be written: No such file"),
    "a file that is not there": (["import", "gone.csv"], "gone.csv cannot be read: No such file or directory. Name"),
    "a folder": (["import", "."], ". cannot be read: "),
    "a file of another kind": (["import", "sheet.xlsx"], "its name ends in none of .csv, .jsonl, .ndjson, .json"),
    "an empty CSV": (["import", "empty.csv"], "empty.csv cannot be read: it is empty. Name a CSV, JSON or JSON lines"),
    "an empty JSON": (["import", "empty.json"], "empty.json cannot be read: it is empty"),
    "empty JSON lines": (["import", "empty.jsonl"], "empty.jsonl cannot be read: it is empty"),
    "missing columns": (
        ["import", "columns.csv"],
        "no column for id, title, description. It has: nr, name, text. Say which is which, for example: --map id=nr",
    ),
    "a column that is in use": (
        ["import", "columns.csv", "--map", "id=nr", "--map", "title=name"], "for example: --map description=text",
    ),
    "no column that is free": (["import", "two.csv", "--map", "id=nr", "--map", "title=name"], "description=COLUMN"),
    "a map to no column": (["import", "columns.csv", "--map", "id=number"], "It has: nr, name, text"),
    "a map of what is not ours": (["import", "columns.csv", "--map", "salary=nr"], "one of ours: id, title,"),
    "ids twice in CSV": (["import", "twice.csv"], "the id 1 stands on lines 2 and 4. Keep one of them"),
    "ids twice in JSON lines": (["import", "twice.jsonl"], "the id 1 stands on lines 1 and 2"),
    "JSON that ends wrongly": (["import", "broken.json"], "not valid JSON: line 2, column 9: Expecting value. Not"),
    "JSON that is no list": (["import", "object.json"], "it is not a list of postings. Nothing was imported; mend the"),
    "CSV that ends wrongly": (["import", "late.csv"], "late.csv is not valid CSV: line 3: "),
    "a folder for the demo that is a file": (["demo", "--keep", "late.csv"], "'late.csv' is a file. See: enrich"),
    "a folder for the demo that cannot be": (["demo", "--keep", "late.csv/x"], "late.csv/x cannot be used: Not a"),
}  # fmt: skip

SETTINGS = {
    "text that is not TOML": ("model = gpt", "enrichlog.toml is not usable: "),
    "a setting that does not exist": ("modle = 'x'", "The setting modle from enrichlog.toml is not usable: "),
    "a value of another kind": ("concurrency = 'many'", "The setting concurrency from enrichlog.toml is not usable: "),
    "a name that is no category": ("[enrichments.a-b]", "a name of an enrichment is a-z, 0-9 and _, a letter first"),
    "a prompt that is not there": ("prompt = 'gone.md'", "The prompt gone.md is not usable: No such file or directory"),
    "an unknown placeholder": ("prompt = 'placeholder.md'", "unknown placeholder {{salery}}; known are company, descr"),
    "a placeholder in the instructions": ("prompt = 'misplaced.md'", "{{title}} stands in the instructions"),
    "a model in no module": ("result_model = 'gone:Model'", "gone:Model is not usable: ModuleNotFoundError: No module"),
    "a model of no pydantic": ("result_model = 'results:Plain'", "Plain is not a pydantic model. Name a pydantic mod"),
    "a model without its class": ("result_model = 'results'", "Name a pydantic model as package.module:Class."),
}  # fmt: skip


@pytest.fixture
def folder(bare: Path) -> Path:
    """The folder the user is in, with files that are all wrong in some way."""
    for name, text in FILES.items():
        (bare / name).write_text(text)
    return bare


@pytest.fixture
def enrichlog(user: Command, shared: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """What a user types; the database, with three postings in it, serves the whole module, since nothing changes it."""
    if not run(shared, "SELECT 1 FROM job_postings"):
        import_many(shared, 3)
    monkeypatch.setenv("DATABASE_URL", shared.url)
    return user


@pytest.mark.parametrize(("words", "cause"), WRONG.values(), ids=WRONG)
def test_what_was_typed_wrongly_is_told_in_one_line(
    enrichlog: Command, shared: Database, simulator: Simulator, words: list[str], cause: str
) -> None:
    before = contents(shared)
    said = enrichlog(*words)
    assert cause in said.error
    assert (said.code, said.out) == (2, "")
    assert (contents(shared), simulator.journal) == (before, [])


@pytest.mark.parametrize(("line", "cause"), SETTINGS.values(), ids=SETTINGS)
def test_what_was_set_wrongly_is_told_in_one_line(
    enrichlog: Command, shared: Database, folder: Path, line: str, cause: str
) -> None:
    before = contents(shared)
    (folder / "enrichlog.toml").write_text(line)
    said = enrichlog("enrich")
    assert cause in said.error
    assert (said.code, said.out, contents(shared)) == (2, "", before)


def test_bytes_that_are_not_utf_8_are_no_file_of_postings(enrichlog: Command, folder: Path) -> None:
    (folder / "latin.csv").write_bytes("id,title,description\n1,Büro,x\n".encode("latin-1"))
    said = enrichlog("import", "latin.csv")
    assert said.code == 2
    assert "latin.csv is not valid UTF-8: " in said.error


@pytest.mark.parametrize("words", [(), ("000",), ("000", "--force"), ("--force", "--all", "--yes")], ids=" ".join)
def test_without_a_key_and_a_server_nothing_is_begun(
    enrichlog: Command, shared: Database, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_API_KEY", " \n")
    before = contents(shared)
    said = enrichlog("enrich", *words)
    assert said.error.startswith(
        "Error: There is no API key. Set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that n"
    )
    assert (said.code, said.out, contents(shared)) == (2, "", before)


def test_a_limit_of_money_at_an_unknown_price_begins_nothing(
    enrichlog: Command, shared: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENRICHLOG_PRICES_OF")
    before = contents(shared)
    said = enrichlog("enrich", "000", "--force", "--max-cost", "1")
    assert "is not known, so the limit of money of this run cannot be kept. Leave --max-cost out, or" in said.error
    assert (said.code, contents(shared)) == (2, before)


def test_a_retry_nobody_confirmed_prints_its_plan_and_asks_for_yes(
    user: Command, database: Database, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    import_many(database, 1)
    simulator.play(Script(rules=[Rule("Work number", (Fault.QUOTA,))]))
    user("enrich")
    user.done("breaker", "close", "--reason", "credit was added")
    before = contents(database)
    said = user("retry")
    assert said.code == 2
    assert "quota_exceeded              1     0        0              0" in said.out
    assert said.error == "Error: 1 posting will be tried. Nothing was done: confirm with --yes."
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "no API key" in user("retry", "--yes").error
    assert contents(database) == before


# -- the database -----------------------------------------------------------------------------------------------------

LOOKS = [["status"], ["enrich"], ["failed"], ["import", "jobs.csv"], ["retry", "--dry-run"], ["verify"]]


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_a_database_that_was_never_migrated_is_named_and_so_is_init(
    user: Command, empty_database: Database, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database.url)
    said = user(*words)
    where = empty_database.dialect.where()
    assert (said.code, said.error) == (1, f"Error: There is no enrichlog in {where}. Create it with: enrichlog init")


@pytest.mark.parametrize(("revision", "next_step"), [("0000", "with: enrichlog init"), ("9999", "Upgrade enrichlog.")])
def test_a_database_of_another_version_is_left_alone(
    user: Command, database: Database, monkeypatch: pytest.MonkeyPatch, revision: str, next_step: str
) -> None:
    run(database, f"UPDATE {{ours}}alembic_version SET version_num = '{revision}'")
    monkeypatch.setenv("DATABASE_URL", database.url)
    said = user("status")
    assert said.code == 1
    assert f"{database.dialect.where()} is at migration {revision}" in said.error
    assert said.error.endswith(next_step)
    if revision == "9999":
        assert "Upgrade enrichlog." in user("init").error


def test_tables_that_are_there_already_are_left_alone(user: Command, empty_database: Database) -> None:
    if empty_database.dialect.name == "sqlite":
        Path(empty_database.dialect.where()).touch()
    run(empty_database, "CREATE TABLE job_postings (id TEXT)")
    said = user("init", "--database", empty_database.url)
    assert said.code == 1
    assert "already has a table job_postings that enrichlog did not make; it is left alone" in said.error


def test_a_file_that_is_no_database_is_told_by_its_path(user: Command, folder: Path) -> None:
    said = user("status", "--database", "late.csv")
    assert said.code == 1
    assert said.error == f"Error: {folder / 'late.csv'} is not a SQLite database. Name another file with --database."


def test_a_file_in_a_folder_that_is_not_there_cannot_be_made(user: Command, bare: Path) -> None:
    said = user("init", "--database", "gone/jobs.db")
    assert said.code == 1
    assert f"{bare / 'gone/jobs.db'} cannot be reached: No such file or directory" in said.error


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://me:{PASSWORD}@host/jobs",
        f"mysql://host/jobs?password={PASSWORD}",
        ":memory:",
        "://",
        f"postgresql://me:{PASSWORD}@host:port/jobs",
        f"postgresql://me:x@{PASSWORD}@host/jobs",
        f"postgresql://m/e:{PASSWORD}@host/jobs",
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(user: Command, url: str) -> None:
    said = user("status", "--database", url)
    assert said.code in (1, 2)
    assert PASSWORD not in said.err
    assert "defect" not in said.error


def test_a_name_that_no_file_can_have_is_told(user: Command) -> None:
    said = user("status", "--database", "x" * 300)
    assert (said.code, "cannot be reached: File name too long." in said.error) == (1, True)


def test_a_folder_that_may_not_be_entered_is_told(user: Command, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with readable_by_all() as place, monkeypatch.context() as patch:
        patch.chdir(place)
        (place / "closed").mkdir(mode=0o700)
        if os.geteuid() != 0:
            (place / "closed").chmod(0)
        with as_nobody(place):
            said = user("status", "--database", "closed/jobs.db")
    assert (said.code, "closed/jobs.db cannot be reached: Permission denied." in said.error) == (1, True)


def test_a_password_that_must_be_encoded_is_told_as_that(user: Command) -> None:
    said = user("status", "--database", f"postgresql://me:x@{PASSWORD}@host/jobs")
    assert (said.code, "percent-encode the password: / is %2F and @ is %40" in said.error) == (2, True)


def test_a_read_only_file_can_be_looked_at_and_no_more(
    user: Command, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with readable_by_all() as place, monkeypatch.context() as patch:
        patch.chdir(place)
        path = place / "jobs.db"
        shutil.move(files.migrated().removeprefix("sqlite:///"), path)
        import_many(Database(str(path)), 1)
        monkeypatch.setenv("DATABASE_URL", str(path))
        user.done("enrich", "--dry-run")
        user.done("enrich", "--limit", "1")
        path.chmod(0o444)
        with as_nobody(place):
            looked, counted, acted = user("status"), user("stats"), user("enrich", "000", "--force")
    assert looked.code == counted.code == 0
    assert ", 3 events behind. They could not be moved on: The database " in counted.err
    assert (acted.code, acted.out) == (1, "")
    told = acted.err.splitlines()[-1]  # behind the bar of a run that took nothing
    assert told.startswith(f"Error: The database {path} is read-only. Give this user the right to write to it, and to")


def test_a_read_only_server_is_told_as_such(
    user: Command, postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(postgresql, 1)
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    said = user("enrich", "000", "--database", postgresql.url)
    assert said.code == 1
    assert f"{postgresql.dialect.where()} is read-only. Connect to a server" in said.err.splitlines()[-1]
    assert "Nothing begins until it is back" not in said.err  # at once: it is not waited for


def test_a_refused_connection_is_told_with_its_place(user: Command) -> None:
    with closing(bound()) as place:  # bound, not listening
        said = user("status", "--database", url_of(place))
    assert said.code == 1
    assert f"127.0.0.1:{place_of(said)}/jobs cannot be reached: " in said.error
    assert "Connection refused. Check that it runs and that the URL is right." in said.error
    assert PASSWORD not in said.err


def test_a_wrong_password_is_told_and_not_shown(user: Command) -> None:
    with refuses_passwords() as place:
        said = user("status", "--database", url_of(place), "--log-level", "debug")
    assert said.code == 1
    assert 'password authentication failed for user "me"' in said.error
    assert PASSWORD not in said.out + said.err


@pytest.mark.parametrize("kind", ["silent server", "locked file"])
def test_a_database_that_does_not_answer_is_given_up_after_a_while(
    waiting: dict[str, "subprocess.Popen[str]"], kind: str
) -> None:
    out, err = waiting[kind].communicate(timeout=60)
    said = Said(waiting[kind].returncode, out, err)
    assert (said.code, said.out) == (1, "")
    assert ("cannot be reached: " if kind == "silent server" else "is busy: database is locked. Another") in said.error
    assert PASSWORD not in said.err


# -- the reader of the output -----------------------------------------------------------------------------------------


def test_a_reader_that_leaves_early_is_no_defect(database: Database, bare: Path) -> None:
    import_many(database, 400)
    process = start("export", "events", folder=bare, variables={"DATABASE_URL": database.url})
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith('{"position": 1,')
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1


# -- places that are of no use ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def waiting(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """Two commands whose database lets them wait, begun before the other tests because each waits ten seconds."""
    folder, locked = tmp_path_factory.mktemp("waiting"), files.migrated()
    with closing(sqlite3.connect(locked.removeprefix("sqlite:///"), isolation_level=None)) as holder, bound() as silent:
        holder.execute("BEGIN EXCLUSIVE")
        silent.listen()
        yield {
            "locked file": start("status", "--database", locked, folder=folder, variables={}),
            "silent server": start("status", "--database", url_of(silent), folder=folder, variables={}),
        }


def bound() -> socket.socket:
    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    return place


def url_of(place: socket.socket) -> str:
    return f"postgresql://me:{PASSWORD}@127.0.0.1:{place.getsockname()[1]}/jobs?sslmode=disable&gssencmode=disable"


def place_of(said: Said) -> str:
    return said.err.partition("127.0.0.1:")[2].partition("/")[0]


@contextmanager
def refuses_passwords() -> Iterator[socket.socket]:
    """A server that asks for a password and refuses whatever comes, in PostgreSQL's protocol."""
    refusal = b'SFATAL\x00C28P01\x00Mpassword authentication failed for user "me"\x00\x00'
    place = bound()
    place.listen()

    def serve() -> None:
        connection, _ = place.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"R" + (8).to_bytes(4) + (3).to_bytes(4))
            connection.recv(1024)
            connection.sendall(b"E" + (len(refusal) + 4).to_bytes(4) + refusal)

    thread = threading.Thread(target=serve)
    thread.start()
    with place:
        yield place
        thread.join(20)


@contextmanager
def readable_by_all() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Without root's right to write everywhere; others have no such right anyway."""
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield
    folder.chmod(0o755)

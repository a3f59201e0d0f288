"""Our logging: silent until it is set up, one line per record, as text or JSON, and never a secret in any of them."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from enrichlog.logs import OURS, THEIRS, set_up_logging
from enrichlog.settings import load
from eventlog.database import Database
from projections.llm_enrichment import llm_enrichment
from tests.byte_server import answering, http
from tests.command_line import Command, environment, forget
from tests.service import KEY, import_many, texts_of_log

OWN_KEY = "no-usual-prefix-93ba11f2"
QUOTED_KEY = 'no"usual\\prefix-93ba11f2'
PASSWORD = "hunter2-is-secret"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    forget()


def log_everything(words: str, *arguments: object) -> None:
    for name in (*OURS, *THEIRS):
        logging.getLogger(name).error(words, *arguments)


def parts_of(key: str) -> list[str]:
    """The key without its last characters, as it is and as it stands in JSON texts one within another."""
    forms = [key[:-3]]
    for _ in range(3):
        forms.append(json.dumps(forms[-1])[1:-1])
    return forms


def texts_of_table(database: Database) -> str:
    """What the users' table shows of every posting."""
    return " ".join(str(row.enrichment_error) for row in database.page(select(llm_enrichment)))


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_an_import_sets_up_nothing(tmp_path: Path) -> None:
    script = "import logging, enrichlog.llm_enrichment as e; print(logging.getLogger('enrichlog').handlers)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=environment(PYTHONPATH=str(Path(__file__).parent.parent)),
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_level_is_of_our_own_records_and_libraries_only_warn(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("debug", "text")
    logging.getLogger("enrichlog.worker").debug("ours")
    logging.getLogger("openai").info("theirs")
    logging.getLogger("sqlalchemy.pool").warning("a warning of theirs")
    assert capsys.readouterr().err == "debug: ours\nwarning: a warning of theirs\n"
    set_up_logging("error", "text")
    logging.getLogger("enrichlog.worker").warning("ours")
    logging.getLogger("openai").warning("theirs")
    assert capsys.readouterr().err == ""


def test_set_up_again_each_record_is_still_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        set_up_logging("info", "text")
    logging.getLogger("eventlog.log").info("once")
    assert capsys.readouterr().err == "info: once\n"


def test_json_is_one_object_a_line_with_job_and_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", "json")
    logging.getLogger("enrichlog.worker").info("two\nlines %s", "ünd", extra={"job_id": "4711", "attempt_id": "a-1"})
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry.pop("at").endswith("Z")
    assert entry == {
        "level": "info", "logger": "enrichlog.worker", "message": "two\nlines ünd", "job_id": "4711",
        "attempt_id": "a-1",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_told_with_its_traceback(capsys: pytest.CaptureFixture[str], form: str) -> None:
    set_up_logging("error", "json" if form == "json" else "text")
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        logging.getLogger("enrichlog").exception("no")
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in (json.loads(said)["message"] if form == "json" else said)


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_record_of_any_logger_tells_a_secret(capsys: pytest.CaptureFixture[str], form: str) -> None:
    load(api_key=f"{OWN_KEY}\n")
    set_up_logging("debug", "json" if form == "json" else "text")
    log_everything("%s %r", OWN_KEY, {"Authorization": f"Bearer {KEY}"})
    log_everything(f"connecting to postgresql://me:{PASSWORD}@host/jobs")
    try:
        raise ValueError(f"Illegal header value b'Bearer {OWN_KEY}\\n'")
    except ValueError:
        logging.getLogger("enrichlog").exception("no")
    said = capsys.readouterr().err
    assert "[redacted]" in said
    assert "postgresql://[redacted]@host/jobs" in said
    assert not [secret for secret in (OWN_KEY, KEY, PASSWORD) if secret in said]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("key", [OWN_KEY, QUOTED_KEY])
def test_a_whole_run_at_debug_level_tells_no_secret_though_the_server_echoes_it(
    enrichlog: Command, database: Database, monkeypatch: pytest.MonkeyPatch, key: str, form: str
) -> None:
    import_many(database, 2)
    echoed = f"Incorrect API key provided: {key}. {'.' * 1_900} {key} {key} {key}"  # also where a stored head ends
    body = json.dumps({"error": {"message": echoed, "code": key, "param": key}}).encode()
    head = (f"content-length: {len(body)}", f"x-request-id: {key}")
    options = ("--log-level", "debug", "--log-format", form)
    with answering(http(body, *head, status="401 Unauthorized")) as asked:
        monkeypatch.setenv("OPENAI_BASE_URL", asked.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", f"{key}\n")
        said = [
            enrichlog("enrich", "--concurrency", "1", *options), enrichlog("retry", "--yes", *options),
            enrichlog("config", *options), enrichlog("config", "--json", *options),
            enrichlog("export", "events", *options), enrichlog("failed", *options),
            enrichlog("failed", "--json", *options), enrichlog("history", "000", *options),
            enrichlog("history", "000", "--json", *options),
        ]  # fmt: skip
    assert {head["authorization"] for head in asked.headers} == {f"Bearer {key}"}  # it was there to be told
    assert [one.code for one in said] == [1, 1, *[0] * 7]
    told = "".join(one.out + one.err for one in said) + texts_of_log(database) + texts_of_table(database)
    assert "Incorrect API key provided: [redacted]." in told
    assert not [part for part in parts_of(key) if part in told]


def test_a_key_that_ends_in_a_line_break_is_sent_without_it(
    enrichlog: Command, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(database, 2)
    for job_id, key in (("000", OWN_KEY), ("001", f"{OWN_KEY}\n")):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        enrichlog.done("enrich", job_id)
    assert enrichlog.json("status")["postings"]["succeeded"] == 2


@pytest.mark.parametrize("command", ["status", "init", "config"])
def test_a_password_is_told_by_no_command(user: Command, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{PASSWORD}@127.0.0.1:1/jobs")
    said = user(command, "--log-level", "debug", "--log-format", "json")
    assert PASSWORD not in said.out + said.err
    assert "127.0.0.1:1/jobs" in said.out + said.err

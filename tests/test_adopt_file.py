"""The sections that an adoption writes into the settings' file, whatever is in it already."""

import tomllib
from pathlib import Path

import pytest

from enrichlog.adopt_file import FilePlan
from enrichlog.exceptions import InvalidSetting
from enrichlog.settings import Constant, SourceSettings, TargetSettings, configure

SOURCE = SourceSettings(query="SELECT id, title,\n  'it''s \"so\" \\ %' AS description FROM postings -- :id")
COLUMNS: dict[str, str | Constant] = {
    "title": "title", 'odd "name"': "pay.minimum", "de ta'il": Constant(constant={"a": [1, "x", True]}), "e": "@error",
}  # fmt: skip
TARGET = TargetSettings(table="own.results", id_column="posting", columns=COLUMNS, after_success="SELECT :id\n-- é")


@pytest.fixture
def file(bare: Path) -> Path:
    return bare / "enrichlog.toml"


def write(top: dict[str, str] | None = None) -> FilePlan:
    plan = FilePlan(SOURCE, TARGET, top or {})
    plan.write()
    return plan


def test_what_is_written_is_read_as_it_was_meant(file: Path) -> None:
    write({"database": "postgresql://me@localhost/jobs"})
    settings = configure()
    assert (settings.source, settings.target) == (
        SourceSettings(query=SOURCE.query + "\n"), TARGET,
    )  # fmt: skip
    assert settings.database == "postgresql://me@localhost/jobs"


def test_a_query_with_three_quotes_is_written_too(file: Path) -> None:
    source = SourceSettings(query="SELECT '''' AS id, ''' ''' AS title")
    FilePlan(source, TARGET, {}).write()
    assert tomllib.loads(file.read_text())["source"]["query"].strip() == source.query


def test_writing_twice_changes_nothing(file: Path) -> None:
    write({"result_model": "a:B"})
    before = file.read_text()
    plan = write({"result_model": "a:B"})
    assert (plan.changes, plan.replaces, plan.diff(), file.read_text()) == (False, [], "", before)


def test_only_what_differs_is_replaced_and_the_difference_is_told(file: Path) -> None:
    file.write_text(
        "# mine\nresult_model = 'a:A'\nmodel = 'x'\n"
        "[target] # old\ntable = 'old'\ncolumns = {}\n[error_codes]\nz = 'timeout'"
    )
    plan = write({"result_model": "a:B"})
    assert plan.replaces == ["target"]
    assert "-table = 'old'" in plan.diff()
    assert '+table = "own.results"' in plan.diff()
    text = file.read_text()
    assert text.startswith("# mine\nmodel = 'x'\nresult_model = \"a:B\"\n\n[error_codes]\nz = 'timeout'\n\n[source]\n")
    assert configure().error_codes == {"z": "timeout"}


def test_a_file_that_is_spelt_otherwise_is_left_alone(file: Path) -> None:
    text = "source.query = 'SELECT 1'\n"
    file.write_text(text)
    with pytest.raises(InvalidSetting, match="cannot be written into it by itself: write it by hand"):
        write()
    assert file.read_text() == text


def test_a_file_of_several_lines_of_text_is_understood(file: Path) -> None:
    file.write_text('[parameters]\ntext = """\n[source]\nquery = 1\n"""\nother = \'\'\'[target]\'\'\' # "\n')
    write()
    assert tomllib.loads(file.read_text())["parameters"] == {"text": "[source]\nquery = 1\n", "other": "[target]"}


def test_no_secret_is_shown_around_a_change(file: Path) -> None:
    file.write_text(
        'database = "postgresql://u:hush1@h/db?sslpassword=hush2" # mine\napi_key = "hush3"\n'
        "# database = 'postgresql://u:hush4@h/db'\n#api_key = 'hush5'\n"
        'parameters = { extra_headers = { Authorization = "Bearer hush6" }, seed = 1 }\n'
        'urls = [\n  "https://u:hush7@h/",\n]\nmy_token = """\nhush8\nhush9"""\nmodel = "x" # kept\n[target]\n'
    )
    told = FilePlan(SOURCE, TARGET, {"result_model": "a:B"}).diff()
    assert "hush" not in told
    assert ' model = "x" # kept' in told
    removed = FilePlan(SOURCE, TARGET, {"database": "jobs.db"}).diff()
    assert '-database = "postgresql://[redacted]@h/db?[redacted]"\n' in removed
    assert "hush" not in removed


def test_a_folder_of_that_name_is_told_of(file: Path) -> None:
    file.mkdir()
    with pytest.raises(InvalidSetting, match="directory"):
        FilePlan(SOURCE, TARGET, {})

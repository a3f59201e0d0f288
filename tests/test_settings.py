"""The settings: flags over the environment over the file over the defaults, each with its source; secrets masked."""

import json
from pathlib import Path
from typing import Any

import pytest

from enrichlog.exceptions import InvalidSetting, UnknownEnrichment
from enrichlog.masking import masked
from enrichlog.settings import FILE, Settings, configure, current, load, reset
from eventlog.redaction import redact
from tests.service import KEY

pytestmark = pytest.mark.usefixtures("bare")


def write(text: str) -> None:
    Path(FILE).write_text(text, encoding="utf-8")


def refused(**flags: Any) -> str:
    """What is said about settings that cannot be used; it is one line."""
    with pytest.raises(InvalidSetting) as error:
        load(**flags)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- order ------------------------------------------------------------------------------------------------------------


def test_flags_win_over_the_environment_over_the_file_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [(current().model, current().sources["model"])]
    write('model = "from-file"')
    reset()
    seen.append((current().model, current().sources["model"]))
    monkeypatch.setenv("ENRICHLOG_MODEL", "from-environment")
    reset()
    seen.append((current().model, current().sources["model"]))
    configure(model="from-flag")
    seen.append((current().model, current().sources["model"]))
    assert seen == [
        ("gpt-4o-mini", "default"),
        ("from-file", "enrichlog.toml"),
        ("from-environment", "ENRICHLOG_MODEL"),
        ("from-flag", "flag"),
    ]


@pytest.mark.parametrize(
    ("field", "usual", "ours"),
    [
        ("database", "DATABASE_URL", "ENRICHLOG_DATABASE"),
        ("api_key", "OPENAI_API_KEY", "ENRICHLOG_API_KEY"),
        ("base_url", "OPENAI_BASE_URL", "ENRICHLOG_BASE_URL"),
    ],
)
def test_the_variables_that_people_have_already_are_read_and_ours_win(
    monkeypatch: pytest.MonkeyPatch, field: str, usual: str, ours: str
) -> None:
    def shown() -> tuple[str, str]:
        value = getattr(current(), field)
        return getattr(value, "get_secret_value", lambda: value)(), current().sources[field]

    write(f'{field} = "http://from-file"')
    monkeypatch.setenv(usual, "http://from-usual")
    assert shown() == ("http://from-usual", usual)
    monkeypatch.setenv(ours, "http://from-ours")
    reset()
    assert shown() == ("http://from-ours", ours)
    monkeypatch.delenv(ours)
    monkeypatch.setenv(usual, "")  # set and empty is not set
    reset()
    assert shown() == ("http://from-file", "enrichlog.toml")


def test_a_value_within_a_table_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENRICHLOG_PARAMETERS__SEED", "7")
    assert current().parameters == {"seed": "7"}
    assert current().sources["parameters"] == "ENRICHLOG_PARAMETERS__SEED"


def test_everything_that_is_not_set_is_a_default(bare: Path) -> None:
    assert set(current().sources.values()) == {"default"}
    assert (current().deadline_seconds, current().max_attempts, current().database) == (300.0, 5, "enrichlog.db")


def test_flags_and_the_file_are_told_apart() -> None:
    write('model = "from-file"')
    settings = configure(concurrency=3)
    assert {name: settings.sources[name] for name in ("model", "concurrency", "api")} == {
        "model": "enrichlog.toml",
        "concurrency": "flag",
        "api": "default",
    }


def test_a_flag_that_was_not_given_leaves_the_value_as_it_was() -> None:
    configure(model="mine")
    assert configure(model=None, concurrency=2).model == "mine"


def test_settings_are_read_at_first_use_and_then_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    first = current()
    monkeypatch.setenv("ENRICHLOG_MODEL", "later")
    assert current() is first
    reset()
    assert current().model == "later"


# -- errors -----------------------------------------------------------------------------------------------------------


def test_a_flag_that_cannot_be_used_is_named() -> None:
    assert refused(concurrency=0).startswith(
        "The setting concurrency from flag is not usable: Input should be greater than or equal to 1"
    )


def test_a_variable_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENRICHLOG_CONCURRENCY", "many")
    assert refused().startswith(
        "The setting concurrency from ENRICHLOG_CONCURRENCY is not usable: Input should be a va"
    )


def test_a_variable_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENRICHLOG_PARAMETERS", "{temperature: 1")
    assert "ENRICHLOG_PARAMETERS" in refused()
    assert FILE not in refused()


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        ("concurrency = 0", "concurrency", "Input should be greater than or equal to 1"),
        ('api = "completions"', "api", "Input should be 'responses' or 'chat'"),
        ('deadline_seconds = "long"', "deadline_seconds", "Input should be a valid number"),
        ("deadline_seconds = nan", "deadline_seconds", "Input should be "),
        ("requests_per_minute = true", "requests_per_minute", "true and false are no value for it"),
        ("dollars_per_day = 0.0000009", "dollars_per_day", "Input should be greater than or equal to 0.000001"),
        ("dollars_per_day = 1_000_001", "dollars_per_day", "Input should be less than or equal to 1000000"),
        ("colour = 1", "colour", "there is no such setting; known are "),
        ("[enrichments.pay]\ncolour = 1", "enrichments.pay.colour", "there is no such setting; known are "),
        (
            '[error_codes]\nengine_dead = "dead"',
            "error_codes.engine_dead",
            "no code means the error type dead; it can mean quota_exceeded, ",
        ),
    ],
)
def test_a_value_of_the_file_that_cannot_be_used_is_named(line: str, name: str, reason: str) -> None:
    write(line)
    message = refused()
    assert message.startswith(f"The setting {name} from enrichlog.toml is not usable: ")
    assert reason in message


def test_a_file_that_is_not_toml_is_named_with_the_place(bare: Path) -> None:
    write("model = gpt\n")
    assert refused().startswith(f"The setting enrichlog.toml from {bare / FILE} is not usable: ")
    assert "line 1, column" in refused()


@pytest.mark.parametrize(
    "url",
    ["localhost:11434", "localhost", "/v1", "ftp://x/v1", "http://", "http:///v1", "http://[::1", "http://host:port/v1",
     "http://host:99999/v1", "http://host:0/v1", "http://two words/v1", "http://host/v1\nhttp://other/v1", "no url"],
)  # fmt: skip
def test_a_base_url_that_is_none_is_refused_where_it_was_set(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    assert refused().startswith("The setting base_url from OPENAI_BASE_URL is not usable: ")


@pytest.mark.parametrize(
    "url", ["http://localhost:11434/v1", "https://host.example", "http://[::1]:8000/v1/", "https://me:pw@host/v1?key=a"]
)
def test_a_base_url_is_taken_as_it_is_without_the_white_space_around_it(url: str) -> None:
    assert load(base_url=f" {url}\n").base_url == url


def test_a_base_url_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENRICHLOG_BASE_URL", " ")
    assert current().base_url is None


def test_the_enrichments_there_are_stand_once_each_in_the_refusal_of_another() -> None:
    write("[enrichments.job]\n[enrichments.summary]\n")
    with pytest.raises(UnknownEnrichment, match="Known are: job, summary; add one"):
        current().for_enrichment("pay")


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_a_key_is_never_shown() -> None:
    settings = configure(api_key=KEY, database="postgresql://user:hunter2secret@host/jobs")
    listed = json.dumps(settings.listed())
    assert KEY not in repr(settings) + str(settings) + settings.model_dump_json() + listed
    assert "hunter2secret" not in listed
    values = {one["name"]: one["value"] for one in settings.listed()}
    assert values["api_key"] == f"…{KEY[-4:]}"
    assert values["database"].endswith("@host/jobs")


def test_nothing_of_a_short_key_is_shown() -> None:
    assert {one["name"]: one["value"] for one in configure(api_key="abc123").listed()}["api_key"] == "set"


def test_a_key_is_taken_out_of_every_text_from_then_on() -> None:
    configure(api_key="no-usual-prefix-1234\n")
    assert redact("Illegal header: Bearer no-usual-prefix-1234") == "Illegal header: Bearer [redacted]"


def test_every_setting_is_listed_with_its_source() -> None:
    listed = configure(concurrency=3).listed()
    assert [one["name"] for one in listed] == list(Settings.model_fields)
    assert {"name": "concurrency", "value": 3, "source": "flag"} in listed
    json.dumps(listed)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me@host/jobs?password=querysecret", "postgresql://[redacted]@host/jobs?[redacted]"),
        ("postgresql://host/jobs?password=query@secret", "[redacted]"),
        ("postgresql://me:pa/ss@secret@host/jobs", "[redacted]"),
        ("https://host/v1?api-key=secret", "https://host/v1?[redacted]"),
        ("https://host/v1#secret", "https://host/v1?[redacted]"),
        ("http://127.0.0.1:8089/v1", "http://127.0.0.1:8089/v1"),
    ],
)
def test_of_a_url_only_the_place_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_secrets_in_parameters_are_not_shown_and_what_is_none_is() -> None:
    write(
        "[parameters]\nmax_tokens = 7\nseed = inf\napi_key = 'one-secret'\nsuffix = 'sk-0123456789abcdefghijk'\n"
        "[parameters.extra_headers]\nAuthorization = 'two-secret'\nAccept = 'all'\n"
        "[enrichments.pay.parameters]\ntoken = 'three-secret'\n"
    )
    values = {one["name"]: one["value"] for one in current().listed()}
    assert values["parameters"] == {
        "max_tokens": 7, "seed": "inf", "api_key": "[redacted]", "suffix": "[redacted]",
        "extra_headers": {"Authorization": "[redacted]", "Accept": "all"},
    }  # fmt: skip
    assert values["enrichments"]["pay"]["parameters"] == {"token": "[redacted]"}
    json.dumps(values, allow_nan=False)


def test_a_variable_of_ours_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENRICHLOG_API_KEY", "")
    monkeypatch.setenv("ENRICHLOG_CONCURRENCY", "")
    listed = {one["name"]: (one["value"], one["source"]) for one in current().listed()}
    assert (listed["api_key"], listed["concurrency"]) == ((None, "default"), (8, "default"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    reset()
    assert current().sources["api_key"] == "OPENAI_API_KEY"
    assert configure(api_key=" ").listed()[2]["value"] is None

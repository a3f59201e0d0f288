"""The request for a posting: what is in it, when it is too large, what is recorded of it, and which hashes change."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichlog import attempt
from enrichlog.answer import Usage
from enrichlog.attempt import Started
from enrichlog.enrichment import Enrichment, Request, enrichment_of, fingerprint, request_for
from enrichlog.exceptions import InvalidPrompt, InvalidResultModel, UnknownEnrichment
from enrichlog.outcome import Outcome
from enrichlog.posting import Posting
from enrichlog.settings import Settings, configure
from eventlog.events import EnrichmentFailed, EnrichmentStarted
from tests.service import KEY, posting

pytestmark = pytest.mark.usefixtures("bare")


def enrichment(**values: Any) -> Enrichment:
    return enrichment_of(configure(**values))


def request(one: Posting, limit: int = 100_000, *, cut: bool = False, **values: Any) -> Request:
    return request_for(enrichment(**values), one._asdict(), one.input_hash, limit, cut=cut)


def start(request: Request, **values: Any) -> EnrichmentStarted:
    return attempt.start(enrichment(**values), request, number=1, input_hash="h", worker="w", lease_seconds=360)


# -- the request ------------------------------------------------------------------------------------------------------


def test_a_request_of_the_responses_api_asks_for_the_schema_and_is_not_stored() -> None:
    asked = enrichment(model="gpt-4o")
    body = request(posting()).body
    assert body == {
        "model": "gpt-4o",
        "input": [
            {"role": "system", "content": asked.prompt.instructions},
            {"role": "user", "content": asked.prompt.render(posting()._asdict(), posting().input_hash)},
        ],
        "text": {
            "format": {"type": "json_schema", "name": "JobEnrichment", "schema": asked.schema, "strict": True},
        },
        "store": False,
    }


def test_a_request_of_chat_completions_asks_for_the_same() -> None:
    asked = enrichment(api="chat")
    body = request(posting()).body
    assert [message["role"] for message in body["messages"]] == ["system", "user"]  # type: ignore[attr-defined]
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "JobEnrichment", "schema": asked.schema, "strict": True},
    }
    assert {"input", "text", "store"}.isdisjoint(body)  # compatible servers refuse what they do not know


@pytest.mark.parametrize(("api", "name"), [("responses", "max_output_tokens"), ("chat", "max_tokens")])
def test_parameters_go_into_the_request_and_into_the_events(api: str, name: str) -> None:
    values: dict[str, Any] = {"api": api, "parameters": {"temperature": 0.2, "seed": 7}, "max_output_tokens": 900}
    one = request(posting(), **values)
    assert {key: one.body[key] for key in ("temperature", "seed", name)} == {"temperature": 0.2, "seed": 7, name: 900}
    assert start(one).request_parameters == f'{{"{name}":900,"seed":7,"temperature":0.2}}'


def test_the_instructions_come_first_and_are_the_same_for_all_postings() -> None:
    first, other = (request(posting(job_id)).body["input"] for job_id in "12")
    assert first[0] == other[0]  # type: ignore[index]
    assert first[1] != other[1]  # type: ignore[index]


# -- too large --------------------------------------------------------------------------------------------------------

LONG = posting(description="x" * 40_000)


def test_a_large_input_fails_before_the_call() -> None:
    one = request(LONG, limit=1_000)
    outcome = attempt.precheck(LONG.description, one, 1_000)
    assert outcome is not None
    assert outcome.failed is not None
    assert outcome.failed.kind.name == "input_too_large"
    assert outcome.failed.message == f"The input is about {one.input_tokens} tokens, the limit is 1000"
    assert one.input_tokens > 10_000


def test_cutting_must_be_asked_for() -> None:
    assert request(LONG, limit=1_000).kept_characters is None
    cut = request(LONG, limit=1_000, cut=True)
    assert cut.input_tokens <= 1_000
    assert attempt.precheck(LONG.description, cut, 1_000) is None


def test_what_was_cut_is_recorded() -> None:
    cut = request(LONG, limit=1_000, cut=True)
    assert cut.kept_characters is not None
    assert str(cut.body).count("x" * cut.kept_characters) == 1
    begun = start(cut)
    assert (begun.input_characters, begun.input_kept_characters) == (40_000, cut.kept_characters)
    whole = start(request(posting()))
    assert (whole.input_characters, whole.input_kept_characters) == (len(posting().description), None)


def test_a_cut_input_keeps_its_end_mark() -> None:
    mark = f"posting {LONG.input_hash[:16]}"
    assert str(request(LONG, limit=1_000, cut=True).body).count(mark) == 2


LETTERS = st.sampled_from(["a", "é", "Б", "語", "🙂", "aé語🙂 \n"])
TEMPLATES = st.sampled_from(["{{posting}}", "{{description}}", "{{posting}}\n{{description}} {{description}}"])


@given(LETTERS, st.integers(0, 20_000), st.integers(1_000, 2_000), TEMPLATES)
def test_a_cut_input_keeps_as_much_as_fits(letters: str, times: int, limit: int, template: str) -> None:
    asked = DEFAULT._replace(prompt=DEFAULT.prompt._replace(template=template))
    text = "x" + letters * times

    def tokens(kept: str) -> int:
        return request_for(asked, {"description": kept}, "h", limit, cut=False).input_tokens

    cut = request_for(asked, {"description": text}, "h", limit, cut=True)
    if cut.kept_characters is None:
        assert cut.input_tokens == tokens(text) <= limit
    else:
        assert (
            cut.input_tokens == tokens(text[: cut.kept_characters]) <= limit < tokens(text[: cut.kept_characters + 1])
        )


@pytest.mark.parametrize("letter", ["a", "Б", "語", "🙂"])
def test_any_language_keeps_the_same_share_of_its_text(letter: str) -> None:
    one = posting(description=letter * 40_000)
    empty, whole = (request(of).input_tokens for of in (posting(description=""), one))
    kept = request(one, 5_000, cut=True).kept_characters or 0
    assert kept / 40_000 == pytest.approx((5_000 - empty) / (whole - empty), rel=0.01)


@pytest.mark.parametrize("limit", [1, 10])
def test_what_cannot_be_cut_to_any_text_is_too_large_and_is_not_sent(limit: int) -> None:
    one = request(LONG, limit=limit, cut=True)
    assert one.kept_characters is None
    outcome = attempt.precheck(LONG.description, one, limit)
    assert outcome is not None
    assert outcome.failed is not None
    assert (outcome.failed.kind.name, outcome.called) == ("input_too_large", False)


def test_what_would_be_left_of_only_white_space_is_too_large() -> None:
    one = posting(description=" " * 20_000 + "x" * 20_000)
    assert request(one, limit=2_000, cut=True).kept_characters is None


def test_a_prompt_that_does_not_show_the_description_cannot_be_cut() -> None:
    asked = DEFAULT._replace(prompt=DEFAULT.prompt._replace(template="{{title}}"))
    one = request_for(asked, {"title": "x" * 9_000, "description": "Work."}, "h", 1_000, cut=True)
    assert one.kept_characters is None


@pytest.mark.parametrize("description", ["", " \n\t", "\u00a0"])
def test_a_posting_without_a_description_fails_before_the_call(description: str) -> None:
    outcome = attempt.precheck(description, request(posting(description=description)), 100_000)
    assert outcome is not None
    assert not outcome.called
    assert outcome.failed is not None
    assert (outcome.failed.kind.name, outcome.failed.message) == ("input_error", "No description found")


def test_an_end_without_a_call_says_so() -> None:
    begun = Started("job-1", start(request(posting())), 0)
    outcome = attempt.precheck("", request(posting()), 100_000) or Outcome()
    end = attempt.end(enrichment(), begun, outcome)
    assert isinstance(end, EnrichmentFailed)
    assert (end.called, end.input_tokens, end.cost_microdollars, end.retryable) == (False, None, None, False)


# -- what is recorded -------------------------------------------------------------------------------------------------

FACTS = ("provider_name", "endpoint", "credential", "openai_api_type", "request_model", "prompt_name", "prompt_version",
         "prompt_hash", "schema_hash", "input_hash", "request_parameters", "attempt_id", "attempt")  # fmt: skip


def test_start_and_end_carry_the_same_facts_of_the_request() -> None:
    begun = start(request(posting()), api_key=KEY)
    end = attempt.end(enrichment(), Started("job-1", begun, 0), Outcome(result={}, http_status=200))
    assert {name: getattr(begun, name) for name in FACTS} == {name: getattr(end, name) for name in FACTS}
    assert (begun.provider_name, begun.endpoint) == ("openai", "https://api.openai.com/v1")
    assert enrichment(base_url="http://127.0.0.1:1/v1").facts()["provider_name"] is None
    assert begun.credential == fingerprint(KEY)
    assert KEY not in begun.model_dump_json()


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("http://127.0.0.1:1/v1/", "http://127.0.0.1:1/v1"),
        ("https://tok3n@host.example/v1", "https://host.example/v1"),
        ("https://me:tok3n@host.example:8443/v1?api-key=tok3n#tok3n", "https://host.example:8443/v1"),
        ("http://[::1]:11434/v1", "http://[::1]:11434/v1"),
    ],
)
def test_the_servers_address_is_recorded_without_what_may_be_a_secret_in_it(base_url: str, address: str) -> None:
    assert start(request(posting()), base_url=base_url).endpoint == address


@pytest.mark.parametrize(
    ("outcome", "cost"),
    [
        (Outcome(http_status=429), 0),
        (Outcome(sent=False), 0),
        (Outcome(http_status=500), None),
        (Outcome(http_status=None), None),
        (Outcome(http_status=200), None),
        (Outcome(http_status=200, usage=Usage(1_000_000, 0)), 150_000),
    ],
)
def test_a_call_that_was_refused_or_never_sent_costs_nothing_and_what_nobody_knows_is_null(
    outcome: Outcome, cost: int | None
) -> None:
    begun = Started("job-1", start(request(posting())))
    assert attempt.end(enrichment(), begun, outcome._replace(result={})).cost_microdollars == cost


def test_keys_are_told_apart_without_being_told() -> None:
    assert fingerprint(KEY) != fingerprint(KEY + "x")
    assert len(fingerprint(KEY)) == 12


def test_money_for_the_most_that_a_call_may_cost_is_reserved() -> None:
    one = request(posting())
    assert attempt.reserve(enrichment(), one) is not None
    capped, uncapped = (attempt.reserve(enrichment(max_output_tokens=cap), one) or 0 for cap in (100, 4_096))
    assert 0 < capped < uncapped
    assert attempt.reserve(enrichment(base_url="http://127.0.0.1:1/v1"), one) is None
    assert start(one).reserved_tokens == one.input_tokens + 4_096


# -- hashes -----------------------------------------------------------------------------------------------------------


def test_the_hash_of_the_input_changes_with_what_the_model_reads() -> None:
    changes = {"title": "Other", "company": "Other", "location": "Other", "description": "Other"}
    hashes = {posting(**{name: value}).input_hash for name, value in changes.items()}
    assert len(hashes | {posting().input_hash}) == 5
    assert posting(url="https://example.com", language="nl").input_hash == posting().input_hash


def test_the_hash_of_the_prompt_and_of_the_schema_follow_theirs(bare: Path) -> None:
    before = enrichment()
    (bare / "mine.md").write_text("Find the pay.")
    (bare / "enrichlog.toml").write_text('prompt = "mine.md"\n')
    after = enrichment(result_model="enrichlog.result:Salary")
    assert before.prompt.hash != after.prompt.hash
    assert before.schema_hash != after.schema_hash
    assert enrichment().facts() == after.facts()


# -- named enrichments ------------------------------------------------------------------------------------------------

TOML = """model = "gpt-4o"
parameters = { temperature = 0.5, seed = 1 }

[enrichments.pay]
prompt = "pay.md"
result_model = "enrichlog.result:Salary"
parameters = { seed = 2 }
"""


def test_a_named_enrichment_has_its_own_and_the_rest_from_above(bare: Path) -> None:
    (bare / "enrichlog.toml").write_text(TOML)
    (bare / "pay.md").write_text("Find the pay.")
    pay, job = (enrichment_of(Settings(), name) for name in ("pay", "job"))
    assert (pay.name, pay.prompt.name, pay.result_model.__name__) == ("pay", "pay", "Salary")
    assert (pay.model, pay.parameters) == ("gpt-4o", {"temperature": 0.5, "seed": 2})
    assert (job.prompt.name, job.result_model.__name__) == ("job", "JobEnrichment")


def test_a_flag_or_the_environment_wins_over_what_the_file_says_of_an_enrichment(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "enrichlog.toml").write_text('[enrichments.job]\nmodel = "gpt-4o"\n')
    assert enrichment_of(Settings()).model == "gpt-4o"
    monkeypatch.setenv("ENRICHLOG_MODEL", "gpt-4.1")
    assert enrichment_of(Settings()).model == "gpt-4.1"
    assert enrichment_of(Settings(model="gpt-4o-mini")).model == "gpt-4o-mini"


def test_an_enrichment_that_nobody_configured_is_refused() -> None:
    with pytest.raises(UnknownEnrichment, match=r"There is no enrichment pay\. Known are: job"):
        enrichment_of(Settings(), "pay")


def test_a_prompt_or_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidPrompt, match=r"The prompt gone\.md is not usable: No such file or directory"):
        enrichment_of(Settings(prompt=Path("gone.md")))
    with pytest.raises(InvalidResultModel, match="The result model gone:Model is not usable"):
        enrichment_of(Settings(result_model="gone:Model"))


DEFAULT = enrichment_of(Settings.model_construct())

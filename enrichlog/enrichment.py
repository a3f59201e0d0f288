"""An enrichment: which prompt, result model, language model and parameters make the request for a posting."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel

from enrichlog.exceptions import InvalidSetting, UnknownPrice
from enrichlog.price import PricedModel, is_known, provider_of
from enrichlog.prompt import DEFAULT as DEFAULT_PROMPT
from enrichlog.prompt import Prompt, load_prompt
from enrichlog.reply import Api
from enrichlog.result import load_model, schema_hash, strict_schema
from enrichlog.settings import FILE, Settings
from eventlog import canonical

OPENAI_URL = "https://api.openai.com/v1"
OURS = {"model", "input", "messages", "text", "response_format", "store", "stream", "prompt"}
"""Fields of the request that no parameter may replace: the events would tell another story."""

OUTPUT_CAPS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
"""Parameters that bound the answer, whichever the server knows."""

BOUNDED_OUTPUT_TOKENS = 4_096
"""The cap that an answer gets when money is limited and nobody has set one."""

BYTES_PER_TOKEN = 4
"""About four characters of English to a token, as providers' guides say; other languages have more bytes in each."""


class Enrichment(NamedTuple):
    """Everything about a request that is the same for all postings."""

    name: str
    prompt: Prompt
    result_model: type[BaseModel]
    schema: dict[str, Any]
    schema_hash: str
    schema_bytes: int
    model: str
    parameters: dict[str, Any]
    api: Api
    server: str
    prices_of: str | None
    credential: str

    @property
    def priced(self) -> PricedModel:
        """Which price applies."""
        return PricedModel(self.model, self.server, self.prices_of)

    @property
    def endpoint(self) -> str:
        """The server's URL without what may be a secret in it: user, query and fragment."""
        parts = urlsplit(self.server)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    @property
    def called(self) -> tuple[str, str, str]:
        """Whom its calls go to, with which model and credential: what a breaker stands for."""
        return self.endpoint, self.model, self.credential

    def require_price(self, limit: type[UnknownPrice] = UnknownPrice) -> None:
        """Raises `UnknownPrice`, that of the `limit` of money in question, when what a call costs is not known."""
        if not is_known(self.priced):
            raise limit(model=self.model, server=self.endpoint)

    @property
    def output_cap(self) -> int | None:
        """The most tokens that an answer may have; None when the request does not say."""
        return max((cap for name in OUTPUT_CAPS if isinstance(cap := self.parameters.get(name), int)), default=None)

    def with_bounded_cost(self) -> Enrichment:
        """The same, with a cap on the answer, so that a call has a highest cost. Raises `UnknownPrice`."""
        self.require_price()
        if self.output_cap is not None:
            return self
        return self._replace(parameters={**self.parameters, _output_cap_of(self.api): BOUNDED_OUTPUT_TOKENS})

    def with_larger_output(self) -> Enrichment:
        """The same, with room for twice the answer where the request bounds it: the last one was cut off."""
        larger = {name: 2 * cap for name in OUTPUT_CAPS if isinstance(cap := self.parameters.get(name), int)}
        return self._replace(parameters=self.parameters | larger)

    def facts(self) -> dict[str, Any]:
        """What start and end events carry of it."""
        return {
            "provider_name": provider_of(self.endpoint),
            "endpoint": self.endpoint,
            "credential": self.credential,
            "openai_api_type": "responses" if self.api == "responses" else "chat_completions",
            "request_model": self.model,
            "request_parameters": canonical.text(self.parameters),
            "prompt_name": self.prompt.name,
            "prompt_version": self.prompt.version,
            "prompt_hash": self.prompt.hash,
            "schema_hash": self.schema_hash,
        }


class Request(NamedTuple):
    """A request ready to be sent; `kept_characters` is set when the description was cut to fit."""

    body: dict[str, object]
    input_tokens: int
    characters: int
    kept_characters: int | None = None


def enrichment_of(settings: Settings, name: str = "job") -> Enrichment:
    """The enrichment of that name. Raises what is wrong with its prompt, result model or settings."""
    own = settings.for_enrichment(name)
    result_model = load_model(own.result_model or settings.result_model)
    parameters = dict(own.parameters or {})
    if taken := sorted(OURS & parameters.keys()):
        raise InvalidSetting(name="parameters", source=FILE, reason=f"{', '.join(taken)} is set by enrichlog itself")
    if settings.max_output_tokens is not None:
        parameters[_output_cap_of(settings.api)] = settings.max_output_tokens
    return Enrichment(
        name=name,
        prompt=load_prompt(own.prompt or DEFAULT_PROMPT),
        result_model=result_model,
        schema=strict_schema(result_model),
        schema_hash=schema_hash(result_model),
        schema_bytes=len(canonical.text(strict_schema(result_model)).encode()),
        model=own.model or settings.model,
        parameters=parameters,
        api=settings.api,
        server=(settings.base_url or OPENAI_URL).rstrip("/"),
        prices_of=settings.prices_of,
        credential=fingerprint(settings.api_key.get_secret_value() if settings.api_key else ""),
    )


def request_for(
    enrichment: Enrichment, posting: Mapping[str, str | None], input_hash: str, limit: int, *, cut: bool
) -> Request:
    """The request for a posting. Over `limit` tokens the description is cut when `cut` says so, never to nothing."""
    description = posting.get("description") or ""

    def asked(kept: str) -> Request:
        text = enrichment.prompt.render({**posting, "description": kept}, input_hash)
        return Request(_body(enrichment, text), -(-_bytes(enrichment, text) // BYTES_PER_TOKEN), len(description))

    whole = asked(description)
    if whole.input_tokens <= limit or not cut:
        return whole
    kept = _cut(enrichment, posting, input_hash, limit * BYTES_PER_TOKEN)
    return asked(kept)._replace(kept_characters=len(kept)) if kept.strip() else whole


def _output_cap_of(api: Api) -> str:
    return "max_output_tokens" if api == "responses" else "max_tokens"


def fingerprint(api_key: str) -> str:
    """Which key was used, without the key: the first 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(api_key.strip().encode()).hexdigest()[:12]


def _cut(enrichment: Enrichment, posting: Mapping[str, str | None], input_hash: str, most: int) -> str:
    """As much of the description as fits where the whole input may have `most` bytes; a template may show it twice."""
    description = (posting.get("description") or "").encode("utf-8", "replace")
    without, whole = (
        _bytes(enrichment, enrichment.prompt.render({**posting, "description": text}, input_hash))
        for text in ("", description.decode())
    )
    times = (whole - without) // len(description) if description else 0
    room = max(0, most - without) // times if times else 0
    return description[:room].decode("utf-8", "ignore")  # a character that does not fit as a whole is left out


def _bytes(enrichment: Enrichment, text: str) -> int:
    """How large an input is: with the instructions and the schema, which are sent with every posting."""
    return len(text.encode("utf-8", "replace")) + len(enrichment.prompt.instructions.encode()) + enrichment.schema_bytes


def _body(enrichment: Enrichment, text: str) -> dict[str, object]:
    """The JSON of the request. The instructions come first, so that providers can cache what is the same for all."""
    name = enrichment.result_model.__name__
    messages = [{"role": "system", "content": enrichment.prompt.instructions}, {"role": "user", "content": text}]
    if enrichment.api == "chat":
        form = {"type": "json_schema", "json_schema": {"name": name, "schema": enrichment.schema, "strict": True}}
        return {"model": enrichment.model, "messages": messages, "response_format": form, **enrichment.parameters}
    text_form = {"type": "json_schema", "name": name, "schema": enrichment.schema, "strict": True}
    asked: dict[str, object] = {
        "model": enrichment.model,
        "input": messages,
        "text": {"format": text_form},
        "store": False,
    }
    return {**asked, **enrichment.parameters}

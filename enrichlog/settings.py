"""The settings: flags, then the environment, then `enrichlog.toml`, then defaults; read at first use."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from enrichlog.errors import ERROR_TYPES
from enrichlog.exceptions import InvalidSetting, UnknownEnrichment
from enrichlog.masking import masked
from enrichlog.price import LEAST_DOLLARS, MOST_DOLLARS
from enrichlog.reply import Api
from enrichlog.retry import BACKOFF_BASE_SECONDS, DEFAULT_MAX_ATTEMPTS
from eventlog.redaction import remember_secret

FILE = "enrichlog.toml"
USUAL_NAMES = {"database": "DATABASE_URL", "api_key": "OPENAI_API_KEY", "base_url": "OPENAI_BASE_URL"}
"""Environment variables that people have set already; `ENRICHLOG_…` wins over them."""


MOST = 10**9
"""The highest limit: what is larger is none."""

OURS_TO_DECIDE = ("interrupted", "budget_exceeded", "storage_error")
"""Error types that no answer of a provider can have."""


def _known_error_type(name: str) -> str:
    known = [kind for kind in ERROR_TYPES if kind not in OURS_TO_DECIDE]
    if name not in known:
        raise ValueError(f"no code means the error type {name}; it can mean {', '.join(known)}")
    return name


def _enrichment_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError("a name of an enrichment is a-z, 0-9 and _, a letter first")
    return name


def _base_url(url: str | None) -> str | None:
    """The URL of a server; set and empty is not set."""
    url = (url or "").strip()
    parts = urlsplit(url)
    is_server = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not re.search(r"\s", url)
    if url and not is_server:
        raise ValueError("it is not the URL of a server, such as http://localhost:11434/v1")
    return url or None


class EnrichmentSettings(BaseModel):
    """What can be set for each enrichment apart; unset is taken from the settings above it."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    prompt: Path | None = None
    result_model: str | None = None
    model: str | None = None
    parameters: dict[str, Any] | None = None


class SourceSettings(BaseModel):
    """Where the postings of an adopted database come from."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(
        description="a SELECT of id, title, description and, where there are any, company, location, url"
    )


class Constant(BaseModel):
    """The same value for every posting."""

    model_config = ConfigDict(extra="forbid")

    constant: Any


class TargetSettings(BaseModel):
    """The table of an adopted database that shows the results of one enrichment."""

    model_config = ConfigDict(extra="forbid")

    table: str = Field("llm_enrichment", description="its name, with its schema where that is not searched")
    id_column: str = Field("job_posting_id", description="the column that has the posting's id")
    enrichment: str = Field("job", description="the enrichment whose results it shows")
    columns: dict[str, str | Constant] = Field(
        description="column -> field of the result, @error, @completed_at, @model_version, or { constant = … }"
    )
    after_success: str | None = Field(None, description="SQL to run with each result; :id is the posting's id")


class Settings(BaseSettings):
    """All settings, with their defaults."""

    model_config = SettingsConfigDict(
        env_prefix="ENRICHLOG_", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid",
        protected_namespaces=(), toml_file=FILE,
    )  # fmt: skip

    database: str = Field("enrichlog.db", description="file name or database URL")
    database_schema: str = Field(
        "enrichlog", pattern="^[A-Za-z_][A-Za-z0-9_]*$", description="PostgreSQL schema of the tables that are ours"
    )
    api_key: SecretStr | None = Field(None, description="key of the API")
    base_url: Annotated[str | None, AfterValidator(_base_url)] = Field(
        None, description="URL of an OpenAI-compatible server"
    )
    api: Api = Field("responses", description="responses, or chat for compatible servers")
    prices_of: str | None = Field(None, description="provider whose prices apply, when the URL does not tell")
    model: str = Field("gpt-4o-mini", description="model to ask")
    parameters: dict[str, Any] = Field(default_factory=dict, description="further fields of the request")
    prompt: Path | None = Field(None, description="prompt file")
    result_model: str = Field("enrichlog.result:JobEnrichment", description="pydantic model of the result")
    enrichments: dict[Annotated[str, AfterValidator(_enrichment_name)], EnrichmentSettings] = Field(
        default_factory=dict, description="further enrichments by name"
    )
    source: SourceSettings | None = Field(None, description="the query that an adopted database's postings come from")
    target: TargetSettings | None = Field(None, description="the table that an adopted database's results go to")
    deadline_seconds: float = Field(300.0, gt=0, le=86_400, description="total time of one call")
    max_input_tokens: int = Field(100_000, gt=0, description="larger inputs fail before the call")
    cut_input: bool = Field(False, description="cut larger inputs instead, and record it")
    max_output_tokens: int | None = Field(None, gt=0, description="cap of the answer")
    concurrency: int = Field(8, ge=1, le=1_000, description="calls at the same time")
    max_attempts: int = Field(
        DEFAULT_MAX_ATTEMPTS, ge=1, le=100, description="counted attempts of a posting, the first included"
    )
    backoff_base_seconds: float = Field(BACKOFF_BASE_SECONDS, gt=0, description="wait after the first failure")
    requests_per_minute: int | None = Field(
        None, gt=0, le=MOST, description="limit of calls, shared by all that set the same"
    )
    tokens_per_minute: int | None = Field(
        None, gt=0, le=MOST, description="limit of tokens, shared by all that set the same"
    )
    dollars_per_day: float | None = Field(
        None,
        ge=LEAST_DOLLARS,
        le=MOST_DOLLARS,
        allow_inf_nan=False,
        description="limit of money, counting all that is spent",
    )
    error_codes: dict[str, Annotated[str, AfterValidator(_known_error_type)]] = Field(
        default_factory=dict, description="a provider's code or type (or code:param) -> error type"
    )
    state_folder: Path | None = Field(None, description="where this machine keeps the names of its workers")
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="of our own logging")
    log_format: Literal["text", "json"] = Field("text", description="of our own logging")

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_for_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Pydantic takes true for 1."""
        if isinstance(value, bool) and cls.model_fields[field.field_name or ""].annotation is not bool:
            raise ValueError("true and false are no value for it")
        return value

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Flags, our variables, the usual variables, the file."""
        return init_settings, env_settings, _UsualNames(settings_cls), TomlConfigSettingsSource(settings_cls)

    @cached_property
    def sources(self) -> dict[str, str]:
        """Where each value came from: flag, a variable, the file or default."""
        file = TomlConfigSettingsSource(type(self))()
        return {name: _source(name, file, self.model_fields_set) for name in type(self).model_fields}

    def listed(self) -> list[dict[str, Any]]:
        """Every setting with its value, secrets masked, and where it came from."""
        names = type(self).model_fields
        return [{"name": name, "value": masked(getattr(self, name)), "source": self.sources[name]} for name in names]

    def for_enrichment(self, name: str) -> EnrichmentSettings:
        """The settings of one enrichment; `job` is always there. Raises `UnknownEnrichment`."""
        if name not in self.enrichments and name != "job":
            raise UnknownEnrichment(name=name, known=", ".join(dict.fromkeys(("job", *self.enrichments))))
        own = self.enrichments.get(name, EnrichmentSettings())
        return EnrichmentSettings(
            prompt=self._of(own, "prompt"),
            result_model=self._of(own, "result_model"),
            model=self._of(own, "model"),
            parameters=self.parameters | (own.parameters or {}),
        )

    def enrichments_of(self, model: str) -> list[str]:
        """The names of the enrichments that ask this model."""
        names = dict.fromkeys(("job", *self.enrichments))
        return [name for name in names if self.for_enrichment(name).model == model]

    def _of(self, own: EnrichmentSettings, name: str) -> Any:
        """An enrichment's own value, unless a flag or the environment sets it for all."""
        for_all = self.sources[name] not in (FILE, "default")
        return getattr(self, name) if for_all else getattr(own, name) or getattr(self, name)


class _UsualNames(PydanticBaseSettingsSource):
    """DATABASE_URL, OPENAI_API_KEY, OPENAI_BASE_URL."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return os.environ.get(USUAL_NAMES.get(field_name, "")) or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: os.environ.get(variable) for name, variable in USUAL_NAMES.items()}
        return {name: value for name, value in found.items() if value}


_overrides: dict[str, Any] = {}
_current: Settings | None = None


def configure(**values: Any) -> Settings:
    """Set values as flags do, for this process: in a notebook, a script or a test. None leaves a value as it was.

    Raises `InvalidSetting`.
    """
    global _current
    _overrides.update({name: value for name, value in values.items() if value is not None})
    _current = None
    return current()


def current() -> Settings:
    """The settings, read at the first call. Raises `InvalidSetting`."""
    global _current
    if _current is None:
        _current = load(**_overrides)
    return _current


def reset() -> None:
    """Forget what was configured and read; the next use reads anew."""
    global _current
    _overrides.clear()
    _current = None


def load(**flags: Any) -> Settings:
    """Read the settings with these flags. Raises `InvalidSetting` that names the setting and where it was set."""
    try:
        settings = Settings(**flags)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"])) or "?"
        file = TomlConfigSettingsSource(Settings)()
        source = _source(str(fault["loc"][0]) if fault["loc"] else "?", file, set(flags) & {name})
        raise InvalidSetting(name=name, source=source, reason=_told(fault)) from None
    except SettingsError as error:
        name = str(error).split('"')[1]
        raise InvalidSetting(name=name, source=_source(name, {}, set()), reason="it is not JSON") from error
    except (ValueError, OSError) as error:  # the file is not TOML
        raise InvalidSetting(name=FILE, source=str(Path(FILE).absolute()), reason=str(error)) from None
    if settings.api_key is not None:
        remember_secret(settings.api_key.get_secret_value())
    return settings


_TABLES: dict[str, type[BaseModel]] = {
    "enrichments": EnrichmentSettings, "source": SourceSettings, "target": TargetSettings,
}  # fmt: skip


def _told(fault: ErrorDetails) -> str:
    """A fault in our words where pydantic's say nothing to a user."""
    if fault["type"] == "extra_forbidden":
        known = _TABLES.get(str(fault["loc"][0]), Settings) if len(fault["loc"]) > 1 else Settings
        return f"there is no such setting; known are {', '.join(known.model_fields)}"
    return str(fault["msg"]).removeprefix("Value error, ")


def _source(name: str, file: dict[str, Any], given: set[str]) -> str:
    if name in _overrides:
        return "flag"
    for variable in os.environ:  # in any case of letters, and for one value within a table: ENRICHLOG_PARAMETERS__SEED
        if variable.upper().split("__")[0] == f"ENRICHLOG_{name}".upper() and os.environ[variable]:
            return variable
    if os.environ.get(USUAL_NAMES.get(name, "")):
        return USUAL_NAMES[name]
    if name in file or (name in given and Path(FILE).exists()):
        return FILE
    return "default" if name not in given else "flag"

"""An OpenAI-compatible server on loopback: it answers with the request's own words, plays faults, and has no model.

By hand: `python simulator.py --fault "Senior Data Scientist=rate_limit,ok"`. In a test: `with Simulator(Script(...)) as
simulator:` and point a client at `simulator.base_url`. This one file needs aiohttp and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import html
import importlib
import ipaddress
import json
import math
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from functools import cached_property
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from aiohttp import web

# -- what is played ---------------------------------------------------------------------------------------------------


class Fault(StrEnum):
    """What a call is answered with; `ok` is the absence of a fault."""

    OK = auto()
    QUOTA = auto()  # 429 that no retry mends
    RATE_LIMIT = auto()  # 429 with Retry-After
    REQUEST_TOO_LARGE = auto()  # 429 that no retry mends, although its code is that of a rate limit
    UNAUTHORIZED = auto()  # 401
    MODEL_NOT_FOUND = auto()  # 404
    BAD_REQUEST = auto()  # 400
    INVALID_SCHEMA = auto()  # 400 that names the schema
    CONTEXT_LENGTH = auto()  # 400
    SERVER_ERROR = auto()  # 500
    BAD_GATEWAY = auto()  # 502 with an HTML page
    OVERLOADED = auto()  # 503
    REDIRECT = auto()  # 307 to /redirected/..., which answers
    HANG = auto()  # no answer until the client leaves
    DRIP = auto()  # the answer, a byte at a time
    RESET = auto()  # the connection ends after half the body
    TRUNCATED_JSON = auto()  # 200, half the body, complete as HTTP
    HTML = auto()  # 200 with an HTML page
    HUGE = auto()  # 200, a valid answer in 10 MB
    FAILED = auto()  # 200, an error instead of an answer
    WRONG_SCHEMA = auto()  # 200, the model's text is JSON that misses the schema
    INVALID_JSON = auto()  # prose
    FENCED_JSON = auto()  # a valid answer within one ```json fence
    REFUSAL = auto()
    INCOMPLETE = auto()  # cut at max_output_tokens
    CONTENT_FILTER = auto()  # withheld
    EMPTY = auto()  # no text


COUNTED = frozenset({Fault.OK, Fault.FENCED_JSON, Fault.DRIP, Fault.HUGE})  # successful answers: they use up a quota
STREAMED = frozenset({Fault.DRIP, Fault.RESET, Fault.HUGE})  # written in pieces


@dataclass(frozen=True)
class Rule:
    """Plays `faults`, one per call and the last one for ever, to requests whose user text contains `match`."""

    match: str
    faults: Sequence[str]

    def __post_init__(self) -> None:
        if not isinstance(self.match, str) or not isinstance(self.faults, list | tuple) or not self.faults:
            raise ValueError(f"a rule is a text to match and a list of faults, not {self.match!r} and {self.faults!r}")
        for name in self.faults:
            if name not in list(Fault):
                raise ValueError(f"unknown fault {name!r}; known are {', '.join(Fault)}")


@dataclass(frozen=True)
class Script:
    """How to answer: by the first rule that matches, else `ok`.

    `quota`: successful answers until every call gets the quota fault. `latency`: seconds per answer, or (low, high) of
    which the text draws. `retry_after`: seconds, of the rate limit. `drip`: seconds between two bytes of that fault.
    """

    rules: Sequence[Rule] = ()
    quota: int | None = None
    latency: float | Sequence[float] = 0.0
    retry_after: float = 1.0
    drip: float = 0.5

    def __post_init__(self) -> None:
        try:
            low, high = self.latency_range
            is_sound = 0 <= low <= high < math.inf and min(self.retry_after, self.drip, self.quota or 0) >= 0
        except (TypeError, ValueError):
            is_sound = False
        if not is_sound:
            raise ValueError("quota, latency, retry_after and drip are 0 or more; a range of latency is [low, high]")

    @property
    def latency_range(self) -> tuple[float, float]:
        """The shortest and the longest latency, in seconds."""
        low, high = self.latency if isinstance(self.latency, Sequence) else (self.latency, self.latency)
        return low, high

    @classmethod
    def parse(cls, document: Any) -> Self:
        """The script of a JSON object; what is left out has its default. ValueError says what is wrong."""
        try:
            return cls(**{**document, "rules": tuple(Rule(**rule) for rule in document.get("rules", ()))})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a script: {error}") from error


class Call(NamedTuple):
    """One call in the journal."""

    number: int
    received_ms: int  # since the start, monotonic
    path: str
    model: str | None
    client_request_id: str | None
    key_sha256: str | None
    input_sha256: str | None  # of the last user message
    fault: str | None  # None where the request never reached the script
    status: int | None  # None for one that hangs
    input_tokens: int
    output_tokens: int
    completed: bool  # the reply was written to its end


# -- the request's own words ------------------------------------------------------------------------------------------

READ_LIMIT = 2_000  # characters that are read for words: a longer text costs no more
LABEL = re.compile(r'^[ \t"*<-]*(?:\w+ )?([^\W\d_]+)["*]*(?:[ \t]*[:=][ \t]*|>)["*]*([^\n<]{2,200})', re.MULTILINE)
TAG = re.compile(r"<[^<>]{1,200}>")
MARK = re.compile(r"|\[(begin|end) [^\[\]]{1,100}\]")  # nothing, or what prompts put around a text
UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]+")
WORD = re.compile(r"\w[\w+#]+")
MONEY = re.compile(r"([€$£]) ?(\d{1,3}(?:[.,]\d{3})+|\d{2,3}(?=k))(k?)", re.IGNORECASE)
CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP"}
# fmt: off
LANGUAGES = {"english": "English", "englisch": "English", "engels": "English", "engelska": "English",
             "german": "German", "deutsch": "German", "dutch": "Dutch", "nederlands": "Dutch",
             "swedish": "Swedish", "svenska": "Swedish", "french": "French", "spanish": "Spanish"}
COMMON = {"a", "about", "all", "an", "and", "are", "as", "at", "be", "by", "das", "de", "der", "die", "du", "een", "en",
          "for", "from", "have", "het", "ihr", "in", "is", "it", "job", "more", "of", "on", "or", "our", "that", "the",
          "their", "they", "this", "to", "und", "vi", "we", "what", "who", "will", "wir", "with", "you", "your"}
# fmt: on


class Posting:
    """The words of one text, each kind found when a field first asks for it."""

    def __init__(self, text: str) -> None:
        self.raw = text[:READ_LIMIT]

    @cached_property
    def lines(self) -> list[str]:
        """The lines that say something, without markup and control characters."""
        text = html.unescape(TAG.sub(" ", self.raw)) if "<" in self.raw or "&" in self.raw else self.raw
        lines = UNPRINTABLE.sub(" ", text).splitlines()
        return [" ".join(line.split()) for line in lines if not (line.isspace() or MARK.fullmatch(line))]

    @cached_property
    def labels(self) -> dict[str, str]:
        """Values of lines such as `Company: Acme` or `<title>Engineer</title>` near the top, by lower-case label."""
        found = reversed(LABEL.findall(UNPRINTABLE.sub(" ", self.raw[:1_000])))  # reversed: the first of two stays
        return {label.lower(): " ".join(value.split()).strip(' ",') for label, value in found}

    @cached_property
    def title(self) -> str:
        """What is labelled so, else the first line."""
        return self.labels.get("title") or next(iter(self.lines), "Untitled")[:120]

    @cached_property
    def prose(self) -> str:
        """All lines but the title and the labels."""
        head = [line for line in self.lines[:8] if line != self.title and not LABEL.match(line)]
        return " ".join(head + self.lines[8:]) or self.title

    @cached_property
    def sentences(self) -> list[str]:
        """The first sentences of the prose."""
        return re.split(r"(?<=[.!?]) ", self.prose[:1_000])

    @cached_property
    def words(self) -> list[str]:
        """The words of the prose, each once; perhaps none."""
        return list(dict.fromkeys(WORD.findall(self.prose)))

    @cached_property
    def keywords(self) -> list[str]:
        """Names first (PostgreSQL, AWS, C#), then capitalised words, then long ones."""
        telling = [word for word in self.words if (word[0].isupper() or len(word) > 7) and word.lower() not in COMMON]
        return sorted(telling, key=lambda word: word[1:].islower() if word[0].isupper() else 2) or ["unspecified"]

    @cached_property
    def title_words(self) -> set[str]:
        """The words of the title, in lower case."""
        return set(WORD.findall(self.title.lower()))

    @cached_property
    def lower_words(self) -> set[str]:
        """The words of title and prose, to ask whether one of them is there."""
        return {word.lower() for word in self.words} | self.title_words

    @cached_property
    def languages(self) -> list[str]:
        """The languages it names, else English."""
        named = (name for word, name in LANGUAGES.items() if word in self.lower_words)
        return list(dict.fromkeys(named)) or ["English"]

    @cached_property
    def pay(self) -> list[tuple[int, str]]:
        """Amounts of money with their currency, lowest first."""
        found = [(re.sub("[.,]", "", digits) + "000" * bool(k), sign) for sign, digits, k in MONEY.findall(self.raw)]
        return sorted((int(digits), CURRENCIES[sign]) for digits, sign in found)


# -- an answer for any JSON schema ------------------------------------------------------------------------------------

Source = Callable[[Posting], Any]  # makes the value of one field
Schema = Mapping[str, Any]

VAGUE = ("none", "unknown", "other", "unspecified", "not_specified", "any")
FORMATS = {
    "date": "2026-01-05", "date-time": "2026-01-05T09:00:00Z", "time": "09:00:00Z", "duration": "P1D",
    "email": "jobs@example.com", "idn-email": "jobs@example.com", "hostname": "example.com",
    "uri": "https://example.com/", "url": "https://example.com/", "uri-reference": "/", "ipv4": "127.0.0.1",
    "ipv6": "::1", "ipvanyaddress": "127.0.0.1", "json-string": "{}", "base64url": "YWJj", "regex": ".*",
}  # fmt: skip
HINTS: dict[str, Callable[[Posting, Sequence[str]], Sequence[str]]] = {  # by a word of the field's name
    "summary": lambda posting, name: [
        " ".join(posting.sentences[: 1 if "short" in name else 4 if "long" in name else 2])
    ],
    "description": lambda posting, name: [" ".join(posting.sentences[:4])],
    "title": lambda posting, name: [posting.title],
    "language": lambda posting, name: posting.languages,
    "languages": lambda posting, name: posting.languages,
    "currency": lambda posting, name: [posting.pay[0][1]] if posting.pay else ["EUR"],
}


class Unanswerable(ValueError):
    """No answer fits this schema"""


class Field(NamedTuple):
    """Where in the answer a value stands."""

    words: tuple[str, ...] = ()  # of its name and of the names above it
    own: tuple[str, ...] = ()  # of its own name
    place: int = 0  # in its list
    must: bool = True  # unless it must, None is a value: null, or one less in the list
    listed: bool = False
    refs: frozenset[str] = frozenset("#")  # the references it stands in

    def named(self, name: str) -> Field:
        own = tuple(word.lower() for word in re.findall(r"[A-Z]*[a-z]+|[A-Z]+", name))
        return self._replace(words=self.words + own, own=own, must=True)

    @property
    def is_pay(self) -> bool:
        return not {"salary", "pay", "wage", "compensation"}.isdisjoint(self.words)


def compile_schema(schema: Schema) -> Source:
    """The source of answers that fit a JSON schema, field names giving hints; Unanswerable says why there is none."""
    try:
        source = _Compiler(schema).source(schema, Field())
        source(Posting("a trial"))
        return source
    except (AttributeError, TypeError, KeyError, RecursionError) as error:
        raise Unanswerable(f"this is no JSON schema: {error!r}") from error


class _Compiler:
    """Walks a schema once; what an answer needs of it stays in the sources."""

    def __init__(self, root: Schema) -> None:
        self.root = root

    def source(self, schema: Any, field: Field) -> Source:
        if schema is False:
            raise Unanswerable("nothing is allowed here")
        schema, field = self.resolve(schema if isinstance(schema, Mapping) else {}, field)
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if branches := schema.get("anyOf") or schema.get("oneOf"):
            return self.either(branches, field)
        if isinstance(kind, list):
            return self.either([{**schema, "type": one} for one in kind], field)
        if "enum" in schema or "const" in schema:
            return _choice(schema.get("enum") or [schema.get("const")], field)
        makers: dict[str, Callable[[Schema, Field], Source]] = {
            "object": self.object, "array": self.array, "string": _string, "integer": _number, "number": _number,
            "boolean": _boolean, "null": lambda schema, field: lambda posting: None,
        }  # fmt: skip
        return makers[kind](schema, field)

    def attempt(self, schema: Any, field: Field) -> Source | None:
        """None where there is no end, such as in a branch that contains itself."""
        try:
            return self.source(schema, field)
        except Unanswerable:
            return None

    def resolve(self, schema: Schema, field: Field) -> tuple[Schema, Field]:
        """The schema with its reference and its allOf merged in."""
        while "$ref" in schema:
            ref, target = schema["$ref"], self.root
            if ref in field.refs:
                raise Unanswerable(f"{ref} contains itself")
            for step in ref.split("/")[1:]:
                if step not in target:
                    raise Unanswerable(f"{ref} leads nowhere")
                target = target[step]
            field = field._replace(refs=field.refs | {ref})
            schema = {**target, **{key: schema[key] for key in schema if key != "$ref"}}
        for part in schema.get("allOf", ()):
            part, field = self.resolve(part, field)
            properties = {**schema.get("properties", {}), **part.get("properties", {})}
            schema = {**schema, **part, **({"properties": properties} if properties else {})}
        return schema, field

    def either(self, branches: Sequence[Any], field: Field) -> Source:
        """The first branch that ends; where null is one of them, null if the text has nothing to say."""
        values = [branch for branch in branches if branch.get("type") != "null"]
        nullable = len(values) < len(branches)
        field = field._replace(must=field.must and not nullable)
        source = next((made for branch in values if (made := self.attempt(branch, field))), None)
        if source is None and not nullable:
            raise Unanswerable("no branch ends")
        if source is None:
            return lambda posting: None
        return (lambda posting: source(posting) if posting.pay else None) if nullable and field.is_pay else source

    def object(self, schema: Schema, field: Field) -> Source:
        required, sources = schema.get("required", ()), dict[str, Source]()
        for name, inner in {**{name: {} for name in required}, **schema.get("properties", {})}.items():
            if made := self.attempt(inner, field.named(name)):
                sources[name] = made
            elif name in required:
                raise Unanswerable(f"{name} does not end")
        for place in range(schema.get("minProperties", 0) - len(sources)):
            sources[f"key{place}"] = self.source(schema.get("additionalProperties"), field._replace(place=place))
        return lambda posting: {name: source(posting) for name, source in sources.items()}

    def array(self, schema: Schema, field: Field) -> Source:
        fixed, least = schema.get("prefixItems", ()), schema.get("minItems", 0)
        most = min(schema.get("maxItems", math.inf), max(least, 1 if field.listed else 5))  # lists in lists stay small
        field, sure = field._replace(listed=True), max(least, len(fixed))
        sources = [self.source(inner, field._replace(must=True)) for inner in fixed]
        for place in range(len(fixed), int(most)):
            made = self.attempt(schema.get("items", not fixed), field._replace(place=place, must=place < least))
            if made is None and place < least:
                raise Unanswerable("the list does not end")
            sources += [made] if made else []

        def fill(posting: Posting) -> list[Any]:
            values = [source(posting) for source in sources]
            return values[:sure] + [value for value in values[sure:] if value is not None]

        return fill


def _choice(values: Sequence[Any], field: Field) -> Source:
    """Of the allowed values those whose words are in the text; a vague one where none is."""
    vague_first = sorted(values, key=lambda value: str(value).lower() not in VAGUE)
    parts = [(value, frozenset(WORD.findall(str(value).lower().replace("_", " ")))) for value in vague_first]

    def choose(posting: Posting) -> Any:
        said = [pair for pair in parts if pair[1] and pair[1] <= posting.lower_words]
        said.sort(key=lambda pair: not pair[1] <= posting.title_words)
        ranked = [value for value, _ in said + [pair for pair in parts if pair not in said]]
        return ranked[field.place % len(ranked)] if field.must or field.place < len(said) else None

    return choose


def _boolean(schema: Schema, field: Field) -> Source:
    return lambda posting: not posting.lower_words.isdisjoint(field.own)


def _number(schema: Schema, field: Field) -> Source:
    """An amount of pay under such a name, else the lowest allowed number from 0; within the bounds in any case."""
    step = schema.get("multipleOf", 1 if schema["type"] == "integer" else 0)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    gap = step or min(1.0, (below - above) / 4)
    low, high = max(schema.get("minimum", -math.inf), above + gap), min(schema.get("maximum", math.inf), below - gap)

    def fit(value: float) -> float:
        value = min(max(value, low), high)
        up = step * math.ceil(value / step) if step else value
        return up if up <= high else step * math.floor(value / step)

    smallest = fit(field.place * (step or 1))
    if field.is_pay:
        end = -1 if any(word.startswith("max") for word in field.own) else 0
        return lambda posting: fit(posting.pay[end][0]) if posting.pay else smallest
    return lambda posting: smallest if field.must else None


def _string(schema: Schema, field: Field) -> Source:
    """What the name hints at, else what is labelled so, else (in a list, or where it must) a keyword; made to fit."""
    hint = next((HINTS[word] for word in HINTS if word in field.own), None)
    place = field.place + (6 if {"nice", "optional", "bonus"} & set(field.own) else 0)  # not the must-haves again
    fit = _fit(schema)

    def find(posting: Posting) -> Sequence[str]:
        if hint:
            return hint(posting, field.own)
        labelled = [posting.labels[word] for word in reversed(field.own) if posting.labels.get(word)]
        return labelled if labelled and not field.listed else posting.keywords if field.listed or field.must else ()

    def write(posting: Posting) -> str | None:
        found = find(posting)
        lap, nth = divmod(field.place if hint else place, len(found) or 1)
        if not found or (lap and not field.must):
            return None
        return fit(f"{found[nth]} {lap + 1}" if lap else found[nth], posting)

    return write


def _fit(schema: Schema) -> Callable[[str, Posting], str]:
    """What makes a text fit the format, else the pattern, else the lengths of a string's schema."""
    form, least, most = str(schema.get("format")), schema.get("minLength", 0), schema.get("maxLength")
    if form in FORMATS:
        return lambda text, posting: FORMATS[form]
    if form.startswith("uuid"):
        return lambda text, posting: str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4))
    if "pattern" not in schema:
        return lambda text, posting: (text * max(1, -(-least // len(text))))[:most]

    def fits(text: str) -> bool:
        return least <= len(text) <= (len(text) if most is None else most) and bool(re.search(schema["pattern"], text))

    sample = next(filter(fits, _samples(schema["pattern"], least)), None)
    if sample is None:
        raise Unanswerable(f"no text was found for the pattern {schema['pattern']!r}")
    return lambda text, posting: next(filter(fits, chain([text], posting.keywords)), sample)


def _samples(pattern: str, length: int) -> Iterator[str]:
    """Texts made of a pattern's letters, classes and repetitions; some of them match, as look-arounds are not read."""
    try:
        tokens = importlib.import_module("re._parser").parse(pattern)  # the library has no public reader of patterns
    except re.error as error:
        raise Unanswerable(f"{pattern!r} is no pattern: {error}") from error
    for longer in range(min(length, 200) + 2):  # repetitions over the least
        for other in "a1A- ":  # what stands for a letter that the pattern leaves open
            yield "".join(_sample(str(name), value, longer, other) for name, value in tokens)


def _sample(name: str, value: Any, longer: int, other: str) -> str:
    def each(tokens: Any) -> str:
        return "".join(_sample(str(name), value, longer, other) for name, value in tokens)

    match name:
        case "LITERAL":
            return chr(value)
        case "RANGE":
            return chr(value[0])
        case "CATEGORY":
            return {"CATEGORY_DIGIT": "1", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " "}.get(str(value), other)
        case "IN":
            return each(value[:1])
        case "ANY" | "NEGATE" | "NOT_LITERAL":
            return other
        case "SUBPATTERN":
            return each(value[-1])
        case "BRANCH":
            return each(value[1][0])
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, tokens = value
            return each(tokens) * int(min(least + longer, most))
    return ""


# -- questions and replies --------------------------------------------------------------------------------------------

TEXTS_OF = {"/v1/responses": "input", "/v1/chat/completions": "messages"}  # the two APIs
MODELS = {"object": "list", "data": [{"id": "simulator", "object": "model", "created": 0, "owned_by": "simulator"}]}


class Question(NamedTuple):
    """What a request asks; `chat` says by which of the two APIs."""

    chat: bool
    model: str
    text: str  # of the last user message
    sha256: str  # of that text
    characters: int  # of all messages
    schema: Any
    most_tokens: int | None


class Problem(NamedTuple):
    """An error in the provider's shape; `param` in the Responses API and in chat completions."""

    status: int
    message: str  # with {model}, {key} and {wait}
    type: str | None = "invalid_request_error"
    param: tuple[str | None, str | None] = (None, None)
    code: str | None = None


class Reply(NamedTuple):
    """A reply before it is sent; `status` is None for one that never is."""

    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = {}
    fault: Fault | None = None
    input_tokens: int = 0
    output_tokens: int = 0


LIMITS = "Visit https://platform.openai.com/account/rate-limits to learn more."
# fmt: off
NO_KEY = Problem(401, "You didn't provide an API key. You need to provide your API key in an Authorization header "
                      "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).")
NOT_JSON = Problem(400, "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
                        "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not "
                        "valid JSON.)")
PROBLEMS = {
    Fault.QUOTA: Problem(
        429, "You exceeded your current quota, please check your plan and billing details. For more information on "
        "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        "insufficient_quota", code="insufficient_quota"),
    Fault.RATE_LIMIT: Problem(
        429, "Rate limit reached for {model} in organization org-simulator on requests per min (RPM): Limit 500, Used "
        "500, Requested 1. Please try again in {wait}s. " + LIMITS, "requests", code="rate_limit_exceeded"),
    Fault.REQUEST_TOO_LARGE: Problem(
        429, "Request too large for {model} in organization org-simulator on tokens per min (TPM): Limit 30000, "
        "Requested 31538. The input or output tokens must be reduced in order to run successfully. " + LIMITS,
        "tokens", code="rate_limit_exceeded"),
    Fault.UNAUTHORIZED: Problem(
        401, "Incorrect API key provided: {key}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.", code="invalid_api_key"),
    Fault.MODEL_NOT_FOUND: Problem(
        404, "The model `{model}` does not exist or you do not have access to it.", code="model_not_found"),
    Fault.BAD_REQUEST: Problem(400, "Invalid request: one of its values is not allowed."),
    Fault.INVALID_SCHEMA: Problem(
        400, "Invalid schema for response_format: In context=(), 'additionalProperties' is required to be supplied and "
        "to be false.", param=("text.format.schema", "response_format")),
    Fault.CONTEXT_LENGTH: Problem(
        400, "This model's maximum context length is 128000 tokens. However, your messages resulted in 140004 tokens. "
        "Please reduce the length of the messages.", param=("input", "messages"), code="context_length_exceeded"),
    Fault.SERVER_ERROR: Problem(
        500, "The server had an error processing your request. Sorry about that! You can retry your request, or "
        "contact us through our help center at help.openai.com if you keep seeing this error.", "server_error"),
    Fault.OVERLOADED: Problem(503, "The engine is currently overloaded, please try again later.", "server_error"),
}
# fmt: on
PAGES = {
    Fault.BAD_GATEWAY: (502, b"<html><body><h1>502 Bad Gateway</h1><hr>nginx</body></html>"),
    Fault.HTML: (200, b"<!doctype html><title>Sign in to this network</title>"),
}


def read_question(method: str, path: str, key: str, raw: bytes) -> Question | Problem:
    """The question that a request asks, or the problem with it."""
    if not key:
        return NO_KEY
    if method != "POST" or path not in TEXTS_OF:
        return Problem(404, f"Invalid URL ({method} {path})")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return NOT_JSON
    if not isinstance(body, dict):
        return NOT_JSON
    texts_of = TEXTS_OF[path]
    for name in ("model", texts_of):
        if not body.get(name):
            problem = f"Missing required parameter: '{name}'."
            return Problem(400, problem, param=(name, name), code="missing_required_parameter")
    if body.get("stream"):
        return Problem(400, "The simulator does not stream.", param=("stream", "stream"), code="unsupported_value")
    texts = list(_texts(body[texts_of]))
    if not texts:
        return Problem(400, f"Invalid type for '{texts_of}'.", param=(texts_of, texts_of), code="invalid_type")
    asked = next((text for role, text in reversed(texts) if role == "user"), texts[-1][1])
    return Question(
        chat=texts_of == "messages",
        model=str(body["model"]),
        text=asked,
        sha256=hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest(),
        characters=sum(len(text) for _, text in texts) + len(str(body.get("instructions") or "")),
        schema=_schema_in(body),
        most_tokens=body.get("max_output_tokens") or body.get("max_completion_tokens") or body.get("max_tokens"),
    )


def _texts(messages: Any) -> Iterator[tuple[str, str]]:
    """The role and the text of each message."""
    if isinstance(messages, str):
        yield "user", messages
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        parts = [{"text": content}] if isinstance(content, str) else content if isinstance(content, list) else ()
        texts = [str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part]
        if texts:
            yield str(message.get("role")), "\n".join(texts)


def _schema_in(body: Mapping[str, Any]) -> Any:
    """The JSON schema of the answer, None where none is asked for."""
    try:
        if "response_format" in body:
            return body["response_format"]["json_schema"]["schema"]
        return body["text"]["format"]["schema"]
    except (KeyError, TypeError):
        return None


def state(problem: Problem, question: Question | None = None, key: str = "", wait: float = 0) -> Reply:
    """The reply that states a problem."""
    masked = f"{key[:5]}***{key[-2:]}" if len(key) > 10 else "***"
    message = problem.message.replace("{key}", masked).replace("{wait}", f"{wait:g}")
    message = message.replace("{model}", question.model if question else "")
    param = problem.param[bool(question and question.chat)]
    error = {"message": message, "type": problem.type, "param": param, "code": problem.code}
    return Reply(problem.status, _json({"error": error}))


def answer(question: Question, fault: Fault, source: Source, number: int) -> Reply:
    """The reply that holds an answer, or what the fault makes of it."""
    posting = Posting(question.text)
    text = _write(fault, source(posting), posting)
    spent = len(text) // 4 + 1 if text else 0
    if fault is Fault.INCOMPLETE and isinstance(question.most_tokens, int):
        spent = question.most_tokens
    tokens = (0, 0) if fault is Fault.FAILED else (question.characters // 4 + 1, spent)
    body = _json((_completion if question.chat else _response)(question, fault, text, number, *tokens))
    return Reply(200, body[: len(body) // 2] if fault is Fault.TRUNCATED_JSON else body, {}, fault, *tokens)


def _write(fault: Fault, value: Any, posting: Posting) -> str:
    """The model's text."""
    text = json.dumps(value, ensure_ascii=False)
    match fault:
        case Fault.WRONG_SCHEMA:
            return json.dumps(_misfit(value))
        case Fault.INVALID_JSON:
            return f"Sure! This is about {', '.join(posting.keywords[:5])}."
        case Fault.FENCED_JSON:
            return f"```json\n{text}\n```"
        case Fault.HUGE:
            return text + " " * 10_000_000
        case Fault.INCOMPLETE:
            return text[: len(text) // 2]
        case Fault.REFUSAL:
            return "I'm sorry, but I cannot assist with that request."
        case Fault.CONTENT_FILTER | Fault.EMPTY | Fault.FAILED:
            return ""
    return text


def _misfit(value: Any) -> Any:
    """The same fields, each of another type: it misses the schema also where every field has a default."""
    if not isinstance(value, dict) or not value:
        return ["unexpected"]
    return {name: "unexpected" if isinstance(inner, dict) else {"unexpected": True} for name, inner in value.items()}


FAILURE = {"code": "server_error", "message": "The model failed to generate a response."}
CUT_SHORT = {Fault.INCOMPLETE: ("max_output_tokens", "length"), Fault.CONTENT_FILTER: ("content_filter",) * 2}


# fmt: off
def _response(question: Question, fault: Fault, text: str, number: int, read: int, spent: int) -> dict[str, Any]:
    """The object of the Responses API."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    if fault is Fault.REFUSAL:
        part = {"type": "refusal", "refusal": text}
    status = "incomplete" if fault in CUT_SHORT else "completed"
    message = {"id": f"msg_{number:032x}", "type": "message", "role": "assistant", "status": status, "content": [part]}
    usage = {"input_tokens": read, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
             "output_tokens": spent, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + spent}
    response = {
        "id": f"resp_{number:032x}", "object": "response", "created_at": int(time.time()), "status": status,
        "error": None, "incomplete_details": {"reason": CUT_SHORT[fault][0]} if fault in CUT_SHORT else None,
        "instructions": None, "max_output_tokens": question.most_tokens, "metadata": {}, "model": question.model,
        "output": [message] if text else [], "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto",
        "tools": [], "top_p": 1.0, "usage": usage,
    }
    failed = {"status": "failed", "error": FAILURE, "usage": None}
    return response | failed if fault is Fault.FAILED else response


def _completion(question: Question, fault: Fault, text: str, number: int, read: int, spent: int) -> dict[str, Any]:
    """The object of chat completions; a failure stands where gateways put it, beside no choices."""
    message = {"role": "assistant", "content": text, "refusal": None}
    if fault is Fault.REFUSAL:
        message = {"role": "assistant", "content": None, "refusal": text}
    reason = CUT_SHORT[fault][1] if fault in CUT_SHORT else "stop"
    usage = {"prompt_tokens": read, "completion_tokens": spent, "total_tokens": read + spent,
             "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
    completion = {
        "id": f"chatcmpl-{number:032x}", "object": "chat.completion", "created": int(time.time()),
        "model": question.model, "service_tier": "default", "system_fingerprint": "fp_simulator", "usage": usage,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
    }
    return completion | {"choices": [], "usage": None, "error": FAILURE} if fault is Fault.FAILED else completion
# fmt: on


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


# -- the server -------------------------------------------------------------------------------------------------------


class Simulator:
    """Serves a script in its own thread while its `with` lasts; `port` 0 lets the system choose.

    Any thread may read `journal` and call `play` and `restore_quota`. ValueError: a host that is not loopback. OSError:
    a port that is taken.
    """

    def __init__(
        self, script: Script | None = None, *, host: str = "127.0.0.1", port: int = 0, keeps_journal: bool = True
    ) -> None:
        self.host = "127.0.0.1" if host == "localhost" else host
        if not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(f"the simulator listens on loopback only, not on {host}")
        self.port = port
        self._keeps_journal = keeps_journal
        self._journal: list[Call] = []
        self._numbers = count(1)
        self._sources: dict[str, Source] = {}
        self._lock = threading.Lock()  # of the rules' progress and of the quota
        self.play(script or Script())

    def __enter__(self) -> Self:
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name="simulator", daemon=True)
        self._thread.start()
        self.port = ready.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/v1"

    @property
    def journal(self) -> list[Call]:
        """Every call received so far, in order, those still open too."""
        return list(self._journal)

    def play(self, script: Script) -> None:
        """Begin a script."""
        with self._lock:
            self._script = script
            self._rules = [(rule.match, chain(rule.faults, repeat(rule.faults[-1]))) for rule in script.rules]
            self._left = math.inf if script.quota is None else script.quota

    def restore_quota(self, remaining: int | None = None) -> None:
        """Grant so many more successful answers; None: without end."""
        left = math.inf if remaining is None else int(remaining)
        if left < 0:
            raise ValueError(f"a quota is 0 or more, not {remaining}")
        with self._lock:
            self._left = left

    async def _run(self, ready: Future[int]) -> None:
        self._loop, self._stop, self._started = asyncio.get_running_loop(), asyncio.Event(), time.monotonic()
        server = web.Server(self._serve, access_log=None, handler_cancellation=True)  # who leaves ends the call
        runner = web.ServerRunner(server, shutdown_timeout=0.1)  # 0 would wait for ever
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, backlog=1_024).start()
        except (OSError, OverflowError) as error:
            ready.set_exception(error)
        else:
            ready.set_result(runner.addresses[0][1])
            await self._stop.wait()
        await runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One call: read it, decide, note it, wait, send."""
        if request.path.startswith("/simulator/"):
            return await self._operate(request)
        received, raw = time.monotonic(), await request.content.read()
        number, key = next(self._numbers), request.headers.get("Authorization", "").removeprefix("Bearer").strip()
        question, reply = self._decide(request.method, request.path, key, raw, number)
        place = self._note(request, number, received, key, question, reply)
        if question and (seconds := self._latency(question)):
            await asyncio.sleep(seconds)
        headers = {**_headers(number, received), **reply.headers}
        return await self._send(request, reply._replace(headers=headers), place)

    def _decide(self, method: str, path: str, key: str, raw: bytes, number: int) -> tuple[Question | None, Reply]:
        direct = path.removeprefix("/redirected")
        if key and (method, path) == ("GET", "/v1/models"):
            return None, Reply(200, _json(MODELS))
        asked = read_question(method, direct, key, raw)
        if isinstance(asked, Problem):
            return None, state(asked)
        try:
            source = self._source(asked.schema)
        except Unanswerable as error:
            return asked, state(PROBLEMS[Fault.INVALID_SCHEMA]._replace(message=str(error)), asked)
        fault = self._choose(asked.text) if path == direct else Fault.OK
        return asked, self._reply(asked, source, fault, key, number, path)

    def _source(self, schema: Any) -> Source:
        """The compiled schema, kept by its text."""
        if schema is None:
            return lambda posting: {"answer": " ".join(posting.sentences[:2])}
        text = repr(schema)
        if text not in self._sources:
            if len(self._sources) > 100:
                self._sources.clear()
            self._sources[text] = compile_schema(schema)
        return self._sources[text]

    def _choose(self, text: str) -> Fault:
        with self._lock:
            if self._left <= 0:
                return Fault.QUOTA
            fault = next((Fault(next(faults)) for match, faults in self._rules if match in text), Fault.OK)
            self._left -= fault in COUNTED
            return fault

    def _reply(self, question: Question, source: Source, fault: Fault, key: str, number: int, path: str) -> Reply:
        script = self._script
        if fault is Fault.HANG:
            return Reply(None, fault=fault)
        if fault is Fault.REDIRECT:
            return Reply(307, headers={"location": f"/redirected{path}"}, fault=fault)
        if fault in PAGES:
            return Reply(*PAGES[fault], {"content-type": "text/html"}, fault)
        if fault in PROBLEMS:
            headers = _headers_of_limit(script.retry_after) if fault is Fault.RATE_LIMIT else {}
            if fault is Fault.REQUEST_TOO_LARGE:  # too large although none of the limit is used
                headers = {"x-ratelimit-remaining-tokens": "30000"}
            return state(PROBLEMS[fault], question, key, script.retry_after)._replace(headers=headers, fault=fault)
        return answer(question, fault, source, number)

    def _latency(self, question: Question) -> float:
        low, high = self._script.latency_range
        return low + (high - low) * int(question.sha256[:4], 16) / 0xFFFF

    def _note(
        self, request: web.BaseRequest, number: int, received: float, key: str, question: Question | None, reply: Reply
    ) -> int | None:
        """Note the call as received and not yet completed; its place in the journal."""
        if not self._keeps_journal:
            return None
        call = Call(
            number=number,
            received_ms=round((received - self._started) * 1_000),
            path=request.path,
            model=question.model if question else None,
            client_request_id=request.headers.get("X-Client-Request-Id"),
            key_sha256=hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest() if key else None,
            input_sha256=question.sha256 if question else None,
            fault=reply.fault,
            status=reply.status,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            completed=False,
        )
        self._journal.append(call)
        return len(self._journal) - 1

    def _complete(self, place: int | None) -> None:
        """Before the last byte, so that whoever has read it finds its call completed."""
        if place is not None:
            self._journal[place] = self._journal[place]._replace(completed=True)

    async def _send(self, request: web.BaseRequest, reply: Reply, place: int | None) -> web.StreamResponse:
        if reply.status is None:
            await asyncio.get_running_loop().create_future()  # until the client leaves or the simulator stops
        if reply.fault in STREAMED:
            return await self._stream(request, reply, place)
        self._complete(place)
        return web.Response(status=reply.status or 0, body=reply.body, headers=reply.headers)

    async def _stream(self, request: web.BaseRequest, reply: Reply, place: int | None) -> web.StreamResponse:
        """Write the body in pieces: single bytes that drip, else large ones; half of it before a reset."""
        response = web.StreamResponse(headers={**reply.headers, "content-length": str(len(reply.body))})
        await response.prepare(request)
        piece, pause = (1, self._script.drip) if reply.fault is Fault.DRIP else (65_536, 0.0)
        end = len(reply.body) // 2 if reply.fault is Fault.RESET else len(reply.body)
        for start in range(0, end, piece):
            if start + piece >= end == len(reply.body):
                self._complete(place)
            await response.write(reply.body[start : min(start + piece, end)])
            await asyncio.sleep(pause)
        if reply.fault is Fault.RESET and request.transport:
            request.transport.abort()
        return response

    async def _operate(self, request: web.BaseRequest) -> web.Response:
        """The operator's side: read the journal, begin a script, restore the quota."""
        try:
            match request.method, request.path:
                case "GET", "/simulator/journal":
                    return web.json_response([call._asdict() for call in self._journal])
                case "POST", "/simulator/script":
                    self.play(Script.parse(await request.json()))
                case "POST", "/simulator/quota":
                    self.restore_quota((await request.json())["remaining"])
                case _:
                    return web.json_response({"error": {"message": "GET journal; POST script, quota"}}, status=404)
        except (ValueError, KeyError, TypeError) as error:
            return web.json_response({"error": {"message": str(error)}}, status=400)
        return web.json_response({"remaining": None if self._left == math.inf else self._left})


# fmt: off
def _headers(number: int, received: float) -> dict[str, str]:
    """The headers of every reply."""
    return {
        "server": "enrichlog-simulator", "content-type": "application/json", "x-request-id": f"req_{number:032x}",
        "openai-version": "2020-10-01",
        "openai-processing-ms": str(int((time.monotonic() - received) * 1_000)),
        "x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-requests": "499", "x-ratelimit-remaining-tokens": "29000",
        "x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "2s",
    }


def _headers_of_limit(wait: float) -> dict[str, str]:
    return {
        "retry-after": str(math.ceil(wait)), "retry-after-ms": str(round(wait * 1_000)),
        "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{wait:g}s",
    }
# fmt: on


# -- by hand ----------------------------------------------------------------------------------------------------------


NOTICE = (
    "A simulator, no model: it answers with the request's own words. Point enrichlog or any OpenAI client at it with "
    "OPENAI_BASE_URL={} and any OPENAI_API_KEY."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"simulator: {message}\n")  # one line; argparse would print the usage too


def _read_latency(text: str) -> float | list[float]:
    parts = [float(part) for part in text.split("-")]
    return parts[0] if len(parts) == 1 else parts


def _parser() -> _Parser:
    parser = _Parser(prog="simulator", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="a loopback address")
    add("--port", type=int, default=8089, help="0 lets the system choose")
    add("--latency", type=_read_latency, metavar="SECONDS", help="of each answer; LOW-HIGH for a range")
    add("--retry-after", type=float, metavar="SECONDS", help="of the fault rate_limit")
    add("--drip", type=float, metavar="SECONDS", help="between two bytes of the fault drip")
    add("--quota", type=int, metavar="N", help="successful answers until every call gets the fault quota")
    add("--fault", action="append", metavar="[TEXT=]FAULT[,FAULT]", help="one of: " + ", ".join(Fault))
    add("--script", type=Path, metavar="FILE", help='such as {"rules": [{"match": "Acme", "faults": ["ok"]}]}')
    add("--no-journal", action="store_true", help="keep no journal, for long measurements")
    return parser


def _script_of(options: argparse.Namespace) -> Script:
    """The script of the file, with the options over it."""
    script = _read_script(options.script) if options.script else Script()
    rules = [Rule(text.rpartition("=")[0], text.rpartition("=")[2].split(",")) for text in options.fault or ()]
    given = {name: getattr(options, name) for name in ("latency", "retry_after", "drip", "quota")}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(script, rules=(*rules, *script.rules), **given)


def _read_script(file: Path) -> Script:
    try:
        return Script.parse(json.loads(file.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _serve_until_interrupted(simulator: Simulator) -> None:
    with simulator:
        sys.stdout.write(f"{simulator.base_url}\n{NOTICE.format(simulator.base_url)}\n")
        sys.stdout.flush()
        while True:
            time.sleep(3_600)  # Ctrl-C ends a sleep on every system


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C, which returns 130; what cannot be done is one line on stderr and SystemExit(2)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        journal = not options.no_journal
        simulator = Simulator(_script_of(options), host=options.host, port=options.port, keeps_journal=journal)
        _serve_until_interrupted(simulator)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, OverflowError) as error:  # OverflowError: a port over 65535
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())

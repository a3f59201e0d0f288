"""An OpenAI-compatible server on loopback: it answers with the request's own words, plays faults, and has no model.

By hand: `python simulator.py --fault "Senior Data Scientist=rate_limit,ok"`. In a test: `with Simulator(Script(...)) as
simulator:` and point a client at `simulator.base_url`. This one file needs aiohttp and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import hashlib
import ipaddress
import json
import math
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from enum import StrEnum, auto
from functools import lru_cache
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
    PAYMENT_REQUIRED = auto()  # 402
    PERMISSION = auto()  # 403
    MODEL_NOT_FOUND = auto()  # 404
    PROMPT_NOT_FOUND = auto()  # 404
    REQUEST_TIMEOUT = auto()  # 408
    CONFLICT = auto()  # 409
    BAD_REQUEST = auto()  # 400
    UNSUPPORTED_PARAMETER = auto()  # 400
    CONTENT_POLICY = auto()  # 400
    INVALID_SCHEMA = auto()  # 400 that names the schema
    CONTEXT_LENGTH = auto()  # 400
    SERVER_ERROR = auto()  # 500
    BAD_GATEWAY = auto()  # 502 with an HTML page
    OVERLOADED = auto()  # 503
    OVERLOADED_ERROR = auto()  # 529
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
            names = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"not a script: an object with {names}; each rule one with match and faults") from error


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
        if self._keeps_journal:
            self._note(request, number, received, key, question, reply)
        if question and (seconds := self._latency(question)):
            await asyncio.sleep(seconds)
        processing = {"openai-processing-ms": str(int((time.monotonic() - received) * 1_000))}
        headers = {**HEADERS, "x-request-id": f"req_{number:032x}", **processing, **reply.headers}
        return await self._send(request, number, reply._replace(headers=headers))

    def _decide(self, method: str, path: str, key: str, raw: bytes, number: int) -> tuple[Question | None, Reply]:
        """What is asked, None where that cannot be read, and the reply to it."""
        if key and (method, path) == ("GET", "/v1/models"):
            return None, Reply(200, _json(MODELS))
        direct = path.removeprefix("/redirected")
        question = read_question(method, direct, key, raw)
        if isinstance(question, Problem):
            return None, state(question)
        if path != direct:
            return question, reply_to(question, Fault.OK, self._script, key, number)
        with self._lock:
            fault = self._choose(question.text)
            reply = reply_to(question, fault, self._script, key, number)
            self._left -= reply.fault in COUNTED
        return question, reply

    def _choose(self, text: str) -> Fault:
        if self._left <= 0:
            return Fault.QUOTA
        return next((Fault(next(faults)) for match, faults in self._rules if match in text), Fault.OK)

    def _latency(self, question: Question) -> float:
        low, high = self._script.latency_range
        return low + (high - low) * int(question.sha256[:4], 16) / 0xFFFF

    def _note(
        self, request: web.BaseRequest, number: int, received: float, key: str, question: Question | None, reply: Reply
    ) -> None:
        """Note the call as received and not yet completed."""
        call = Call(
            number=number,
            received_ms=round((received - self._started) * 1_000),
            path=request.path,
            model=question.model if question else None,
            client_request_id=request.headers.get("X-Client-Request-Id"),
            key_sha256=_sha256(key) if key else None,
            input_sha256=question.sha256 if question else None,
            fault=reply.fault,
            status=reply.status,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            completed=False,
        )
        self._journal.append(call)

    def _complete(self, number: int) -> None:
        """Before the last byte, so that whoever has read it finds its call completed."""
        if self._keeps_journal:
            self._journal[number - 1] = self._journal[number - 1]._replace(completed=True)

    async def _send(self, request: web.BaseRequest, number: int, reply: Reply) -> web.StreamResponse:
        if reply.status is None:
            await asyncio.get_running_loop().create_future()  # until the client leaves or the simulator stops
        if reply.fault in STREAMED:
            return await self._stream(request, number, reply)
        self._complete(number)
        return web.Response(status=reply.status or 0, body=reply.body, headers=reply.headers)

    async def _stream(self, request: web.BaseRequest, number: int, reply: Reply) -> web.StreamResponse:
        """Write the body in pieces: single bytes that drip, else large ones; half of it before a reset."""
        response = web.StreamResponse(headers={**reply.headers, "content-length": str(len(reply.body))})
        await response.prepare(request)
        piece, pause = (1, self._script.drip) if reply.fault is Fault.DRIP else (65_536, 0.0)
        end = len(reply.body) // 2 if reply.fault is Fault.RESET else len(reply.body)
        for start in range(0, end, piece):
            if start + piece >= end == len(reply.body):
                self._complete(number)
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


# -- answers from a posting's words -----------------------------------------------------------------------------------

READ_LIMIT = 2_000  # characters that are read for words: a longer text costs no more
UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]+")
TAG = re.compile(r"<[^<>]{1,200}>")
LABEL = re.compile(r"(\w+): (.{2,200})")
WORD = re.compile(r"\w[\w+#]+")
MONEY = re.compile(r"([€$£]) ?(\d{2,3})(?:k|[.,](\d{3}))")
CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP"}
PAY = {"salary", "pay", "wage", "compensation"}
LANGUAGES = ("English", "German", "Dutch", "French", "Spanish", "Swedish")
COMMON = {"all", "and", "are", "das", "der", "die", "for", "from", "our", "the", "this", "what", "will", "wir", "you"}
VAGUE = {"none", "unknown", "other", "unspecified", "not_specified", "any"}
NULL = {"type": "null"}
LISTED = 5  # values in a list, unless the schema says otherwise
FORMATS = {
    "date": "2026-01-05", "date-time": "2026-01-05T09:00:00Z", "time": "09:00:00Z", "email": "jobs@example.com",
    "uri": "https://example.com/", "uuid": "00000000-0000-4000-8000-000000000000",
}  # fmt: skip


class Posting(NamedTuple):
    """The words of one text."""

    title: str  # what is labelled so, else the first line
    labels: dict[str, str]  # values of lines such as `Company: Acme` near the top, by lower-case label
    sentences: list[str]  # of the prose, which is all but title and labels
    words: list[str]  # of the prose, each once; perhaps none
    keywords: list[str]  # names first (PostgreSQL, AWS, C#), then capitalised words, then long ones
    mentioned: set[str]  # the words of title and prose, in lower case
    pay: list[tuple[int, str]]  # amounts of money with their currency, lowest first


def read_posting(text: str) -> Posting:
    """The words of a text, without markup and the marks that prompts put around it."""
    text = UNPRINTABLE.sub(" ", text[:READ_LIMIT])
    lines = [" ".join(line.split()) for line in TAG.sub(" ", text).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("[begin ", "[end "))]
    labels = {label[1].lower(): label[2] for line in lines[:8] if (label := LABEL.match(line))}
    title = labels.get("title") or (lines[0][:120] if lines else "Untitled")
    head = [line for line in lines[:8] if line != title and not LABEL.match(line)]
    prose = " ".join(head + lines[8:]) or title
    words = list(dict.fromkeys(WORD.findall(prose)))
    telling = [word for word in words if (word[0].isupper() or len(word) > 7) and word.lower() not in COMMON]
    telling.sort(key=lambda word: word[1:].islower() if word[0].isupper() else 2)
    amounts = [(int(thousands + (rest or "000")), CURRENCIES[sign]) for sign, thousands, rest in MONEY.findall(text)]
    return Posting(
        title=title,
        labels=labels,
        sentences=re.split(r"(?<=[.!?]) ", prose[:1_000]),
        words=words,
        keywords=telling or ["unspecified"],
        mentioned={word.lower() for word in words}.union(words_of(title)),
        pay=sorted(amounts),
    )


@lru_cache(maxsize=2_000)
def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case."""
    return tuple(WORD.findall(name.lower().replace("_", " ")))


class Unanswerable(ValueError):
    """No answer fits this schema"""


class Field(NamedTuple):
    """Where in the answer a value stands."""

    words: tuple[str, ...] = ()  # of its name
    is_pay: bool = False  # it, or what it stands in, is about money
    is_listed: bool = False
    place: int = 0  # in its list
    must: bool = True  # unless it must, None is a value: null, or one less in the list
    refs: frozenset[str] = frozenset("#")  # the references it stands in


def fill(schema: Any, posting: Posting) -> Any:
    """The answer that fits a JSON schema, field names giving hints; Unanswerable says why there is none.

    Without a schema it is a plain object.
    """
    if schema is None:
        return {"answer": " ".join(posting.sentences[:2])}
    try:
        return Answer(schema, posting).value(schema, Field())
    except (AttributeError, TypeError, KeyError, RecursionError, re.error) as error:
        raise Unanswerable(f"this schema is not understood: {error!r}") from error


class Answer:
    """One walk through a schema; each method makes the value of one kind of field."""

    def __init__(self, root: Mapping[str, Any], posting: Posting) -> None:
        self.root, self.posting = root, posting

    def value(self, schema: Mapping[str, Any], field: Field) -> Any:
        if "$ref" in schema:
            return self.referred(schema["$ref"], field)
        if branches := schema.get("anyOf") or schema.get("oneOf"):
            return self.either(branches, field)
        if "enum" in schema or "const" in schema:
            return self.choice(schema.get("enum") or [schema["const"]], field)
        match schema.get("type", "string"):
            case "object":
                return self.object(schema, field)
            case "array":
                return self.array(schema, field)
            case "string":
                return self.string(schema, field)
            case "integer" | "number":
                return self.number(schema, field)
            case "boolean":
                return not self.posting.mentioned.isdisjoint(field.words)
            case "null":
                return None
        raise Unanswerable(f"there is no type {schema['type']!r}")

    def referred(self, ref: str, field: Field) -> Any:
        if ref in field.refs:
            raise Unanswerable(f"{ref} contains itself without end")
        target = self.root
        for step in ref.split("/")[1:]:
            if step not in target:
                raise Unanswerable(f"{ref} leads nowhere")
            target = target[step]
        return self.value(target, field._replace(refs=field.refs | {ref}))

    def either(self, branches: Sequence[Mapping[str, Any]], field: Field) -> Any:
        """The first branch that has an end; null where it is allowed and the text has nothing to say."""
        if NULL in branches:
            field = field._replace(must=False)
            if field.is_pay and not self.posting.pay:
                return None
        for branch in sorted(branches, key=lambda branch: branch == NULL):  # null last
            with suppress(Unanswerable):
                return self.value(branch, field)
        raise Unanswerable("none of the alternatives has an end")

    def object(self, schema: Mapping[str, Any], field: Field) -> dict[str, Any]:
        values = {}
        for name, inner in schema.get("properties", {}).items():
            words = words_of(name)
            is_pay = field.is_pay or not PAY.isdisjoint(words)
            values[name] = self.value(inner, field._replace(words=words, is_pay=is_pay, must=True))
        return values

    def array(self, schema: Mapping[str, Any], field: Field) -> list[Any]:
        """As many values as there must be, and up to five where the text has more to say."""
        values, least = [], schema.get("minItems", 0)
        for place in range(max(least, min(schema.get("maxItems", LISTED), LISTED))):
            with suppress(Unanswerable):
                inner = field._replace(is_listed=True, place=place, must=place < least)
                values.append(self.value(schema["items"], inner))
        if len(values) < least:
            raise Unanswerable("the list has no end")
        return values[:least] + [value for value in values[least:] if value is not None]

    def choice(self, values: Sequence[Any], field: Field) -> Any:
        """One that the title names, else one that the text names, else (where it must) a vague one, else any."""
        title = set(words_of(self.posting.title))

        def rank(value: Any) -> int:
            words = set(words_of(str(value)))
            if not words or not words <= self.posting.mentioned:
                return 2 if str(value).lower() in VAGUE else 3
            return 0 if words <= title else 1

        value = sorted(values, key=rank)[field.place % len(values)]
        return value if field.must or (field.place < len(values) and rank(value) < 2) else None

    def number(self, schema: Mapping[str, Any], field: Field) -> float | None:
        """An amount of pay under such a name, else the lowest allowed number from 0; within the bounds in any case."""
        pay = self.posting.pay if field.is_pay else []
        if not pay and not field.must:
            return None
        above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
        gap = 1 if schema["type"] == "integer" else min(1.0, (below - above) / 4)
        low, high = (
            max(schema.get("minimum", -math.inf), above + gap),
            min(schema.get("maximum", math.inf), below - gap),
        )
        wanted = pay[-1 if {"max", "maximum"} & set(field.words) else 0][0] if pay else field.place
        value: float = min(max(wanted, low), high)
        step = schema.get("multipleOf", 0)
        return -(-value // step) * step if step else value

    def string(self, schema: Mapping[str, Any], field: Field) -> str | None:
        """One of the texts for its name, made to fit the format, the pattern and the lengths of its schema."""
        texts = self.texts(field)
        lap, nth = divmod(field.place, len(texts) or 1)
        if not texts or (lap and not field.must):
            return None
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]]
        text = f"{texts[nth]} {lap + 1}" if lap else texts[nth]
        least, most = schema.get("minLength", 0), schema.get("maxLength", sys.maxsize)
        if "pattern" not in schema:
            return text.ljust(least, ".")[:most]
        for word in (text, *self.posting.words):
            if least <= len(word) <= most and re.search(schema["pattern"], word):
                return word
        raise Unanswerable(f"no word of the text fits the pattern {schema['pattern']!r}")

    def texts(self, field: Field) -> Sequence[str]:
        """What the name hints at, else what is labelled so, else (in a list, or where it must) keywords."""
        posting, name = self.posting, field.words
        if "title" in name:
            return [posting.title]
        if "summary" in name:
            return [" ".join(posting.sentences[: 1 if "short" in name else 3])]
        if "language" in name or "languages" in name:
            return [language for language in LANGUAGES if language.lower() in posting.mentioned] or ["English"]
        if "currency" in name:
            return [posting.pay[0][1] if posting.pay else "EUR"]
        labelled = [posting.labels[word] for word in name if word in posting.labels]
        if labelled and not field.is_listed:
            return labelled
        return posting.keywords if field.is_listed or field.must else ()


# -- the shapes of both APIs ------------------------------------------------------------------------------------------

CHAT = "/v1/chat/completions"
TEXTS_OF = {"/v1/responses": "input", CHAT: "messages"}
MODELS = {"object": "list", "data": [{"id": "simulator", "object": "model", "created": 0, "owned_by": "simulator"}]}
HEADERS = {
    "server": "enrichlog-simulator", "content-type": "application/json", "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-requests": "499", "x-ratelimit-remaining-tokens": "29000",
    "x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "2s",
}  # fmt: skip


class Question(NamedTuple):
    """What a request asks; its path says by which of the two APIs."""

    path: str
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
    code: str | None = None
    param: tuple[str | None, str | None] = (None, None)


class Reply(NamedTuple):
    """A reply before it is sent; `status` is None for one that never is."""

    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = {}
    fault: Fault | None = None
    input_tokens: int = 0
    output_tokens: int = 0


NO_KEY = Problem(
    401,
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY).",
)
NOT_JSON = Problem(
    400,
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
)
PROBLEMS = {
    Fault.QUOTA: Problem(
        429, "You exceeded your current quota, please check your plan and billing details. For more information on "
        "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        "insufficient_quota", code="insufficient_quota"),
    Fault.RATE_LIMIT: Problem(
        429, "Rate limit reached for {model} in organization org-simulator on requests per min (RPM): Limit 500, Used "
        "500, Requested 1. Please try again in {wait}s. Visit https://platform.openai.com/account/rate-limits to "
        "learn more.", "requests", code="rate_limit_exceeded"),
    Fault.REQUEST_TOO_LARGE: Problem(
        429, "Request too large for {model} in organization org-simulator on tokens per min (TPM): Limit 30000, "
        "Requested 31538. The input or output tokens must be reduced in order to run successfully. Visit "
        "https://platform.openai.com/account/rate-limits to learn more.", "tokens", code="rate_limit_exceeded"),
    Fault.UNAUTHORIZED: Problem(
        401, "Incorrect API key provided: {key}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.", code="invalid_api_key"),
    Fault.PAYMENT_REQUIRED: Problem(
        402, "Insufficient credits. Add more and try again.", None, code="402"),
    Fault.PERMISSION: Problem(
        403, "Country, region, or territory not supported", "request_forbidden",
        code="unsupported_country_region_territory"),
    Fault.MODEL_NOT_FOUND: Problem(
        404, "The model `{model}` does not exist or you do not have access to it.", code="model_not_found"),
    Fault.PROMPT_NOT_FOUND: Problem(404, "The stored prompt of this request was not found.", code="prompt_not_found"),
    Fault.REQUEST_TIMEOUT: Problem(408, "The request timed out. Please try again.", None),
    Fault.CONFLICT: Problem(409, "The resource is being changed by another request.", "conflict_error"),
    Fault.BAD_REQUEST: Problem(400, "Invalid request: one of its values is not allowed."),
    Fault.UNSUPPORTED_PARAMETER: Problem(
        400, "Unsupported parameter: 'temperature' is not supported with this model.", code="unsupported_parameter",
        param=("temperature", "temperature")),
    Fault.CONTENT_POLICY: Problem(
        400, "The response was filtered due to the prompt triggering a content management policy.", None,
        code="content_filter", param=("prompt", "prompt")),
    Fault.INVALID_SCHEMA: Problem(
        400, "Invalid schema for response_format: In context=(), 'additionalProperties' is required to be supplied and "
        "to be false.", param=("text.format.schema", "response_format")),
    Fault.CONTEXT_LENGTH: Problem(
        400, "This model's maximum context length is 128000 tokens. However, your messages resulted in 140004 tokens. "
        "Please reduce the length of the messages.", code="context_length_exceeded", param=("input", "messages")),
    Fault.SERVER_ERROR: Problem(
        500, "The server had an error processing your request. Sorry about that! You can retry your request, or "
        "contact us through our help center at help.openai.com if you keep seeing this error.", "server_error"),
    Fault.OVERLOADED: Problem(503, "The engine is currently overloaded, please try again later.", "server_error"),
    Fault.OVERLOADED_ERROR: Problem(529, "Overloaded", "overloaded_error"),
}  # fmt: skip
HTML_PAGE = {"content-type": "text/html"}
NO_ANSWER = {
    Fault.HANG: Reply(None),
    Fault.REDIRECT: Reply(307),
    Fault.BAD_GATEWAY: Reply(502, b"<html><body><h1>502 Bad Gateway</h1><hr>nginx</body></html>", HTML_PAGE),
    Fault.HTML: Reply(200, b"<!doctype html><title>Sign in to this network</title>", HTML_PAGE),
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
    return _read_body(path, body) if isinstance(body, dict) else NOT_JSON


def _read_body(path: str, body: dict[str, Any]) -> Question | Problem:
    texts_of = TEXTS_OF[path]
    for name in ("model", texts_of):
        if not body.get(name):
            return Problem(
                400, f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=(name, name)
            )
    if body.get("stream"):
        return Problem(400, "The simulator does not stream.", code="unsupported_value", param=("stream", "stream"))
    texts = list(_texts(body[texts_of]))
    if not texts:
        return Problem(400, f"Invalid type for '{texts_of}'.", code="invalid_type", param=(texts_of, texts_of))
    form = _form_in(body)
    if form.get("strict") is True and (fault := not_strict(form.get("schema"))):
        message = f"Invalid schema for response_format '{form.get('name')}': {fault}"
        param = "response_format" if path == CHAT else "text.format.schema"
        return Problem(400, message, code="invalid_json_schema", param=(param, param))
    asked = next((text for role, text in reversed(texts) if role == "user"), texts[-1][1])
    return Question(
        path=path,
        model=str(body["model"]),
        text=asked,
        sha256=_sha256(asked),
        characters=sum(len(text) for _, text in texts) + len(str(body.get("instructions") or "")),
        schema=form.get("schema"),
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


def _form_in(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the answer must look like: a schema, its name, whether it is strict; empty where nothing is asked for."""
    try:
        form = body["response_format"]["json_schema"] if "response_format" in body else body["text"]["format"]
    except (KeyError, TypeError):
        return {}
    return form if isinstance(form, dict) else {}


def not_strict(schema: Any) -> str | None:
    """What providers refuse of a schema in strict mode, of the faults that people meet; None when there is none."""
    parts = [schema]
    while parts:  # and no recursion: a schema may nest deeper than that goes
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        if not isinstance(part, dict):
            continue
        if "oneOf" in part:
            return "'oneOf' is not permitted."
        if part.get("type") == "object" and part.get("additionalProperties") not in (None, False):
            return "'additionalProperties' is required to be supplied and to be false."
        for name, inner in part.items():  # the keys of the two are names that somebody chose
            parts += inner.values() if name in ("properties", "$defs") and isinstance(inner, dict) else [inner]
    return None


def reply_to(question: Question, fault: Fault, script: Script, key: str, number: int) -> Reply:
    """The reply that plays a fault; the provider's 400 where no answer fits the schema."""
    headers = {}
    if fault is Fault.RATE_LIMIT:
        headers = _headers_of_limit(script.retry_after)
    elif fault is Fault.REQUEST_TOO_LARGE:
        headers = {"x-ratelimit-remaining-tokens": "30000"}  # too large although none of the limit is used
    elif fault is Fault.REDIRECT:
        headers = {"location": f"/redirected{question.path}"}
    if fault in NO_ANSWER:
        reply = NO_ANSWER[fault]
    elif fault in PROBLEMS:
        reply = state(PROBLEMS[fault], question, key, script.retry_after)
    else:
        try:
            reply = answer(question, fault, fill(question.schema, read_posting(question.text)), number)
        except Unanswerable as error:
            return state(PROBLEMS[Fault.INVALID_SCHEMA]._replace(message=str(error)), question)
    return reply._replace(headers={**reply.headers, **headers}, fault=fault)


def _headers_of_limit(wait: float) -> dict[str, str]:
    return {
        "retry-after": str(math.ceil(wait)), "retry-after-ms": str(round(wait * 1_000)),
        "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{wait:g}s",
    }  # fmt: skip


def state(problem: Problem, question: Question | None = None, key: str = "", wait: float = 0) -> Reply:
    """The reply that states a problem."""
    masked = f"{key[:5]}***{key[-2:]}" if len(key) > 10 else "***"
    message = problem.message.replace("{key}", masked).replace("{wait}", f"{wait:g}")
    message = message.replace("{model}", question.model if question else "")
    param = problem.param[question is not None and question.path == CHAT]
    error = {"message": message, "type": problem.type, "param": param, "code": problem.code}
    return Reply(problem.status, _json({"error": error}))


def answer(question: Question, fault: Fault, value: Any, number: int) -> Reply:
    """The reply that holds an answer, or what the fault makes of it."""
    text = _write(fault, value)
    spent = len(text) // 4 + 1 if text else 0
    if fault is Fault.INCOMPLETE and isinstance(question.most_tokens, int):
        spent = question.most_tokens
    tokens = (0, 0) if fault is Fault.FAILED else (question.characters // 4 + 1, spent)
    body = _json((_completion if question.path == CHAT else _response)(question, fault, text, number, *tokens))
    return Reply(200, body[: len(body) // 2] if fault is Fault.TRUNCATED_JSON else body, {}, fault, *tokens)


def _write(fault: Fault, value: Any) -> str:
    """The model's text."""
    text = json.dumps(value, ensure_ascii=False)
    match fault:
        case Fault.WRONG_SCHEMA:
            return json.dumps(_misfit(value))
        case Fault.INVALID_JSON:
            return "Sure! This is what it says: " + re.sub(r"[{}\[\]`]", "", text)
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


def _response(question: Question, fault: Fault, text: str, number: int, read: int, spent: int) -> dict[str, Any]:
    """The object of the Responses API."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    if fault is Fault.REFUSAL:
        part = {"type": "refusal", "refusal": text}
    status = "incomplete" if fault in CUT_SHORT else "completed"
    message = {"id": f"msg_{number:032x}", "type": "message", "role": "assistant", "status": status, "content": [part]}
    response = {
        "id": f"resp_{number:032x}", "object": "response", "created_at": int(time.time()), "status": status,
        "error": None, "incomplete_details": {"reason": CUT_SHORT[fault][0]} if fault in CUT_SHORT else None,
        "instructions": None, "max_output_tokens": question.most_tokens, "metadata": {}, "model": question.model,
        "output": [message] if text else [], "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto",
        "tools": [], "top_p": 1.0,
        "usage": {
            "input_tokens": read, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": spent, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + spent,
        },
    }  # fmt: skip
    return response | {"status": "failed", "error": FAILURE, "usage": None} if fault is Fault.FAILED else response


def _completion(question: Question, fault: Fault, text: str, number: int, read: int, spent: int) -> dict[str, Any]:
    """The object of chat completions; a failure stands where gateways put it, beside no choices."""
    message = {"role": "assistant", "content": text, "refusal": None}
    if fault is Fault.REFUSAL:
        message = {"role": "assistant", "content": None, "refusal": text}
    reason = CUT_SHORT[fault][1] if fault in CUT_SHORT else "stop"
    completion = {
        "id": f"chatcmpl-{number:032x}", "object": "chat.completion", "created": int(time.time()),
        "model": question.model, "service_tier": "default", "system_fingerprint": "fp_simulator",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": read, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens": spent,
            "completion_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + spent,
        },
    }  # fmt: skip
    return completion | {"choices": [], "usage": None, "error": FAILURE} if fault is Fault.FAILED else completion


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# -- by hand ----------------------------------------------------------------------------------------------------------

NOTICE = (
    "A simulator, no model: it answers with the request's own words. Point enrichlog or any OpenAI client at it with "
    "OPENAI_BASE_URL={} and any OPENAI_API_KEY."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"simulator: {message}\n")  # one line; argparse would print the usage too


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
    add("--json", action="store_true", help="print one JSON document with the base URL and nothing else")
    return parser


def _read_latency(text: str) -> float | list[float]:
    try:
        parts = [float(part) for part in text.split("-")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no latency: write 0.5, or 0.1-0.4 for a range") from None
    return parts[0] if len(parts) == 1 else parts


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


def _tell(base_url: str, *, as_json: bool) -> None:
    """Where it listens, and what it is: on standard output, the latter on standard error beside a document."""
    place = json.dumps({"base_url": base_url, "simulated": True}) if as_json else base_url
    for stream, text in ((sys.stdout, place), (sys.stderr if as_json else sys.stdout, NOTICE.format(base_url))):
        stream.write(f"{text}\n")
        stream.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C, which returns 130; what cannot be done is one line on stderr and SystemExit(2)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        journal = not options.no_journal
        with Simulator(_script_of(options), host=options.host, port=options.port, keeps_journal=journal) as simulator:
            _tell(simulator.base_url, as_json=options.json)
            while True:
                time.sleep(3_600)  # Ctrl-C ends a sleep on every system
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            parser.error(f"port {options.port} is in use: choose another with --port; 0 lets the system choose")
        parser.error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (ValueError, OverflowError) as error:  # OverflowError: a port over 65535
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())

"""The scripted upstream: an HTTP server in one of the seven dialects that plays a script and records what it was asked.

A request that the vendor would refuse gets 400 and is recorded as a violation. It listens on loopback only.
"""

import json
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ask import Ask, RequestError
from vendor_answers import WRITERS, Part, Text, Writer
from vendor_requests import READERS

KEY = "upstream-key"
# Where each dialect asks for an answer, and what precedes that in the provider's `base_url`.
PATHS = {
    "openai-chat": r"/v1/chat/completions",
    "openai-responses": r"/v1/responses",
    "anthropic": r"/v1/messages",
    "gemini": r"/v1beta/models/[^/:]+:(streamGenerateContent|generateContent)",
    "ollama": r"/api/chat",
    "cohere": r"/v2/chat",
    "bedrock": r"/model/[^/]+/(converse|converse-stream)",
}
BASES = {"openai-chat": "/v1", "openai-responses": "/v1", "gemini": "/v1beta"}
# What else a gateway may ask a vendor for, and the answer.
OTHER = {
    r"/v1/messages/count_tokens": {"input_tokens": 120},
    r"/v1/responses/input_tokens": {"object": "response.input_tokens", "input_tokens": 120},
    r"/v1beta/models/[^/:]+:countTokens": {"totalTokens": 120},
    r"/model/[^/]+/count-tokens": {"inputTokens": 120},
    r"/v1/models": {"object": "list", "data": []},
    r"/v1beta/models": {"models": []},
    r"/api/tags": {"models": []},
}


@dataclass(frozen=True)
class Silence:
    """Nothing is sent for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Endless:
    """Text without an end, until the caller hangs up."""


@dataclass(frozen=True)
class Broken:
    """An error within the stream, in place of its end."""

    message: str


@dataclass(frozen=True)
class Refused:
    """A status in place of an answer."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()


Step = Part | Silence | Endless | Broken | Refused


@dataclass
class Seen:
    """A request, and what came of it."""

    at: float
    path: str
    body: dict
    ask: Ask | None = None
    main: bool = False  # a turn of the task, and not a side request (a title, a summary)
    violation: str = ""
    status: int = 0
    written: int = 0  # parts of an endless text
    hung_up: threading.Event = field(default_factory=threading.Event)
    whole: bool = False  # the answer was sent to its end

    def record(self) -> dict:
        return {"at": round(self.at, 2), "path": self.path, "main": self.main, "violation": self.violation, "status": self.status,
                "hung_up": self.hung_up.is_set(), "whole": self.whole, "body": self.body}


# Of a request and those before it: whether it is a turn of the task, and what is answered.
Script = Callable[[Ask, list[Seen]], tuple[bool, list[Step]]]


class Upstream(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, dialect: str, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.dialect, self.script = dialect, script
        self.seen: list[Seen] = []
        self.faults: list[str] = []
        self.lock = threading.Lock()
        self.base_url = f"http://127.0.0.1:{self.server_port}{BASES.get(dialect, '')}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A connection that breaks is expected; an exception of this program fails the run."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.faults.append("".join(traceback.format_exception(error)[-2:]))

    def main(self) -> list[Seen]:
        with self.lock:
            return [seen for seen in self.seen if seen.main]

    def violations(self) -> list[str]:
        with self.lock:
            return [seen.violation for seen in self.seen if seen.violation]


def example(schema: dict) -> object:
    """The smallest value of a schema, for side requests that want structured output."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = (kind[0] if isinstance(kind, list) else kind).lower()
    if kind == "object":
        return {name: example(inner) for name, inner in (schema.get("properties") or {}).items()}
    return {"string": "ok", "array": [], "boolean": False, "null": None}.get(kind, 1)


def side_answer(ask: Ask) -> list[Step]:
    return [Text(json.dumps(example(ask.schema)) if ask.schema else "Greeting")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def log_message(self, *_) -> None:
        """Everything is recorded in `seen`."""

    def do_GET(self) -> None:
        self.other()

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        if not re.fullmatch(PATHS[self.server.dialect], path):
            return self.other()
        seen = Seen(time.monotonic(), path, {})
        with self.server.lock:
            before = list(self.server.seen)
            self.server.seen.append(seen)
        steps: list[Step]
        try:
            seen.body = json.loads(raw)
            self.check_key()
            seen.ask = READERS[self.server.dialect](path, seen.body)
            seen.main, steps = self.server.script(seen.ask, before)
        except (RequestError, ValueError, KeyError, TypeError, AttributeError) as error:
            seen.violation = f"{type(error).__name__}: {error}"
            steps = [Refused(400, seen.violation)]
        with suppress(OSError):
            self.play(seen, WRITERS[self.server.dialect](seen.ask or Ask(), len(before) + 1), steps)
        if not seen.whole:
            seen.hung_up.set()
            self.close_connection = True
        return None

    def check_key(self) -> None:
        given = [self.headers.get(name, "") for name in ("authorization", "x-api-key", "x-goog-api-key")]
        if not any(value.removeprefix("Bearer ") == KEY for value in given):
            raise RequestError("the key is not the provider's")

    def other(self) -> None:
        path = self.path.split("?")[0]
        for pattern, answer in OTHER.items():
            if re.fullmatch(pattern, path):
                return self.json(200, answer)
        return self.json(404, WRITERS[self.server.dialect].error(404, "not found"))

    def json(self, status: int, value: dict, headers: tuple = ()) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (("content-type", "application/json"), ("content-length", str(len(body))), *headers):
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def play(self, seen: Seen, writer: Writer, steps: list[Step]) -> None:
        refused = next((step for step in steps if isinstance(step, Refused)), None)
        seen.status = refused.status if refused else 200
        if refused:
            self.json(refused.status, writer.error(refused.status, refused.message), refused.headers)
        elif not writer.ask.stream:
            self.play_whole(writer, steps)
        else:
            self.send_response(200)
            self.send_header("content-type", writer.content_type)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.chunk(writer.begin())
            for step in steps:
                self.stream(seen, writer, step)
            if not isinstance(steps[-1], Broken):
                self.chunk(writer.end())
            self.wfile.write(b"0\r\n\r\n")
        seen.whole = True

    def play_whole(self, writer: Writer, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Silence):
                time.sleep(step.seconds)
            elif isinstance(step, Broken):
                return self.json(500, writer.error(500, step.message))
            elif not isinstance(step, Endless):
                writer.parts.append(step)
        return self.json(200, writer.whole())

    def stream(self, seen: Seen, writer: Writer, step: Step) -> None:
        if isinstance(step, Silence):
            time.sleep(step.seconds)
        elif isinstance(step, Broken):
            self.chunk(writer.broken(step.message))
        elif isinstance(step, Endless):
            while True:
                self.chunk(writer.add(Text("word ")))
                seen.written += 1
                time.sleep(0.1)
        else:
            self.chunk(writer.add(step))

    def chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

"""The caller's side of the six caller dialects: requests, and readers of streams and whole answers.

Written from the vendors' documentation, not from the gateway's code. A reader decides how an answer ended; it never
decides whether that was right.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

CALLERS = ["openai-chat", "openai-responses", "anthropic", "gemini", "ollama", "cohere"]
UPSTREAMS = [*CALLERS, "bedrock"]
# What a provider's `base_url` ends with.
BASES = {"openai-chat": "/v1", "openai-responses": "/v1", "gemini": "/v1beta"}


def request(dialect: str, model: str, stream: bool, text: str) -> tuple[str, bytes]:
    """The path and the body of a chat."""
    messages = [{"role": "user", "content": text}]
    path, body = {
        "openai-chat": ("/v1/chat/completions", {"messages": messages, "max_tokens": 2000}),
        "openai-responses": ("/v1/responses", {"input": text, "max_output_tokens": 2000}),
        "anthropic": ("/v1/messages", {"messages": messages, "max_tokens": 2000}),
        "gemini": (f"/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}",
                   {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": {"maxOutputTokens": 2000}}),
        "ollama": ("/api/chat", {"messages": messages, "options": {"num_predict": 2000}}),
        "cohere": ("/v2/chat", {"messages": messages, "max_tokens": 2000}),
    }[dialect]
    if dialect != "gemini":
        body = {"model": model, "stream": stream, **body}
    return path, json.dumps(body).encode()


@dataclass
class Answer:
    """What a caller has seen of an answer so far."""

    text: str = ""
    complete: bool = False  # the dialect's own end of a complete answer has come
    failed: bool = False  # an error has come in place of it
    problems: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text and (self.complete or self.failed):
            self.problems.append("text after the end")
        self.text += text

    def end(self, failed: bool) -> None:
        if failed and self.complete or not failed and self.failed:
            self.problems.append("a complete end and an error, both")
        self.failed |= failed
        self.complete |= not failed


def chat(value: dict, answer: Answer) -> None:
    for choice in value.get("choices") or []:
        answer.add(choice.get("delta", {}).get("content") or "")
    if "error" in value:
        answer.end(failed=True)


def responses(value: dict, answer: Answer) -> None:
    kind = value.get("type")
    if kind == "response.output_text.delta":
        answer.add(value["delta"])
    elif kind in ("response.completed", "response.incomplete"):
        answer.end(failed=False)
    elif kind in ("error", "response.failed"):
        answer.end(failed=True)


def anthropic(value: dict, answer: Answer) -> None:
    kind = value.get("type")
    if kind == "content_block_delta":
        answer.add(value["delta"].get("text") or "")
    elif kind in ("message_stop", "error"):
        answer.end(failed=kind == "error")


def gemini(value: dict, answer: Answer) -> None:
    if "error" in value:
        # The API has no terminal event: after a finish reason, an answer is complete when its body ends. An upstream that
        # dies in between has not completed it.
        answer.complete = False
        answer.end(failed=True)
    for candidate in value.get("candidates") or []:
        for part in candidate.get("content", {}).get("parts") or []:
            answer.add("" if part.get("thought") else part.get("text") or "")
        if candidate.get("finishReason"):
            answer.end(failed=False)


def ollama(value: dict, answer: Answer) -> None:
    answer.add(value.get("message", {}).get("content") or "")
    if "error" in value or value.get("done"):
        answer.end(failed="error" in value)


def cohere(value: dict, answer: Answer) -> None:
    kind = value.get("type")
    if kind == "content-delta":
        answer.add(value["delta"]["message"]["content"].get("text") or "")
    elif kind == "message-end":
        answer.end(failed=value["delta"].get("finish_reason") in ("ERROR", "TIMEOUT"))


EVENTS: dict[str, Callable[[dict, Answer], None]] = {
    "openai-chat": chat, "openai-responses": responses, "anthropic": anthropic, "gemini": gemini, "ollama": ollama, "cohere": cohere,
}


class StreamReader:
    """Reads a stream in whatever pieces it comes."""

    def __init__(self, dialect: str) -> None:
        self.dialect, self.answer = dialect, Answer()
        self.rest, self.data = b"", []

    def feed(self, piece: bytes) -> None:
        *lines, self.rest = (self.rest + piece).split(b"\n")
        for line in lines:
            self.line(line.rstrip(b"\r"))

    def line(self, line: bytes) -> None:
        if self.dialect == "ollama":
            if line:
                self.event(line)
        elif line.startswith(b"data:"):
            self.data.append(line[5:].removeprefix(b" "))
        elif not line and self.data:
            data, self.data = b"\n".join(self.data), []
            self.event(data)

    def event(self, data: bytes) -> None:
        if data == b"[DONE]":
            if self.dialect == "openai-chat":
                self.answer.end(failed=False)
            return
        try:
            value = json.loads(data)
        except ValueError:
            self.answer.problems.append(f"an event that is no JSON: {data[:80]!r}")
            return
        EVENTS[self.dialect](value, self.answer)


def whole_text(dialect: str, body: dict) -> str:
    """The text of a whole answer."""
    texts = {
        "openai-chat": lambda: [body["choices"][0]["message"].get("content") or ""],
        "openai-responses": lambda: [part.get("text", "") for item in body["output"] for part in item.get("content") or []],
        "anthropic": lambda: [block.get("text", "") for block in body["content"]],
        "gemini": lambda: [part.get("text", "") for part in body["candidates"][0]["content"]["parts"] if not part.get("thought")],
        "ollama": lambda: [body["message"]["content"]],
        "cohere": lambda: [part.get("text", "") for part in body["message"].get("content") or []],
    }[dialect]
    return "".join(texts())


def error_message(dialect: str, body: object) -> str | None:
    """The message of an error in the caller's own dialect; `None` if it is none."""
    place = {"ollama": ["error"], "cohere": ["message"]}.get(dialect, ["error", "message"])
    for name in place:
        body = body.get(name) if isinstance(body, dict) else None
    return body if isinstance(body, str) else None

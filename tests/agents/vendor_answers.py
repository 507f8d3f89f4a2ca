"""The answers of the seven upstream dialects: each a writer from neutral parts to bytes, streamed or whole.

Written from the vendors' documentation, not from the gateway's code. A writer knows no script and no clock.
"""

import json
import struct
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from ask import Ask

TOKENS = {"input": 120, "output": 12}


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Call:
    name: str
    input: dict | str  # text for OpenAI's custom tools


Part = Text | Call


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def data(value: object) -> bytes:
    return f"data: {compact(value)}\n\n".encode()


def event(value: dict) -> bytes:
    return f"event: {value['type']}\n".encode() + data(value)


def halves(text: str) -> list[str]:
    """Two fragments, as streams come in fragments."""
    middle = (len(text) + 1) // 2
    return [half for half in (text[:middle], text[middle:]) if half]


@dataclass
class Writer:
    """One answer. The parts are remembered for what the end repeats."""

    ask: Ask
    number: int  # of the request; makes ids unique
    parts: list[Part] = field(default_factory=list)
    content_type: ClassVar[str] = "text/event-stream"

    @property
    def calls(self) -> list[Call]:
        return [part for part in self.parts if isinstance(part, Call)]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    def id(self, index: int) -> str:
        return f"call_{self.number}x{index}"

    def add(self, part: Part) -> bytes:
        """A part of a stream. Texts that follow each other are one."""
        first = not self.parts or not (isinstance(part, Text) and isinstance(self.parts[-1], Text))
        index = len(self.parts)
        self.parts.append(part)
        return self.stream_text(part.text, first) if isinstance(part, Text) else self.stream_call(part, index)

    def begin(self) -> bytes:
        return b""

    def stream_text(self, text: str, first: bool) -> bytes:
        raise NotImplementedError

    def stream_call(self, call: Call, index: int) -> bytes:
        raise NotImplementedError

    def end(self) -> bytes:
        raise NotImplementedError

    def broken(self, message: str) -> bytes:
        """The error within a stream."""
        raise NotImplementedError

    def whole(self) -> dict:
        raise NotImplementedError

    @staticmethod
    def error(status: int, message: str) -> dict:
        raise NotImplementedError


class OpenaiChat(Writer):
    def chunk(self, delta: dict, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return data({**self.frame("chat.completion.chunk"), "choices": [choice]})

    def frame(self, object: str) -> dict:
        return {"id": f"chatcmpl-{self.number}", "object": object, "created": 1764000000, "model": self.ask.model}

    def begin(self) -> bytes:
        return self.chunk({"role": "assistant", "content": ""})

    def stream_text(self, text: str, first: bool) -> bytes:
        return b"".join(self.chunk({"content": half}) for half in halves(text))

    def called(self, call: Call, index: int) -> dict:
        return {"id": self.id(index), "type": "function", "function": {"name": call.name, "arguments": compact(call.input)}}

    def stream_call(self, call: Call, index: int) -> bytes:
        number = len(self.calls) - 1
        head = self.called(call, index)
        pieces = halves(head["function"]["arguments"])
        head["function"]["arguments"] = ""
        made = self.chunk({"tool_calls": [{"index": number, **head}]})
        return made + b"".join(self.chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}) for piece in pieces)

    @property
    def finish(self) -> str:
        return "tool_calls" if self.calls else "stop"

    def usage(self) -> dict:
        read, written = TOKENS["input"], TOKENS["output"]
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def end(self) -> bytes:
        usage = data({**self.frame("chat.completion.chunk"), "choices": [], "usage": self.usage()}) if self.ask.usage else b""
        return self.chunk({}, self.finish) + usage + b"data: [DONE]\n\n"

    def broken(self, message: str) -> bytes:
        return data(self.error(500, message))

    def whole(self) -> dict:
        message = {"role": "assistant", "content": self.text or None}
        calls = [self.called(part, index) for index, part in enumerate(self.parts) if isinstance(part, Call)]
        message |= {"tool_calls": calls} if calls else {}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return {**self.frame("chat.completion"), "choices": [choice], "usage": self.usage()}

    @staticmethod
    def error(status: int, message: str) -> dict:
        kinds = {400: "invalid_request_error", 429: "rate_limit_error"}
        return {"error": {"message": message, "type": kinds.get(status, "server_error"), "param": None, "code": None}}


class OpenaiResponses(Writer):
    sent: int = 0

    def event(self, type: str, **more: object) -> bytes:
        self.sent += 1
        return event({"type": type, "sequence_number": self.sent - 1, **more})

    def response(self, status: str, output: list) -> dict:
        read, written = TOKENS["input"], TOKENS["output"]
        usage = {"input_tokens": read, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": written,
                 "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + written}
        return {"id": f"resp_{self.number}", "object": "response", "created_at": 1764000000, "status": status,
                "model": self.ask.model, "output": output, "error": None, "incomplete_details": None,
                "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                "usage": usage if status == "completed" else None}

    def begin(self) -> bytes:
        return self.event("response.created", response=self.response("in_progress", []))

    def items(self) -> list[dict]:
        """The output: texts that follow each other are one message."""
        made: list[dict] = []
        for index, part in enumerate(self.parts):
            if isinstance(part, Call):
                made.append(self.call_item(part, index))
            elif made and made[-1]["type"] == "message":
                made[-1]["content"][0]["text"] += part.text
            else:
                content = {"type": "output_text", "text": part.text, "annotations": [], "logprobs": []}
                made.append({"id": f"msg_{self.number}x{index}", "type": "message", "status": "completed",
                             "role": "assistant", "content": [content]})
        return made

    def call_item(self, call: Call, index: int) -> dict:
        tool = self.ask.tools[call.name]
        kind, field = ("custom_tool_call", "input") if tool.free_text else ("function_call", "arguments")
        value = call.input if isinstance(call.input, str) else compact(call.input)
        item = {"id": f"fc_{self.number}x{index}", "type": kind, "status": "completed", "call_id": self.id(index),
                "name": tool.own_name, field: value}
        return item | ({"namespace": tool.namespace} if tool.namespace else {})

    def stream_text(self, text: str, first: bool) -> bytes:
        item = self.items()[-1]
        place = {"item_id": item["id"], "output_index": len(self.items()) - 1, "content_index": 0}
        made = b""
        if first:
            empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            opened = {**item, "status": "in_progress", "content": []}
            made += self.event("response.output_item.added", output_index=place["output_index"], item=opened)
            made += self.event("response.content_part.added", **place, part=empty)
        return made + b"".join(self.event("response.output_text.delta", **place, delta=half, logprobs=[]) for half in halves(text))

    def close_text(self, items: list[dict]) -> bytes:
        """The end of the message that is the last of these items."""
        if not items or items[-1]["type"] != "message":
            return b""
        item, index = items[-1], len(items) - 1
        part = item["content"][0]
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        return (self.event("response.output_text.done", **place, text=part["text"], logprobs=[])
                + self.event("response.content_part.done", **place, part=part)
                + self.event("response.output_item.done", output_index=index, item=item))

    def stream_call(self, call: Call, index: int) -> bytes:
        items = self.items()
        made = self.close_text(items[:-1])
        item, place = items[-1], len(items) - 1
        kind, field = ("custom_tool_call_input", "input") if "input" in item else ("function_call_arguments", "arguments")
        at = {"item_id": item["id"], "output_index": place}
        made += self.event("response.output_item.added", output_index=place, item={**item, "status": "in_progress", field: ""})
        made += b"".join(self.event(f"response.{kind}.delta", **at, delta=half) for half in halves(item[field]))
        made += self.event(f"response.{kind}.done", **at, **{field: item[field]})
        return made + self.event("response.output_item.done", output_index=place, item=item)

    def end(self) -> bytes:
        return self.close_text(self.items()) + self.event("response.completed", response=self.whole())

    def broken(self, message: str) -> bytes:
        failed = self.response("failed", []) | {"error": {"code": "server_error", "message": message}}
        return self.event("response.failed", response=failed)

    def whole(self) -> dict:
        return self.response("completed", self.items())

    error = staticmethod(OpenaiChat.error)


class Anthropic(Writer):
    open: bool = False
    blocks: int = 0

    def begin(self) -> bytes:
        usage = {"input_tokens": TOKENS["input"], "output_tokens": 1}
        return event({"type": "message_start", "message": {**self.frame(), "content": [], "stop_reason": None, "usage": usage}})

    def frame(self) -> dict:
        return {"id": f"msg_{self.number}", "type": "message", "role": "assistant", "model": self.ask.model, "stop_sequence": None}

    def start(self, block: dict) -> bytes:
        made = self.stop()
        self.open = True
        return made + event({"type": "content_block_start", "index": self.blocks, "content_block": block})

    def delta(self, delta: dict) -> bytes:
        return event({"type": "content_block_delta", "index": self.blocks, "delta": delta})

    def stop(self) -> bytes:
        if not self.open:
            return b""
        self.open = False
        self.blocks += 1
        return event({"type": "content_block_stop", "index": self.blocks - 1})

    def stream_text(self, text: str, first: bool) -> bytes:
        made = self.start({"type": "text", "text": ""}) if first else b""
        return made + b"".join(self.delta({"type": "text_delta", "text": half}) for half in halves(text))

    def call_id(self, index: int) -> str:
        return f"toolu_{self.number}x{index}"

    def stream_call(self, call: Call, index: int) -> bytes:
        made = self.start({"type": "tool_use", "id": self.call_id(index), "name": call.name, "input": {}})
        made += b"".join(self.delta({"type": "input_json_delta", "partial_json": half}) for half in halves(compact(call.input)))
        return made + self.stop()

    @property
    def reason(self) -> str:
        return "tool_use" if self.calls else "end_turn"

    def end(self) -> bytes:
        delta = {"stop_reason": self.reason, "stop_sequence": None}
        usage = {"output_tokens": TOKENS["output"]}
        return self.stop() + event({"type": "message_delta", "delta": delta, "usage": usage}) + event({"type": "message_stop"})

    def broken(self, message: str) -> bytes:
        return event(self.error(529, message))

    def whole(self) -> dict:
        content = [{"type": "text", "text": part.text} if isinstance(part, Text)
                   else {"type": "tool_use", "id": self.call_id(index), "name": part.name, "input": part.input}
                   for index, part in enumerate(self.parts)]
        usage = {"input_tokens": TOKENS["input"], "output_tokens": TOKENS["output"]}
        return {**self.frame(), "content": content, "stop_reason": self.reason, "usage": usage}

    @staticmethod
    def error(status: int, message: str) -> dict:
        kinds = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}
        return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}


class Gemini(Writer):
    def candidate(self, parts: list[dict], finish: str | None = None) -> dict:
        read, written = TOKENS["input"], TOKENS["output"]
        usage = {"promptTokenCount": read, "candidatesTokenCount": written, "totalTokenCount": read + written}
        ended = {"finishReason": finish} if finish else {}
        return {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0, **ended}],
                "usageMetadata": usage, "modelVersion": self.ask.model, "responseId": f"r{self.number}"}

    def stream_text(self, text: str, first: bool) -> bytes:
        return b"".join(data(self.candidate([{"text": half}])) for half in halves(text))

    def stream_call(self, call: Call, index: int) -> bytes:
        return data(self.candidate([{"functionCall": {"name": call.name, "args": call.input}}]))

    def end(self) -> bytes:
        return data(self.candidate([{"text": ""}], "STOP"))

    def broken(self, message: str) -> bytes:
        return data(self.error(503, message))

    def whole(self) -> dict:
        return self.candidate([{"text": part.text} if isinstance(part, Text) else {"functionCall": {"name": part.name, "args": part.input}}
                               for part in self.parts], "STOP")

    @staticmethod
    def error(status: int, message: str) -> dict:
        words = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
        return {"error": {"code": status, "message": message, "status": words.get(status, "UNKNOWN")}}


class Ollama(Writer):
    content_type = "application/x-ndjson"

    def line(self, message: dict, **more: object) -> dict:
        return {"model": self.ask.model, "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f123Z"),
                "message": {"role": "assistant", "content": "", **message}, "done": False, **more}

    def stream_text(self, text: str, first: bool) -> bytes:
        return b"".join(compact(self.line({"content": half})).encode() + b"\n" for half in halves(text))

    def stream_call(self, call: Call, index: int) -> bytes:
        called = {"function": {"name": call.name, "arguments": call.input}}
        return compact(self.line({"tool_calls": [called]})).encode() + b"\n"

    def last(self, message: dict) -> dict:
        return self.line(message, done=True, done_reason="stop", total_duration=1000, load_duration=1, eval_duration=1,
                         prompt_eval_duration=1, prompt_eval_count=TOKENS["input"], eval_count=TOKENS["output"])

    def end(self) -> bytes:
        return compact(self.last({})).encode() + b"\n"

    def broken(self, message: str) -> bytes:
        return compact(self.error(500, message)).encode() + b"\n"

    def whole(self) -> dict:
        calls = [{"function": {"name": call.name, "arguments": call.input}} for call in self.calls]
        return self.last({"content": self.text} | ({"tool_calls": calls} if calls else {}))

    @staticmethod
    def error(status: int, message: str) -> dict:
        return {"error": message}


class Cohere(Writer):
    open: bool = False
    contents: int = 0

    def begin(self) -> bytes:
        message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        return event({"type": "message-start", "id": f"c{self.number}", "delta": {"message": message}})

    def close(self) -> bytes:
        if not self.open:
            return b""
        self.open = False
        self.contents += 1
        return event({"type": "content-end", "index": self.contents - 1})

    def stream_text(self, text: str, first: bool) -> bytes:
        made = b""
        if first:
            self.open = True
            opened = {"message": {"content": {"type": "text", "text": ""}}}
            made = event({"type": "content-start", "index": self.contents, "delta": opened})
        return made + b"".join(event({"type": "content-delta", "index": self.contents, "delta": {"message": {"content": {"text": half}}}})
                               for half in halves(text))

    def called(self, call: Call, index: int, written: str) -> dict:
        return {"id": f"{call.name}_{self.number}x{index}", "type": "function", "function": {"name": call.name, "arguments": written}}

    def stream_call(self, call: Call, index: int) -> bytes:
        number = len(self.calls) - 1
        made = self.close()
        made += event({"type": "tool-call-start", "index": number, "delta": {"message": {"tool_calls": self.called(call, index, "")}}})
        made += b"".join(event({"type": "tool-call-delta", "index": number,
                                "delta": {"message": {"tool_calls": {"function": {"arguments": half}}}}})
                         for half in halves(compact(call.input)))
        return made + event({"type": "tool-call-end", "index": number})

    @property
    def finish(self) -> str:
        return "TOOL_CALL" if self.calls else "COMPLETE"

    def usage(self) -> dict:
        counted = {"input_tokens": TOKENS["input"], "output_tokens": TOKENS["output"]}
        return {"billed_units": counted, "tokens": counted}

    def end(self) -> bytes:
        delta = {"finish_reason": self.finish, "usage": self.usage()}
        return self.close() + event({"type": "message-end", "delta": delta}) + b"data: [DONE]\n\n"

    def broken(self, message: str) -> bytes:
        return event({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": message}})

    def whole(self) -> dict:
        message: dict = {"role": "assistant"}
        calls = [self.called(part, index, compact(part.input)) for index, part in enumerate(self.parts) if isinstance(part, Call)]
        message |= {"tool_calls": calls} if calls else {"content": [{"type": "text", "text": self.text}]}
        return {"id": f"c{self.number}", "message": message, "finish_reason": self.finish, "usage": self.usage()}

    @staticmethod
    def error(status: int, message: str) -> dict:
        return {"id": "e", "message": message}


class Bedrock(Writer):
    content_type = "application/vnd.amazon.eventstream"
    open: bool = False
    blocks: int = 0

    @staticmethod
    def frame(headers: dict[str, str], payload: dict) -> bytes:
        written = b"".join(struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
                           for name, value in headers.items())
        body = compact(payload).encode()
        head = struct.pack("!II", 16 + len(written) + len(body), len(written))
        message = head + struct.pack("!I", zlib.crc32(head)) + written + body
        return message + struct.pack("!I", zlib.crc32(message))

    def event(self, type: str, payload: dict) -> bytes:
        return self.frame({":event-type": type, ":content-type": "application/json", ":message-type": "event"}, payload)

    def begin(self) -> bytes:
        return self.event("messageStart", {"role": "assistant"})

    def close(self) -> bytes:
        if not self.open:
            return b""
        self.open = False
        self.blocks += 1
        return self.event("contentBlockStop", {"contentBlockIndex": self.blocks - 1})

    def delta(self, delta: dict) -> bytes:
        return self.event("contentBlockDelta", {"contentBlockIndex": self.blocks, "delta": delta})

    def stream_text(self, text: str, first: bool) -> bytes:
        self.open = True
        return b"".join(self.delta({"text": half}) for half in halves(text))

    def stream_call(self, call: Call, index: int) -> bytes:
        made, self.open = self.close(), True
        start = {"toolUse": {"toolUseId": f"tooluse_{self.number}x{index}", "name": call.name}}
        made += self.event("contentBlockStart", {"contentBlockIndex": self.blocks, "start": start})
        made += b"".join(self.delta({"toolUse": {"input": half}}) for half in halves(compact(call.input)))
        return made + self.close()

    @property
    def reason(self) -> str:
        return "tool_use" if self.calls else "end_turn"

    def usage(self) -> dict:
        read, written = TOKENS["input"], TOKENS["output"]
        return {"usage": {"inputTokens": read, "outputTokens": written, "totalTokens": read + written}, "metrics": {"latencyMs": 1}}

    def end(self) -> bytes:
        return self.close() + self.event("messageStop", {"stopReason": self.reason}) + self.event("metadata", self.usage())

    def broken(self, message: str) -> bytes:
        headers = {":exception-type": "modelStreamErrorException", ":content-type": "application/json", ":message-type": "exception"}
        return self.frame(headers, {"message": message})

    def whole(self) -> dict:
        content = [{"text": part.text} if isinstance(part, Text)
                   else {"toolUse": {"toolUseId": f"tooluse_{self.number}x{index}", "name": part.name, "input": part.input}}
                   for index, part in enumerate(self.parts)]
        return {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": self.reason, **self.usage()}

    @staticmethod
    def error(status: int, message: str) -> dict:
        return {"message": message}


WRITERS: dict[str, type[Writer]] = {
    "openai-chat": OpenaiChat,
    "openai-responses": OpenaiResponses,
    "anthropic": Anthropic,
    "gemini": Gemini,
    "ollama": Ollama,
    "cohere": Cohere,
    "bedrock": Bedrock,
}

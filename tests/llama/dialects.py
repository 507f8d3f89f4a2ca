"""The caller dialects: what to post where, and how to read the answer. Written from the vendors'
documentation, not from the gateway's code; a new dialect is one more entry of `DIALECTS`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

STOP, LENGTH, CALLS = "stop", "length", "calls"


@dataclass(frozen=True)
class Ask:
    """A request, in no dialect."""

    model: str
    prompt: str
    stream: bool
    max_tokens: int
    stop: str | None = None
    tool: str | None = None  # the name of a tool that takes a place
    reasoning: bool = False  # whether it wants to see it, where that must be said


@dataclass
class Answer:
    """What an answer says, in no dialect."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, dict]] = field(default_factory=list)  # each tool's name and its arguments
    stop: str | None = None  # STOP, LENGTH, CALLS, or the dialect's own word for anything else
    input: int | None = None  # tokens, those from a cache included
    output: int | None = None
    ended: bool = False  # whether the terminal of a good stream is there, as the last thing
    error: str | None = None

    def call(self, name: str, arguments: str | dict) -> None:
        self.calls.append((name, json.loads(arguments) if isinstance(arguments, str) else arguments))

    def called(self) -> "Answer":
        """Where no word says that it stopped for its calls, the calls do."""
        if self.calls and self.stop == STOP:
            self.stop = CALLS
        return self


@dataclass(frozen=True)
class Dialect:
    key_header: tuple[str, str]  # the header, and what precedes the key in it
    lines: bool  # streams are lines of JSON, not server-sent events
    path: Callable[[Ask], str]
    body: Callable[[Ask], dict]
    stream: Callable[[list], Answer]  # of every event's data: JSON, or `[DONE]` as it is
    whole: Callable[[dict], Answer]
    error: Callable[[dict], str]  # the message in an error's body
    stop_sequences: bool = True
    unreachable: int = 502  # the status that says: not your fault, the upstream is not there


def given(**members) -> dict:
    """Those members that have a value."""
    return {name: value for name, value in members.items() if value is not None}


def messages(ask: Ask) -> list:
    return [{"role": "user", "content": ask.prompt}]


PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}


def functions(ask: Ask) -> list | None:
    return [{"type": "function", "function": {"name": ask.tool, "parameters": PLACE}}] if ask.tool else None


# --- OpenAI chat completions ---

CHAT_STOPS = {"tool_calls": CALLS}


def chat_body(ask: Ask) -> dict:
    return given(model=ask.model, messages=messages(ask), max_tokens=ask.max_tokens, stop=ask.stop, tools=functions(ask),
                 stream=ask.stream or None, stream_options={"include_usage": True} if ask.stream else None)


def chat_usage(answer: Answer, usage: dict) -> None:
    answer.input, answer.output = usage["prompt_tokens"], usage["completion_tokens"]


def chat_text(answer: Answer, said: dict) -> None:
    answer.text += said.get("content") or ""
    answer.reasoning += said.get("reasoning_content") or ""


def chat_stream(events: list) -> Answer:
    answer, calls = Answer(ended=events[-1:] == ["[DONE]"]), {}
    for event in events:
        if event == "[DONE]":
            continue
        if "error" in event:
            answer.error = event["error"]["message"]
            continue
        for choice in event["choices"]:
            chat_text(answer, choice["delta"])
            for part in choice["delta"].get("tool_calls") or []:
                call = calls.setdefault(part["index"], {"name": "", "arguments": ""})
                for member in call:
                    call[member] += part["function"].get(member) or ""
            reason = choice.get("finish_reason") or answer.stop
            answer.stop = CHAT_STOPS.get(reason, reason)
        if event.get("usage"):
            chat_usage(answer, event["usage"])
    for call in calls.values():
        answer.call(**call)
    return answer


def chat_whole(body: dict) -> Answer:
    [choice] = body["choices"]
    answer = Answer(stop=CHAT_STOPS.get(choice["finish_reason"], choice["finish_reason"]))
    chat_text(answer, choice["message"])
    for call in choice["message"].get("tool_calls") or []:
        answer.call(call["function"]["name"], call["function"]["arguments"])
    chat_usage(answer, body["usage"])
    return answer


# --- Anthropic messages ---

ANTHROPIC_STOPS = {"end_turn": STOP, "stop_sequence": STOP, "max_tokens": LENGTH, "tool_use": CALLS}


def anthropic_body(ask: Ask) -> dict:
    return given(model=ask.model, messages=messages(ask), max_tokens=ask.max_tokens, stream=ask.stream or None,
                 stop_sequences=[ask.stop] if ask.stop else None,
                 tools=[{"name": ask.tool, "input_schema": PLACE}] if ask.tool else None,
                 thinking={"type": "enabled", "budget_tokens": 1024} if ask.reasoning else None)


def anthropic_usage(answer: Answer, usage: dict) -> None:
    """Tokens from a cache are counted apart, and later numbers replace earlier ones."""
    if "input_tokens" in usage:
        answer.input = sum(usage.get(part) or 0 for part in
                           ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"))
    answer.output = usage["output_tokens"]


def anthropic_stream(events: list) -> Answer:
    answer, calls = Answer(ended=bool(events) and events[-1]["type"] == "message_stop"), {}
    for event in events:
        match event["type"]:
            case "message_start":
                anthropic_usage(answer, event["message"]["usage"])
            case "content_block_start" if event["content_block"]["type"] == "tool_use":
                calls[event["index"]] = {"name": event["content_block"]["name"], "arguments": ""}
            case "content_block_delta":
                delta = event["delta"]
                answer.text += delta.get("text", "")
                answer.reasoning += delta.get("thinking", "")
                if "partial_json" in delta:
                    calls[event["index"]]["arguments"] += delta["partial_json"]
            case "message_delta":
                reason = event["delta"]["stop_reason"]
                answer.stop = ANTHROPIC_STOPS.get(reason, reason)
                anthropic_usage(answer, event["usage"])
            case "error":
                answer.error = event["error"]["message"]
    for call in calls.values():
        answer.call(**call)
    return answer


def anthropic_whole(body: dict) -> Answer:
    answer = Answer(stop=ANTHROPIC_STOPS.get(body["stop_reason"], body["stop_reason"]))
    for block in body["content"]:
        answer.text += block.get("text", "")
        answer.reasoning += block.get("thinking", "")
        if block["type"] == "tool_use":
            answer.call(block["name"], block["input"])
    anthropic_usage(answer, body["usage"])
    return answer


# --- OpenAI responses ---

def responses_body(ask: Ask) -> dict:
    # These know no stop sequences.
    return given(model=ask.model, input=ask.prompt, max_output_tokens=ask.max_tokens, stream=ask.stream or None,
                 tools=[{"type": "function", "name": ask.tool, "parameters": PLACE}] if ask.tool else None,
                 reasoning={"summary": "auto"} if ask.reasoning else None)


def responses_end(answer: Answer, response: dict) -> None:
    details = response.get("incomplete_details") or {}
    stops = {"completed": STOP, "max_output_tokens": LENGTH}
    reason = details.get("reason", response["status"])
    answer.stop = stops.get(reason, reason)
    if response.get("error"):
        answer.error = response["error"]["message"]
    if response.get("usage"):
        answer.input, answer.output = response["usage"]["input_tokens"], response["usage"]["output_tokens"]


def responses_stream(events: list) -> Answer:
    ends = ("response.completed", "response.incomplete", "response.failed")
    # `[DONE]` follows the terminal event, as the Open Responses specification has it, but for an upstream of the same
    # dialect that does not send it.
    events = events[:-1] if events[-1:] == ["[DONE]"] else events
    answer = Answer(ended=bool(events) and events[-1]["type"] in ends[:2])
    for event in events:
        if event["type"] == "response.output_text.delta":
            answer.text += event["delta"]
        elif event["type"] in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            answer.reasoning += event["delta"]
        elif event["type"] == "response.output_item.done" and event["item"]["type"] == "function_call":
            answer.call(event["item"]["name"], event["item"]["arguments"])
        elif event["type"] in ends:
            responses_end(answer, event["response"])
        elif event["type"] == "error":
            answer.error = event.get("message") or event["error"]["message"]
    return answer.called()


def responses_whole(body: dict) -> Answer:
    answer = Answer()
    for item in body["output"]:
        match item["type"]:
            case "message":
                answer.text += "".join(part["text"] for part in item["content"])
            case "reasoning":
                answer.reasoning += "".join(part["text"] for part in item.get("content") or item["summary"])
            case "function_call":
                answer.call(item["name"], item["arguments"])
    responses_end(answer, body)
    return answer.called()


# --- Gemini ---

GEMINI_STOPS = {"STOP": STOP, "MAX_TOKENS": LENGTH}


def gemini_path(ask: Ask) -> str:
    method = "streamGenerateContent?alt=sse" if ask.stream else "generateContent"
    return f"/v1beta/models/{ask.model}:{method}"


def gemini_body(ask: Ask) -> dict:
    stops = [ask.stop] if ask.stop else None
    thoughts = {"includeThoughts": True} if ask.reasoning else None
    tools = [{"functionDeclarations": [{"name": ask.tool, "parameters": PLACE}]}] if ask.tool else None
    return given(contents=[{"role": "user", "parts": [{"text": ask.prompt}]}], tools=tools,
                 generationConfig=given(maxOutputTokens=ask.max_tokens, stopSequences=stops, thinkingConfig=thoughts))


def gemini_stream(events: list) -> Answer:
    """There is no terminal but a reason to finish."""
    answer = Answer()
    for event in events:
        if "error" in event:
            answer.error, answer.ended = event["error"]["message"], False
            continue
        for candidate in event.get("candidates", []):
            for part in candidate.get("content", {}).get("parts", []):
                if part.get("thought"):
                    answer.reasoning += part["text"]
                else:
                    answer.text += part.get("text", "")
                if "functionCall" in part:
                    answer.call(part["functionCall"]["name"], part["functionCall"]["args"])
            reason = candidate.get("finishReason")
            if reason:
                answer.stop, answer.ended = GEMINI_STOPS.get(reason, reason), reason in GEMINI_STOPS
        usage = event.get("usageMetadata", {})
        answer.input = usage.get("promptTokenCount", answer.input)
        if "candidatesTokenCount" in usage:
            answer.output = usage["candidatesTokenCount"] + usage.get("thoughtsTokenCount", 0)
    return answer.called()


# --- Ollama ---

def ollama_body(ask: Ask) -> dict:
    stops = [ask.stop] if ask.stop else None
    return {"model": ask.model, "messages": messages(ask), "stream": ask.stream,
            "options": given(num_predict=ask.max_tokens, stop=stops),
            **given(tools=functions(ask), think=ask.reasoning or None)}


def ollama_stream(lines: list) -> Answer:
    answer = Answer(ended=bool(lines) and lines[-1].get("done") is True)
    for line in lines:
        if "error" in line:
            answer.error = line["error"]
            continue
        answer.text += line["message"].get("content", "")
        answer.reasoning += line["message"].get("thinking", "")
        for call in line["message"].get("tool_calls", []):
            answer.call(call["function"]["name"], call["function"]["arguments"])
        if line["done"]:
            answer.stop = line["done_reason"]
            answer.input, answer.output = line.get("prompt_eval_count", 0), line["eval_count"]
    return answer.called()


# --- Cohere ---

COHERE_STOPS = {"COMPLETE": STOP, "STOP_SEQUENCE": STOP, "MAX_TOKENS": LENGTH, "TOOL_CALL": CALLS}


def cohere_body(ask: Ask) -> dict:
    return given(model=ask.model, messages=messages(ask), max_tokens=ask.max_tokens, stream=ask.stream,
                 stop_sequences=[ask.stop] if ask.stop else None, tools=functions(ask),
                 thinking={"type": "enabled"} if ask.reasoning else None)


def cohere_end(answer: Answer, end: dict) -> None:
    answer.stop = COHERE_STOPS.get(end["finish_reason"], end["finish_reason"])
    if answer.stop not in (STOP, LENGTH, CALLS):
        answer.error = end.get("error") or answer.stop
    if end.get("usage"):
        tokens = end["usage"]["tokens"]
        answer.input, answer.output = tokens["input_tokens"], tokens["output_tokens"]


def cohere_text(answer: Answer, content: dict) -> None:
    answer.text += content.get("text", "")
    answer.reasoning += content.get("thinking", "")


def cohere_stream(events: list) -> Answer:
    answer, calls = Answer(), {}
    for event in events:
        if event == "[DONE]":
            continue
        match event["type"]:
            case "content-delta":
                cohere_text(answer, event["delta"]["message"]["content"])
            case "tool-call-start":
                calls[event["index"]] = dict(event["delta"]["message"]["tool_calls"]["function"])
            case "tool-call-delta":
                more = event["delta"]["message"]["tool_calls"]["function"]["arguments"]
                calls[event["index"]]["arguments"] += more
            case "message-end":
                cohere_end(answer, event["delta"])
    for call in calls.values():
        answer.call(call["name"], call["arguments"])
    ends = [event for event in events if event != "[DONE]"][-1:]
    answer.ended = answer.error is None and [event["type"] for event in ends] == ["message-end"]
    return answer


def cohere_whole(body: dict) -> Answer:
    answer = Answer()
    for part in body["message"].get("content") or []:
        cohere_text(answer, part)
    for call in body["message"].get("tool_calls") or []:
        answer.call(call["function"]["name"], call["function"]["arguments"])
    cohere_end(answer, body)
    return answer


# --- The table ---

BEARER = ("authorization", "Bearer ")


def nested(body: dict) -> str:
    return body["error"]["message"]


DIALECTS = {
    "openai-chat": Dialect(BEARER, False, lambda _: "/v1/chat/completions", chat_body, chat_stream, chat_whole, nested),
    "anthropic": Dialect(("x-api-key", ""), False, lambda _: "/v1/messages", anthropic_body,
                         anthropic_stream, anthropic_whole, nested,
                         unreachable=500),  # `api_error`; 502 is not among its statuses
    "openai-responses": Dialect(BEARER, False, lambda _: "/v1/responses", responses_body, responses_stream,
                                responses_whole, nested, stop_sequences=False),
    "gemini": Dialect(("x-goog-api-key", ""), False, gemini_path, gemini_body, gemini_stream,
                      lambda body: gemini_stream([body]), nested),
    "ollama": Dialect(BEARER, True, lambda _: "/api/chat", ollama_body, ollama_stream,
                      lambda body: ollama_stream([body]), lambda body: body["error"]),
    "cohere": Dialect(BEARER, False, lambda _: "/v2/chat", cohere_body, cohere_stream, cohere_whole,
                      lambda body: body["message"]),
}


@dataclass(frozen=True)
class Upstream:
    """A language that llama.cpp's server itself speaks, and what it cannot say in it."""

    below: str  # what the base URL adds to the server's address
    stop_sequences: bool = True
    tells_length: bool = True  # whether it says so when max_tokens cut an answer off


UPSTREAMS = {
    "openai-chat": Upstream("/v1"),
    "anthropic": Upstream(""),
    # It has no word but `completed`, also where `max_output_tokens` cut the answer off.
    "openai-responses": Upstream("/v1", stop_sequences=False, tells_length=False),
}

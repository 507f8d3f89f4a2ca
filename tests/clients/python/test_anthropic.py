"""anthropic-python, messages, in front of every upstream."""

from datetime import datetime, timedelta, timezone

import anthropic
import pytest
from conftest import (
    ALIASES, ANTHROPIC, CHAT, GATEWAY, KEY, LIMITED_KEY, PNG, SCHEMA, alias, holds, needs_terminator, refusal, seen,
    stats, tokens, wait_for_cancel,
)

ASK = [{"role": "user", "content": "count"}]
TOOLS = [{"name": name, "description": "x", "input_schema": SCHEMA} for name in ("alpha", "beta")]
THINK = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture
def client():
    with anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


def raw(client, model, messages=ASK, **more):
    """The raw iterator: checks the grammar of events and returns the parts."""
    text, thinking, stop, usage, kinds, open_block, index = "", "", None, None, [], None, 0
    for event in client.messages.create(
        model=model, messages=messages, max_tokens=2048, stream=True, **more
    ):
        kinds.append(event.type)
        if event.type == "content_block_start":
            assert open_block is None and event.index == index
            open_block, index = event.index, index + 1
        elif event.type == "content_block_stop":
            assert event.index == open_block
            open_block = None
        elif event.type == "content_block_delta":
            assert event.index == open_block
            text += event.delta.text if event.delta.type == "text_delta" else ""
            thinking += event.delta.thinking if event.delta.type == "thinking_delta" else ""
        elif event.type == "message_delta":
            stop, usage = event.delta.stop_reason, event.usage
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    return text, thinking, stop, usage


def accumulated(client, model, messages=ASK, **more):
    """The accumulating stream: the final message, checked against its text stream."""
    with client.messages.stream(model=model, messages=messages, max_tokens=2048, **more) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == text_of(final)
    return final


def whole(client, model, messages=ASK, max_tokens=2048, **more):
    return client.messages.create(model=model, messages=messages, max_tokens=max_tokens, **more)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def test_text_raw(client, upstream):
    text, _, stop, usage = raw(client, f"{upstream}/n50")
    assert (text, stop, usage.output_tokens) == (tokens(50), "end_turn", 50)


@pytest.mark.parametrize("ask", [accumulated, whole])
def test_text(client, upstream, ask):
    final = ask(client, f"{upstream}/n50")
    assert (text_of(final), final.stop_reason) == (tokens(50), "end_turn")
    assert len(final.content) == 1
    assert final.usage.output_tokens == 50 and final.usage.input_tokens > 0


@pytest.mark.parametrize("ask", [accumulated, whole])
def test_parallel_tools_two_turns(client, upstream, ask):
    model = f"{upstream}/tools2-n7"
    first = ask(client, model, tools=TOOLS)
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["alpha", "beta"]
    assert len({call.id for call in calls}) == 2 and all(call.id for call in calls)
    assert [call.input for call in calls] == [
        {"call": 0, "note": "simulated"},
        {"call": 1, "note": "simulated"},
    ]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "done"} for call in calls]
    turns = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = ask(client, model, messages=turns, tools=TOOLS)
    assert (text_of(second), second.stop_reason) == (tokens(7), "end_turn")


def test_reasoning_raw(client, upstream):
    text, thinking, stop, usage = raw(client, f"{upstream}/think6-n4", thinking=THINK)
    assert (text, thinking, stop) == (tokens(4), tokens(6, "r"), "end_turn")
    assert usage.output_tokens == 10


@pytest.mark.parametrize("ask", [accumulated, whole])
def test_reasoning_given_back(client, upstream, ask, recorder):
    model = f"{seen(upstream)}/think6-tools1"
    first = ask(client, model, tools=TOOLS, thinking=THINK)
    assert [block.type for block in first.content] == ["thinking", "tool_use"]
    thinking, call = first.content
    assert thinking.thinking == tokens(6, "r")
    if upstream == ANTHROPIC:
        assert thinking.signature == "c2ltdWxhdGVkLXNpZ25hdHVyZQ=="
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "done"}]
    turns = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = ask(client, model, messages=turns, tools=TOOLS, thinking=THINK)
    assert text_of(second) == tokens(20)
    if upstream == ANTHROPIC:
        back = recorder.last["messages"][1]["content"][0]
        assert (back["thinking"], back["signature"]) == (tokens(6, "r"), thinking.signature)
    assert holds(recorder.last, "done")
    if upstream == CHAT:
        roles = [message["role"] for message in recorder.last["messages"]]
        assert roles == ["user", "assistant", "tool"]


def test_length(client, upstream):
    text, _, stop, _ = raw(client, f"{upstream}/n20-length")
    assert (text, stop) == (tokens(20), "max_tokens")
    cut = whole(client, f"{upstream}/n20", max_tokens=17)
    assert (text_of(cut), cut.stop_reason) == (tokens(17), "max_tokens")


@pytest.mark.parametrize("ask", [raw, accumulated, whole])
@pytest.mark.parametrize(
    "status, kind, seen",
    [
        # The gateway's own credential is refused, not the caller's.
        (401, anthropic.InternalServerError, {502}),
        (429, anthropic.RateLimitError, {429}),
        (500, anthropic.InternalServerError, {500}),
        (529, anthropic.InternalServerError, {529}),
    ],
)
def test_error_before_the_stream(client, upstream, ask, status, kind, seen):
    with pytest.raises(kind) as raised:
        ask(client, f"{upstream}/e{status}")
    assert raised.value.status_code in seen
    assert raised.value.body["type"] == "error" and raised.value.body["error"]["message"]
    if status == 429:
        assert raised.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("ask", [raw, accumulated, whole])
def test_a_limit_of_the_gateway(upstream, ask):
    with anthropic.Anthropic(base_url=GATEWAY, api_key=LIMITED_KEY, max_retries=0) as client:
        with pytest.raises(anthropic.RateLimitError) as raised:
            for _ in range(3):
                ask(client, f"{upstream}/n1")
    assert raised.value.body["error"]["type"] == "rate_limit_error"
    headers = raised.value.response.headers
    assert headers["x-streamgate-limit"] == "caller requests_per_minute"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    assert timedelta() < reset - datetime.now(timezone.utc) <= timedelta(seconds=62)
    assert 1 <= int(headers["retry-after"]) <= 60


@pytest.mark.parametrize("ask", [raw, accumulated, whole])
@pytest.mark.parametrize("fault", ["err5", "close5", "reset5", "junk5", "stall5"])
def test_error_during_the_stream(client, upstream, ask, fault):
    with pytest.raises(anthropic.APIStatusError) as raised:
        ask(client, f"{upstream}/n20-{fault}")
    assert raised.value.body["error"]["message"]


def test_tokens_before_an_error_arrive(client, upstream):
    text, kinds = "", []
    with pytest.raises(anthropic.APIStatusError):
        for event in client.messages.create(
            model=f"{upstream}/n20-i20000-reset5", messages=ASK, max_tokens=64, stream=True
        ):
            kinds.append(event.type)
            text += event.delta.text if event.type == "content_block_delta" else ""
    assert text == tokens(5)
    assert not {"content_block_stop", "message_delta", "message_stop"} & set(kinds)


@pytest.mark.parametrize("words", ["n3-i700000", "n3-f1200", "n20-crlf", "n5-split", "n20-comment"])
def test_odd_streams(client, upstream, words):
    count = int(words[1:].split("-")[0])
    text, _, stop, usage = raw(client, f"{upstream}/{words}")
    assert (text, stop, usage.output_tokens) == (tokens(count), "end_turn", count)
    assert text_of(accumulated(client, f"{upstream}/{words}")) == tokens(count)


def test_no_terminator(client, upstream):
    """Where the finish reason has said it all, as before OpenAI's `[DONE]`, nothing is missed; else an answer is cut."""
    if needs_terminator(upstream):
        with pytest.raises(anthropic.APIStatusError):
            raw(client, f"{upstream}/n20-nodone")
    else:
        assert raw(client, f"{upstream}/n20-nodone")[0] == tokens(20)


def test_refusal(client, upstream):
    final = accumulated(client, f"{upstream}/refuse")
    if refusal(upstream) in ("explained", "stopped"):
        assert (final.stop_reason, final.content) == ("refusal", [])
    else:
        assert text_of(final).startswith("I am a simulated model")


def test_image(client, upstream, recorder):
    model = f"{seen(upstream)}/n3"
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    asked = [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]
    assert text_of(whole(client, model, messages=asked)) == tokens(3)
    assert holds(recorder.last, PNG) and holds(recorder.last, "see")
    if upstream == CHAT:
        part = recorder.last["messages"][0]["content"][1]
        assert part["image_url"]["url"] == f"data:image/png;base64,{PNG}"
    if upstream == ANTHROPIC:
        assert recorder.last["messages"] == asked


def test_structured_output(client, upstream, recorder):
    model = f"{seen(upstream)}/n3"
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert text_of(whole(client, model, output_config=config)) == tokens(3)
    assert holds(recorder.last, SCHEMA["properties"])
    if upstream == CHAT:
        assert recorder.last["response_format"]["json_schema"]["schema"] == SCHEMA
    if upstream == ANTHROPIC:
        assert recorder.last["output_config"] == config


def test_system_prompt(client, upstream, recorder):
    model = f"{seen(upstream)}/n3"
    assert text_of(whole(client, model, system="be brief")) == tokens(3)
    if upstream == CHAT:
        assert recorder.last["messages"][0]["role"] in ("system", "developer")
    if upstream == ANTHROPIC:
        assert recorder.last["system"] == "be brief"
    assert holds(recorder.last, "be brief")


@pytest.mark.parametrize("ask", [raw, whole])
def test_abort(client, upstream, ask):
    before = stats()
    if ask is raw:
        stream = client.messages.create(
            model=f"{upstream}/n100000-i10000", messages=ASK, max_tokens=100000, stream=True
        )
        next(iter(stream))
        stream.close()
    else:
        with pytest.raises(anthropic.APITimeoutError):
            whole(client, f"{upstream}/n100000-i10000", timeout=0.5)
    wait_for_cancel(before)


def test_wrong_key(client):
    wrong = client.with_options(api_key="sg-wrong")
    long = [{"role": "user", "content": "x" * 4_000_000}]
    for ask in (raw, whole):
        for messages in (ASK, long):
            with pytest.raises(anthropic.AuthenticationError):
                ask(wrong, f"{ANTHROPIC}/n3", messages=messages)
    with pytest.raises(anthropic.AuthenticationError):
        wrong.models.list()


@pytest.mark.parametrize("model", ["nothing", "{}/nothing"])
def test_unknown_model(client, upstream, model):
    for ask in (raw, whole):
        with pytest.raises(anthropic.NotFoundError) as raised:
            ask(client, model.format(upstream))
        assert raised.value.body["error"]["type"] == "not_found_error"


def test_models_and_alias(client, upstream):
    listed = [model.id for model in client.models.list()]
    assert sorted(name for name in listed if "/" not in name) == ALIASES
    assert "sim-openai-chat/sim" in listed
    assert raw(client, alias(upstream))[0] == tokens(20)


def test_counts(client, upstream):
    ask = {"model": f"{upstream}/sim", "system": "be brief", "messages": [{"role": "user", "content": "count"}]}
    raw = client.messages.with_raw_response.count_tokens(**ask)
    count = raw.parse().input_tokens
    counted = upstream in ("sim-anthropic", "sim-gemini")
    assert raw.headers.get("x-streamgate-estimated") == (None if counted else "true")
    longer = client.messages.count_tokens(**{**ask, "system": "be brief " * 100}).input_tokens
    assert 0 < count < 60 and count + 150 < longer < count + 400

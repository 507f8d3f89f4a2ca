"""openai-python, chat completions, in front of every upstream."""

import base64
import json
import struct

import openai
import pytest
from conftest import (
    ALIASES, ANTHROPIC, CHAT, GATEWAY, KEY, LIMITED_KEY, PNG, SCHEMA, TEXTS, alias, counts_reasoning, embeds, holds,
    needs_terminator, refusal, seen, stats, tokens, vector, wait_for_cancel,
)

ASK = [{"role": "user", "content": "count"}]
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "x", "parameters": SCHEMA, "strict": True}}
    for name in ("alpha", "beta")
]
USAGE = {"include_usage": True}


@pytest.fixture
def client():
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


def raw(client, model, messages=ASK, **more):
    """The raw iterator: text, reasoning, finish reasons and usage, as they came."""
    text, reasoning, finish, usage = "", "", [], None
    for chunk in client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options=USAGE, **more
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            finish += [choice.finish_reason] if choice.finish_reason else []
    return text, reasoning, finish, usage


def accumulated(client, model, messages=ASK, **more):
    """The accumulating stream: the final completion, checked against its own events."""
    text, done = "", 0
    with client.chat.completions.stream(model=model, messages=messages, stream_options=USAGE, **more) as stream:
        for event in stream:
            if event.type == "content.delta":
                text += event.delta
            done += event.type == "tool_calls.function.arguments.done"
        final = stream.get_final_completion()
    assert (final.choices[0].message.content or "") == text
    assert done == len(final.choices[0].message.tool_calls or [])
    return final


def whole(client, model, messages=ASK, **more):
    return client.chat.completions.create(model=model, messages=messages, **more)


def test_text_raw(client, upstream):
    text, _, finish, usage = raw(client, f"{upstream}/n50")
    assert (text, finish) == (tokens(50), ["stop"])
    assert usage.completion_tokens == 50 and usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize("ask", [accumulated, whole])
def test_text(client, upstream, ask):
    final = ask(client, f"{upstream}/n50")
    assert final.choices[0].message.content == tokens(50)
    assert final.choices[0].finish_reason == "stop"
    assert final.usage.completion_tokens == 50 and final.usage.prompt_tokens > 0


def test_usage_only_if_asked(client, upstream):
    chunks = list(client.chat.completions.create(model=f"{upstream}/n5", messages=ASK, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


@pytest.mark.parametrize("ask", [accumulated, whole])
def test_parallel_tools_two_turns(client, upstream, ask):
    model = f"{upstream}/tools2-n7"
    first = ask(client, model, tools=TOOLS)
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    calls = message.tool_calls
    assert [call.function.name for call in calls] == ["alpha", "beta"]
    assert len({call.id for call in calls}) == 2 and all(call.id for call in calls)
    assert [json.loads(call.function.arguments) for call in calls] == [
        {"call": 0, "note": "simulated"},
        {"call": 1, "note": "simulated"},
    ]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in calls]
    said = {
        "role": "assistant",
        "content": message.content,
        "tool_calls": [
            {"id": c.id, "type": "function", "function": {"name": c.function.name, "arguments": c.function.arguments}}
            for c in calls
        ],
    }
    second = ask(client, model, messages=[*ASK, said, *results], tools=TOOLS)
    assert second.choices[0].message.content == tokens(7)
    assert second.choices[0].finish_reason == "stop"


def test_reasoning_raw(client, upstream):
    text, reasoning, finish, usage = raw(client, f"{upstream}/think6-n4", reasoning_effort="low")
    assert (text, reasoning, finish) == (tokens(4), tokens(6, "r"), ["stop"])
    assert usage.completion_tokens == 10
    details = usage.completion_tokens_details
    assert (details and details.reasoning_tokens) == (6 if counts_reasoning(upstream) else None)


@pytest.mark.parametrize("ask", [accumulated, whole])
def test_reasoning_given_back(client, upstream, ask, recorder):
    """The message is given back as the library holds it; Anthropic must see its own signature."""
    model = f"{seen(upstream)}/think6-tools1"
    message = ask(client, model, tools=TOOLS, reasoning_effort="low").choices[0].message
    assert message.reasoning_content == tokens(6, "r")
    call = message.tool_calls[0]
    back = message.model_dump(exclude_none=True)
    for held in back["tool_calls"]:
        held["function"].pop("parsed_arguments", None)
        held.pop("index", None)
    answer = {"role": "tool", "tool_call_id": call.id, "content": "done"}
    second = ask(client, model, messages=[*ASK, back, answer], tools=TOOLS, reasoning_effort="low")
    assert second.choices[0].message.content == tokens(20)
    if upstream == ANTHROPIC:
        blocks = recorder.last["messages"][1]["content"]
        assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
        assert blocks[0]["thinking"] == tokens(6, "r")
        assert blocks[0]["signature"] == "c2ltdWxhdGVkLXNpZ25hdHVyZQ=="


def test_length(client, upstream):
    text, _, finish, _ = raw(client, f"{upstream}/n20-length")
    assert (text, finish) == (tokens(20), ["length"])
    cut = whole(client, f"{upstream}/n20", max_completion_tokens=17)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (tokens(17), "length")
    # The accumulating stream has no final completion of a cut answer: it says so itself.
    with pytest.raises(openai.LengthFinishReasonError):
        accumulated(client, f"{upstream}/n20-length", response_format=_structured())


@pytest.mark.parametrize("ask", [raw, accumulated, whole])
@pytest.mark.parametrize(
    "status, kind, seen",
    [
        # The gateway's own credential is refused, not the caller's.
        (401, openai.InternalServerError, {502}),
        (429, openai.RateLimitError, {429}),
        (500, openai.InternalServerError, {500, 502}),
        (529, openai.InternalServerError, {529, 503}),
    ],
)
def test_error_before_the_stream(client, upstream, ask, status, kind, seen):
    with pytest.raises(kind) as raised:
        ask(client, f"{upstream}/e{status}")
    assert raised.value.status_code in seen
    assert raised.value.request_id and raised.value.body["message"]
    assert status != 401 or raised.value.code == "upstream_credentials"
    if status == 429:
        assert raised.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("ask", [raw, accumulated, whole])
def test_a_limit_of_the_gateway(upstream, ask):
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=LIMITED_KEY, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as raised:
            for _ in range(3):
                ask(client, f"{upstream}/n1")
    assert raised.value.code == "rate_limit_exceeded" and "1 requests per minute" in raised.value.message
    headers = raised.value.response.headers
    assert headers["x-streamgate-limit"] == "caller requests_per_minute"
    assert headers["x-ratelimit-limit-requests"] == "1" and headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(headers["retry-after"]) <= 60


@pytest.mark.parametrize("ask", [raw, accumulated, whole])
@pytest.mark.parametrize("fault", ["err5", "close5", "reset5", "junk5", "stall5"])
def test_error_during_the_stream(client, upstream, ask, fault):
    with pytest.raises(openai.APIError) as raised:
        ask(client, f"{upstream}/n20-{fault}")
    assert not isinstance(raised.value, openai.APIConnectionError), "the gateway must say it in-band"
    assert raised.value.message


def test_tokens_before_an_error_arrive(client, upstream):
    text = ""
    with pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(
            model=f"{upstream}/n20-i20000-reset5", messages=ASK, stream=True
        ):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                assert choice.finish_reason is None
    assert text == tokens(5)


@pytest.mark.parametrize("words", ["n3-i700000", "n3-f1200", "n20-crlf", "n5-split", "n20-comment"])
def test_odd_streams(client, upstream, words):
    count = int(words[1:].split("-")[0])
    text, _, finish, usage = raw(client, f"{upstream}/{words}")
    assert (text, finish, usage.completion_tokens) == (tokens(count), ["stop"], count)
    assert accumulated(client, f"{upstream}/{words}").choices[0].message.content == tokens(count)


def test_no_terminator(client, upstream):
    """Where the finish reason has said it all, as before OpenAI's `[DONE]`, nothing is missed; else an answer is cut."""
    if needs_terminator(upstream):
        with pytest.raises(openai.APIError):
            raw(client, f"{upstream}/n20-nodone")
    else:
        assert raw(client, f"{upstream}/n20-nodone")[0] == tokens(20)


def test_refusal(client, upstream):
    choice = whole(client, f"{upstream}/refuse").choices[0]
    how, message = refusal(upstream), choice.message
    words = message.content if how == "text" else message.refusal
    assert (words or "").startswith("I am a simulated model") == (how != "stopped")
    assert choice.finish_reason == ("stop" if how in ("said", "text") else "content_filter")


def test_image(client, upstream, recorder):
    model = f"{seen(upstream)}/n3"
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    asked = [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]
    assert whole(client, model, messages=asked).choices[0].message.content == tokens(3)
    assert holds(recorder.last, PNG) and holds(recorder.last, "see")
    if upstream == CHAT:
        assert recorder.last["messages"] == asked
    if upstream == ANTHROPIC:
        source = recorder.last["messages"][0]["content"][1]["source"]
        assert source == {"type": "base64", "media_type": "image/png", "data": PNG}


def _structured():
    return {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA, "strict": True}}


def test_structured_output(client, upstream, recorder):
    model = f"{seen(upstream)}/n3"
    final = whole(client, model, response_format=_structured())
    assert final.choices[0].message.content == tokens(3)
    if upstream == CHAT:
        assert recorder.last["response_format"] == _structured()
    assert holds(recorder.last, SCHEMA["properties"])


def test_many_at_once(upstream):
    """One connection pool, asynchronous, 50 streams."""
    import asyncio

    async def one(client):
        text = ""
        async for chunk in await client.chat.completions.create(
            model=f"{upstream}/n30-i2000", messages=ASK, stream=True
        ):
            text += chunk.choices[0].delta.content or ""
        return text

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0) as client:
            return await asyncio.gather(*(one(client) for _ in range(50)))

    assert asyncio.run(all_of_them()) == [tokens(30)] * 50


@pytest.mark.parametrize("ask", [raw, whole])
def test_abort(client, upstream, ask):
    before = stats()
    if ask is raw:
        stream = client.chat.completions.create(
            model=f"{upstream}/n100000-i10000", messages=ASK, stream=True
        )
        next(iter(stream))
        stream.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            whole(client, f"{upstream}/n100000-i10000", timeout=0.5)
    wait_for_cancel(before)


def test_wrong_key(client):
    wrong = client.with_options(api_key="sg-wrong")
    long = [{"role": "user", "content": "x" * 4_000_000}]
    for ask in (raw, whole):
        for messages in (ASK, long):
            with pytest.raises(openai.AuthenticationError):
                ask(wrong, f"{CHAT}/n3", messages=messages)
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()


@pytest.mark.parametrize("model", ["nothing", "{}/nothing"])
def test_unknown_model(client, upstream, model):
    for ask in (raw, whole):
        with pytest.raises(openai.NotFoundError) as raised:
            ask(client, model.format(upstream))
        assert raised.value.code == "model_not_found"


def test_models_and_alias(client, upstream):
    listed = [model.id for model in client.models.list()]
    assert sorted(name for name in listed if "/" not in name) == ALIASES
    assert "sim-openai-chat/sim" in listed
    assert raw(client, alias(upstream))[0] == tokens(20)


@pytest.mark.parametrize("encoding", [openai.omit, "float", "base64"])
def test_embeddings(client, upstream, encoding):
    """The SDK asks for base64 unless told otherwise, and unpacks it."""
    model = f"{upstream}/sim"
    if not embeds(upstream):
        with pytest.raises(openai.BadRequestError) as raised:
            client.embeddings.create(model=model, input="a")
        assert raised.value.param == "model"
        return
    answer = client.embeddings.create(model=model, input=TEXTS, encoding_format=encoding, dimensions=12)
    said = [item.embedding for item in answer.data]
    if encoding == "base64":
        said = [list(struct.unpack("<12f", base64.b64decode(packed))) for packed in said]
    assert said == [vector(text, 12) for text in TEXTS]
    assert [item.index for item in answer.data] == [0, 1, 2] and answer.usage.prompt_tokens > 0

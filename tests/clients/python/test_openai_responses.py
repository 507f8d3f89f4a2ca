"""openai-python, Responses API, in front of every upstream; and other callers in front of a Responses upstream."""

import json

import anthropic
import openai
import pytest
from conftest import (
    ANTHROPIC, CHAT, GATEWAY, KEY, PNG, RESPONSES, SCHEMA, cannot, holds, needs_terminator, refusal, seen, stats, tokens,
    wait_for_cancel,
)

TOOLS = [
    {"type": "function", "name": name, "description": "x", "parameters": SCHEMA, "strict": True}
    for name in ("alpha", "beta")
]
ARGUMENTS = [{"call": call, "note": "simulated"} for call in (0, 1)]
SEALED = "c2ltdWxhdGVkLXJlYXNvbmluZw=="
SIGNATURE = "c2ltdWxhdGVkLXNpZ25hdHVyZQ=="


@pytest.fixture
def client():
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


def raw(client, model, input="count", **more):
    """The raw iterator, checked as it comes: numbers, places, and one terminal event."""
    final, deltas = None, ""
    for number, event in enumerate(client.responses.create(model=model, input=input, stream=True, **more)):
        assert event.sequence_number == number
        assert final is None, f"{event.type} after the terminal event"
        if event.type == "response.output_text.delta":
            deltas += event.delta
        elif event.type in ("response.completed", "response.incomplete"):
            final = event.response
    assert final is not None, "no terminal event"
    assert final.output_text == deltas
    return final


def helper(client, model, input="count", **more):
    """The streaming helper: its final response, checked against its own events."""
    text, arguments = "", []
    with client.responses.stream(model=model, input=input, **more) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
                assert event.snapshot == text
            elif event.type == "response.function_call_arguments.done":
                arguments.append(event.arguments)
        final = stream.get_final_response()
    assert final.output_text == text
    assert [item.arguments for item in final.output if item.type == "function_call"] == arguments
    return final


def whole(client, model, input="count", **more):
    return client.responses.create(model=model, input=input, **more)


every_way = pytest.mark.parametrize("ask", [raw, helper, whole])


@every_way
def test_text_and_usage(client, upstream, ask):
    final = ask(client, f"{upstream}/n50", instructions="Count.", temperature=0.5, metadata={"a": "b"})
    assert (final.output_text, final.status) == (tokens(50), "completed")
    assert final.usage.output_tokens == 50 and final.usage.input_tokens > 0
    assert final.usage.total_tokens == final.usage.input_tokens + 50
    assert final.usage.output_tokens_details.reasoning_tokens == 0
    assert final.id.startswith("resp_") and final.created_at > 0
    if upstream != RESPONSES:
        assert (final.instructions, final.temperature, final.metadata) == ("Count.", 0.5, {"a": "b"})


@every_way
def test_parallel_tools_and_reasoning_over_two_turns(client, upstream, ask, recorder):
    """The output is given back as the library holds it; each vendor must see its own state again."""
    model = f"{seen(upstream)}/think6-tools2-n7"
    more = {"tools": TOOLS, "reasoning": {"effort": "low", "summary": "auto"}}
    first = ask(client, model, **more)
    kinds = [item.type for item in first.output]
    assert kinds == ["reasoning", "function_call", "function_call"]
    reasoning, *calls = first.output
    assert "".join(part.text for part in reasoning.summary) == tokens(6, "r")
    assert [call.name for call in calls] == ["alpha", "beta"]
    assert [json.loads(call.arguments) for call in calls] == ARGUMENTS
    assert len({call.call_id for call in calls}) == 2
    drop = {"parsed_arguments", "status"}
    back = [{k: v for k, v in item.model_dump(exclude_none=True).items() if k not in drop} for item in first.output]
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "done"} for call in calls]
    second = ask(client, model, input=[{"role": "user", "content": "count"}, *back, *results], **more)
    assert (second.output_text, second.status) == (tokens(7), "completed")
    sent = recorder.last
    if upstream == ANTHROPIC:
        blocks = sent["messages"][1]["content"]
        assert [block["type"] for block in blocks] == ["thinking", "tool_use", "tool_use"]
        assert (blocks[0]["thinking"], blocks[0]["signature"]) == (tokens(6, "r"), SIGNATURE)
    elif upstream == RESPONSES:
        assert sent["input"][1]["encrypted_content"] == SEALED
    elif upstream == CHAT:
        assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "tool", "tool"]
        assert "reasoning" not in json.dumps(sent["messages"])
    assert holds(sent, "done")


def test_a_custom_tool(client, upstream):
    tool = {"type": "custom", "name": "gamma", "description": "x"}
    if upstream == RESPONSES:
        cannot("the simulated Responses API only calls functions, no custom tools")
    final = helper(client, f"{upstream}/tools1", tools=[tool])
    # Gemini signs its calls, and the signature has an item of its own.
    assert [item.type for item in final.output if item.type != "reasoning"] == ["custom_tool_call"]
    assert final.output[-1].name == "gamma" and "simulated" in final.output[-1].input


@pytest.mark.parametrize("ask", [raw, whole])
def test_length(client, upstream, ask):
    for final in (ask(client, f"{upstream}/n20-length"), ask(client, f"{upstream}/n40", max_output_tokens=20)):
        assert (final.output_text, final.status) == (tokens(20), "incomplete")
        assert final.incomplete_details.reason == "max_output_tokens"
        assert final.usage.output_tokens == 20


@every_way
def test_refusal(client, upstream, ask):
    how = refusal(upstream)
    cut = how in ("explained", "stopped")
    if cut and ask is helper:
        # It knows no final response but a completed one, and says so.
        with pytest.raises(RuntimeError, match="response.completed"):
            ask(client, f"{upstream}/refuse")
        return
    final = ask(client, f"{upstream}/refuse")
    said = [part for item in final.output for part in item.content]
    assert [part.type for part in said] == {"text": ["output_text"], "stopped": []}.get(how, ["refusal"])
    for part in said:
        assert getattr(part, "refusal" if part.type == "refusal" else "text").startswith("I am a simulated model")
    assert final.status == ("incomplete" if cut else "completed")
    assert not cut or final.incomplete_details.reason == "content_filter"


@every_way
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


@every_way
@pytest.mark.parametrize("fault", ["err5", "close5", "reset5", "junk5", "stall5", "nodone"])
def test_error_during_the_stream(client, upstream, ask, fault):
    if fault == "nodone" and (not needs_terminator(upstream) or ask is whole and upstream == RESPONSES):
        # A finish reason, or a whole body, needs no terminator.
        assert ask(client, f"{upstream}/n20-{fault}").output_text == tokens(20)
        return
    with pytest.raises(openai.APIError) as raised:
        ask(client, f"{upstream}/n20-{fault}")
    assert not isinstance(raised.value, openai.APIConnectionError), "the gateway must say it in-band"
    assert raised.value.message


def test_tokens_before_an_error_arrive(client, upstream):
    text = ""
    with pytest.raises(openai.APIError):
        for event in client.responses.create(model=f"{upstream}/n20-i20000-reset5", input="count", stream=True):
            assert event.type not in ("response.completed", "response.output_item.done")
            text += event.delta if event.type == "response.output_text.delta" else ""
    assert text == tokens(5)


@pytest.mark.parametrize("words", ["n3-i700000", "n3-f1200", "n20-crlf", "n5-split", "n20-comment"])
def test_odd_streams(client, upstream, words):
    count = int(words[1:].split("-")[0])
    for ask in (raw, helper):
        assert ask(client, f"{upstream}/{words}").output_text == tokens(count)


def test_image_and_structured_output(client, upstream, recorder):
    model = f"{seen(upstream)}/n3"
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    asked = [{"role": "user", "content": [{"type": "input_text", "text": "see"}, image]}]
    form = {"type": "json_schema", "name": "out", "schema": SCHEMA, "strict": True}
    final = whole(client, model, input=asked, text={"format": form})
    assert final.output_text == tokens(3)
    sent = recorder.last
    assert holds(sent, PNG) and holds(sent, "see") and holds(sent, SCHEMA["properties"])
    if upstream == ANTHROPIC:
        assert sent["messages"][0]["content"][1]["source"]["data"] == PNG
        assert sent["output_config"]["format"]["schema"] == SCHEMA
    elif upstream == RESPONSES:
        assert (sent["input"], sent["text"]) == (asked, {"format": form})
    elif upstream == CHAT:
        assert sent["messages"][0]["content"][1]["image_url"]["url"] == image["image_url"]
        assert sent["response_format"]["json_schema"]["schema"] == SCHEMA


def test_state_is_kept_where_the_vendor_keeps_none(client, upstream):
    if upstream == RESPONSES:
        cannot("the vendor of the Responses API keeps state")
    for field, value in [("previous_response_id", "resp_1"), ("conversation", "conv_1")]:
        with pytest.raises(openai.BadRequestError) as raised:
            raw(client, f"{upstream}/n3", **{field: value})
        assert raised.value.param == field
    stored = raw(client, f"{upstream}/n3", store=True)
    assert stored.store is True
    assert client.responses.retrieve(stored.id).output_text == stored.output_text
    unstored = raw(client, f"{upstream}/n3", store=False)
    assert unstored.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unstored.id)


def test_abort(client, upstream):
    before = stats()
    stream = client.responses.create(model=f"{upstream}/n100000-i10000", input="count", stream=True)
    next(iter(stream))
    stream.close()
    wait_for_cancel(before)


def test_wrong_key_and_model(client):
    for ask in (raw, helper, whole):
        with pytest.raises(openai.AuthenticationError):
            ask(client.with_options(api_key="sg-wrong"), f"{RESPONSES}/n3")
        for model in ("nothing", f"{RESPONSES}/nothing"):
            with pytest.raises(openai.NotFoundError) as raised:
                ask(client, model)
            assert raised.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_chat_callers_of_a_responses_upstream(client, stream, recorder):
    """Reasoning state travels in the message and comes back to the vendor."""
    tools = [{"type": "function", "function": {"name": "alpha", "parameters": SCHEMA}}]
    ask = [{"role": "user", "content": "count"}]

    def message(messages):
        made = client.chat.completions.create
        more = {"model": f"{seen(RESPONSES)}/think6-tools1-n7", "tools": tools, "reasoning_effort": "low"}
        if not stream:
            return made(messages=messages, **more).choices[0].message.model_dump(exclude_none=True)
        said = {"role": "assistant", "content": "", "reasoning_details": []}
        call = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        for chunk in made(messages=messages, stream=True, **more):
            delta = chunk.choices[0].delta.model_dump(exclude_none=True)
            said["content"] += delta.get("content", "")
            said["reasoning_details"] += delta.get("reasoning_details", [])
            for part in delta.get("tool_calls", []):
                call["id"] += part.get("id", "") or ""
                call["function"]["name"] += part["function"].get("name", "") or ""
                call["function"]["arguments"] += part["function"].get("arguments", "") or ""
        return {**said, "tool_calls": [call]} if call["id"] else said

    first = message(ask)
    assert json.loads(first["tool_calls"][0]["function"]["arguments"]) == ARGUMENTS[0]
    assert first["reasoning_details"][0]["signature"] == SEALED
    result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "done"}
    assert message([*ask, first, result])["content"] == tokens(7)
    sent = recorder.last
    assert [item["type"] for item in sent["input"]] == ["message", "reasoning", "function_call", "function_call_output"]
    assert sent["input"][1]["encrypted_content"] == SEALED
    assert sent["store"] is False and sent["include"] == ["reasoning.encrypted_content"]


def test_anthropic_callers_of_a_responses_upstream():
    with anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0, timeout=30) as client:
        tools = [{"name": name, "input_schema": SCHEMA} for name in ("alpha", "beta")]
        ask = [{"role": "user", "content": "count"}]
        more = {"model": f"{RESPONSES}/think6-tools2-n7", "max_tokens": 500, "tools": tools}
        with client.messages.stream(messages=ask, **more) as stream:
            first = stream.get_final_message()
        assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
        assert first.content[0].thinking == tokens(6, "r") and first.stop_reason == "tool_use"
        assert [block.input for block in first.content[1:]] == ARGUMENTS
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "done"} for block in first.content[1:]
        ]
        said = [*ask, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        second = client.messages.create(messages=said, **more)
        assert second.content[-1].text == tokens(7) and second.usage.output_tokens == 13
        for fault in ("err5", "close5"):
            with pytest.raises(anthropic.APIError):
                with client.messages.stream(messages=ask, model=f"{RESPONSES}/n20-{fault}", max_tokens=50) as stream:
                    stream.get_final_message()


def test_counts(client, upstream):
    raw = client.responses.input_tokens.with_raw_response.count(model=f"{upstream}/sim", input="count")
    count = raw.parse()
    counted = upstream in ("sim-anthropic", "sim-gemini", RESPONSES)
    assert raw.headers.get("x-streamgate-estimated") == (None if counted else "true")
    assert count.object == "response.input_tokens" and 0 < count.input_tokens < 60

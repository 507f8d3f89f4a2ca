"""cohere-python, the second version of chat, in front of every upstream."""

import json

import cohere
import pytest
from cohere.core.api_error import ApiError
from conftest import GATEWAY, KEY, PNG, SCHEMA, TEXTS, alias, embeds, stats, tokens, vector, wait_for_cancel

ASK = [{"role": "user", "content": "count"}]
FUNCTION = {"description": "x", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": {"name": name, **FUNCTION}} for name in ("alpha", "beta")]

NO_RETRIES = {"max_retries": 0}


@pytest.fixture
def client():
    return cohere.ClientV2(base_url=GATEWAY, api_key=KEY, timeout=30)


class Broken(Exception):
    """The stream ended with the error form."""


def streamed(client, model, messages=ASK, **more):
    """Text, thinking, calls, finish reason and usage; checks that blocks do not overlap."""
    text, thinking, calls, end, kinds = "", "", [], None, []
    for event in client.chat_stream(model=model, messages=messages, request_options=NO_RETRIES, **more):
        assert end is None, "nothing follows the end"
        kinds.append(event.type)
        if event.type == "content-delta":
            text += event.delta.message.content.text or ""
            thinking += event.delta.message.content.thinking or ""
        elif event.type == "tool-call-start":
            call = event.delta.message.tool_calls
            assert event.index == len(calls)
            calls.append([call.id, call.function.name, ""])
        elif event.type == "tool-call-delta":
            assert event.index == len(calls) - 1
            calls[-1][2] += event.delta.message.tool_calls.function.arguments
        elif event.type == "message-end":
            end = event.delta
    assert end is not None, "an end"
    if end.finish_reason in ("ERROR", "TIMEOUT"):
        raise Broken(text, end.error)
    assert kinds[0] == "message-start"
    return text, thinking, calls, end.finish_reason, end.usage


def whole(client, model, messages=ASK, **more):
    answer = client.chat(model=model, messages=messages, request_options=NO_RETRIES, **more)
    content = answer.message.content or []
    text = "".join(block.text for block in content if block.type == "text")
    thinking = "".join(block.thinking for block in content if block.type == "thinking")
    calls = [[call.id, call.function.name, call.function.arguments] for call in answer.message.tool_calls or []]
    return text, thinking, calls, answer.finish_reason, answer.usage


BOTH = pytest.mark.parametrize("ask", [streamed, whole])


@BOTH
def test_text(client, upstream, ask):
    text, _, _, reason, usage = ask(client, f"{upstream}/n50")
    assert (text, reason, usage.tokens.output_tokens) == (tokens(50), "COMPLETE", 50)
    assert usage.tokens.input_tokens > 0


@BOTH
def test_parallel_tools_two_turns(client, upstream, ask):
    model = f"{upstream}/tools2-n7"
    _, _, calls, reason, _ = ask(client, model, tools=TOOLS)
    assert reason == "TOOL_CALL" and [name for _, name, _ in calls] == ["alpha", "beta"]
    assert [json.loads(arguments) for *_, arguments in calls] == [{"call": i, "note": "simulated"} for i in (0, 1)]
    assert len({id for id, *_ in calls}) == 2
    told = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id, name, arguments in calls
    ]
    document = [{"type": "document", "document": {"data": "done"}}]
    results = [{"role": "tool", "tool_call_id": id, "content": document} for id, *_ in calls]
    turns = [*ASK, {"role": "assistant", "tool_plan": "Both.", "tool_calls": told}, *results]
    text, _, _, reason, _ = ask(client, model, turns, tools=TOOLS)
    assert (text, reason) == (tokens(7), "COMPLETE")


@BOTH
def test_thinking(client, upstream, ask):
    thinking = {"type": "enabled", "token_budget": 1024}
    answer = ask(client, f"{upstream}/think5-n10", thinking=thinking, max_tokens=2048)
    assert answer[:2] == (tokens(10), tokens(5, "r"))


@BOTH
def test_length(client, upstream, ask):
    assert ask(client, f"{upstream}/n20-length")[3] == "MAX_TOKENS"
    cut = ask(client, f"{upstream}/n20", max_tokens=17)
    assert (cut[0], cut[3]) == (tokens(17), "MAX_TOKENS")


@BOTH
@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_errors_before_the_stream(client, upstream, ask, status):
    with pytest.raises(ApiError) as raised:
        ask(client, f"{upstream}/e{status}")
    words = "upstream_credentials" if status == 401 else "simulated upstream"
    assert words in raised.value.body["message"]
    if status == 401:
        assert raised.value.status_code == 502
    elif status < 500:
        assert raised.value.status_code == status
    else:
        assert raised.value.status_code >= 500


@pytest.mark.parametrize("fault", ["err5", "close5", "reset5", "junk5", "stall5"])
def test_errors_in_the_stream(client, upstream, fault):
    with pytest.raises(Broken) as raised:
        streamed(client, f"{upstream}/n20-{fault}")
    text, error = raised.value.args
    assert text == tokens(5) and error


@pytest.mark.parametrize("words", ["n3-i700000", "n3-f1200", "n20-crlf", "n5-split", "n20-comment"])
def test_odd_streams(client, upstream, words):
    """Heartbeats between tokens and before the first one, other line ends, single bytes."""
    count = int(words[1:].split("-")[0])
    assert streamed(client, f"{upstream}/{words}")[0] == tokens(count)


def test_image_and_format(client, upstream):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]
    response_format = {"type": "json_object", "json_schema": SCHEMA}
    assert whole(client, f"{upstream}/n3", messages, response_format=response_format)[0] == tokens(3)


def test_wrong_key_and_model(client):
    wrong = cohere.ClientV2(base_url=GATEWAY, api_key="sg-wrong", timeout=30)
    for ask in (streamed, whole):
        with pytest.raises(cohere.errors.UnauthorizedError):
            ask(wrong, "sim-cohere/n3")
        with pytest.raises(cohere.errors.NotFoundError):
            ask(client, "nothing")


def test_models(client, upstream):
    assert alias(upstream) in [model.name for model in client.models.list().models]


def test_abort(client, upstream):
    before = stats()
    stream = client.chat_stream(model=f"{upstream}/n100000-i10000", messages=ASK)
    next(stream)
    stream.close()
    wait_for_cancel(before)


def test_embeddings(client, upstream):
    ask = {"model": f"{upstream}/sim", "input_type": "search_query", "output_dimension": 12}
    if not embeds(upstream):
        with pytest.raises(cohere.errors.BadRequestError):
            client.embed(texts=["a"], embedding_types=["float"], **ask)
        return
    answer = client.embed(texts=TEXTS, embedding_types=["float"], **ask)
    assert answer.embeddings.float_ == [vector(text, 12) for text in TEXTS]
    assert answer.texts == TEXTS and answer.meta.billed_units.input_tokens > 0

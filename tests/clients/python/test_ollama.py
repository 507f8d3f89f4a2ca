"""ollama-python, chat, generate and list, in front of every upstream."""

import ollama
import pytest
from conftest import GATEWAY, KEY, PNG, SCHEMA, TEXTS, alias, embeds, stats, tokens, vector, wait_for_cancel

ASK = [{"role": "user", "content": "count"}]
FUNCTION = {"description": "x", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": {"name": name, **FUNCTION}} for name in ("alpha", "beta")]


@pytest.fixture
def client():
    with ollama.Client(host=GATEWAY, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as client:
        yield client


def streamed(client, model, messages=ASK, **more):
    """The stream, as one message: checks that nothing follows the end, and that there is one."""
    text, thinking, calls, last = "", "", [], None
    for part in client.chat(model, messages, stream=True, **more):
        assert last is None, "nothing follows the end"
        text += part.message.content or ""
        thinking += part.message.thinking or ""
        calls += part.message.tool_calls or []
        last = part if part.done else None
    assert last is not None
    message = ollama.Message(role="assistant", content=text, thinking=thinking or None, tool_calls=calls or None)
    last.message = message
    return last


def whole(client, model, messages=ASK, **more):
    return client.chat(model, messages, **more)


BOTH = pytest.mark.parametrize("ask", [streamed, whole])


@BOTH
def test_text(client, upstream, ask):
    answer = ask(client, f"{upstream}/n50")
    assert (answer.message.content, answer.done_reason, answer.eval_count) == (tokens(50), "stop", 50)
    assert answer.prompt_eval_count > 0 and answer.total_duration is not None and answer.created_at.endswith("Z")


@pytest.mark.parametrize("stream", [True, False])
def test_generate(client, upstream, stream):
    answer = client.generate(f"{upstream}/n20", prompt="count", system="be brief", stream=stream)
    parts = list(answer) if stream else [answer]
    assert "".join(part.response for part in parts) == tokens(20)
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == 20


@BOTH
def test_parallel_tools_two_turns(client, upstream, ask):
    model = f"{upstream}/tools2-n7"
    first = ask(client, model, tools=TOOLS)
    calls = first.message.tool_calls
    assert [call.function.name for call in calls] == ["alpha", "beta"]
    assert [call.function.arguments for call in calls] == [{"call": i, "note": "simulated"} for i in (0, 1)]
    results = [{"role": "tool", "tool_name": call.function.name, "content": "done"} for call in calls]
    second = ask(client, model, [*ASK, first.message, *results], tools=TOOLS)
    assert (second.message.content, second.done_reason) == (tokens(7), "stop")


@BOTH
def test_thinking(client, upstream, ask):
    answer = ask(client, f"{upstream}/think5-n10", think=True, options={"num_predict": 2048})
    assert (answer.message.thinking, answer.message.content) == (tokens(5, "r"), tokens(10))


@BOTH
def test_length(client, upstream, ask):
    assert ask(client, f"{upstream}/n20-length").done_reason == "length"
    cut = ask(client, f"{upstream}/n20", options={"num_predict": 17})
    assert (cut.message.content, cut.done_reason) == (tokens(17), "length")


@BOTH
@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_errors_before_the_stream(client, upstream, ask, status):
    with pytest.raises(ollama.ResponseError) as raised:
        ask(client, f"{upstream}/e{status}")
    words = "upstream_credentials" if status == 401 else "simulated upstream"
    assert words in raised.value.error
    if status == 401:
        assert raised.value.status_code == 502
    elif status < 500:
        assert raised.value.status_code == status
    else:
        assert raised.value.status_code >= 500


@pytest.mark.parametrize("fault", ["err5", "close5", "reset5", "junk5", "stall5"])
def test_errors_in_the_stream(client, upstream, fault):
    text, done = "", False
    with pytest.raises(ollama.ResponseError) as raised:
        for part in client.chat(f"{upstream}/n20-{fault}", ASK, stream=True):
            text += part.message.content
            done = done or part.done
    assert (text, done) == (tokens(5), False)
    assert raised.value.error


@pytest.mark.parametrize("words", ["n3-i700000", "n3-f1200", "n20-crlf", "n5-split"])
def test_odd_streams(client, upstream, words):
    """Heartbeats between tokens and before the first one, other line ends, single bytes."""
    count = int(words[1:].split("-")[0])
    assert streamed(client, f"{upstream}/{words}").message.content == tokens(count)


def test_image_and_format(client, upstream):
    messages = [{"role": "user", "content": "see", "images": [PNG]}]
    answer = whole(client, f"{upstream}/n3", messages, format=SCHEMA)
    assert answer.message.content == tokens(3)


def test_wrong_key_and_model(client):
    with pytest.raises(ollama.ResponseError) as raised:
        whole(ollama.Client(host=GATEWAY, headers={"authorization": "Bearer sg-wrong"}), "sim-ollama/n3")
    assert raised.value.status_code == 401
    with pytest.raises(ollama.ResponseError) as raised:
        whole(client, "nothing")
    assert raised.value.status_code == 404


def test_list(client, upstream):
    listed = client.list().models
    assert alias(upstream) in [model.model for model in listed]
    assert all(len(model.digest) == 64 and model.modified_at and model.details for model in listed)


def test_abort(client, upstream):
    before = stats()
    stream = client.chat(f"{upstream}/n100000-i10000", ASK, stream=True)
    next(stream)
    stream.close()
    wait_for_cancel(before)


def test_embeddings(client, upstream):
    model = f"{upstream}/sim"
    if not embeds(upstream):
        with pytest.raises(ollama.ResponseError) as raised:
            client.embed(model, "a")
        assert raised.value.status_code == 400
        return
    answer = client.embed(model, TEXTS)
    assert [list(found) for found in answer.embeddings] == [vector(text) for text in TEXTS]
    assert answer.prompt_eval_count > 0
    assert [list(found) for found in client.embed(model, "a", dimensions=5).embeddings] == [vector("a", 5)]
    assert list(client.embeddings(model, "a").embedding) == vector("a")

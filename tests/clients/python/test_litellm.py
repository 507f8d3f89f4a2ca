"""LiteLLM's SDK as a client, by its providers for five of the languages, in front of every upstream."""

import asyncio
import gc
import json
import os

import pytest
from conftest import GATEWAY, KEY, PNG, SCHEMA, cannot, counts_reasoning, stats, tokens, wait_for_cancel

# It would fetch its list of prices from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402

litellm.suppress_debug_info = True
# What it leaves open after an error is closed by the garbage collector, at a moment when the HTTP library under it may
# hold the very lock that closing takes, and then waits for ever. So garbage is collected between the cases.
gc.freeze()
gc.disable()
ASK = [{"role": "user", "content": "count"}]
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "x", "parameters": SCHEMA}}
    for name in ("alpha", "beta")
]
# What its providers are pointed at: some add a path of their own.
BASES = {
    "openai": f"{GATEWAY}/v1",
    "anthropic": GATEWAY,
    "gemini": f"{GATEWAY}/v1beta",
    "ollama_chat": GATEWAY,
    "cohere_chat": f"{GATEWAY}/v2/chat",
}


def pytest_generate_tests(metafunc):
    if "provider" in metafunc.fixturenames:
        metafunc.parametrize("provider", BASES)


@pytest.fixture(autouse=True)
def _collected():
    yield
    gc.collect(0)


def given(provider, model, messages, more):
    return {
        "model": f"{provider}/{model}", "messages": messages, "api_base": BASES[provider], "api_key": KEY,
        "num_retries": 0, "max_retries": 0, "timeout": 30, "max_tokens": 2048, **more,
    }


class Answer:
    """What came, however it was asked for."""

    def __init__(self, choice, usage):
        self.message, self.finish, self.usage = choice.message, choice.finish_reason, usage
        self.text, self.calls = choice.message.content or "", choice.message.tool_calls or []
        self.reasoning = getattr(choice.message, "reasoning_content", None) or ""


def gathered(chunks):
    """Its own way of putting chunks together, checked against the chunks."""
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason][1:] == []
    built = litellm.stream_chunk_builder(chunks)
    answer = Answer(built.choices[0], built.usage)
    assert answer.text == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return answer


def streamed(provider, model, messages=ASK, **more):
    if provider == "cohere_chat":
        cannot("LiteLLM takes the `event:` lines of Cohere's streams for JSON and fails")
    asked = given(provider, model, messages, more)
    return gathered(list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True})))


def whole(provider, model, messages=ASK, **more):
    answer = litellm.completion(**given(provider, model, messages, more))
    return Answer(answer.choices[0], answer.usage)


def asynchronous(provider, model, messages=ASK, **more):
    if provider == "cohere_chat":
        cannot("LiteLLM takes the `event:` lines of Cohere's streams for JSON and fails")

    async def go():
        asked = given(provider, model, messages, more)
        stream = await litellm.acompletion(**asked, stream=True, stream_options={"include_usage": True})
        return [chunk async for chunk in stream]

    return gathered(asyncio.run(go()))


every_way = pytest.mark.parametrize("ask", [streamed, whole, asynchronous])
both_ways = pytest.mark.parametrize("ask", [streamed, whole])


@every_way
def test_text_and_usage(provider, upstream, ask):
    answer = ask(provider, f"{upstream}/n50")
    assert (answer.text, answer.finish) == (tokens(50), "stop")
    assert answer.usage.completion_tokens == 50 and answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 50


@both_ways
def test_length(provider, upstream, ask):
    if provider == "cohere_chat":
        cannot("LiteLLM does not read the finish reason of Cohere's answers")
    assert ask(provider, f"{upstream}/n20-length").finish == "length"
    cut = ask(provider, f"{upstream}/n20", max_tokens=17)
    assert (cut.text, cut.finish) == (tokens(17), "length")


@both_ways
def test_reasoning(provider, upstream, ask):
    if provider == "cohere_chat":
        cannot("LiteLLM does not read the thinking of Cohere's answers")
    answer = ask(provider, f"{upstream}/think6-n4")
    assert (answer.text, answer.reasoning) == (tokens(4), tokens(6, "r"))
    assert answer.usage.completion_tokens == 10
    if provider in ("openai", "gemini") and counts_reasoning(upstream):
        assert answer.usage.completion_tokens_details.reasoning_tokens == 6


@both_ways
def test_parallel_tools_two_turns(provider, upstream, ask):
    if provider == "ollama_chat" and ask is streamed:
        cannot("LiteLLM makes one of the parallel calls in Ollama's streams: it passes over their index")
    model = f"{upstream}/think4-tools2-n7"
    first = ask(provider, model, tools=TOOLS)
    assert [call.function.name for call in first.calls] == ["alpha", "beta"]
    arguments = [json.loads(call.function.arguments) for call in first.calls]
    assert arguments == [{"call": call, "note": "simulated"} for call in (0, 1)]
    assert len({call.id for call in first.calls}) == 2
    results = [
        {"role": "tool", "tool_call_id": call.id, "name": call.function.name, "content": "done"}
        for call in first.calls
    ]
    second = ask(provider, model, [*ASK, first.message.model_dump(exclude_none=True), *results], tools=TOOLS)
    assert (second.text, second.finish) == (tokens(7), "stop")


@both_ways
@pytest.mark.parametrize("status, kind", [
    (400, litellm.BadRequestError), (429, litellm.RateLimitError),
])
def test_error_before_the_stream(provider, upstream, ask, status, kind):
    with pytest.raises((kind, litellm.exceptions.MidStreamFallbackError)) as raised:
        ask(provider, f"{upstream}/e{status}")
    error = raised.value
    assert isinstance(getattr(error, "original_exception", None) or error, kind), repr(error)
    assert error.status_code == status and "simulated upstream" in error.message


@both_ways
def test_a_refused_credential_of_the_gateway(provider, upstream, ask):
    with pytest.raises(Exception) as raised:
        ask(provider, f"{upstream}/e401")
    assert not isinstance(raised.value, (litellm.AuthenticationError, litellm.PermissionDeniedError))
    assert raised.value.status_code >= 500 and "upstream_credentials" in raised.value.message


@both_ways
@pytest.mark.parametrize("status", [500, 503])
def test_failure_before_the_stream(provider, upstream, ask, status):
    with pytest.raises(Exception) as raised:
        ask(provider, f"{upstream}/e{status}")
    assert raised.value.status_code >= 500 and "simulated upstream" in raised.value.message


@pytest.mark.parametrize("fault", ["err5", "close5", "reset5", "junk5", "stall5"])
def test_error_during_the_stream(provider, upstream, fault):
    if provider == "cohere_chat":
        cannot("LiteLLM takes the `event:` lines of Cohere's streams for JSON and fails")
    text, finishes = "", []
    asked = given(provider, f"{upstream}/n20-{fault}", ASK, {})
    with pytest.raises(Exception) as raised:
        for chunk in litellm.completion(**asked, stream=True):
            text += chunk.choices[0].delta.content or ""
            finishes.append(chunk.choices[0].finish_reason)
    # The line with an `error` that ends Ollama's streams is a bad request to it.
    assert raised.value.status_code >= (400 if provider == "ollama_chat" else 500), repr(raised.value)
    assert (text, set(finishes)) == (tokens(5), {None})


@pytest.mark.parametrize("words", ["n3-i700000", "n3-f1500", "n20-crlf", "n5-split", "n20-comment"])
def test_odd_streams(provider, upstream, words):
    answer = streamed(provider, f"{upstream}/{words}")
    assert (answer.text, answer.finish) == (tokens(int(words[1:].split("-")[0])), "stop")


def test_image(provider, upstream):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]
    assert whole(provider, f"{upstream}/n3", messages).text == tokens(3)


@pytest.mark.parametrize("stream", [True, False])
def test_responses(upstream, stream):
    """Its other interface, towards `/v1/responses`."""
    more = {"api_base": BASES["openai"], "api_key": KEY, "num_retries": 0, "timeout": 30}
    answer = litellm.responses(model=f"openai/{upstream}/think6-n50", input="count", stream=stream, **more)
    if stream:
        events = list(answer)
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == tokens(50)
        answer = events[-1].response
    reasoning, message = answer.output[:2]
    assert message.content[0].text == tokens(50) and reasoning.type == "reasoning"
    assert (answer.status, answer.usage.output_tokens) == ("completed", 56)


def test_wrong_key_and_model(provider):
    for key, model, kind in [
        ("sg-wrong", "sim-openai-chat/n3", litellm.AuthenticationError),
        (KEY, "nothing", litellm.NotFoundError),
    ]:
        with pytest.raises(kind):
            whole(provider, model, api_key=key)


def test_leaving_reaches_the_upstream(upstream):
    before = stats()
    stream = litellm.completion(**given("openai", f"{upstream}/n100000-i10000", ASK, {}), stream=True)
    next(iter(stream))
    stream.completion_stream.close()
    wait_for_cancel(before)

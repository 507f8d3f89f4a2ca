"""google-genai, in front of every upstream."""

import base64

import pytest
from conftest import (
    GATEWAY, GEMINI, KEY, PNG, SCHEMA, TEXTS, alias, counts_reasoning, embeds, stats, tokens, vector, wait_for_cancel,
)
from google import genai
from google.genai import errors, types

FUNCTIONS = [
    types.FunctionDeclaration(name=name, description="x", parameters_json_schema=SCHEMA) for name in ("alpha", "beta")
]
TOOLS = types.GenerateContentConfig(
    tools=[types.Tool(function_declarations=FUNCTIONS)],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)


def connect(key=KEY):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=GATEWAY, timeout=30000))


@pytest.fixture
def client():
    return connect()


class Answer:
    """What came, put together."""

    def __init__(self, chunks):
        self.text, self.thoughts, self.calls, self.parts = "", "", [], []
        self.finish, self.usage = None, None
        for chunk in chunks:
            self.usage = chunk.usage_metadata or self.usage
            for candidate in chunk.candidates or []:
                assert self.finish is None
                self.finish = candidate.finish_reason
                for part in candidate.content.parts:
                    self.add(part)

    def add(self, part):
        self.parts.append(part)
        if part.function_call:
            self.calls.append(part.function_call)
        elif part.thought:
            self.thoughts += part.text
        else:
            self.text += part.text


def streamed(client, model, contents="count", config=None):
    return Answer(client.models.generate_content_stream(model=model, contents=contents, config=config))


def whole(client, model, contents="count", config=None):
    return Answer([client.models.generate_content(model=model, contents=contents, config=config)])


ways = pytest.mark.parametrize("ask", [streamed, whole])


@ways
def test_text_and_usage(client, upstream, ask):
    answer = ask(client, f"{upstream}/n50")
    assert (answer.text, answer.finish) == (tokens(50), types.FinishReason.STOP)
    usage = answer.usage
    assert usage.candidates_token_count == 50 and usage.prompt_token_count > 0
    assert usage.total_token_count == usage.prompt_token_count + 50


@ways
def test_thinking(client, upstream, ask):
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    answer = ask(client, f"{upstream}/think6-n4", config=config)
    assert (answer.text, answer.thoughts) == (tokens(4), tokens(6, "r"))
    counted = (answer.usage.thoughts_token_count, answer.usage.candidates_token_count)
    assert counted == ((6, 4) if counts_reasoning(upstream) else (None, 10))


@ways
def test_length(client, upstream, ask):
    assert ask(client, f"{upstream}/n20-length").finish == types.FinishReason.MAX_TOKENS
    cut = ask(client, f"{upstream}/n20", config=types.GenerateContentConfig(max_output_tokens=17))
    assert (cut.text, cut.finish) == (tokens(17), types.FinishReason.MAX_TOKENS)


@ways
def test_parallel_tools_two_turns(client, upstream, ask):
    model = f"{upstream}/think4-tools2-n7"
    first = ask(client, model, config=TOOLS)
    assert [call.name for call in first.calls] == ["alpha", "beta"]
    assert [call.args for call in first.calls] == [{"call": n, "note": "simulated"} for n in (0, 1)]
    results = []
    for call in first.calls:
        part = types.Part.from_function_response(name=call.name, response={"output": "done"})
        part.function_response.id = call.id
        results.append(part)
    contents = [
        types.UserContent("count"),
        types.ModelContent(first.parts),
        types.UserContent(results),
    ]
    second = ask(client, model, contents, TOOLS)
    assert (second.text, second.finish) == (tokens(7), types.FinishReason.STOP)


def test_automatic_function_calling(client, upstream):
    seen = []

    def alpha(call: int, note: str) -> str:
        """A tool."""
        seen.append((call, note))
        return "done"

    config = types.GenerateContentConfig(tools=[alpha])
    answer = client.models.generate_content(model=f"{upstream}/tools1-n3", contents="count", config=config)
    assert (answer.text, seen) == (tokens(3), [(0, "simulated")])


@pytest.mark.parametrize("words", ["n5", "n3-i700000", "n3-f1200"])
def test_chat_keeps_its_history(client, upstream, words):
    """Silence between tokens must not cost the chat a turn: it would ask without it from then on."""
    chat = client.chats.create(model=f"{upstream}/{words}")
    for turn in (1, 2):
        text = "".join(chunk.text or "" for chunk in chat.send_message_stream("count"))
        assert text == tokens(int(words[1]))
        kept = chat.get_history(curated=True)
        assert [content.role for content in kept].count("user") == turn
        assert kept[-1].role == "model"
    assert chat.send_message("count").text == tokens(int(words[1]))


@ways
@pytest.mark.parametrize("status, seen", [(400, {400}), (401, {502}), (429, {429}), (500, {500, 502}), (503, {502, 503})])
def test_error_before_the_stream(client, upstream, ask, status, seen):
    kind = errors.ServerError if status == 401 or status >= 500 else errors.ClientError
    with pytest.raises(kind) as raised:
        ask(client, f"{upstream}/e{status}")
    assert raised.value.code in seen and raised.value.status
    words = "upstream_credentials" if status == 401 else "simulated upstream"
    assert words in raised.value.message


@pytest.mark.parametrize("fault", ["err5", "close5", "reset5", "junk5", "stall5"])
def test_error_during_the_stream(client, upstream, fault):
    text = ""
    with pytest.raises(errors.APIError) as raised:
        for chunk in client.models.generate_content_stream(model=f"{upstream}/n20-{fault}", contents="count"):
            text += chunk.text or ""
    assert text == tokens(5)
    assert raised.value.code >= 500 and raised.value.message


@pytest.mark.parametrize("words", ["n3-i700000", "n3-f1200", "n20-crlf", "n5-split", "n20-comment"])
def test_odd_streams(client, upstream, words):
    answer = streamed(client, f"{upstream}/{words}")
    count = int(words.split("-")[0][1:])
    assert (answer.text, answer.finish) == (tokens(count), types.FinishReason.STOP)


@ways
def test_image_schema_and_instructions(client, upstream, ask):
    image = types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png")
    config = types.GenerateContentConfig(
        system_instruction="Be brief.", response_mime_type="application/json", response_json_schema=SCHEMA
    )
    assert ask(client, f"{upstream}/n3", ["see", image], config).text == tokens(3)


def test_asynchronous(upstream):
    import asyncio

    async def go():
        text = ""
        async with connect().aio as client:
            async for chunk in await client.models.generate_content_stream(model=f"{upstream}/n50", contents="count"):
                text += chunk.text or ""
        return text

    assert asyncio.run(go()) == tokens(50)


def test_wrong_key_and_unknown_model(client):
    with pytest.raises(errors.ClientError) as raised:
        whole(connect("sg-wrong"), f"{GEMINI}/n3")
    assert (raised.value.code, raised.value.status) == (401, "UNAUTHENTICATED")
    with pytest.raises(errors.ClientError) as raised:
        whole(client, "nothing")
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


def test_models_and_alias(client, upstream):
    assert f"models/{alias(upstream)}" in [model.name for model in client.models.list()]
    assert streamed(client, alias(upstream)).text == tokens(20)


def test_counts(client, upstream):
    answer = client.models.count_tokens(model=f"{upstream}/sim", contents="count")
    counted = upstream in (GEMINI, "sim-anthropic")
    estimated = answer.sdk_http_response.headers.get("x-streamgate-estimated")
    assert estimated == (None if counted else "true")
    assert 0 < answer.total_tokens < 60


def test_embeddings(client, upstream):
    ask = {"model": f"{upstream}/sim", "config": {"output_dimensionality": 12, "task_type": "RETRIEVAL_QUERY"}}
    if not embeds(upstream):
        with pytest.raises(errors.ClientError) as raised:
            client.models.embed_content(contents="a", **ask)
        assert raised.value.code == 400
        return
    answer = client.models.embed_content(contents=TEXTS, **ask)
    assert [found.values for found in answer.embeddings] == [vector(text, 12) for text in TEXTS]


def test_leaving_reaches_the_upstream(client, upstream):
    before = stats()
    stream = client.models.generate_content_stream(model=f"{upstream}/n100000-i10000", contents="count")
    next(stream)
    stream.close()
    wait_for_cancel(before)

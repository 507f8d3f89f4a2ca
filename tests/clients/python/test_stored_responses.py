"""openai-python's stored responses, conversations and the background, in front of upstreams that keep no responses; and
durable streams of every library's own endpoint."""

import anthropic
import httpx
import openai
import pytest
from conftest import GATEWAY, KEY, RESPONSES, UPSTREAMS, holds, seen, stats, tokens, wait_for_cancel

STATELESS = [upstream for upstream in UPSTREAMS if upstream != RESPONSES]
stateless = pytest.mark.parametrize("provider", STATELESS)
RESUMABLE = {"streamgate-stream": "resumable"}


@pytest.fixture
def client():
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


@stateless
def test_a_response_continues_another_by_its_id(client, provider, recorder):
    model = f"{seen(provider)}/n5"
    first = client.responses.create(model=model, input="the first question")
    assert first.store and first.output_text == tokens(5)
    second = client.responses.create(model=model, input="the second question", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    for said in ("the first question", tokens(5).strip(), "the second question"):
        assert any(holds(recorder.last, text) for text in (said, f"{said} ")), said
    assert client.responses.retrieve(second.id) == second
    items = client.responses.input_items.list(second.id).data
    assert [item.role for item in items] == ["user", "assistant", "user"]
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model=model, input="x", previous_response_id=second.id)
    assert raised.value.code == "previous_response_not_found"


@stateless
def test_a_response_that_is_not_stored(client, provider):
    response = client.responses.create(model=f"{provider}/n2", input="x", store=False)
    assert response.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


@stateless
def test_a_conversation_grows(client, provider, recorder):
    conversation = client.conversations.create(metadata={"a": "b"})
    for question in ("first", "second"):
        client.responses.create(model=f"{seen(provider)}/n3", input=question, conversation=conversation.id)
    for said in ("first", tokens(3).strip(), "second"):
        assert any(holds(recorder.last, text) for text in (said, f"{said} ")), said
    assert len(client.conversations.items.list(conversation.id).data) == 4
    assert client.conversations.retrieve(conversation.id).metadata == {"a": "b"}
    assert client.conversations.delete(conversation.id).deleted


@stateless
@pytest.mark.parametrize("cut", [0, 1, 7, 30])
def test_a_response_in_the_background_is_followed_from_any_event(client, provider, cut):
    """As the vendor's documentation shows it: leave the stream, and follow it by the number of the last event."""
    text, last, id = "", None, None
    with client.responses.create(model=f"{provider}/n50", input="x", background=True, stream=True) as stream:
        for event in stream:
            id = id or event.response.id
            last = event.sequence_number
            if event.type == "response.output_text.delta":
                text += event.delta
            if last >= cut:
                break
    for event in client.responses.retrieve(id, stream=True, starting_after=last):
        assert event.sequence_number == last + 1
        last = event.sequence_number
        if event.type == "response.output_text.delta":
            text += event.delta
    assert text == tokens(50)
    stored = client.responses.retrieve(id)
    assert (stored.status, stored.background, stored.output_text) == ("completed", True, tokens(50))


@stateless
def test_a_response_in_the_background_is_polled(client, provider):
    response = client.responses.create(model=f"{provider}/n20", input="x", background=True)
    # Each look is a request, so that their number bounds the time.
    for _ in range(5000):
        if response.status not in ("queued", "in_progress"):
            break
        response = client.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("completed", tokens(20))


@stateless
def test_a_response_in_the_background_is_cancelled(client, provider):
    before = stats()
    response = client.responses.create(model=f"{provider}/n1000-i50000", input="x", background=True)
    # The upstream has the request; each look is a request, too.
    assert any(stats()["open_streams"] > before["open_streams"] for _ in range(5000))
    for _ in range(2):
        assert client.responses.cancel(response.id).status == "cancelled"
    wait_for_cancel(before)


def test_libraries_read_the_events_of_durable_streams(client, upstream):
    """Every event carries an id, and the first one a time to reconnect."""
    model, messages = f"{upstream}/n20", [{"role": "user", "content": "x"}]
    chat = client.chat.completions.create(model=model, messages=messages, stream=True, extra_headers=RESUMABLE)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chat if chunk.choices) == tokens(20)
    events = client.responses.create(model=model, input="x", stream=True, extra_headers=RESUMABLE)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == tokens(20)
    with anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0) as other:
        with other.messages.stream(model=model, max_tokens=100, messages=messages, extra_headers=RESUMABLE) as stream:
            assert stream.get_final_text() == tokens(20)


def test_a_repeated_request_attaches(client, upstream):
    """A library's retry sends the same key, and gets the same answer."""
    before = stats()
    headers = {**RESUMABLE, "idempotency-key": f"once-{upstream}", "authorization": f"Bearer {KEY}"}
    body = {"model": f"{upstream}/n10", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    answers = [httpx.post(f"{GATEWAY}/v1/chat/completions", headers=headers, json=body) for _ in range(3)]
    events = [[line for line in answer.text.splitlines() if line.startswith(("id:", "data:"))] for answer in answers]
    assert events[0] == events[1] == events[2] and events[0][-2] == "data: [DONE]"
    assert len({answer.headers["streamgate-stream-id"] for answer in answers}) == 1
    assert stats()["requests"] == before["requests"] + 1

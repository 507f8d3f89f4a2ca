"""boto3 reads the simulated upstream's own frames, so that these are known to be AWS's; and the openai
and anthropic clients are driven in front of it, over Converse and over InvokeModel, signed and not."""

import json

import anthropic
import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from conftest import GATEWAY, KEY, SCHEMA, SIM, tokens

ASK = [{"role": "user", "content": "count"}]
CONVERSE = [{"role": "user", "content": [{"text": "count"}]}]
NAMES = ("alpha", "beta")
CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in NAMES]
TOOLS = [{"name": name, "input_schema": SCHEMA} for name in NAMES]
# Converse; Converse with signed requests; Anthropic's own events on Bedrock and on Vertex.
HOSTINGS = ["sim-bedrock", "hosted-bedrock-signed", "hosted-anthropic-bedrock", "hosted-anthropic-vertex"]


@pytest.fixture
def aws():
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=SIM,
        aws_access_key_id="dummy",
        aws_secret_access_key="dummy",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


def converse(aws, model, **more):
    events = []
    for event in aws.converse_stream(modelId=model, messages=CONVERSE, **more)["stream"]:
        events += event.items()
    return events


def test_boto3_reads_text(aws):
    for model in ("n20", "n20-split", "n20-think3"):
        events = converse(aws, model)
        assert [kind for kind, _ in events][-3:] == ["contentBlockStop", "messageStop", "metadata"]
        deltas = [event["delta"] for kind, event in events if kind == "contentBlockDelta"]
        assert "".join(delta.get("text", "") for delta in deltas) == tokens(20)
        assert dict(events)["messageStop"]["stopReason"] == "end_turn"
        assert dict(events)["metadata"]["usage"]["outputTokens"] in (20, 23)


def test_boto3_reads_tools(aws):
    config = {"tools": [{"toolSpec": {"name": name, "inputSchema": {"json": SCHEMA}}} for name in NAMES]}
    events = converse(aws, "tools2", toolConfig=config)
    starts = [event["start"]["toolUse"]["name"] for kind, event in events if kind == "contentBlockStart"]
    assert starts == list(NAMES)
    assert dict(events)["messageStop"]["stopReason"] == "tool_use"
    whole = aws.converse(modelId="tools2", messages=CONVERSE, toolConfig=config)
    inputs = [block["toolUse"]["input"] for block in whole["output"]["message"]["content"]]
    assert inputs == [{"call": call, "note": "simulated"} for call in range(2)]


def test_boto3_reads_failures(aws):
    with pytest.raises(EventStreamError, match="serviceUnavailableException"):
        converse(aws, "n20-err5")
    with pytest.raises(Exception, match="(?i)checksum|crc"):
        converse(aws, "n20-junk5")
    with pytest.raises(ClientError) as raised:
        converse(aws, "e429")
    assert raised.value.response["Error"]["Code"] == "ThrottlingException"


def test_boto3_reads_chunks(aws):
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 99, "messages": ASK}
    answer = aws.invoke_model_with_response_stream(modelId="n20", body=json.dumps(body))
    events = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    assert events[0]["type"] == "message_start" and events[-1]["type"] == "message_stop"
    said = [event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta"]
    assert "".join(said) == tokens(20)
    whole = json.load(aws.invoke_model(modelId="n20", body=json.dumps(body))["body"])
    assert whole["content"] == [{"type": "text", "text": tokens(20)}]


def test_anthropics_own_client_reads_chunks():
    """Its Bedrock client is what the gateway does by hand: it must be understood the same way."""
    client = anthropic.AnthropicBedrock(
        base_url=SIM, aws_region="us-east-1", aws_access_key="dummy", aws_secret_key="dummy", max_retries=0
    )
    with client.messages.stream(model="n20", messages=ASK, max_tokens=99) as stream:
        assert "".join(stream.text_stream) == tokens(20)


@pytest.fixture
def chat():
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def messages():
    with anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


def say(chat, model, **more):
    text, finish, usage = "", None, None
    for chunk in chat.chat.completions.create(
        model=model, messages=ASK, stream=True, stream_options={"include_usage": True}, **more
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish, usage


@pytest.mark.parametrize("hosting", HOSTINGS)
class TestInFront:
    def test_text(self, chat, messages, hosting):
        # The second with silence between its tokens: heartbeats.
        for program, count in (("n20", 20), ("n3-i700000", 3), ("n20-split", 20)):
            model = f"{hosting}/{program}"
            text, finish, usage = say(chat, model)
            assert (text, finish, usage.completion_tokens) == (tokens(count), "stop", count)
        model = f"{hosting}/n20"
        with messages.messages.stream(model=model, messages=ASK, max_tokens=2048) as stream:
            assert "".join(stream.text_stream) == tokens(20)
            final = stream.get_final_message()
        assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 20)
        whole = messages.messages.create(model=model, messages=ASK, max_tokens=2048)
        assert whole.content[0].text == tokens(20)
        whole = chat.chat.completions.create(model=model, messages=ASK)
        assert whole.choices[0].message.content == tokens(20)

    def test_reasoning_and_its_signature(self, messages, hosting):
        model = f"{hosting}/think3-n5"
        with messages.messages.stream(model=model, messages=ASK, max_tokens=2048) as stream:
            final = stream.get_final_message()
        assert [block.type for block in final.content] == ["thinking", "text"]
        assert final.content[0].thinking == tokens(3, "r") and final.content[0].signature
        turns = [*ASK, {"role": "assistant", "content": final.content}, *ASK]
        whole = messages.messages.create(model=f"{hosting}/n5", messages=turns, max_tokens=2048)
        assert whole.content[0].text == tokens(5)

    def test_tools_over_two_turns(self, chat, messages, hosting):
        model = f"{hosting}/tools2-n5"
        first = chat.chat.completions.create(model=model, messages=ASK, tools=CHAT_TOOLS).choices[0]
        assert first.finish_reason == "tool_calls"
        calls = first.message.tool_calls
        assert [json.loads(call.function.arguments)["call"] for call in calls] == [0, 1]
        results = [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in calls]
        turns = [*ASK, first.message, *results]
        again = chat.chat.completions.create(model=model, messages=turns, tools=CHAT_TOOLS)
        assert again.choices[0].message.content == tokens(5)
        with messages.messages.stream(model=model, messages=ASK, max_tokens=2048, tools=TOOLS) as stream:
            final = stream.get_final_message()
        assert [block.name for block in final.content] == list(NAMES)
        results = [{"type": "tool_result", "tool_use_id": block.id, "content": "done"} for block in final.content]
        turns = [*ASK, {"role": "assistant", "content": final.content}, {"role": "user", "content": results}]
        again = messages.messages.create(model=model, messages=turns, max_tokens=2048, tools=TOOLS)
        assert again.content[0].text == tokens(5)

    def test_errors_before_the_stream(self, chat, messages, hosting):
        for status, kind, words in (
            (400, "BadRequestError", "simulated upstream"),
            (401, "InternalServerError", "upstream_credentials"),
            (429, "RateLimitError", "simulated upstream"),
        ):
            with pytest.raises(getattr(openai, kind), match=words):
                say(chat, f"{hosting}/e{status}")
            with pytest.raises(getattr(anthropic, kind), match=words):
                messages.messages.create(model=f"{hosting}/e{status}", messages=ASK, max_tokens=9)

    def test_errors_within_the_stream(self, chat, messages, hosting):
        for program in ("n20-err5", "n20-close5", "n20-reset5", "n20-junk5", "n20-nodone"):
            model = f"{hosting}/{program}"
            with pytest.raises(openai.APIError):
                say(chat, model)
            said = ""
            with pytest.raises(anthropic.APIError):
                for event in messages.messages.create(model=model, messages=ASK, max_tokens=99, stream=True):
                    assert event.type not in ("message_stop",)
                    if event.type == "content_block_delta":
                        said += event.delta.text
            assert said.startswith(tokens(5)), program

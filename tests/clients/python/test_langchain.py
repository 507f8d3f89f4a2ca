"""langchain-openai's ChatOpenAI in front of every upstream."""

import openai
import pytest
from conftest import GATEWAY, KEY, SCHEMA, tokens
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

TOOLS = [
    {"type": "function", "function": {"name": name, "description": "x", "parameters": SCHEMA}}
    for name in ("alpha", "beta")
]


def chat(model):
    return ChatOpenAI(
        base_url=f"{GATEWAY}/v1", api_key=KEY, model=model, max_retries=0, stream_usage=True, timeout=30
    )


def gathered(stream):
    whole = None
    for chunk in stream:
        whole = chunk if whole is None else whole + chunk
    return whole


def test_text(upstream):
    whole = gathered(chat(f"{upstream}/n50").stream("count"))
    assert whole.content == tokens(50)
    assert whole.usage_metadata["output_tokens"] == 50 and whole.usage_metadata["input_tokens"] > 0
    assert whole.response_metadata["finish_reason"] == "stop"
    assert chat(f"{upstream}/n50").invoke("count").content == tokens(50)


def test_tools_two_turns(upstream):
    model = chat(f"{upstream}/tools2-n7").bind_tools(TOOLS)
    first = gathered(model.stream("count"))
    assert not first.invalid_tool_calls
    assert [call["name"] for call in first.tool_calls] == ["alpha", "beta"]
    assert [call["args"] for call in first.tool_calls] == [
        {"call": 0, "note": "simulated"},
        {"call": 1, "note": "simulated"},
    ]
    results = [ToolMessage("done", tool_call_id=call["id"]) for call in first.tool_calls]
    second = gathered(model.stream([HumanMessage("count"), first, *results]))
    assert second.content == tokens(7)
    assert second.usage_metadata["output_tokens"] == 7


@pytest.mark.parametrize("fault", ["err5", "close5", "reset5", "stall5"])
def test_error_during_the_stream(upstream, fault):
    with pytest.raises(openai.APIError):
        gathered(chat(f"{upstream}/n20-{fault}").stream("count"))


def test_error_before_the_stream(upstream):
    with pytest.raises(openai.RateLimitError):
        gathered(chat(f"{upstream}/e429").stream("count"))

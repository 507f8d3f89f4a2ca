"""An agent of LangGraph with a tool, its tokens streamed through the gateway.

    STREAMGATE_KEY=KEY python agent.py "How many seats are free?"
"""

import os
import sys

from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


@tool
def free_seats(call: int = 0, note: str = "") -> str:
    """The number of free seats."""
    return "42"


model = ChatOpenAI(
    base_url=os.environ.get("STREAMGATE_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ["STREAMGATE_KEY"],
    model=os.environ.get("STREAMGATE_MODEL", "sim"),
    stream_usage=True,
).bind_tools([free_seats])


def answer(state: MessagesState) -> dict:
    return {"messages": [model.invoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("answer", answer)
graph.add_node("tools", ToolNode([free_seats]))
graph.add_edge(START, "answer")
graph.add_conditional_edges("answer", tools_condition)
graph.add_edge("tools", "answer")
agent = graph.compile()

question = {"messages": [("user", " ".join(sys.argv[1:]) or "How many seats are free?")]}
for message, _ in agent.stream(question, stream_mode="messages"):
    if isinstance(message, AIMessageChunk):
        for call in message.tool_call_chunks:
            if call["name"]:
                print(f"[{call['name']}]", flush=True)
        print(message.text, end="", flush=True)
print()

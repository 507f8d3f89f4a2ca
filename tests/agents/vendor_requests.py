"""The requests of the seven upstream dialects: strict readers, which refuse what the vendor would refuse.

Written from the vendors' documentation, not from the gateway's code. A reader never repairs a request.
"""

import json
import re
from collections.abc import Callable

from ask import Ask, Pending, arguments, json_schema, members, need, one_of, text_of

OPENAI_NAME = r"[a-zA-Z0-9_-]{1,64}"
CHAT_FIELDS = """model messages stream stream_options tools tool_choice parallel_tool_calls max_tokens
    max_completion_tokens temperature top_p n stop seed user metadata store reasoning_effort verbosity logprobs
    top_logprobs presence_penalty frequency_penalty logit_bias response_format service_tier prompt_cache_key
    prompt_cache_retention safety_identifier modalities prediction web_search_options"""
CHAT_PARTS = {"text", "image_url", "file", "input_audio", "refusal"}


def openai_chat(path: str, body: dict) -> Ask:
    members(body, CHAT_FIELDS, "the body")
    options = body.get("stream_options") or {}
    ask = Ask(model=body.get("model"), stream=body.get("stream", False), usage=bool(options.get("include_usage")))
    need(ask.model, "model is missing")
    need(ask.stream or not options, "stream_options without stream")
    need(not ("max_tokens" in body and "max_completion_tokens" in body), "both limits on output")
    for number, tool in enumerate(body.get("tools") or []):
        one_of(tool.get("type"), {"function"}, f"tools[{number}].type")
        function = members(tool.get("function"), "name description parameters strict", f"tools[{number}].function")
        ask.tool(function.get("name"), function.get("parameters", {"type": "object"}), OPENAI_NAME)
    need(body.get("tools") != [], "tools is empty")
    need(body.get("tools") or not body.get("tool_choice"), "tool_choice without tools")
    need(len(body.get("user") or "") <= 64, "user is longer than 64")
    ask.schema = json_schema(((body.get("response_format") or {}).get("json_schema") or {}).get("schema"), "the schema of structured output")
    pending = Pending(ask)
    need(body.get("messages"), "messages is empty")
    for number, message in enumerate(body["messages"]):
        chat_message(ask, pending, message, f"messages[{number}]")
    pending.settled("the end")
    return ask


def chat_message(ask: Ask, pending: Pending, message: dict, what: str) -> None:
    role = message.get("role")
    one_of(role, {"system", "developer", "user", "assistant", "tool"}, f"{what}.role")
    content = message.get("content")
    if role == "tool":
        return pending.result(message.get("tool_call_id"), text_of(content, what))
    pending.settled(what)
    calls = message.get("tool_calls")
    need(calls != [], f"{what}.tool_calls is empty")
    need(content is not None or (role == "assistant" and calls), f"{what}.content is missing")
    text = text_of(content, what, CHAT_PARTS) if content is not None else ""
    if role in ("system", "developer"):
        ask.instructions += text
    else:
        ask.turns.append((role, text))
    for call in calls or []:
        one_of(call.get("type"), {"function"}, f"{what}: the type of a call")
        arguments(call["function"].get("arguments"), f"{what}: arguments")
        pending.call(call.get("id"), call["function"].get("name"), r".{1,40}")
    return None


# Types of tools in OpenAI's own Responses API.
RESPONSES_TOOLS = {"function", "custom", "web_search", "web_search_preview", "local_shell", "shell", "apply_patch",
                   "namespace", "tool_search", "file_search", "code_interpreter", "image_generation", "mcp"}
RESPONSES_FIELDS = """model input instructions stream stream_options tools tool_choice parallel_tool_calls
    max_output_tokens temperature top_p user metadata store reasoning text include truncation service_tier
    prompt_cache_key prompt_cache_retention safety_identifier previous_response_id background max_tool_calls
    top_logprobs client_metadata prompt conversation context_management"""


def responses_tools(ask: Ask, tools: list, what: str, inside: str = "") -> None:
    for number, tool in enumerate(tools):
        where = f"{what}[{number}]"
        kind = tool.get("type")
        one_of(kind, RESPONSES_TOOLS, f"{where}.type")
        if kind == "function":
            need(isinstance(tool.get("parameters"), dict), f"{where}.parameters is missing")
            ask.tool(tool.get("name"), tool["parameters"], OPENAI_NAME, namespace=inside)
        elif kind == "custom":
            ask.tool(tool.get("name"), {}, OPENAI_NAME, free_text=True, namespace=inside)
        elif kind == "namespace":
            need(not inside, f"{where}: a namespace within a namespace")
            responses_tools(ask, tool.get("tools") or [], f"{where}.tools", tool.get("name"))


def openai_responses(path: str, body: dict) -> Ask:
    members(body, RESPONSES_FIELDS, "the body")
    ask = Ask(model=body.get("model"), stream=body.get("stream", False), instructions=body.get("instructions") or "")
    need(ask.model, "model is missing")
    need(body.get("max_output_tokens") is None or body["max_output_tokens"] >= 16, "max_output_tokens is below 16")
    responses_tools(ask, body.get("tools") or [], "tools")
    need(len(body.get("user") or "") <= 64, "user is longer than 64")
    ask.schema = json_schema(((body.get("text") or {}).get("format") or {}).get("schema"), "the schema of structured output")
    items = body.get("input")
    need(items, "input is missing")
    if isinstance(items, str):
        ask.turns.append(("user", items))
        return ask
    pending = Pending(ask)
    for number, item in enumerate(items):
        responses_item(ask, pending, item, f"input[{number}]")
    pending.settled("the end")
    return ask


def responses_item(ask: Ask, pending: Pending, item: dict, what: str) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        role = item.get("role")
        one_of(role, {"system", "developer", "user", "assistant"}, f"{what}.role")
        parts = {"output_text", "refusal"} if role == "assistant" else {"input_text", "input_image", "input_file"}
        text = text_of(item.get("content"), what, parts)
        if role in ("system", "developer"):
            ask.instructions += text
        else:
            ask.turns.append((role, text))
    elif kind in ("function_call", "custom_tool_call", "local_shell_call", "tool_search_call", "apply_patch_call", "shell_call"):
        if kind == "function_call":
            arguments(item.get("arguments"), f"{what}.arguments")
        pending.call(item.get("call_id"), item.get("name", kind), r".{1,64}")
    elif kind.endswith("_output"):
        output = item.get("output", item.get("tools"))
        need(output is not None, f"{what} has no output")
        pending.result(item.get("call_id"), output if isinstance(output, str) else json.dumps(output))
    elif kind == "additional_tools":
        responses_tools(ask, item.get("tools") or [], f"{what}.tools")
    else:
        one_of(kind, {"reasoning", "compaction", "web_search_call"}, f"{what}.type")


ANTHROPIC_FIELDS = """model messages system max_tokens stream tools tool_choice temperature top_p top_k stop_sequences
    metadata thinking service_tier container mcp_servers context_management output_config output_format cache_control
    diagnostics speed"""
ANTHROPIC_NAME = r"[a-zA-Z0-9_-]{1,128}"
ANTHROPIC_BLOCKS = {"text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result",
                    "search_result", "server_tool_use", "web_search_tool_result", "tool_reference"}


def anthropic(path: str, body: dict) -> Ask:
    members(body, ANTHROPIC_FIELDS, "the body")
    need(isinstance(body.get("max_tokens"), int), "max_tokens: Field required")
    ask = Ask(model=body.get("model"), stream=body.get("stream", False))
    need(ask.model, "model is missing")
    budget = (body.get("thinking") or {}).get("budget_tokens")
    need(budget is None or 1024 <= budget < body["max_tokens"], "thinking.budget_tokens is not below max_tokens")
    ask.instructions = text_of(body.get("system") or "", "system")
    for number, tool in enumerate(body.get("tools") or []):
        if tool.get("type", "custom") == "custom":
            ask.tool(tool.get("name"), tool.get("input_schema"), ANTHROPIC_NAME)
            need(not {"oneOf", "allOf", "anyOf"} & set(tool["input_schema"]), f"tools[{number}]: a union at the top")
        else:
            need(re.fullmatch(r"[a-z_]+_\d{8}", tool["type"]), f"tools[{number}].type is {tool['type']!r}")
    ask.schema = json_schema(((body.get("output_config") or {}).get("format") or {}).get("schema"), "the schema of structured output")
    marks = json.dumps([body.get("tools"), body.get("system"), body.get("messages")]).count('"cache_control": {')
    need(marks <= 4, f"{marks} blocks with cache_control")
    pending = Pending(ask)
    need(body.get("messages"), "messages is empty")
    for number, message in enumerate(body["messages"]):
        role, what = message.get("role"), f"messages[{number}]"
        one_of(role, {"user", "assistant", "system"} if number else {"user"}, f"{what}.role")
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        need(blocks, f"{what}.content is empty")
        for block in blocks:
            anthropic_block(ask, pending, role, block, what)
        if role == "user":
            pending.settled(f"the end of {what}")
    pending.settled("the end")
    return ask


def anthropic_block(ask: Ask, pending: Pending, role: str, block: dict, what: str) -> None:
    kind = block.get("type")
    one_of(kind, ANTHROPIC_BLOCKS, f"{what}: the type of a block")
    if kind == "tool_use":
        need(role == "assistant" and isinstance(block.get("input"), dict), f"{what}: tool_use")
        pending.call(block.get("id"), block.get("name"), r"[a-zA-Z0-9_-]+")
    elif kind == "tool_result":
        need(role == "user", f"{what}: tool_result of {role}")
        content = block.get("content") or ""
        pending.result(block.get("tool_use_id"), text_of(content, what, ANTHROPIC_BLOCKS))
    elif kind == "text":
        need((block.get("text") or "").strip(), f"{what}: text content blocks must be non-empty")
        if role == "system":
            ask.instructions += block["text"]
        else:
            ask.turns.append((role, block["text"]))


GEMINI_FIELDS = """contents systemInstruction tools toolConfig generationConfig safetySettings cachedContent labels
    serviceTier store"""
GEMINI_NAME = r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}"
# What `parameters` takes; `parametersJsonSchema` takes JSON Schema.
GEMINI_SCHEMA = """type format title description nullable enum maxItems minItems properties required minProperties
    maxProperties minLength maxLength pattern example anyOf propertyOrdering default items minimum maximum"""


def gemini_schema(schema: dict, what: str) -> None:
    members(schema, GEMINI_SCHEMA, what)
    for name, inner in (schema.get("properties") or {}).items():
        gemini_schema(inner, f"{what}.{name}")
    if "items" in schema:
        gemini_schema(schema["items"], f"{what}.items")


def gemini(path: str, body: dict) -> Ask:
    members(body, GEMINI_FIELDS, "the body")
    found = re.search(r"/models/([^/:]+):(generateContent|streamGenerateContent)", path)
    ask = Ask(model=found[1], stream=found[2] == "streamGenerateContent")
    ask.instructions = "".join(part.get("text", "") for part in (body.get("systemInstruction") or {}).get("parts", []))
    for tool in body.get("tools") or []:
        members(tool, "functionDeclarations googleSearch codeExecution urlContext googleMaps fileSearch", "tools[]")
        for declared in tool.get("functionDeclarations") or []:
            members(declared, "name description parameters parametersJsonSchema response responseJsonSchema behavior", "a function")
            parameters = declared.get("parameters")
            if parameters:
                gemini_schema(parameters, f"parameters of {declared.get('name')}")
                parameters = {**parameters, "type": parameters.get("type", "").lower()}
            ask.tool(declared.get("name"), parameters or declared.get("parametersJsonSchema") or {"type": "object"}, GEMINI_NAME)
    config = body.get("generationConfig") or {}
    ask.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    need(body.get("contents"), "contents is empty")
    waiting: list[str] = []
    for number, content in enumerate(body["contents"]):
        waiting = gemini_content(ask, waiting, content, f"contents[{number}]")
    need(not waiting, "calls without responses at the end")
    return ask


def gemini_content(ask: Ask, waiting: list[str], content: dict, what: str) -> list[str]:
    role, parts = content.get("role", "user"), content.get("parts")
    one_of(role, {"user", "model"}, f"{what}.role")
    need(parts, f"{what}.parts is empty")
    called, answered = [], []
    for part in parts:
        members(part, "text thought thoughtSignature inlineData fileData functionCall functionResponse partMetadata", f"{what}: a part")
        need(len(set(part) - {"thought", "thoughtSignature", "partMetadata"}) == 1, f"{what}: a part holds one thing")
        if "functionCall" in part:
            called.append(part["functionCall"]["name"])
        elif "functionResponse" in part:
            response = part["functionResponse"].get("response")
            need(isinstance(response, dict), f"{what}: the response of a function is not an object")
            answered.append(part["functionResponse"]["name"])
            ask.results.append(json.dumps(response, ensure_ascii=False))
        elif "text" in part:
            ask.turns.append(("assistant" if role == "model" else role, part["text"]))
    need(not called or role == "model", f"{what}: a user calls a function")
    need(not answered or role == "user", f"{what}: a model answers a function")
    need(sorted(answered) == sorted(waiting), f"{what}: responses of {answered} to calls of {waiting}")
    ask.calls += called
    return called


OLLAMA_FIELDS = "model messages tools stream format options think keep_alive logprobs top_logprobs truncate shift"


def ollama(path: str, body: dict) -> Ask:
    members(body, OLLAMA_FIELDS, "the body")
    ask = Ask(model=body.get("model"), stream=body.get("stream", True))
    need(ask.model, "model is missing")
    ask.schema = json_schema(body.get("format") if isinstance(body.get("format"), dict) else None, "the schema of structured output")
    for number, tool in enumerate(body.get("tools") or []):
        one_of(tool.get("type"), {"function"}, f"tools[{number}].type")
        ask.tool(tool["function"].get("name"), tool["function"].get("parameters"), r".+")
    need(body.get("messages"), "messages is empty")
    for number, message in enumerate(body["messages"]):
        what = f"messages[{number}]"
        members(message, "role content thinking images tool_calls tool_name tool_call_id", what)
        one_of(message.get("role"), {"system", "user", "assistant", "tool"}, f"{what}.role")
        text = message.get("content", "")
        need(isinstance(text, str), f"{what}.content is not a string")
        for call in message.get("tool_calls") or []:
            need(isinstance(call["function"].get("arguments"), dict), f"{what}: arguments are not an object")
            ask.calls.append(call["function"]["name"])
        if message["role"] == "tool":
            need(len(ask.results) < len(ask.calls), f"{what}: a result without a call")
            ask.results.append(text)
        elif message["role"] == "system":
            ask.instructions += text
        else:
            ask.turns.append((message["role"], text))
    return ask


COHERE_FIELDS = """model messages stream tools documents citation_options response_format safety_mode max_tokens
    stop_sequences temperature seed frequency_penalty presence_penalty k p logprobs tool_choice strict_tools thinking
    raw_prompting priority"""


def cohere(path: str, body: dict) -> Ask:
    members(body, COHERE_FIELDS, "the body")
    ask = Ask(model=body.get("model"), stream=body.get("stream", False))
    need(ask.model, "model is required")
    one_of(body.get("tool_choice"), {None, "REQUIRED", "NONE"}, "tool_choice")
    need(0.01 <= body.get("p", 0.75) <= 0.99, "p must be between 0.01 and 0.99")
    ask.schema = json_schema((body.get("response_format") or {}).get("json_schema") or (body.get("response_format") or {}).get("schema"), "the schema of structured output")
    for number, tool in enumerate(body.get("tools") or []):
        one_of(tool.get("type"), {"function"}, f"tools[{number}].type")
        ask.tool(tool["function"].get("name"), tool["function"].get("parameters"), r"[a-zA-Z_][a-zA-Z0-9_]*")
    pending = Pending(ask)
    need(body.get("messages"), "messages is required")
    for number, message in enumerate(body["messages"]):
        role, what = message.get("role"), f"messages[{number}]"
        one_of(role, {"system", "user", "assistant", "tool"}, f"{what}.role")
        content = message.get("content")
        if role == "tool":
            pending.result(message.get("tool_call_id"), cohere_result(content, what))
            continue
        pending.settled(what)
        need(content or message.get("tool_calls"), f"{what} has neither content nor calls")
        text = text_of(content or "", what, {"text", "image_url", "thinking"})
        if role == "system":
            ask.instructions += text
        else:
            ask.turns.append((role, text))
        for call in message.get("tool_calls") or []:
            arguments(call["function"].get("arguments"), f"{what}: arguments")
            pending.call(call.get("id"), call["function"].get("name"), r".+")
    pending.settled("the end")
    return ask


def cohere_result(content: object, what: str) -> str:
    """A tool's result: text, or documents whose data may be text or an object."""
    if isinstance(content, list):
        for part in content:
            one_of(part.get("type"), {"text", "document"}, f"{what}: the type of a part")
        return "".join(part["text"] if part["type"] == "text" else json.dumps(part["document"], ensure_ascii=False) for part in content)
    need(isinstance(content, str), f"{what}.content is neither text nor a list")
    return content


BEDROCK_FIELDS = """messages system inferenceConfig toolConfig guardrailConfig additionalModelRequestFields
    additionalModelResponseFieldPaths promptVariables requestMetadata performanceConfig outputConfig serviceTier"""


def bedrock(path: str, body: dict) -> Ask:
    members(body, BEDROCK_FIELDS, "the body")
    found = re.search(r"/model/([^/]+)/(converse|converse-stream)$", path)
    ask = Ask(model=found[1], stream=found[2] == "converse-stream")
    ask.instructions = "".join(block.get("text", "") for block in body.get("system") or [])
    tools = (body.get("toolConfig") or {}).get("tools")
    need("toolConfig" not in body or tools, "toolConfig.tools is empty")
    for tool in tools or []:
        if "toolSpec" in members(tool, "toolSpec cachePoint systemTool", "toolConfig.tools[]"):
            spec = members(tool["toolSpec"], "name description inputSchema strict", "toolSpec")
            ask.tool(spec.get("name"), spec["inputSchema"].get("json"), OPENAI_NAME)
    structure = ((body.get("outputConfig") or {}).get("textFormat") or {}).get("structure")
    ask.schema = json_schema(arguments(structure["jsonSchema"]["schema"], "the schema of outputConfig") if structure else None, "the schema of structured output")
    pending, last = Pending(ask), "assistant"
    need(body.get("messages"), "messages is empty")
    for number, message in enumerate(body["messages"]):
        role, what = message.get("role"), f"messages[{number}]"
        one_of(role, {"user", "assistant"}, f"{what}.role")
        need(role != last, f"{what}: roles must alternate between user and assistant")
        need(message.get("content"), f"{what}.content is empty")
        for block in message["content"]:
            bedrock_block(ask, pending, role, block, what)
        if role == "user":
            pending.settled(f"the end of {what}")
        last = role
    pending.settled("the end")
    need(tools or not ask.calls, "toolConfig is missing while the history has calls")
    return ask


def bedrock_block(ask: Ask, pending: Pending, role: str, block: dict, what: str) -> None:
    members(block, "text image document toolUse toolResult reasoningContent cachePoint guardContent video", f"{what}: a block")
    need(len(block) == 1, f"{what}: a block holds one thing")
    if "toolUse" in block:
        need(role == "assistant" and isinstance(block["toolUse"].get("input"), dict), f"{what}: toolUse")
        pending.call(block["toolUse"].get("toolUseId"), block["toolUse"].get("name"), r"[a-zA-Z0-9_-]{1,64}")
    elif "toolResult" in block:
        content = block["toolResult"].get("content")
        need(role == "user" and isinstance(content, list), f"{what}: toolResult")
        text = "".join(part["text"] if "text" in part else json.dumps(part) for part in content)
        pending.result(block["toolResult"].get("toolUseId"), text)
    elif "text" in block:
        need(block["text"].strip(), f"{what}: the text field is blank")
        ask.turns.append((role, block["text"]))


READERS: dict[str, Callable[[str, dict], Ask]] = {
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
    "ollama": ollama,
    "cohere": cohere,
    "bedrock": bedrock,
}

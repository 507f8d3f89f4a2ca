"""Validates what callers of /v1/responses get, with the OpenAPI document of the Open Responses specification.

It starts the simulated upstream and a gateway in front of it, and ends both. A schema decides what is right,
and nothing here does, but for three rules that the specification has in words: events are numbered from 0, a
stream of a translated answer ends with `[DONE]` after its terminal event, and that event repeats the items
that were done.
"""

import hashlib
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jsonschema
import openresponses

KEY = "open-responses"
VERSION = "2026-04-24"
DIALECTS = ["openai-chat", "openai-responses", "anthropic", "gemini", "ollama", "cohere", "bedrock"]
PASSED_THROUGH = "openai-responses"
FUNCTION = {"type": "function", "name": "weather"}
WHOLE = {**FUNCTION, "description": "d", "parameters": {"type": "object", "properties": {}}, "strict": True}
PIXEL = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
         "AABJRU5ErkJggg==")


def user(content):
    return {"type": "message", "role": "user", "content": content}


# What each request is about, the simulator's program, and the request.
CASES = [
    ("text", "n4", {"input": "Hello"}),
    ("system prompt", "n2", {"instructions": "Be brief.", "input": [user("Hello")]}),
    ("several turns", "n2", {"input": [
        user("Hello"),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]},
        user("Again"),
    ]}),
    ("an image", "n2", {"input": [user([{"type": "input_text", "text": "What is it?"},
                                        {"type": "input_image", "image_url": PIXEL}])]}),
    ("a call", "n2-tools1", {"input": "Hello", "tools": [WHOLE]}),
    ("calls", "n2-tools2", {"input": "Hello", "tools": [FUNCTION, {**FUNCTION, "name": "clock"}]}),
    ("the result of a call", "n2", {"tools": [FUNCTION], "input": [
        user("Hello"),
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]}),
    ("reasoning", "n2-think3", {"input": "Hello", "reasoning": {"effort": "low"}}),
    ("a summary", "n2-think3", {"input": "Hello", "reasoning": {"summary": "auto"}}),
    ("a refusal", "refuse", {"input": "Hello"}),
    ("the limit", "n3-length", {"input": "Hello", "max_output_tokens": 16}),
    ("an error", "n4-err2", {"input": "Hello"}),
    ("an error after a call", "tools2-err7", {"input": "Hello", "tools": [FUNCTION]}),
    ("a cut", "n4-close2", {"input": "Hello"}),
    ("verbosity", "n1", {"input": "Hello", "text": {"verbosity": "low"}}),
    ("no format", "n1", {"input": "Hello", "text": {"format": None}}),
    ("any object", "n1", {"input": "Answer in JSON.", "text": {"format": {"type": "json_object"}}}),
    ("parameters", "n1", {"input": "Hello", "temperature": 0.5, "top_p": 0.5, "presence_penalty": 0.5,
                          "frequency_penalty": 0.25, "parallel_tool_calls": True, "metadata": {"a": "b"},
                          "prompt_cache_key": "k", "safety_identifier": "s", "truncation": "disabled"}),
    ("nulls", "n1", {"input": "Hello", "temperature": None, "tools": None, "text": None, "reasoning": None,
                     "service_tier": None, "metadata": None, "top_logprobs": None}),
]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Schemas:
    """The specification's schemas by name."""

    def __init__(self):
        path = pathlib.Path(openresponses.__file__).parent / "openapi" / f"{VERSION}.json"
        self.document = json.loads(path.read_text())
        self.known = self.document["components"]["schemas"]
        self.events = {}
        for name, schema in self.known.items():
            kind = schema.get("properties", {}).get("type", {}).get("enum", [])
            if name.endswith("StreamingEvent") and len(kind) == 1:
                self.events[kind[0]] = name
        self.checked = 0

    def check(self, name, value):
        self.checked += 1
        schema = {"$ref": f"#/components/schemas/{name}", "components": self.document["components"]}
        validator = jsonschema.Draft202012Validator(schema)
        for error in validator.iter_errors(value):
            deepest = jsonschema.exceptions.best_match([error])
            yield f"{name}: {'.'.join(map(str, deepest.absolute_path))}: {deepest.message[:300]}"

    def event(self, value):
        name = self.events.get(value.get("type"))
        if name is None:
            yield f"an event of the unknown type {value.get('type')}"
        else:
            yield from self.check(name, value)


def stream_faults(schemas, text, passed_through):
    done, last, expected = [], None, 0
    for block in filter(None, text.split("\n\n")):
        fields = [line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")]
        data = "".join(value for name, value in fields if name == "data")
        if last == "[DONE]":
            yield f"after [DONE]: {data[:100]}"
        if data == "[DONE]":
            if not last or last["type"] not in ("response.completed", "response.incomplete"):
                yield "[DONE] without a terminal event"
            last = data
            continue
        value = json.loads(data)
        yield from schemas.event(value)
        if value.get("sequence_number") != expected:
            yield f"event {expected} is numbered {value.get('sequence_number')}"
        expected += 1
        if value["type"] == "response.output_item.done":
            done.append(value["item"])
        if value["type"] in ("response.completed", "response.incomplete") and value["response"]["output"] != done:
            yield "the terminal event does not repeat the items"
        last = value
    if last is None or (last != "[DONE]" and last["type"] in ("response.completed", "response.incomplete")):
        if not passed_through:
            yield "no [DONE]"
    elif last != "[DONE]" and last["type"] not in ("response.failed", "error"):
        yield f"the stream ends with {last['type']}"


def post(port, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/responses",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {KEY}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def configuration(port, upstream):
    paths = {"openai-chat": "/v1", "openai-responses": "/v1", "gemini": "/v1beta"}
    providers = {
        dialect: {"dialect": dialect, "base_url": f"http://127.0.0.1:{upstream}{paths.get(dialect, '')}", "api_key": "sim"}
        for dialect in DIALECTS
    }
    key = {"name": "validation", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "models": ["*"]}
    return json.dumps({"server": {"listen": f"127.0.0.1:{port}"}, "auth": {"keys": [key]}, "providers": providers})


def wait_for(port, process):
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"{process.args[1]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{process.args[1]} does not listen")


def faults_of(schemas, port, dialect, program, asked, stream):
    status, text = post(port, {**asked, "model": f"{dialect}/{program}", "stream": stream})
    fails = "err" in program or "close" in program
    if status != 200:
        return [] if fails and not stream and "error" in json.loads(text) else [f"status {status}: {text[:300]}"]
    if not stream:
        return list(schemas.check("ResponseResource", json.loads(text)))
    return list(stream_faults(schemas, text, dialect == PASSED_THROUGH))


def main():
    binary, work = sys.argv[1], pathlib.Path(sys.argv[2])
    schemas, broken, asked = Schemas(), 0, 0
    port, upstream = free_port(), free_port()
    config = work / "streamgate.yaml"
    config.write_text(configuration(port, upstream))
    log = (work / "log").open("wb")
    commands = [[binary, "sim", "--listen", f"127.0.0.1:{upstream}"], [binary, "serve", "--config", str(config)]]
    running = [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
    try:
        for process, place in zip(running, (upstream, port)):
            wait_for(place, process)
        for dialect in DIALECTS:
            for name, program, body in CASES:
                for stream in (True, False):
                    asked += 1
                    for fault in faults_of(schemas, port, dialect, program, body, stream):
                        broken += 1
                        print(f"{dialect}, {name}, {'streamed' if stream else 'whole'}: {fault}")
    finally:
        for process in running:
            process.terminate()
            process.wait()
    print(f"{asked} requests, {schemas.checked} events and objects validated, {broken} faults")
    return 1 if broken or schemas.checked < 10 * asked / 2 else 0


if __name__ == "__main__":
    sys.exit(main())

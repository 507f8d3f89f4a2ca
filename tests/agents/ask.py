"""A request in no dialect, and the checks that all readers of requests share. Nothing here knows a dialect."""

import json
import re
from dataclasses import dataclass, field


class RequestError(Exception):
    """A request that the vendor would answer with 400."""


@dataclass(frozen=True)
class Tool:
    name: str
    schema: dict
    free_text: bool = False  # it takes text and not arguments: OpenAI's custom tools
    namespace: str = ""  # in OpenAI's Responses; `name` then begins with it

    @property
    def own_name(self) -> str:
        return self.name.removeprefix(f"{self.namespace}.") if self.namespace else self.name


@dataclass
class Ask:
    """A request, in no dialect."""

    model: str = ""
    stream: bool = False
    usage: bool = True  # whether a stream of chat completions ends with its usage
    schema: dict | None = None  # of structured output
    instructions: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)  # role and text
    tools: dict[str, Tool] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)  # names, in the history
    results: list[str] = field(default_factory=list)  # what the tools returned

    def tool(self, name: object, schema: object, pattern: str, free_text: bool = False, namespace: str = "") -> None:
        need(isinstance(name, str) and re.fullmatch(pattern, name), f"tool name {name!r} does not match {pattern}")
        name = f"{namespace}.{name}" if namespace else name
        need(name not in self.tools, f"two tools are named {name!r}")
        need(isinstance(schema, dict), f"the schema of tool {name} is {schema!r}")
        need(free_text or schema.get("type") == "object", f"the schema of tool {name} is not of an object")
        self.tools[name] = Tool(name, schema, free_text, namespace)


def need(holds: object, otherwise: str) -> None:
    if not holds:
        raise RequestError(otherwise)


def one_of(value: object, allowed: set, what: str) -> None:
    need(value in allowed, f"{what} is {value!r}, not one of {sorted(map(str, allowed))}")


def members(value: object, allowed: str, what: str) -> dict:
    """An object which has no members but the allowed ones."""
    need(isinstance(value, dict), f"{what} is not an object")
    unknown = set(value) - set(allowed.split())
    need(not unknown, f"{what} has the unknown members {sorted(unknown)}")
    return value


def arguments(text: object, what: str) -> dict:
    need(isinstance(text, str), f"{what} are not a string")
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    need(isinstance(value, dict), f"{what} are not JSON of an object")
    return value


def text_of(parts: object, what: str, types: set = frozenset({"text"})) -> str:
    """The text of a content that is a string or a list of parts; other parts must be of a known type."""
    if isinstance(parts, str):
        return parts
    need(isinstance(parts, list), f"{what} is neither text nor a list")
    for part in parts:
        one_of(part.get("type"), set(types), f"{what}: the type of a part")
    return "".join(part.get("text") or "" for part in parts)


TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}


def json_schema(schema: dict | None, what: str) -> dict | None:
    """A schema of structured output: its types are those of JSON Schema."""
    if schema is not None:
        kinds = schema.get("type", [])
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            one_of(kind, TYPES, f"{what}: type")
        for inner in (schema.get("properties") or {}).values():
            json_schema(inner, what)
    return schema


class Pending:
    """Calls that wait for their results: each exactly one, before anything else comes."""

    def __init__(self, ask: Ask) -> None:
        self.ask, self.waiting = ask, {}

    def call(self, id: object, name: object, pattern: str) -> None:
        need(isinstance(id, str) and re.fullmatch(pattern, id), f"the id of a call is {id!r}, which is not {pattern}")
        need(id not in self.waiting, f"two calls have the id {id}")
        need(isinstance(name, str) and name, "a call has no name")
        self.waiting[id] = name
        self.ask.calls.append(name)

    def result(self, id: object, text: str) -> None:
        need(id in self.waiting, f"a result belongs to no call that waits for one: {id!r}")
        del self.waiting[id]
        self.ask.results.append(text)

    def settled(self, before: str) -> None:
        need(not self.waiting, f"calls without results before {before}: {sorted(self.waiting)}")

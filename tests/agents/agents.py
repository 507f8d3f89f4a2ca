"""The agents: how each is configured and started, and the names of its own tools. Nothing here knows a scenario.

What each needs is documented in docs/agents/; keep the two alike.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vendor_answers import Call, Part, Text
from vendor_requests import Ask, RequestError, Tool

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NODE = HERE / "node_modules/node/bin/node"
MODULES = HERE / "node_modules"
AIDER = ROOT / "target/agents/venv/bin/aider"
MODEL = "team-model"  # where an agent has no model names of its own


@dataclass(frozen=True)
class Place:
    """Where an agent runs."""

    home: Path
    work: Path  # a fresh git repository
    gateway: str
    key: str

    def file(self, path: str, text: str) -> None:
        (self.home / path).parent.mkdir(parents=True, exist_ok=True)
        (self.home / path).write_text(text)


@dataclass(frozen=True)
class Agent:
    name: str
    dialect: str  # of its requests
    models: tuple[str, ...]  # which it asks for
    start: Callable[[Place, str], tuple[list, dict]]  # the command and the environment, for a prompt
    write: tuple[str, ...] = ()  # names of its tool that writes a file, without that: it edits by text
    shell: tuple[str, ...] = ()

    def is_main(self, ask: Ask) -> bool:
        """Whether a request is a turn of the task, and not a title or a summary."""
        if self.write:
            return any(named(ask, name) for name in self.write)
        return "commit message" not in ask.instructions.lower()

    def writing(self, ask: Ask, file: str, content: str) -> list[Part]:
        if self.write:
            return [Text("I write the file. "), call(ask, self.write, file, content)]
        return [Text(edit(ask, Path(file).name, content))]


def named(ask: Ask, name: str) -> Tool | None:
    """A tool by its name, which a gateway may have put behind that of its namespace."""
    return next((tool for tool in ask.tools.values() if tool.name == name or re.search(rf"(__|\.){name}$", tool.name)), None)


def call(ask: Ask, names: tuple[str, ...], file: str, text: str) -> Call:
    """A call of the first of these tools that there is, with the arguments that its schema asks for."""
    tool = next((tool for name in names if (tool := named(ask, name))), None)
    if not tool:
        raise RequestError(f"none of the tools {names} is among {sorted(ask.tools)}")
    if tool.free_text or set(tool.schema.get("properties", {})) == {"input"}:
        patch = "*** Begin Patch\n*** Add File: " + Path(file).name + "\n" + "".join(f"+{line}\n" for line in text.splitlines()) + "*** End Patch\n"
        return Call(tool.name, patch if tool.free_text else {"input": patch})
    known = {"file_path": file, "filePath": file, "filepath": file, "content": text, "command": text, "cmd": text,
             "description": "Does its part of the task", "is_background": False}
    properties = tool.schema.get("properties") or {}
    given = {name: value for name, value in known.items() if name in properties}
    if properties.get("command", {}).get("type") == "array":
        given["command"] = ["bash", "-c", text]
    missing = set(tool.schema.get("required", [])) - set(given)
    if missing or not given:
        raise RequestError(f"tool {tool.name} asks for {sorted(missing)} of {sorted(properties)}")
    return Call(tool.name, {name: value for name, value in given.items() if name in tool.schema.get("required", given)})


def edit(ask: Ask, file: str, content: str) -> str:
    """An edit by text, in the form that the instructions ask for."""
    if "SEARCH/REPLACE" in ask.instructions:
        return f"Here it is:\n\n{file}\n```\n<<<<<<< SEARCH\n=======\n{content}>>>>>>> REPLACE\n```\n"
    return f"Here it is:\n\n{file}\n```\n{content}```\n"


def claude_code(place: Place, prompt: str) -> tuple[list, dict]:
    command = [MODULES / ".bin/claude", "-p", prompt, "--permission-mode", "acceptEdits", "--allowedTools", "Bash"]
    return command, {
        "ANTHROPIC_BASE_URL": place.gateway,
        "ANTHROPIC_AUTH_TOKEN": place.key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def codex(place: Place, prompt: str) -> tuple[list, dict]:
    place.file(".codex/config.toml", f"""
model_provider = "streamgate"

[model_providers.streamgate]
name = "Streamgate"
base_url = "{place.gateway}/v1"
env_key = "STREAMGATE_KEY"
wire_api = "responses"

[analytics]
enabled = false
""")
    return [NODE, MODULES / ".bin/codex", "exec", "--sandbox", "danger-full-access", prompt], {"STREAMGATE_KEY": place.key}


def gemini_cli(place: Place, prompt: str) -> tuple[list, dict]:
    place.file(".gemini/settings.json", json.dumps({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False},
    }))
    command = [NODE, MODULES / ".bin/gemini", "--prompt", prompt, "--yolo", "--skip-trust"]
    return command, {"GOOGLE_GEMINI_BASE_URL": place.gateway, "GEMINI_API_KEY": place.key}


def opencode(place: Place, prompt: str) -> tuple[list, dict]:
    place.file(".config/opencode/opencode.json", json.dumps({
        "autoupdate": False,
        "share": "disabled",
        "provider": {"streamgate": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Streamgate",
            "options": {"baseURL": f"{place.gateway}/v1", "apiKey": "{env:STREAMGATE_KEY}"},
            "models": {MODEL: {"name": "Team"}},
        }},
    }))
    command = [MODULES / ".bin/opencode", "run", "--auto", "--model", f"streamgate/{MODEL}", prompt]
    return command, {"STREAMGATE_KEY": place.key, "OPENCODE_DISABLE_MODELS_FETCH": "1"}


def aider(place: Place, prompt: str) -> tuple[list, dict]:
    command = [AIDER, "--model", f"openai/{MODEL}", "--yes-always", "--no-check-update", "--analytics-disable",
               "--no-show-model-warnings", "--message", prompt]
    return command, {
        "OPENAI_API_BASE": f"{place.gateway}/v1",
        "OPENAI_API_KEY": place.key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "true",
    }


def qwen_code(place: Place, prompt: str) -> tuple[list, dict]:
    place.file(".qwen/settings.json", json.dumps({
        "security": {"auth": {"selectedType": "openai"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"disableAutoUpdate": True},
    }))
    command = [NODE, MODULES / ".bin/qwen", "--yolo", prompt]
    return command, {"OPENAI_BASE_URL": f"{place.gateway}/v1", "OPENAI_API_KEY": place.key, "OPENAI_MODEL": MODEL}


def continue_cli(place: Place, prompt: str) -> tuple[list, dict]:
    place.file(".continue/config.yaml", f"""
name: team
version: 1.0.0
schema: v1
models:
  - name: Team
    provider: openai
    model: {MODEL}
    apiBase: {place.gateway}/v1
    apiKey: {place.key}
    roles: [chat]
""")
    command = [NODE, MODULES / ".bin/cn", "--config", place.home / ".continue/config.yaml", "--auto", "--print", prompt]
    return command, {"CONTINUE_TELEMETRY_ENABLED": "0"}


CLAUDE_MODELS = ("claude-opus-5-5", "claude-haiku-4-5-20251001", "claude-haiku-4-5")
GEMINI_MODELS = ("gemini-3.5-flash-lite", "gemini-3.8-flash", "gemini-3-flash-preview", "gemini-3-pro-preview", "gemini-2.5-flash-lite",
                 "gemini-2.5-pro", "gemini-2.5-flash")
CODEX_MODELS = ("gpt-6.2-sol",)
AGENTS = {agent.name: agent for agent in (
    Agent("claude-code", "anthropic", CLAUDE_MODELS, claude_code, ("Write",), ("Bash",)),
    Agent("codex", "openai-responses", CODEX_MODELS, codex, ("apply_patch", "exec_command"), ("exec_command", "shell_command", "shell")),
    Agent("gemini-cli", "gemini", GEMINI_MODELS, gemini_cli, ("write_file",), ("run_shell_command",)),
    Agent("opencode", "openai-chat", (MODEL,), opencode, ("write",), ("bash",)),
    Agent("aider", "openai-chat", (MODEL,), aider),
    Agent("qwen-code", "openai-chat", (MODEL,), qwen_code, ("write_file",), ("run_shell_command",)),
    Agent("continue", "openai-chat", (MODEL,), continue_cli, ("Write",), ("Bash",)),
)}

"""The agents: how each is started, and the names of its own tools. Nothing here knows a scenario.

What each is configured with is read from its page in docs/agents/, so that the pages are tested.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ask import Ask, RequestError, Tool
from vendor_answers import Call, Part, Text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = ROOT / "docs/agents"
MODULES = HERE / "node_modules"
AIDER = ROOT / "target/agents/venv/bin/aider"
MODEL = "team-model"  # of the pages, where an agent has no model names of its own


@dataclass(frozen=True)
class Place:
    """Where an agent runs."""

    home: Path
    work: Path  # a fresh git repository
    gateway: str
    key: str
    streamgate: str  # the program


@dataclass(frozen=True)
class Page:
    """A documented page: what its reader is to set, with places for the gateway's address and the key."""

    files: dict[str, str]  # below the home folder
    environment: dict[str, str]
    models: tuple[str, ...]  # that the agent asks for

    @classmethod
    def read(cls, name: str) -> "Page":
        text = (PAGES / f"{name}.md").read_text()
        files = re.findall(r"^`~/([^`]+)`:\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        models = re.findall(r"^  ([\w.-]+): \{ targets: ", text, re.MULTILINE)
        return cls(dict(files), dict(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE)), tuple(models))

    def rest(self, keep_files: bool) -> "Page":
        """What is left to set for an agent that `streamgate launch` starts."""
        ours = ("http://127.0.0.1:8080", "KEY")
        environment = {name: value for name, value in self.environment.items() if not any(part in value for part in ours)}
        return Page(self.files if keep_files else {}, environment, self.models)

    def follow(self, place: Place) -> dict[str, str]:
        """Writes the files, and returns the environment."""
        def filled(text: str) -> str:
            return re.sub(r"\bKEY\b", place.key, text.replace("http://127.0.0.1:8080", place.gateway))

        for path, text in self.files.items():
            (place.home / path).parent.mkdir(parents=True, exist_ok=True)
            (place.home / path).write_text(filled(text))
        return {name: filled(value) for name, value in self.environment.items()}


@dataclass(frozen=True)
class Agent:
    name: str
    page: str  # of docs/agents/
    command: tuple[str, ...]  # with places for the prompt and the home folder
    write: tuple[str, ...] = ()  # names of its tool that writes a file, without that: it edits by text
    shell: tuple[str, ...] = ()
    most_errors: int = 12  # the most requests before it gives up for errors of an upstream
    most_unauthorized: int = 1  # and for a wrong key
    exit_status: bool = True  # whether it says that it failed
    launched: bool = False  # by `streamgate launch`, which sets the address and the key
    keep_files: bool = False  # of its page, although it is launched

    def start(self, place: Place, prompt: str) -> tuple[list[str], dict[str, str]]:
        """The command and the environment, after its page has been followed."""
        places = {"{prompt}": prompt, "{home}": str(place.home), "{streamgate}": place.streamgate, "{gateway}": place.gateway}
        command = [re.sub(r"\{(prompt|home|streamgate|gateway)\}", lambda found: places[found[0]], part) for part in self.command]
        page = Page.read(self.page)
        if not self.launched:
            return command, page.follow(place)
        programs = f"{MODULES / 'node/bin'}:{MODULES / '.bin'}:{AIDER.parent}:{os.environ['PATH']}"
        return command, page.rest(self.keep_files).follow(place) | {"STREAMGATE_KEY": place.key, "PATH": programs}

    def models(self) -> tuple[str, ...]:
        return Page.read(self.page).models

    def is_main(self, ask: Ask) -> bool:
        """Whether a request is a turn of the task, and not a title or a summary."""
        if self.write:
            return bool(ask.tools)
        return "commit message" not in ask.instructions.lower()

    def writing(self, ask: Ask, file: str, content: str) -> list[Part]:
        if self.write:
            return [Text("I write the file. "), call(ask, self.write, file, content)]
        return [Text(edit(ask, Path(file).name, content))]

    def running(self, ask: Ask, command: str) -> list[Part]:
        return [call(ask, self.shell, "", command)]


def named(ask: Ask, name: str) -> Tool | None:
    """A tool by its name, which a gateway may have put behind that of its namespace."""
    return next((tool for tool in ask.tools.values() if tool.name == name or re.search(rf"(__|\.){name}$", tool.name)), None)


def call(ask: Ask, names: tuple[str, ...], file: str, text: str) -> Call:
    """A call that writes a text to a file or, without a file, runs it: of the first of these tools that there is."""
    tool = next((tool for name in names if (tool := named(ask, name))), None)
    if not tool:
        raise RequestError(f"none of the tools {names} is among {sorted(ask.tools)}")
    properties, required = tool.schema.get("properties") or {}, set(tool.schema.get("required", []))
    if tool.free_text or list(properties) == ["input"]:
        program = javascript(file, text)
        return Call(tool.name, program if tool.free_text else {"input": program})
    shell = f"cat > '{file}' <<'END'\n{text}END" if file else text
    known = {"file_path": file, "filePath": file, "filepath": file, "content": text, "command": shell, "cmd": shell,
             "description": "Does its part of the task", "is_background": False}
    given = {name: value for name, value in known.items() if name in required}
    if required - set(given) or not given:
        raise RequestError(f"tool {tool.name} asks for {sorted(required)} of {sorted(properties)}")
    return Call(tool.name, given)


def javascript(file: str, text: str) -> str:
    """What Codex's code mode runs: a script that calls its other tools."""
    if file:
        lines = "".join(f"+{line}\n" for line in text.splitlines())
        patch = f"*** Begin Patch\n*** Add File: {Path(file).name}\n{lines}*** End Patch\n"
        return f"text(await tools.apply_patch({json.dumps(patch)}))"
    return f"const ran = await tools.exec_command({json.dumps({'cmd': text})}); text(ran)"


def edit(ask: Ask, file: str, content: str) -> str:
    """An edit by text, in the form that the instructions ask for."""
    if "SEARCH/REPLACE" in ask.instructions:
        return f"Here it is:\n\n{file}\n```\n<<<<<<< SEARCH\n=======\n{content}>>>>>>> REPLACE\n```\n"
    return f"Here it is:\n\n{file}\n```\n{content}```\n"


def node(program: str, *arguments: str) -> tuple[str, ...]:
    return str(MODULES / "node/bin/node"), str(MODULES / ".bin" / program), *arguments


def launch(agent: str, *arguments: str, model: str = "") -> tuple[str, ...]:
    chosen = ("--model", model) if model else ()
    return "{streamgate}", "launch", agent, "--url", "{gateway}", *chosen, "--", *arguments


# Five requests for a turn, and five more turns, whatever the status; its settings `request_max_retries` and `stream_max_retries`.
CODEX_RETRIES = {"most_errors": 30, "most_unauthorized": 6}
PROMPT = "{prompt}"
AGENTS = {agent.name: agent for agent in (
    Agent("claude-code", "claude-code", (str(MODULES / ".bin/claude"), "-p", PROMPT, "--permission-mode", "acceptEdits", "--allowedTools", "Bash"),
          ("Write",), ("Bash",)),
    Agent("codex", "codex", node("codex", "exec", "--sandbox", "danger-full-access", PROMPT), ("exec",), ("exec",), **CODEX_RETRIES),
    # A model that Codex does not know gets other tools than its vendor's newest.
    Agent("codex-alias", "codex", node("codex", "exec", "--sandbox", "danger-full-access", "--model", MODEL, PROMPT),
          ("exec_command",), ("exec_command",), **CODEX_RETRIES),
    Agent("gemini-cli", "gemini-cli", node("gemini", "--prompt", PROMPT, "--yolo", "--skip-trust"), ("write_file",), ("run_shell_command",),
          most_unauthorized=2),  # its router's and the task's
    Agent("opencode", "opencode", (str(MODULES / ".bin/opencode"), "run", "--auto", "--model", f"streamgate/{MODEL}", PROMPT),
          ("write",), ("bash",), most_unauthorized=2),  # a title's and the task's
    Agent("aider", "aider", (str(AIDER), "--model", f"openai/{MODEL}", "--yes-always", "--no-check-update", "--analytics-disable",
                             "--no-show-model-warnings", "--message", PROMPT), exit_status=False, most_errors=27),
    # The same by `streamgate launch`, without the files of their pages.
    Agent("claude-launch", "claude-code", launch("claude", "-p", PROMPT, "--permission-mode", "acceptEdits", "--allowedTools", "Bash"),
          ("Write",), ("Bash",), launched=True),
    Agent("codex-launch", "codex", launch("codex", "exec", "--sandbox", "danger-full-access", PROMPT, model=MODEL),
          ("exec_command",), ("exec_command",), launched=True, **CODEX_RETRIES),
    # It uses a key only if its own settings say so.
    Agent("gemini-launch", "gemini-cli", launch("gemini", "--prompt", PROMPT, "--yolo", "--skip-trust"), ("write_file",),
          ("run_shell_command",), most_unauthorized=2, launched=True, keep_files=True),
    Agent("opencode-launch", "opencode", launch("opencode", "run", "--auto", PROMPT, model=MODEL), ("write",), ("bash",),
          most_unauthorized=2, launched=True),
    Agent("aider-launch", "aider", launch("aider", "--yes-always", "--no-check-update", "--analytics-disable", "--no-show-model-warnings",
                                          "--message", PROMPT, model=MODEL), exit_status=False, most_errors=27, launched=True),
    Agent("qwen-code", "qwen-code", node("qwen", "--yolo", PROMPT), ("write_file",), ("run_shell_command",), most_errors=28),
    Agent("continue", "continue", node("cn", "--config", "{home}/.continue/config.yaml", "--auto", "--print", PROMPT), ("Write",), ("Bash",),
          most_errors=33),
)}

"""Runs agents in front of a gateway and a scripted upstream, one of each for every run, and prints the matrix.

    drive.py STREAMGATE small|full [AGENT ...] [--upstream DIALECT] [--scenario NAME]
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import scenarios
from agents import AGENTS, MODULES, ROOT, Agent, Place
from scenarios import PROMPT, SCENARIOS, Failure, Run, Scenario
from scripted_upstream import KEY, PATHS, Upstream

RUNS = ROOT / "target/agents/runs"
CALLER = "sg-agents"
# What the vendors' models are called; their names decide what the gateway sends.
UPSTREAM_MODELS = {
    "openai-chat": "gpt-5.5",
    "openai-responses": "gpt-5.5",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-pro",
    "ollama": "qwen3",
    "cohere": "command-a-03-2025",
    "bedrock": "anthropic.claude-sonnet-4-5-20250929-v1:0",
}
# The small matrix: the agent's own language and one or two others.
SMALL = {
    "claude-code": ("anthropic", "openai-chat", "bedrock"),
    "codex": ("openai-responses", "anthropic"),
    "codex-alias": ("openai-responses", "openai-chat"),
    "gemini-cli": ("gemini", "openai-responses"),
    "opencode": ("openai-chat", "anthropic"),
    "aider": ("openai-chat", "cohere"),
    "claude-launch": ("openai-chat",),
    "codex-launch": ("anthropic",),
    "gemini-launch": ("gemini",),
    "opencode-launch": ("openai-chat",),
    "aider-launch": ("openai-chat",),
    "qwen-code": ("openai-chat", "ollama"),
    "continue": ("openai-chat", "gemini"),
}


def configuration(agent: Agent, dialect: str, upstream: str) -> str:
    """JSON, which is YAML."""
    target = {"provider": "up", "model": UPSTREAM_MODELS[dialect]}
    return json.dumps({
        "server": {"listen": "127.0.0.1:0", "drain": "1s"},
        "auth": {"keys": [{"name": "agents", "sha256": hashlib.sha256(CALLER.encode()).hexdigest()}]},
        "providers": {"up": {"dialect": dialect, "base_url": upstream, "api_key": KEY}},
        "models": {name: {"targets": [target]} for name in agent.models()},
    }, indent=1)


@contextmanager
def gateway(streamgate: str, folder: Path, config: str) -> Iterator[str]:
    (folder / "streamgate.yaml").write_text(config)
    log, out = folder / "gateway.log", folder / "gateway.out"
    command = [streamgate, "--config", folder / "streamgate.yaml", "--log", "json"]
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=surroundings(folder))
    try:
        for _ in range(400):
            announced = re.search(r"http://127\.0\.0\.1:\d+", out.read_text())
            if announced:
                break
            if process.poll() is not None:
                raise Failure(f"the gateway did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        else:
            raise Failure("the gateway did not start")
        yield announced[0]
        if process.poll() is not None or "panicked" in log.read_text():
            raise Failure(f"the gateway ended or panicked: {log.read_text()[-500:]}")
    finally:
        process.terminate()
        process.wait()


def surroundings(home: Path) -> dict[str, str]:
    """Nothing of the machine but programs and the language; a proxy that leads nowhere keeps all else on the machine."""
    path = f"{MODULES / 'node/bin'}:{os.environ['PATH']}"
    nowhere = "http://127.0.0.1:9"
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost", "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "https_proxy": nowhere, "http_proxy": nowhere,
            "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@localhost", "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@localhost"}


def repository(folder: Path) -> Path:
    work = folder / "repository"
    work.mkdir()
    (work / "README.md").write_text("# A project\n")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "First"]):
        subprocess.run(["git", "-C", work, *command], check=True, env=surroundings(folder))
    return work


def requests(log: Path) -> list[dict]:
    """The access log."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line.get("fields", line) for line in lines if line.get("target", "").endswith("request") or "outcome" in line]


def run(streamgate: str, agent: Agent, dialect: str, scenario: Scenario) -> tuple[str, float]:
    """The reason why it failed, or nothing; and how long it took."""
    folder = RUNS / agent.name / dialect / scenario.name
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "home"
    home.mkdir(parents=True)
    began = time.monotonic()
    try:
        play(streamgate, agent, dialect, scenario, folder)
        reason = ""
    except Failure as failure:
        reason = str(failure)
    except Exception as fault:  # one broken run must not hide the others
        reason = f"{type(fault).__name__}: {fault}"
    return reason, time.monotonic() - began


def play(streamgate: str, agent: Agent, dialect: str, scenario: Scenario, folder: Path) -> None:
    work = repository(folder)
    with Upstream(dialect, scenario.script(agent, work)) as upstream:
        config = configuration(agent, dialect, upstream.base_url)
        try:
            with gateway(streamgate, folder, config) as address:
                key = "sg-wrong" if scenario.wrong_key else CALLER
                status, interrupted = drive(agent, scenario, upstream, Place(folder / "home", work, address, key, str(Path(streamgate).resolve())), folder)
        finally:
            record = "".join(json.dumps(seen.record(), ensure_ascii=False) + "\n" for seen in upstream.seen)
            (folder / "upstream.jsonl").write_text(record)
        lines = requests(folder / "gateway.log")
        refused = [line for line in lines if line.get("error", "").startswith("authentication")]
        result = Run(agent, upstream, work, status, (folder / "output.txt").read_text(errors="replace"), len(refused), interrupted)
        check(scenario, result, lines)


def check(scenario: Scenario, result: Run, lines: list[dict]) -> None:
    violations = result.upstream.violations() + result.upstream.faults
    rejected = [line["error"] for line in lines if line.get("outcome") == "rejected" and not line["error"].startswith("authentication")]
    if violations:
        raise Failure(f"the vendor would refuse: {violations[0]}")
    if rejected:
        raise Failure(f"the gateway rejected: {rejected[0]}")
    scenario.check(result)


def drive(agent: Agent, scenario: Scenario, upstream: Upstream, place: Place, folder: Path) -> tuple[int | None, float]:
    command, variables = agent.start(place, PROMPT)
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=place.work, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=surroundings(place.home) | variables, start_new_session=True,
            # A job in the background ignores interrupts, and what it starts does as well.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            return scenarios.finish(process, scenario, upstream)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def chosen(size: str, agents: list[str], upstreams: list[str] | None, only: list[str] | None) -> list[tuple[Agent, str, Scenario]]:
    cells = []
    for name in agents or AGENTS:
        dialects = SMALL[name] if size == "small" else tuple(PATHS)
        for dialect in upstreams or dialects:
            names = SCENARIOS if size == "full" else {"task", "key"}
            # A wrong key reaches no upstream, so that one upstream is as good as all.
            cells += [(AGENTS[name], dialect, scenario) for scenario in SCENARIOS.values()
                      if scenario.name in names and scenario.name in (only or SCENARIOS)
                      and (not scenario.wrong_key or dialect == (upstreams or SMALL[name])[0])]
    return cells


def matrix(results: dict[tuple[str, str, str], str]) -> None:
    """Agent and upstream by scenario."""
    columns = [name for name in SCENARIOS if any(scenario == name for _, _, scenario in results)]
    print(f"\n{'agent':<16} {'upstream':<17}" + "".join(f"{name:<9}" for name in columns))
    for agent, dialect in dict.fromkeys((agent, dialect) for agent, dialect, _ in results):
        cells = (results.get((agent, dialect, name)) for name in columns)
        print(f"{agent:<16} {dialect:<17}" + "".join(f"{'-' if cell is None else 'FAILED' if cell else 'ok':<9}" for cell in cells))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("streamgate")
    parser.add_argument("size", choices=("small", "full"))
    parser.add_argument("agents", nargs="*", choices=[[], *AGENTS])
    parser.add_argument("--upstream", action="append", choices=tuple(PATHS))
    parser.add_argument("--scenario", action="append", choices=tuple(SCENARIOS))
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="how many run at a time; they mostly wait")
    given = parser.parse_args()
    cells = chosen(given.size, given.agents, given.upstream, given.scenario)
    results: dict[tuple[str, str, str], str] = {}
    with ThreadPoolExecutor(given.jobs) as pool:
        running = {pool.submit(run, given.streamgate, *cell): cell for cell in cells}
        for future in as_completed(running):
            agent, dialect, scenario = running[future]
            reason, took = future.result()
            results[agent.name, dialect, scenario.name] = reason
            what = f"{agent.name} in front of {dialect}: {scenario.name}"
            print(f"ok      {what} ({took:.0f} s)" if not reason else f"FAILED  {what} ({took:.0f} s): {reason}", flush=True)
    order = [(agent.name, dialect, scenario.name) for agent, dialect, scenario in cells]
    matrix({cell: results[cell] for cell in order})
    failed = [cell for cell in order if results[cell]]
    for cell in failed:
        print(f"FAILED  {' '.join(cell)}: {results[cell]}\n        {RUNS.joinpath(*cell).relative_to(ROOT)}")
    print(f"{len(order) - len(failed)} passed, {len(failed)} failed")
    return bool(failed) or not order


if __name__ == "__main__":
    sys.exit(main())

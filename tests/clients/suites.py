"""Runs the suites, each in front of a gateway and a simulated upstream of its own, several at a time.

`run` installs and builds what this needs. Standard library only, because it runs before anything is installed.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import table

HERE = Path(__file__).parent
UPSTREAMS = json.loads((HERE / "upstreams.json").read_text())
ISSUER = {
    "issuer": "https://publisher.example.com",
    "audience": "streamgate",
    "algorithms": ["HS256"],
    "secret": "a secret of the publisher, for these tests",
}
# The rights of the key that clients have.
CHANNELS = {"subscribe": ["*"], "publish": ["*"]}
PYTEST = ["-B", "-m", "pytest", "-p", "no:cacheprovider", "--quiet", "--tb=short"]
# Seconds: a suite that hangs is a failure, and what it said is lost.
LONGEST = 600
# What would lead a client, or the gateway, elsewhere.
ELSEWHERE = re.compile(
    r"(?i)(ANTHROPIC|AWS|AZURE|CO|COHERE|GEMINI|GOOGLE|LANGCHAIN|LANGSMITH|LITELLM|OLLAMA|OPENAI|STREAMGATE|SSL)_.*|.*_PROXY"
)


def python(name, venv=".venv"):
    """A file of tests; `{report}` is where its JUnit report belongs."""
    command = [str(HERE / venv / "bin/python"), *PYTEST, "--junitxml={report}", f"test_{name}.py"]
    return f"python-{name}", HERE / "python", command


def node(name):
    reporters = ["--test-reporter=spec", "--test-reporter-destination=stdout"]
    reporters += ["--test-reporter=junit", "--test-reporter-destination={report}"]
    return f"node-{name}", HERE / "node", ["node", "--test", *reporters, f"{name}.test.js"]


def suites(rust):
    """The longest first, so that none is waited for alone."""
    return [
        python("litellm", ".venv-litellm"),
        python("google"),
        ("rust-genai", HERE / "rust", [rust, "{report}"]),
        python("openai_responses"),
        python("stored_responses"),
        python("openai"),
        python("anthropic"),
        node("openai_responses"),
        python("cohere"),
        python("ollama"),
        node("google"),
        node("vercel"),
        node("anthropic"),
        node("openai"),
        node("ollama"),
        python("langchain"),
        python("bedrock"),
        node("broken_streams"),
        node("fetch"),
        node("resume"),
        node("use_chat"),
        node("graphql"),
        node("mercure"),
        python("mercure"),
    ]


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def providers(sim, recorder):
    """Every upstream, as it is and behind the recorder; and the other ways to Anthropic's models and to Bedrock."""
    made = {}
    for upstream in UPSTREAMS:
        name, path = upstream["dialect"], upstream["path"]
        rest = {key: upstream[key] for key in ("dialect", "api_key") if key in upstream}
        made[f"sim-{name}"] = {**rest, "base_url": sim + path}
        made[f"seen-{name}"] = {**rest, "base_url": recorder + path}
    key = {"api_key": "sim"}
    aws = {"region": "us-east-1", "access_key_id": "dummy", "secret_access_key": "dummy"}
    vertex = f"{sim}/v1/projects/p/locations/l/publishers/anthropic"
    made["hosted-bedrock-signed"] = {"dialect": "bedrock", "base_url": sim, "aws": aws}
    made["hosted-anthropic-bedrock"] = {"dialect": "anthropic", "hosting": "bedrock", "base_url": sim, **key}
    made["hosted-anthropic-vertex"] = {"dialect": "anthropic", "hosting": "vertex", "base_url": vertex, **key}
    return made


def configuration(sim, recorder, keys):
    """JSON, which is YAML."""
    names = [upstream["dialect"] for upstream in UPSTREAMS]
    aliases = {f"alias-{name}": {"targets": [{"provider": f"sim-{name}", "model": "n20"}]} for name in names}
    return json.dumps({
        "server": {"listen": "127.0.0.1:0", "drain": "1s"},
        "auth": {"keys": keys, "jwt": [ISSUER]},
        "channels": {"mercure": True, "graphql": True},
        "limits": {"requests_per_minute": "none", "concurrent_streams": "none"},
        "providers": providers(sim, recorder),
        "models": aliases,
        "stream": {"heartbeat": "300ms", "commit_after": "1s", "first_token": "4s", "stall": "2s"},
    })


def new_key(streamgate, name, **more):
    """A key and its entry in the configuration, both as the program prints them."""
    made = subprocess.run([streamgate, "key", "new", "--name", name], check=True, capture_output=True, text=True).stdout
    digest = re.search(r'sha256: "([0-9a-f]+)"', made)[1]
    return re.search(r"sg-\w+", made)[0], {"name": name, "sha256": digest, **more}


@contextmanager
def started(command, log):
    """A program that chooses its port: its address, once it has said it; and its end, without a panic."""
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=surroundings())
    try:
        for _ in range(400):
            said = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            if said:
                break
            if process.poll() is not None:
                raise RuntimeError(f"did not start: {log.read_text()}")
            time.sleep(0.05)
        else:
            raise RuntimeError(f"did not start: {log.read_text()}")
        yield said[0]
        if process.poll() is not None or "panicked" in log.read_text():
            raise RuntimeError(f"died or panicked; the end of its log: {log.read_text()[-4000:]}")
    finally:
        process.terminate()
        process.wait()


def surroundings(**more):
    kept = {name: value for name, value in os.environ.items() if not ELSEWHERE.fullmatch(name)}
    return {**kept, "NO_PROXY": "127.0.0.1", "LANGSMITH_TRACING": "false", **more}


def run(streamgate, suite, work):
    """One suite in front of its own gateway: whether it ended well, and what it said."""
    name, folder, command = suite
    report, out = work / f"{name}.xml", work / f"{name}.out"
    recorder = f"http://127.0.0.1:{free_port()}"
    key, entry = new_key(streamgate, "clients", channels=CHANNELS)
    limited, limits = new_key(streamgate, "limited", limits={"requests_per_minute": 1})
    config = work / f"{name}.yaml"
    with started([streamgate, "sim", "--listen", "127.0.0.1:0"], work / f"{name}.sim.log") as sim:
        config.write_text(configuration(sim, recorder, [entry, limits]))
        with started([streamgate, "--config", config], work / f"{name}.gateway.log") as gateway:
            env = surroundings(GATEWAY=gateway, SIM=sim, RECORDER=recorder, KEY=key, LIMITED_KEY=limited, ISSUER=json.dumps(ISSUER))
            command = [str(part).replace("{report}", str(report)) for part in command]
            with open(out, "wb") as said:
                ran = subprocess.run(
                    command, cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT, timeout=LONGEST, check=False
                )
    return ran.returncode == 0, out.read_text()


def main():
    read = argparse.ArgumentParser()
    read.add_argument("streamgate")
    read.add_argument("rust")
    read.add_argument("work", type=Path)
    read.add_argument("only", nargs="*", help="names of suites; all without one")
    given = read.parse_args()
    chosen = [suite for suite in suites(given.rust) if not given.only or suite[0] in given.only]
    broken, began = [], time.monotonic()
    # They wait more than they compute: for heartbeats, stalls and deadlines.
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        running = {pool.submit(run, given.streamgate, suite, given.work): suite[0] for suite in chosen}
        for done in as_completed(running):
            name = running[done]
            try:
                well, said = done.result()
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                well, said = False, str(error)
            print(f"\n== {name}: {'passed' if well else 'FAILED'} ({time.monotonic() - began:.0f} s)", flush=True)
            if not well:
                print(said, flush=True)
                broken.append(name)
    columns = [f"sim-{upstream['dialect']}" for upstream in UPSTREAMS]
    return table.show([given.work / f"{name}.xml" for name, *_ in chosen], columns, broken)


if __name__ == "__main__":
    sys.exit(main())

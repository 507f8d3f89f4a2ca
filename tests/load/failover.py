"""Failover under load: one of three targets dies, hangs or refuses while callers stream, and no caller may notice. The load
client verifies every answer: each token once and in order, complete."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

KEY = "sg-load"
# The program that `streamgate load` asks for, by the options below.
TOKENS, INTERVAL_MS = 100, 10
PROGRAM = f"n{TOKENS}-i{INTERVAL_MS * 1000}"
# What happens to the first of three targets: a name, the words of its model, and a signal in the middle of the run.
TROUBLES = (("dies", "", signal.SIGKILL), ("hangs", "", signal.SIGSTOP), ("answers 429", "-cap3", None))
STREAMS, SECONDS = 30, 10

CONFIGURATION = """\
server: {{ listen: 127.0.0.1:0, admin: 127.0.0.1:0 }}
auth: {{ keys: [{{ name: load, sha256: "{digest}", limits: none }}] }}
providers:
  a: {{ dialect: openai-chat, base_url: "{a}/v1" }}
  b: {{ dialect: openai-chat, base_url: "{b}/v1" }}
  c: {{ dialect: openai-chat, base_url: "{c}/v1" }}
models:
  # The load client's look whether the gateway is there.
  sim/n1: {{ targets: [{{ provider: c, model: n1 }}] }}
  sim/{program}:
    pick: weighted
    on_break: {{ continue: {{}} }}
    targets:
      - {{ provider: a, model: {program}-cont{words}, continuation: prefill }}
      - {{ provider: b, model: {program}-cont, continuation: prefill }}
      - {{ provider: c, model: {program}-cont, continuation: prefill }}
stream: {{ first_token: 8s, stall: 1s }}
"""


def run(trouble: tuple, binary: str, work: pathlib.Path, start, check) -> dict:
    """One run with one trouble. `start` starts a server; returns the result of the load client."""
    name, words, kill = trouble
    sims = {target: start([binary, "sim", "--listen", "127.0.0.1:0"], work / f"sim-{target}.log") for target in "abc"}
    file = work / "failover.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    file.write_text(CONFIGURATION.format(digest=digest, program=PROGRAM, words=words,
                                         **{target: sim.url for target, sim in sims.items()}))
    gateway = start([binary, "--config", str(file)], work / "failover.log")
    result = work / "failover.json"
    load = subprocess.Popen([binary, "load", "--url", gateway.url, "--scenario", "steady", "--streams", str(STREAMS),
                             "--duration", f"{SECONDS}s", "--tokens", str(TOKENS), "--interval", f"{INTERVAL_MS}ms",
                             "--json", str(result), "--quiet"],
                            env={**os.environ, "STREAMGATE_KEY": KEY}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    trouble_at = threading.Timer(SECONDS / 3, lambda: kill and sims["a"].process.send_signal(kill))
    trouble_at.start()
    said, _ = load.communicate(timeout=120)
    trouble_at.join()
    check(load.returncode == 0, f"failover, one {name}: streamgate load ended with {load.returncode}:\n{said[-4000:]}")
    (stage,) = json.loads(result.read_text())["stages"]
    check(stage["errors"] == 0 and stage["refused"] == 0, f"failover, one {name}: callers saw {stage['errors']} errors")
    check(stage["complete"] >= STREAMS * 3, f"failover, one {name}: {stage['complete']} answers were complete")
    if kill:
        sims["a"].process.kill()
        sims["a"].process.wait()
    for target, sim in [("gateway", gateway), *sims.items()]:
        if target != "a" or not kill:
            sim.stop()
    return {**stage, "scenario": f"failover: one {name}"}


def runs(binary: str, work: pathlib.Path, start, check) -> list[dict]:
    """All runs, one after the other."""
    stages = []
    for trouble in TROUBLES:
        print(f"failover: one {trouble[0]} ...", flush=True)
        stages.append(run(trouble, binary, work, start, check))
        time.sleep(0.1)
    return stages

"""The programs under test and around it: the gateway, its configuration, the upstreams, and what they cost."""

import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

from callers import FAILS_FIRST
from dialects import BASES, UPSTREAMS

HERE = pathlib.Path(__file__).resolve().parent
KEYS = {name: f"sg-chaos-{name}" for name in ("chaos", "control", "tight", "cut-off")}
METRICS = "/metrics"  # on the gateway's own port
# In seconds. A stream is never silent for longer than the heartbeat while the gateway works; SILENCE is what a machine
# with two busy cores may add to it. It lies below the pauses of quiet control streams (`callers.QUIET`), so that a
# gateway without heartbeats is found out; `stall` lies well above those pauses.
HEARTBEAT, SILENCE, STALL, DRAIN = 1, 6, 14, 5
started: list[subprocess.Popen] = []


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def until(what: str, holds, seconds: float = 20):
    """The first true value of `holds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := holds():
            return value
        time.sleep(0.02)
    raise RuntimeError(f"not within {seconds} s: {what}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A program that listens on a port of ours, and can be killed and started again."""

    def __init__(self, command: list, port: int, log: pathlib.Path) -> None:
        self.command, self.port, self.log = [str(word) for word in command], port, log
        self.process = None
        self.start()

    def start(self, **more) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.command, **{"stdout": output, "stderr": output, "stdin": subprocess.DEVNULL, **more})
        started.append(self.process)
        until(f"{self.command[0]} listens", lambda: listens(self.port) or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.command} ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        started.remove(self.process)


class Upstreams:
    """Two simulators and two scripted upstreams: of each kind one that lives, and one that is killed now and again."""

    def __init__(self, binary: str, work: pathlib.Path) -> None:
        simulated = lambda port: [binary, "sim", "--listen", f"127.0.0.1:{port}"]
        scripted = lambda port: [sys.executable, "-B", HERE / "upstream.py", port]
        kinds = {"control": simulated, "faulty": simulated, "steady": scripted, "hostile": scripted}
        self.all = {}
        for name, command in kinds.items():
            port = free_port()
            self.all[name] = Process(command(port), port, work / f"{name}.log")

    def ports(self) -> dict[str, int]:
        return {name: process.port for name, process in self.all.items()}

    def open_answers(self) -> int:
        """Answers under way at the steady upstream and at the control simulator."""
        steady = get(self.all["steady"].port, "/_stats")["open"]
        return steady + get(self.all["control"].port, "/_sim/stats")["open_streams"]

    def faults(self) -> str:
        """What the scripted upstreams said: nothing, unless they are wrong themselves."""
        return "".join(self.all[name].log.read_text() for name in ("steady", "hostile"))

    def stop(self) -> None:
        for process in self.all.values():
            process.kill()


def get(port: int, path: str) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def configuration(port: int, upstreams: dict[str, int], streams: int = 3, more: str = "") -> str:
    """The gateway's configuration. `streams` and `more` change with reloads."""
    counted = "{ requests_per_minute: none, concurrent_streams: 1000 }"
    limits = {"chaos": counted, "control": counted,
              "tight": f"{{ requests_per_minute: 300, burst: 20, tokens_per_minute: 30000, concurrent_streams: {streams} }}",
              "cut-off": "{ tokens_per_minute: 4000, cut_off: true }"}
    digest = lambda key: hashlib.sha256(key.encode()).hexdigest()
    lines = [f'server: {{ listen: "127.0.0.1:{port}", body_limit: 2MiB, header_timeout: 8s, idle_timeout: 8s, drain: {DRAIN}s }}',
             f"stream: {{ heartbeat: {HEARTBEAT}s, commit_after: 1s, connect: 3s, first_token: {STALL}s, stall: {STALL}s, total: 25s, "
             "write_stall: 3s, max_event: 1MiB, connection_age: 5s }",
             "auth:", "  keys:"]
    lines += [f'    - {{ name: {name}, sha256: "{digest(KEYS[name])}", limits: {limits[name]} }}' for name in KEYS]
    lines += ["providers:"]
    for kind, at in upstreams.items():
        lines += [f'  {kind}-{dialect}: {{ dialect: {dialect}, base_url: "http://127.0.0.1:{at}{BASES.get(dialect, "")}", api_key: x, '
                  "list_models: false }" for dialect in UPSTREAMS]
    lines += ["models:"]
    for index, word in enumerate(FAILS_FIRST):
        first, then = UPSTREAMS[index % 7], UPSTREAMS[(index * 3 + 1) % 7]
        lines += [f'  "{word}-then-*": {{ targets: [{{ provider: hostile-{first}, model: "{word}" }}, '
                  f'{{ provider: steady-{then}, model: "*" }}] }}']
    lines += [f'  "limited-*": {{ targets: [{{ provider: hostile-openai-chat, model: "*" }}], limits: {{ concurrent_streams: {streams} }} }}', more]
    return "\n".join(lines) + "\n"


class Gateway(Process):
    """The program under test. Its standard error is a file, unless it is something else on purpose."""

    def __init__(self, binary: str, work: pathlib.Path, name: str, upstreams: dict[str, int], stderr=None, limit: int = 0) -> None:
        self.file, self.upstreams, self.work = work / f"{name}.yaml", upstreams, work
        port = free_port()
        self.write(configuration(port, upstreams))
        self.file.parent.mkdir(exist_ok=True)
        command = [binary, "--config", self.file, "--log", "json"]
        self.stderr = stderr
        # `ulimit -n` of the process, hard limit included.
        command = ["prlimit", f"--nofile={limit}:{limit}", *command] if limit else command
        super().__init__(command, port, work / f"{name}.log")

    def start(self, **more) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and name != "RUST_LOG"}
        super().start(env=clean, stdout=subprocess.DEVNULL, **({"stderr": self.stderr} if self.stderr is not None else {}), **more)
        # All workers run, and the configuration is watched: from now on it needs no more for itself.
        until("the configuration is watched", lambda: "inotify" in self.holdings())

    def write(self, text: str | bytes) -> None:
        """Replaces the file in one step, as editors do."""
        new = self.file.with_suffix(".new")
        new.write_bytes(text.encode() if isinstance(text, str) else text)
        new.rename(self.file)

    def reload(self, streams: int = 3, more: str = "") -> None:
        self.write(configuration(self.port, self.upstreams, streams, more))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, seconds: float) -> tuple[int | None, float]:
        """The exit status after SIGTERM (`None`: none in time), and how long that took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            self.process.kill()
            self.process.wait()
        started.remove(self.process)
        return status, time.monotonic() - began

    def metrics(self) -> dict[tuple[str, tuple], float]:
        """The metrics: name and labels to value."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", METRICS)
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        found = {}
        for line in text.splitlines():
            if series := re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line):
                labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', series[2] or "")))
                found[series[1], labels] = float(series[3])
        return found

    def figures(self) -> dict[str, int]:
        """Memory in KiB, descriptors and threads, from outside."""
        proc = pathlib.Path(f"/proc/{self.process.pid}")
        status = (proc / "status").read_text()
        number = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.M)[1])
        # Without glibc, the device of random bytes is opened at first use, once.
        files = [file for file in (proc / "fd").iterdir() if "/dev/urandom" != self.target(file)]
        return {"memory": number("VmRSS"), "descriptors": len(files), "threads": number("Threads")}

    @staticmethod
    def target(file: pathlib.Path) -> str:
        """What a descriptor is; nothing once it is closed."""
        try:
            return os.readlink(file)
        except OSError:
            return ""

    def holdings(self) -> str:
        """The descriptors and the threads by name, for the diagnosis of what was not given back."""
        proc = pathlib.Path(f"/proc/{self.process.pid}")

        def named(name) -> str:
            try:
                return re.sub(r"\d+", "N", name())
            except OSError:
                return "closed meanwhile"

        files = Counter(named(lambda: os.readlink(file)) for file in (proc / "fd").iterdir())
        threads = Counter(named((task / "comm").read_text).strip() for task in (proc / "task").iterdir())
        return f"descriptors: {dict(files)}; threads: {dict(threads)}"


def total(metrics: dict, name: str, **labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    return sum(value for (series, has), value in metrics.items() if series == name and set(labels.items()) <= set(has))

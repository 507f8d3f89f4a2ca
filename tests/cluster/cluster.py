"""A real Redis, a simulated upstream and several nodes of the real program, and a client that reads streams as the
event-stream rules say."""

import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess

KEY = "key-of-the-cluster-test"
OTHER = "key-of-another-caller"
LEASE = 2
DRAIN = 20

CONFIG = """
server: {{ listen: "127.0.0.1:{port}", admin: "127.0.0.1:{admin}", public_metrics: true, drain: {drain}s }}
auth:
  keys:
    - {{ name: one, sha256: "{one}", limits: none, channels: {{ subscribe: ["*"], publish: ["*"] }} }}
    - {{ name: other, sha256: "{other}", limits: none, channels: {{ subscribe: ["room:*"] }} }}
limits: {{ requests_per_minute: none, concurrent_streams: none }}
providers:
  sim: {{ dialect: openai-chat, base_url: "{sim}/v1" }}
  keyed: {{ dialect: openai-chat, base_url: "{sim}/v1", keys: [{{ name: a, api_key: bad-a }}, {{ name: b, api_key: good-b }}] }}
  paced: {{ dialect: openai-chat, base_url: "{sim}/v1", api_key: good-c }}
models:
  keyed: {{ targets: [{{ provider: keyed, model: n3 }}] }}
  paced: {{ targets: [{{ provider: paced, model: ra30 }}, {{ provider: paced, model: n3-ra30 }}, {{ provider: sim, model: n3 }}] }}
redis: {{ url: "{redis}", lease: {lease}s, timeout: 500ms{more} }}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Process:
    """A process that ends with the test."""

    def __init__(self, command: list, log: pathlib.Path):
        self.log = log
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=log.open("a"), text=True)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    async def ended(self, within: float) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), within)


async def open_port(port: int, within: float = 20) -> None:
    """Waits until something listens."""
    async with asyncio.timeout(within):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.02)


class Redis:
    """A Redis of its own. `durable`: it keeps its data over a restart."""

    def __init__(self, work: pathlib.Path, *options: str, durable: bool = True):
        self.work, self.port = work, free_port()
        # A cluster's nodes listen 10,000 ports above as well.
        while self.port > 55_000:
            self.port = free_port()
        self.options = ["--appendonly", "yes" if durable else "no", "--save", "", *options]
        self.others: list[Redis] = []

    async def start(self) -> None:
        self.work.mkdir(exist_ok=True)
        command = [server(), "--port", self.port, "--bind", "127.0.0.1", "--dir", self.work, *self.options]
        self.process = Process(command, self.work / "redis.log")
        await open_port(self.port)
        while "PONG" not in await self.command("PING"):
            await asyncio.sleep(0.02)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def close_to_strangers(self) -> str:
        """Has it speak TLS to one user alone. Returns the settings by which a node reaches it."""
        files = {name: self.work / f"tls.{name}" for name in ("key", "pem")}
        await asyncio.to_thread(subprocess.run, [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", files["key"], "-out", files["pem"], "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext",
            "basicConstraints=critical,CA:FALSE"],
            check=True, capture_output=True)
        port = free_port()
        for name, value in {"tls-cert-file": files["pem"], "tls-key-file": files["key"], "tls-auth-clients": "no", "tls-port": port}.items():
            answer = await self.command("CONFIG", "SET", name, value)
            assert answer.startswith("+OK"), answer
        rules = ["on", ">word", "~own:*", "&own:*", "+@all", "-@dangerous", "+info"]
        await self.command("ACL", "SETUSER", "gate", *rules)
        await self.command("ACL", "SETUSER", "default", "off")
        self.tls = f"rediss://localhost:{port}"
        return f', username: gate, password: word, prefix: "own:", ca: "{files["pem"]}"'

    async def shard(self) -> None:
        """Makes a cluster of it and two others."""
        others = [Redis(self.work / f"shard{number}", "--cluster-enabled", "yes") for number in (1, 2)]
        for other in others:
            await other.start()
        self.others = others
        ports = [self.port, *(other.port for other in others)]
        command = ["redis-cli", "--cluster", "create", *(f"127.0.0.1:{port}" for port in ports), "--cluster-yes"]
        made = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        async with asyncio.timeout(20):
            while not all(["cluster_state:ok" in await one.command("CLUSTER", "INFO") for one in [self, *others]]):
                await asyncio.sleep(0.1)

    async def command(self, *words: object) -> str:
        """The answer to a command, as it is sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        parts = [str(word).encode() for word in words]
        writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        answer = await asyncio.wait_for(reader.read(1 << 20), 5)
        writer.close()
        return answer.decode(errors="replace")


def server() -> str:
    """Redis, or Valkey, which is the same to a client."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if not found:
        raise SystemExit("redis-server is needed and not there; .ci/run tools installs it")
    return found


class Node(Process):
    """A gateway. One that is started again has the same port."""

    def __init__(self, binary: str, work: pathlib.Path, name: str, cluster: "Cluster", more: str, after: str):
        self.binary, self.name, self.port, self.admin = binary, name, free_port(), free_port()
        self.config = work / f"{name}.yaml"
        self.config.write_text(CONFIG.format(port=self.port, admin=self.admin, one=digest(KEY), other=digest(OTHER), sim=cluster.sim_url,
                                             redis=cluster.redis_url, lease=LEASE, drain=DRAIN, more=more) + after)
        self.work = work

    async def start(self) -> None:
        super().__init__([self.binary, "--config", self.config], self.work / f"{self.name}.log")
        await open_port(self.port)

    async def request(self, method: str, path: str, body: object = None, headers: dict | None = None, key: str = KEY,
                      within: float = 60, port: int = 0) -> "Response":
        response = Response()
        async with asyncio.timeout(within):
            async for _ in self.stream(method, path, body, headers, key, response, port):
                pass
        return response

    async def operate(self, method: str, path: str) -> "Response":
        """A request of an operator."""
        return await self.request(method, path, port=self.admin)

    async def stream(self, method: str, path: str, body: object, headers: dict | None, key: str, response: "Response",
                     port: int = 0):
        """Sends a request, and yields whenever bytes of its response have come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port, limit=1 << 24)
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", f"authorization: Bearer {key}",
                 f"content-length: {len(data)}", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            response.status = int(head.split(" ", 2)[1])
            response.headers = {name.lower(): value.strip() for name, value in
                                (line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)}
            if "chunked" not in response.headers.get("transfer-encoding", ""):
                response.body += await reader.read()
                response.whole = True
                yield
                return
            while True:
                size = int((await reader.readuntil(b"\r\n")).strip(), 16)
                response.body += (await reader.readexactly(size + 2))[:-2]
                yield
                if size == 0:
                    response.whole = True
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


class Response:
    """A response as far as it has come."""

    def __init__(self):
        self.status, self.headers, self.body, self.whole = 0, {}, b"", False

    def json(self) -> object:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers.get("streamgate-stream-id", "")


def blocks(body: bytes) -> list[tuple[str, bytes]]:
    """The whole events of a body: id and the block. Comments and `retry` are no part of them."""
    found = []
    for block in re.split(rb"(?<=\n)\n", body[: body.rfind(b"\n\n") + 2]):
        lines = [line for line in block.split(b"\n") if line and not line.startswith((b":", b"retry:"))]
        ids = [line[4:].decode() for line in lines if line.startswith(b"id: ")]
        if ids:
            found.append((ids[-1], b"\n".join(lines)))
    return found


class Cluster:
    """Redis, the upstream and the nodes."""

    def __init__(self, binary: str, work: pathlib.Path):
        self.binary, self.work = binary, work
        work.mkdir(exist_ok=True)
        sharded = work.name == "sharded"
        self.redis = Redis(work / "redis", *(["--cluster-enabled", "yes"] if sharded else []))
        self.sharded, self.redis_url = sharded, self.redis.url
        self.nodes: list[Node] = []

    async def __aenter__(self) -> "Cluster":
        await self.redis.start()
        if self.sharded:
            await self.redis.shard()
        self.sim = Process([self.binary, "sim", "--listen", "127.0.0.1:0"], self.work / "sim.log")
        line = await asyncio.to_thread(self.sim.process.stdout.readline)
        self.sim_url = "http://" + re.search(r"127\.0\.0\.1:\d+", line).group()
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in [*self.nodes, self.sim, self.redis.process, *(one.process for one in self.redis.others)]:
            process.end()

    async def node(self, more: str = "", after: str = "") -> Node:
        """Starts another node. `more`: settings of `redis`, `after`: other sections."""
        node = Node(self.binary, self.work, f"node{len(self.nodes)}", self, more, after)
        await node.start()
        self.nodes.append(node)
        return node


def chat(model: str) -> dict:
    return {"model": f"sim/{model}", "stream": True, "messages": [{"role": "user", "content": "Count."}]}


class Posted:
    """A generation that a request has begun, and the response that follows it."""

    def __init__(self, node: Node, model: str, headers: dict | None = None):
        self.response = Response()
        headers = {"streamgate-stream": "resumable", **(headers or {})}
        self.task = asyncio.create_task(self.read(node, model, headers))
        self.begun = asyncio.Event()

    async def read(self, node: Node, model: str, headers: dict) -> None:
        async for _ in node.stream("POST", "/v1/chat/completions", chat(model), headers, KEY, self.response):
            self.begun.set()
        self.begun.set()

    async def id(self) -> str:
        await asyncio.wait_for(self.begun.wait(), 20)
        return self.response.id


class Reader:
    """Follows a stream over any number of connections, and puts together what it gets."""

    def __init__(self, stream: str, query: str = ""):
        self.stream, self.query = stream, query
        self.blocks: list[tuple[str, bytes]] = []
        self.connections = 0

    async def follow(self, node: Node, events: int | None = None) -> Response:
        """One connection: to its end, or until so many more events have come."""
        self.connections += 1
        headers = {"accept": "text/event-stream"}
        if self.blocks:
            headers["last-event-id"] = self.blocks[-1][0]
        response, before, most = Response(), list(self.blocks), events
        path = f"/v1/streams/{self.stream}?{self.query}"
        async with asyncio.timeout(60):
            async for _ in node.stream("GET", path, None, headers, KEY, response):
                if response.status != 200:
                    continue
                new = blocks(response.body)[: most]
                self.blocks = before + new
                if most is not None and len(new) >= most:
                    break
        return response


def elapsed(since: float) -> float:
    return asyncio.get_running_loop().time() - since


def environment() -> dict:
    return {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}

"""Real traffic through a started gateway: every outcome that callers and upstreams can bring about, in known numbers."""

import base64
import collections
import concurrent.futures
import hashlib
import http.server
import json
import pathlib
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

from harness import run, start

# The model `chat` at the simulated upstream: 400 ms to the first token, then 19 more, 10 ms apart.
CHAT = "f400-n20-i10000"
TOKENS = 20
SECRET = "a-secret-of-the-deployment-test-32"
KEYS = {"web": "sg-web", "app": "sg-app", "limited": "sg-limited", "cut": "sg-cut"}

CONFIG = """
server:
  listen: 127.0.0.1:0
  admin: 127.0.0.1:0
  cors: {{ origins: ["https://chat.example.com"] }}
  {tls}
auth:
  keys:
    - {{ name: web, sha256: "{web}", limits: none, channels: {{ subscribe: ["*"], publish: ["*"] }} }}
    - {{ name: app, sha256: "{app}", limits: none }}
    - {{ name: limited, sha256: "{limited}", limits: {{ requests_per_minute: 6, burst: 3 }} }}
    - {{ name: cut, sha256: "{cut}", limits: {{ tokens_per_minute: 60, cut_off: true }} }}
  jwt:
    - {{ issuer: backend, audience: streamgate, algorithms: [HS256], secret: "{secret}" }}
    - {{ issuer: good, audience: streamgate, algorithms: [RS256], jwks_url: "{keys}" }}
    - {{ issuer: bad, audience: streamgate, algorithms: [RS256], jwks_url: "http://127.0.0.1:1/keys" }}
providers:
  sim: {{ dialect: openai-chat, base_url: "{sim}/v1" }}
models:
  chat: {{ on_break: {{ continue: {{}} }}, hedge: {{}}, slow: {{}}, queue: {{}}, targets: [{{ provider: sim, model: {chat}, price: {{ input: 1000000, output: 2000000 }} }}] }}
  fallback: {{ targets: [{{ provider: sim, model: e503 }}, {{ provider: sim, model: n5 }}] }}
stream: {{ heartbeat: 500ms, first_token: 2s, stall: 2s }}
health: {{ consecutive: 3 }}
telemetry: {{ otlp: {{ endpoint: "http://127.0.0.1:1", timeout: 500ms, sample: 1 }} }}
"""


def configuration(sim: str, keys: str, tls: str = "") -> str:
    digests = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
    return CONFIG.format(sim=sim, keys=keys, tls=tls, chat=CHAT, secret=SECRET, **digests)


class Gateway:
    """A started gateway on a free port."""

    def __init__(self, program: pathlib.Path, config: pathlib.Path):
        self.program, self.config = program, config
        self.log = config.with_suffix(".log")
        self.process = start([program, "--config", config], stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True)
        said = self.process.stdout.readline()
        found = re.search(r"(https?)://127\.0\.0\.1:(\d+)", said)
        if not found:
            raise SystemExit(f"the gateway did not start: {said}{self.log.read_text()}")
        self.url, self.port = found.group(0), int(found.group(2))
        # What Prometheus scrapes: the operators' address.
        self.instance = re.search(r"operators on http://(\S+)", self.process.stdout.readline()).group(1)

    def request(self, path: str, body: object = None, headers: dict | None = None, method: str | None = None) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json", **(headers or {})}, method=method)
        context = ssl._create_unverified_context() if self.url.startswith("https") else None
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ask(self, key: str, model: str, stream: bool = True) -> tuple[int, str]:
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Count."}]}
        if stream:
            body["stream_options"] = {"include_usage": True}
        return self.request("/v1/chat/completions", body, {"authorization": f"Bearer {key}"})

    def open(self, model: str, key: str = KEYS["web"]) -> socket.socket:
        """A stream under way: its head and first event have come."""
        body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "Count."}]})
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        stream.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
                        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}").encode())
        read = b""
        while b"data: " not in read:
            read += stream.recv(1 << 16)
        return stream

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.instance}/metrics", timeout=30) as page:
            return page.read().decode()

    def token(self) -> str:
        made = run([self.program, "token", "--sub", "alice", "--issuer", "backend", "--config", self.config])
        if made.returncode != 0:
            raise SystemExit(f"no token: {made.stderr}")
        return made.stdout.strip()


def unverifiable() -> str:
    """A token of the issuer whose keys cannot be fetched."""
    now = int(time.time())
    parts = [{"alg": "RS256", "kid": "1"}, {"iss": "bad", "aud": "streamgate", "sub": "x", "iat": now, "exp": now + 600}]
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*texts, "AAAA"])


class KeySet:
    """The server of an issuer's keys."""

    def __init__(self, work: pathlib.Path):
        key = work / "issuer.pem"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        modulus = run(["openssl", "rsa", "-in", key, "-modulus", "-noout"]).stdout.strip().removeprefix("Modulus=")
        n = base64.urlsafe_b64encode(bytes.fromhex(modulus)).rstrip(b"=").decode()
        page = json.dumps({"keys": [{"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": n, "e": "AQAB"}]}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/keys"


def usage(answer: str) -> tuple[int, int]:
    """The tokens of the prompt and of the answer, as the stream says."""
    found = re.findall(r'"prompt_tokens":(\d+)|"completion_tokens":(\d+)', answer)
    return sum(int(prompt or 0) for prompt, _ in found), sum(int(output or 0) for _, output in found)


def drive(gateway: Gateway) -> collections.Counter:
    """Sends one round of traffic, and returns what was seen of it from outside."""
    seen = collections.Counter()
    web, alice = KEYS["web"], gateway.token()

    def ask(key: str, model: str, status: int, within: str, name: str, stream: bool = True) -> None:
        code, answer = gateway.ask(key, model, stream)
        if code != status or within not in answer:
            raise SystemExit(f"{name}: expected {status} with {within!r} from {model}: {code} {answer[-500:]}")
        seen[name] += 1
        if name.startswith("chat"):
            prompt, output = usage(answer)
            seen[f"{name} input"] += prompt
            seen[f"{name} output"] += output

    done, failed = "data: [DONE]", '"error"'
    jobs = [(12, web, "chat", 200, done, "chat web"), (8, KEYS["app"], "chat", 200, done, "chat app"),
            (4, alice, "chat", 200, done, "chat other"), (4, web, "fallback", 200, done, "fallback"),
            (5, "sg-nobody", "chat", 401, failed, "unknown key"), (2, unverifiable(), "chat", 503, failed, "unavailable"),
            (2, web, "sim/close5", 200, failed, "truncated"), (2, web, "sim/n9-stall3", 200, failed, "stalled"),
            (3, web, "sim/err5", 200, failed, "broken"), (2, web, "sim/n2-i1200000", 200, ": ping", "slow")]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(ask, *job) for count, *job in jobs for _ in range(count)]
        # What the vendor says of our credential: the status that the caller gets is not looked at here.
        refused = [pool.submit(gateway.ask, web, f"sim/e{status}") for status in (401, 402, 403) for _ in range(2)]
        hangs = [pool.submit(gateway.ask, web, "sim/hang") for _ in range(2)]
        cut = pool.submit(gateway.ask, KEYS["cut"], "sim/n200-i1000")
        limited = [pool.submit(gateway.ask, KEYS["limited"], "sim/n1") for _ in range(6)]
        for job in [*waiting, *refused, *hangs]:
            job.result()
        seen["limited"] = sum(job.result()[0] == 429 for job in limited)
        seen["cut off"] = int("tokens_per_minute" in cut.result()[1] and cut.result()[0] == 200)
    for _ in range(3):
        gateway.open("sim/n10000-i10000").close()
        seen["hang-up"] += 1
    seen["published"] += publish(gateway, 256)
    misdirect(gateway, seen)
    return seen


def publish(gateway: Gateway, count: int) -> int:
    """Publishes events to a channel, each when its subscriber has the one before; returns how many came."""
    key = {"authorization": f"Bearer {KEYS['web']}"}
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as subscriber:
        subscriber.sendall((f"GET /v1/events?channel=deploy HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n"
                            f"authorization: {key['authorization']}\r\n\r\n").encode())
        read, waited_for = b"", b"caught_up"
        for number in range(count + 1):
            while waited_for not in read:
                read += subscriber.recv(1 << 16)
            if number < count:
                waited_for = f"number {number}.".encode()
                status, answer = gateway.request("/v1/channels/deploy", {"data": waited_for.decode()}, key)
                if status != 200:
                    raise SystemExit(f"publishing: {status} {answer}")
    return count


def misdirect(gateway: Gateway, seen: collections.Counter) -> None:
    """Requests that reach no endpoint, and pages that may not call."""
    for _ in range(4):
        seen["not found"] += gateway.request("/v1/nowhere", {})[0] == 404
    for _ in range(3):
        seen["wrong method"] += gateway.request("/v1/chat/completions")[0] == 405
    for _ in range(2):
        evil = {"origin": "https://evil.example.com", "access-control-request-method": "POST"}
        gateway.request("/v1/chat/completions", headers=evil, method="OPTIONS")
        seen["foreign origin"] += 1
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as bare:
            bare.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            seen["malformed head"] += bare.recv(4096).startswith(b"HTTP/1.1 400 ")
    for _ in range(2):
        try:
            ssl.create_default_context().wrap_socket(socket.create_connection(("127.0.0.1", gateway.port)), server_hostname="x")
        except ssl.SSLError as error:
            seen["TLS"] += "WRONG_VERSION_NUMBER" in str(error)


def speak_plainly(gateway: Gateway) -> int:
    """Plain HTTP to a port with TLS, twice: how often it was answered so."""
    answered = 0
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            answered += b"begins with https:" in plain.recv(4096)
    return answered

"""Runs the examples and compares what they show with what the simulated upstream says. Started by `run`."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import yaml

from programs import Programs, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
KEY, SECRET = "sg-examples", "a secret of the web backend, for these tests"
MODEL = "sim/n40-i5000"
SLOW = "sim/n300-i10000"

results: list[bool] = []


def check(name: str, good: bool, output: object = "") -> None:
    results.append(good)
    print(f"{'ok     ' if good else 'FAILED '} {name}", flush=True)
    if not good:
        print(str(output)[-3000:], flush=True)


def tokens(count: int) -> str:
    return "".join(f"t{number} " for number in range(count))


class Gateway:
    """A gateway with the examples' configuration, in front of a simulated upstream."""

    def __init__(self, programs: Programs, binary: str, work: pathlib.Path) -> None:
        self.binary, self.programs = binary, programs
        self.web = f"http://127.0.0.1:{free_port()}"
        sim = programs.start([binary, "sim", "--listen", "127.0.0.1:0"], r"http://127\.0\.0\.1:\d+")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        text = (EXAMPLES / "streamgate.yaml").read_text()
        for written, here in (("127.0.0.1:8080", f"127.0.0.1:{port}"), ("http://127.0.0.1:9200", sim), ("http://127.0.0.1:3000", self.web)):
            check(f"streamgate.yaml has {written}", written in text)
            text = text.replace(written, here)
        config = work / "streamgate.yaml"
        config.write_text(text)
        secrets = {"STREAMGATE_KEY_SHA256": hashlib.sha256(KEY.encode()).hexdigest(), "STREAMGATE_JWT_SECRET": SECRET}
        programs.start([binary, "--config", str(config)], r"http://127\.0\.0\.1:\d+", **secrets)
        self.environment = {"STREAMGATE_URL": self.url, "STREAMGATE_KEY": KEY, "STREAMGATE_JWT_SECRET": SECRET, "STREAMGATE_MODEL": MODEL}

    def run(self, command: list[str], folder: pathlib.Path, **more: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, **self.environment, **more}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def says(self, name: str, command: list[str], folder: str, words: str, **more: str) -> None:
        done = self.run(command, EXAMPLES / folder, **more)
        check(name, done.returncode == 0 and words in done.stdout, done.stdout + done.stderr)

    def fails(self, name: str, command: list[str], folder: str, words: str) -> None:
        done = self.run(command, EXAMPLES / folder, STREAMGATE_MODEL="sim/n40-err20")
        good = done.returncode == 1 and words in done.stdout and "not complete" in done.stderr
        check(f"{name}: a broken stream is a failure", good, done.stdout + done.stderr)

    def ask(self, path: str, body: object = None, credential: str = KEY) -> tuple[int, str]:
        """The status and the text of an answer."""
        headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
        url = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def chat(self, credential: str, model: str = MODEL) -> tuple[int, str]:
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        return self.ask("/v1/chat/completions", body, credential)


def curl(gateway: Gateway) -> None:
    done = gateway.run(["./stream", "Hello"], EXAMPLES / "curl")
    said = "".join(re.findall(r'"content":"(t\d+ )"', done.stdout))
    check("curl/stream: every token, and the end", said == tokens(40) and "[DONE]" in done.stdout, done.stdout + done.stderr)
    done = gateway.run(["./stream"], EXAMPLES / "curl", STREAMGATE_KEY="sg-wrong")
    check("curl/stream: a refusal is a failure", done.returncode != 0, done.stdout)
    done = gateway.run(["./resume"], EXAMPLES / "curl", STREAMGATE_MODEL=SLOW)
    said = "".join(re.findall(r"^data: (t\d+.*)$", done.stdout, re.MULTILINE))
    good = done.returncode == 0 and said.split() == tokens(300).split() and '"complete"' in done.stdout
    check("curl/resume: left after a second, followed from its beginning", good, done.stdout + done.stderr)


def python(gateway: Gateway) -> None:
    for name in ("openai_stream", "anthropic_stream"):
        gateway.says(f"python/{name}.py", [sys.executable, f"{name}.py", "Hello"], "python", tokens(40))
        gateway.fails(f"python/{name}.py", [sys.executable, f"{name}.py"], "python", tokens(20))
    gateway.says("python/resume.py: two halves are the whole", [sys.executable, "resume.py"], "python", tokens(40))


def node(gateway: Gateway) -> None:
    for name in ("openai_stream", "anthropic_stream"):
        gateway.says(f"node/{name}.mjs", ["node", f"{name}.mjs", "Hello"], "node", tokens(40))
        gateway.fails(f"node/{name}.mjs", ["node", f"{name}.mjs"], "node", tokens(20))


def langgraph(gateway: Gateway) -> None:
    done = gateway.run([sys.executable, "agent.py"], EXAMPLES / "langgraph", STREAMGATE_MODEL="sim/tools1-n40-i1000")
    good = done.returncode == 0 and "[free_seats]" in done.stdout and done.stdout.strip().endswith(tokens(40).strip())
    check("langgraph/agent.py: calls its tool, and streams the answer", good, done.stdout + done.stderr)


def signed(claims: dict, secret: str = SECRET) -> str:
    def encode(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    head = encode(b'{"alg":"HS256","typ":"JWT"}') + "." + encode(json.dumps(claims).encode())
    return head + "." + encode(hmac.new(secret.encode(), head.encode(), "sha256").digest())


def web_backend(gateway: Gateway) -> None:
    made = gateway.run([sys.executable, "mint.py", "alice"], EXAMPLES / "web-backend").stdout.strip()
    status, answer = gateway.chat(made, "team-model")
    check("web-backend/mint.py: its token may use its model", status == 200 and "[DONE]" in answer, answer)
    check("web-backend/mint.py: and no other", gateway.chat(made)[0] == 404)
    claims = {"iss": "web-backend", "aud": "streamgate", "sub": "alice", "exp": int(time.time()) + 60}
    check("a token that the suite signs is accepted", gateway.chat(signed(claims))[0] == 200)
    check("an expired token is refused", gateway.chat(signed({**claims, "exp": int(time.time()) - 3600}))[0] == 401)
    check("a token of another secret is refused", gateway.chat(signed(claims, "another secret, long enough to be one"))[0] == 401)
    status, answer = gateway.ask(gateway.web + "/token", {"user": "alice"})
    check("web-backend: POST /token", status == 200 and gateway.chat(json.loads(answer)["token"])[0] == 200, answer)
    asked = [gateway.ask(gateway.web + "/ask", {"prompt": "Hello"}) for _ in range(2)]
    check("web-backend: POST /ask", all(status == 200 for status, _ in asked), (asked, gateway.programs.logs()))
    urls = [json.loads(answer).get("url", "") for _, answer in asked]
    ids = [re.search(r"/v1/streams/([^?]+)", url)[1] for url in urls]
    check("web-backend: its address has the answer to its end", "event: end" in gateway.ask(urls[0], credential="")[1])
    other = urls[0].replace(ids[0], ids[1]).replace("&es=1", "")
    check("web-backend: a ticket opens no other stream", gateway.ask(other, credential="")[0] in (401, 403, 404))


def browser(gateway: Gateway, name: str, url: str) -> None:
    """Checks in Chromium: lines of `browser.mjs`."""
    done = gateway.run(["node", str(ROOT / "tests/examples/browser.mjs"), name, url], ROOT)
    lines = re.findall(r"^(ok|FAILED) +(.*)$", done.stdout, re.MULTILINE)
    for state, what in lines:
        check(f"{name}: {what}", state == "ok", gateway.programs.logs() + done.stdout + done.stderr)
    check(f"{name}: the checks in the browser ended", done.returncode == 0 and len(lines) >= 3, done.stdout + done.stderr)


def html(gateway: Gateway) -> None:
    browser(gateway, "html", gateway.web)


def nextjs(gateway: Gateway) -> None:
    folder = EXAMPLES / "nextjs"
    built = gateway.run(["npx", "next", "build"], folder)
    check("nextjs: next build", built.returncode == 0, built.stdout + built.stderr)
    port = str(free_port())
    environment = {**gateway.environment, "STREAMGATE_MODEL": SLOW}
    command = ["node", "node_modules/next/dist/bin/next", "start", "--hostname", "127.0.0.1", "--port", port]
    gateway.programs.start(command, r"Ready", folder, **environment)
    browser(gateway, "nextjs", f"http://127.0.0.1:{port}")


def paced(gateway: Gateway, name: str, front: str) -> None:
    """Whether the first token comes through long before the last is sent."""
    body = {"model": "sim/n20-i100000", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(front + "/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        first = response.read1(65536)
        while b"t0 " not in first:
            first += response.read1(65536)
        rest = response.read()
    check(f"proxies/{name}: tokens one by one", b"t19 " not in first and b"[DONE]" in rest, first)
    try:
        status = urllib.request.urlopen(front + "/metrics", timeout=60).status
    except urllib.error.HTTPError as error:
        status = error.code
    check(f"proxies/{name}: metrics stay inside", status == 404, status)


def proxies(gateway: Gateway) -> None:
    back = gateway.url.removeprefix("http://")
    work = pathlib.Path(tempfile.mkdtemp(dir=gateway.programs.folder))
    folder = EXAMPLES / "proxies"
    front = f"127.0.0.1:{free_port()}"
    placed = (folder / "nginx.conf").read_text().replace("127.0.0.1:8443", front).replace("127.0.0.1:8080", back)
    paths = "".join(f"{kind}_temp_path {work}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    head = f"daemon off;\npid {work}/nginx.pid;\nerror_log {work}/error.log;\n"
    (work / "nginx.conf").write_text(head + placed.replace("http {", "http {\naccess_log off;\n" + paths))
    gateway.programs.serve(["nginx", "-c", str(work / "nginx.conf"), "-e", str(work / "error.log")], front)
    paced(gateway, "nginx.conf", f"http://{front}")
    front = f"127.0.0.1:{free_port()}"
    placed = (folder / "Caddyfile").read_text().replace("127.0.0.1:8443", front).replace("127.0.0.1:8080", back)
    (work / "Caddyfile").write_text(placed)
    gateway.programs.serve(["caddy", "run", "--adapter", "caddyfile", "--config", str(work / "Caddyfile")], front, HOME=str(work))
    paced(gateway, "Caddyfile", f"http://{front}")
    service = yaml.safe_load((folder / "traefik.yaml").read_text())["http"]["services"]["streamgate"]["loadBalancer"]
    path = service["healthCheck"]["path"]
    check("proxies/traefik.yaml: its address", service["servers"] == [{"url": "http://127.0.0.1:8080"}])
    check("proxies/traefik.yaml: its health check", gateway.ask(path)[0] == 200)


def front_end(gateway: Gateway, name: str, base: str, key: str, model: str | None) -> None:
    """What a chat front-end asks at the address of its configuration."""
    check(f"{name}: a variable has the key", "STREAMGATE_KEY" in key, key)
    base = base.replace("http://host.docker.internal:8080", gateway.url)
    status, listed = gateway.ask(base + "/models")
    names = [entry["id"] for entry in json.loads(listed)["data"]] if status == 200 else []
    check(f"{name}: lists models", (model or "team-model") in names, listed)
    body = {"model": model or "team-model", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    status, answer = gateway.ask(base + "/chat/completions", body)
    check(f"{name}: streams a chat", status == 200 and "[DONE]" in answer, answer)


def configurations(gateway: Gateway) -> None:
    service = yaml.safe_load((EXAMPLES / "open-webui/compose.yaml").read_text())["services"]["open-webui"]["environment"]
    front_end(gateway, "open-webui", service["OPENAI_API_BASE_URL"], service["OPENAI_API_KEY"], None)
    chat = yaml.safe_load((EXAMPLES / "librechat/librechat.yaml").read_text())["endpoints"]["custom"][0]
    front_end(gateway, "librechat", chat["baseURL"], chat["apiKey"], chat["titleModel"])
    listed = set(re.findall(r"docs/agents/([\w-]+)\.md\)", (EXAMPLES / "agents/README.md").read_text()))
    run = set(re.findall(r'Agent\("[\w-]+", "([\w-]+)"', (ROOT / "tests/agents/agents.py").read_text()))
    check("agents: the table has every agent that is run, and no other", listed == run and len(run) > 5, listed ^ run)
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    linked = set(re.findall(r"\]\(([\w-]+)(?:/README\.md)?\)", (EXAMPLES / "README.md").read_text()))
    check("README: every example is in the table", folders == linked, folders ^ linked)
    manifest = (EXAMPLES / "kubernetes/README.md").read_text()
    cited = re.findall(r"-f (\S+)", manifest)
    check("kubernetes: the manifest is there", cited != [] and all((ROOT / path).exists() for path in cited), cited)


PARTS = {
    "curl": curl, "python": python, "node": node, "langgraph": langgraph, "web-backend": web_backend, "html": html,
    "nextjs": nextjs, "proxies": proxies, "configurations": configurations,
}


def main(binary: str, names: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder, Programs(pathlib.Path(folder)) as programs:
        gateway = Gateway(programs, binary, pathlib.Path(folder))
        backend = {**gateway.environment, "PORT": gateway.web.rsplit(":", 1)[1], "STREAMGATE_MODEL": SLOW}
        programs.start(["node", "server.mjs"], r"http://\S+", EXAMPLES / "web-backend", **backend)
        for name in names or PARTS:
            began = time.monotonic()
            PARTS[name](gateway)
            print(f"        {name}: {time.monotonic() - began:.0f} s", flush=True)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    # So that what was started ends with this process, also on SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1], sys.argv[2:]))

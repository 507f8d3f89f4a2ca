"""Checks of the documentation site, the API reference, and the benchmark that a page shows. Started by `run`."""

import hashlib
import html.parser
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

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS, SITE = ROOT / "docs", ROOT / "target/documentation/site"
KEY = "sg-documentation"
METHODS = ("get", "head", "post", "put", "delete", "patch")
# Elements by which a page loads something, and the attribute that names it.
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}

results: list[bool] = []


def check(name: str, good: bool, output: object = "") -> None:
    results.append(good)
    print(f"{'ok     ' if good else 'FAILED '} {name}", flush=True)
    if not good:
        print(str(output)[-3000:], flush=True)


class Loads(html.parser.HTMLParser):
    """What a page loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        given = dict(attributes)
        # `canonical`, `next` and the like load nothing.
        rel = given.get("rel") or ""
        loads = tag != "link" or any(word in rel for word in ("stylesheet", "preconnect", "preload", "icon", "manifest"))
        if tag in LOADS and loads and given.get(LOADS[tag]):
            self.found.append(given[LOADS[tag]])


def site() -> None:
    built = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"], cwd=ROOT, capture_output=True, text=True,
                           env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False)
    check("mkdocs build --strict", built.returncode == 0, built.stdout + built.stderr)
    pages = sorted(SITE.rglob("*.html"))
    check("the site has the pages of docs/", len(pages) >= len(list(DOCS.rglob("*.md"))), len(pages))
    foreign = [f"{page.relative_to(SITE)}: {url}" for page in pages for url in Loads(page.read_text()).found if re.match(r"(https?:)?//", url)]
    check("no page loads anything from elsewhere", foreign == [], foreign)
    # The page for errors is for a server at the root, with absolute paths.
    missing = [f"{page.relative_to(SITE)}: {url}" for page in pages for url in Loads(page.read_text()).found
               if not re.match(r"(https?:)?//|data:", url) and not (page.parent / url.split("?")[0].split("#")[0]).exists()
               and page.name != "404.html"]
    check("all that pages load is there", missing == [], missing)
    fonts = [f"{sheet.name}: {url}" for sheet in SITE.rglob("*.css") for url in re.findall(r"url\(\s*[\"']?((?:https?:)?//[^)\"']+)", sheet.read_text())]
    check("no style loads anything from elsewhere", fonts == [], fonts)
    index = SITE / "search/search_index.js"
    words = index.read_text() if index.exists() else ""
    check("the search index works from a file, and has every page", all(word in words for word in ("streamgate-on-disconnect", "commit_after", "Busbar")), len(words))
    nav = re.findall(r"^ +- (?:[^:\n]+: )?([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    here = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if ".site" not in path.parts}
    check("every page of docs/ is in the navigation", here <= set(nav), sorted(here - set(nav)))
    listed = set(re.findall(r"\]\(([\w/-]+\.md)\)", (DOCS / "README.md").read_text()))
    whole = {page for page in here if "/" not in page} - {"README.md"}
    check("every page of docs/ is in its index", whole <= listed, sorted(whole - listed))


def offline() -> None:
    """The site from its files, in Chromium without a network: its search finds a page."""
    done = subprocess.run(["node", str(ROOT / "tests/documentation/offline.mjs"), (SITE / "index.html").as_uri()], capture_output=True, text=True,
                          timeout=120, check=False)
    check("the search finds a page without a server or a network", done.returncode == 0 and "Durable streams" in done.stdout, done.stdout + done.stderr)


def pictures(binary: str, folder: pathlib.Path) -> None:
    """The script of the README's pictures, which writes elsewhere here."""
    done = subprocess.run([str(DOCS / "pictures/make"), str(folder)], env={**os.environ, "STREAMGATE_BIN": binary}, capture_output=True, text=True,
                          timeout=120, check=False)
    console, terminal = folder / "console.png", folder / "terminal.svg"
    good = done.returncode == 0 and console.read_bytes().startswith(b"\x89PNG") and '"content":' in terminal.read_text()
    check("docs/pictures/make makes both pictures", good, done.stdout + done.stderr)


def expected_paths() -> set[str]:
    """The paths in the table of all endpoints, as openapi.yaml writes them."""
    page = (DOCS / "endpoints.md").read_text()
    table = page.split("## All endpoints")[1].split("\n## ")[0]
    found, last = set(), ""
    names = {"MODEL": "{model}", "NAME": "{name}", "ID": "{id}", "SHARE": "{share}", "CHAT": "{chat}", "PATH": "{path}"}
    for code in re.findall(r"`([^`]+)`", "\n".join(line.split(" | ")[0] for line in table.splitlines())):
        path = code.split(" ")[-1]
        if path.startswith(":"):
            path = last.split(":")[0] + path
        elif path in ("/share", ) or not path.startswith("/"):
            path = "/v1/streams/ID" + path if path.startswith("/") else ""
        if path:
            last = path
            for name, parameter in names.items():
                path = re.sub(rf"\b{name}\b", parameter, path)
            found.add(path)
    return found


def plain(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def status(url: str, method: str) -> int:
    body = None if method in ("get", "head", "delete") else b"{}"
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(url, body, headers, method=method.upper())
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status
    except urllib.error.HTTPError as error:
        code = error.code
        error.close()
        return code


def reference(binary: str, folder: pathlib.Path) -> None:
    valid = subprocess.run([sys.executable, "-m", "openapi_spec_validator", str(DOCS / "openapi.yaml")], capture_output=True, text=True, check=False)
    check("openapi.yaml is valid OpenAPI 3.1", valid.returncode == 0, valid.stdout + valid.stderr)
    api = yaml.safe_load((DOCS / "openapi.yaml").read_text())
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    check("openapi.yaml has the version of the program", api["info"]["version"] == version, (api["info"]["version"], version))
    listed, described = {plain(path) for path in expected_paths()}, {plain(path) for path in api["paths"]}
    check("openapi.yaml has the paths of endpoints.md", len(listed) > 40 and listed <= described, sorted(listed - described))
    # Gemini's paths below /v1 are one remark there.
    more = {path for path in described - listed if not path.startswith("/v1/models/{}:")}
    check("and no others", more == set(), sorted(more))
    config = folder / "streamgate.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    config.write_text(f"""server: {{ listen: "127.0.0.1:0" }}
auth: {{ keys: [{{ name: all, sha256: "{digest}", channels: {{ subscribe: ["*"], publish: ["*"] }} }}] }}
limits: {{ requests_per_minute: none, concurrent_streams: none }}
channels: {{ mercure: true, graphql: true }}
providers: {{ sim: {{ dialect: openai-chat, base_url: "http://127.0.0.1:9/v1" }} }}
""")
    log = folder / "gateway.log"
    with open(log, "wb") as out:
        gateway = subprocess.Popen([binary, "--config", str(config)], stdout=out, stderr=subprocess.STDOUT)
    try:
        while not (said := re.search(r"Streamgate on (http://127\.0\.0\.1:\d+)", log.read_text())):
            if gateway.poll() is not None:
                raise SystemExit(f"the gateway did not start:\n{log.read_text()}")
            time.sleep(0.05)
        wrong = []
        for path, entry in api["paths"].items():
            where = said[1] + re.sub(r"\{\w+\}", "x", path)
            # PATCH is no method of any endpoint: an endpoint says 405, an unknown path 404.
            if status(where, "patch") != 405:
                wrong.append(f"{path}: is not served")
            wrong += [f"{method} {path}: 405" for method in METHODS if method in entry and method != "get" and status(where, method) == 405]
            if "get" in entry and "{" not in path and not path.startswith(("/v1/events", "/.well-known", "/v1/graphql")) and status(where, "get") != 200:
                wrong.append(f"get {path}: {status(where, 'get')}")
            # Gemini's paths end in a method behind a colon, which is part of the name of a model here.
            if not path.endswith("/models/{model}"):
                wrong += [f"{method} {path} is served, too" for method in METHODS[2:5] if method not in entry and status(where, method) != 405]
        check("the running gateway serves what openapi.yaml says, and nothing else there", wrong == [], "\n".join(wrong))
        check("a path that is not in it is a 404", status(said[1] + "/v1/nothing-of-the-kind", "patch") == 404)
    finally:
        gateway.terminate()
        gateway.wait(30)


def benchmark(binary: str, folder: pathlib.Path) -> None:
    """bench/run in a short form: its table, its file, its exit status. No figure is compared."""
    page = (DOCS / "benchmarks.md").read_text()
    check("benchmarks.md shows the command", "\nbench/run\n" in page)
    results_file = folder / "bench.json"
    command = [str(ROOT / "bench/run"), "--streams", "4", "--duration", "2s", "--runs", "1", "--json", str(results_file)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "STREAMGATE_BIN": binary}, capture_output=True, text=True, timeout=180, check=False)
    check("bench/run ends well", done.returncode == 0, done.stdout + done.stderr)
    rows = json.loads(results_file.read_text())["rows"] if results_file.exists() else []
    names = [row["name"] for row in rows]
    check("it measures nginx and Streamgate", {"nginx", "streamgate"} <= set(names), names)
    check("every stream was complete", bool(rows) and all(row["streams"] > 0 and row["failed"] == 0 for row in rows), rows)
    check("it prints a row for each", all(re.search(rf"^\| {name} ", done.stdout, re.MULTILINE) for name in names), done.stdout)
    unknown = subprocess.run([*command, "--rivals", "no-such-gateway"], cwd=ROOT, env={**os.environ, "STREAMGATE_BIN": binary},
                             capture_output=True, text=True, timeout=60, check=False)
    check("an unknown rival is an error that names the known ones", unknown.returncode == 2 and "litellm" in unknown.stderr, unknown.stderr)


def base_urls() -> None:
    """Each row of base-urls.md against the test that it names."""
    rows = re.findall(r"^\| (.+?) \| `(\w+)`.*? \| `http://127\.0\.0\.1:8080(\S*)` \| `(\S+)` \|$", (DOCS / "base-urls.md").read_text(), re.MULTILINE)
    wrong = [client for client, setting, suffix, file in rows
             if not re.search(rf"""\b{setting}["']?\s*[=:]\s*f?["'`]?(\$?\{{)?GATEWAY\}}?{re.escape(suffix)}["'`,)\s}}]""", (ROOT / file).read_text())]
    check("base-urls.md says what the clients' tests set", len(rows) > 15 and wrong == [], wrong or len(rows))


def cookbook(binary: str, folder: pathlib.Path) -> None:
    page = (DOCS / "cookbook.md").read_text()
    blocks = re.findall(r"^## (.*?)\n(?:(?!^## ).)*?^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    check("the cookbook has configurations", len(blocks) > 6, len(blocks))
    secrets = {name: "a secret for the cookbook, long enough" for name in re.findall(r"\$\{(\w+)\}", str(blocks))}
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    for title, text in blocks:
        if not re.search(r"^auth:", text, re.MULTILINE):
            text = f'auth: {{ keys: [{{ name: all, sha256: "{digest}" }}] }}\n' + text
        file = folder / "cookbook.yaml"
        file.write_text(text.replace("THE 64 HEX DIGITS", digest))
        done = subprocess.run([binary, "check", "--config", str(file)], env={**os.environ, **secrets}, capture_output=True, text=True, check=False)
        check(f"cookbook: {title}", done.returncode == 0, done.stdout + done.stderr)


def main(binary: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        site()
        offline()
        base_urls()
        cookbook(binary, pathlib.Path(folder))
        reference(binary, pathlib.Path(folder))
        pictures(binary, pathlib.Path(folder))
        benchmark(binary, pathlib.Path(folder))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    # So that what was started ends with this process, also on SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1]))

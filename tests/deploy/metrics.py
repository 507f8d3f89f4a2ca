"""Every query of the dashboard, of the alert rules and of the documents, asked of a real Prometheus that has watched
known traffic through the started program. Each must give a finite value within what the traffic implies; what can only
be seen when something is broken is broken here, or stands in a table with its reason."""

import collections
import math
import os
import pathlib
import re
import shutil
import subprocess
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import json

import yaml
from prometheus_client.openmetrics import parser

import traffic
import upstream
from harness import ROOT, check, run, start

ALERTS = ROOT / "deploy/alerts.yml"
ANY = "*"
# Queries that give nothing when all is well, which is what this Prometheus sees.
EMPTY = {
    "StreamgateAbsent": "an instance is there; promtool's tests have one that is not",
    "Mirrored requests": "no model of this traffic is mirrored",
    "Time to first token of mirrored requests (p95)": "no model of this traffic is mirrored",
    "Wait in queues (p95)": "no target of this traffic is full",
    "Learned limits of targets": "no upstream of this traffic refuses answers because it has too many in progress",
}


def programs() -> tuple[str, str]:
    """Prometheus and promtool. Debian's are unpacked rather than installed: installing would start a service."""
    if shutil.which("prometheus") and shutil.which("promtool"):
        return "prometheus", "promtool"
    home = ROOT / "target" / "prometheus"
    if not (home / "usr/bin/promtool").exists():
        home.mkdir(parents=True, exist_ok=True)
        fetch = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "prometheus"]
        if subprocess.run(fetch, cwd=home).returncode != 0:
            subprocess.run(["apt-get", "update", "-qq"], check=True)
            subprocess.run(fetch, cwd=home, check=True)
        subprocess.run(["dpkg", "-x", str(next(home.glob("*.deb"))), str(home)], check=True)
    return str(home / "usr/bin/prometheus"), str(home / "usr/bin/promtool")


# --- files ---


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def alerts(tool: str) -> None:
    for command in (["check", "config", ROOT / "deploy/prometheus.yml"], ["check", "rules", ALERTS],
                    ["test", "rules", ROOT / "tests/deploy/alerts.test.yml"]):
        done = run([tool, *command])
        check(done.returncode == 0, f"promtool {command[0]} {command[1]}: {command[2].name}", done.stdout + done.stderr)
    names = {rule["alert"] for rule in rules()}
    fires, silent = set(), set()
    for test in yaml.safe_load((ROOT / "tests/deploy/alerts.test.yml").read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (fires if case["exp_alerts"] else silent).add(case["alertname"])
    check(fires == silent == names, "alerts: each has a test in which it fires, and one in which it does not", names ^ (fires & silent))
    manual = (ROOT / "docs/operations.md").read_text()
    missing = {name for name in names if f"`{name}`" not in manual}
    check(not missing, "alerts: docs/operations.md says what to do about each", missing)
    mounted = "./deploy/alerts.yml:/etc/prometheus/alerts.yml:ro"
    check(mounted in (ROOT / "docker-compose.yml").read_text(), "alerts: docker-compose.yml mounts the rules where prometheus.yml looks")


def queries() -> list[tuple[str, str]]:
    """Each query with the name of what it belongs to."""
    found = []
    for panel in json.loads((ROOT / "deploy/grafana/streamgate.json").read_text())["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel["targets"]]
    found += [(rule["alert"], rule["expr"]) for rule in rules()]
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text()
        written = re.findall(r"```promql\n(.*?)```", text, re.S)
        lines = [line for block in written for line in block.splitlines() if line and not line.startswith("#")]
        lines += re.findall(r'`((?:streamgate|gen_ai_server|process)_\w+\{\w+="[^`]*)`', text)
        found += [(page.name, line) for line in lines]
    return found


def lint(tool: str, page: str) -> None:
    """Has the page read by the OpenMetrics reference parser, and its names and help judged by promtool, which reads
    the older text format: there a counter's metadata carries its `_total`, and there are no units."""
    try:
        families = list(parser.text_string_to_metric_families(page))
        check(len(families) >= 15, f"metrics: valid OpenMetrics, {len(families)} metrics")
    except ValueError as error:
        check(False, "metrics: valid OpenMetrics", error)
    text = re.sub(r"^# UNIT .*\n|^# EOF\n", "", page, flags=re.M)
    counters = re.findall(r"^# TYPE (\w+) counter$", text, re.M)
    for name in counters:
        text = re.sub(rf"^# (HELP|TYPE) {name} ", rf"# \1 {name}_total ", text, flags=re.M)
    done = run([tool, "check", "metrics"], input=text)
    check(done.returncode == 0, "metrics: promtool check metrics", done.stdout + done.stderr)


# --- Prometheus ---


class Prometheus:
    def __init__(self, server: str, work: pathlib.Path, plain: traffic.Gateway, secure: traffic.Gateway):
        config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ALERTS)]
        job = config["scrape_configs"][0]
        job["static_configs"] = [{"targets": [plain.instance, secure.instance]}]
        (work / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = work / "prometheus.log"
        self.port = upstream.free_port()
        self.process = start([server, f"--config.file={work}/prometheus.yml", f"--storage.tsdb.path={work}/tsdb",
                              f"--web.listen-address=127.0.0.1:{self.port}"], stdout=self.log.open("w"), stderr=subprocess.STDOUT)

    def get(self, path: str, **parameters: str) -> object:
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as response:
            return json.load(response)["data"]

    def ask(self, query: str, at: float | None = None) -> dict[str, float]:
        """The values by their labels' values, in the order of the labels' names, now or at another time."""
        def name(labels: dict) -> str:
            return " ".join(value for key, value in sorted(labels.items()) if key not in ("__name__", "job"))

        return {name(result["metric"]): float(result["value"][1]) for result in self.get("query", query=query, time=f"{at or time.time():.3f}")["result"]}

    def scraped(self, more: int) -> float:
        """Waits for so many more scrapes of both gateways. Returns the time of the last one."""
        def scrapes() -> float:
            try:
                return min(self.ask('sum by (instance) (count_over_time(up{job="streamgate"}[1h]))').values(), default=0)
            except OSError:
                return 0

        before, until = scrapes(), time.monotonic() + 30
        while scrapes() < before + more and time.monotonic() < until:
            time.sleep(0.2)
        check(scrapes() >= before + more, "Prometheus scrapes the gateways", self.log.read_text())
        return time.time()


def without_comparison(query: str) -> str:
    """An alert's expression without its threshold, so that it has a value when nothing is wrong."""
    return re.sub(r"\s(?:>|<|==)\s*[\d.]+(?:\s*\*\s*\d+)?", "", query)


def counted(seen: collections.Counter, prometheus: Prometheus) -> None:
    """Compares counters with what was seen from outside: exactly."""
    outcomes = {"truncated": "truncated", "stalled": "stalled", "client_gone": "hang-up", "cut_off": "cut off",
                "unavailable": "unavailable"}
    expected = {f'sum(streamgate_requests_total{{outcome="{outcome}"}})': seen[name] for outcome, name in outcomes.items()}
    for caller in ("web", "app", "other"):
        expected[f'streamgate_requests_total{{caller="{caller}",model="chat",outcome="complete"}}'] = seen[f"chat {caller}"]
        for direction in ("input", "output"):
            query = f'streamgate_tokens_total{{caller="{caller}",model="chat",gen_ai_token_type="{direction}",estimated="false"}}'
            expected[query] = seen[f"chat {caller} {direction}"]
        # A dollar for a token of input, and two for one of output.
        dollars = seen[f"chat {caller} input"] + 2 * seen[f"chat {caller} output"]
        expected[f'streamgate_cost_dollars_total{{caller="{caller}",model="chat"}}'] = dollars
        check(seen[f"chat {caller} output"] == traffic.TOKENS * seen[f"chat {caller}"], f"{caller}: the tokens that the traffic implies")
    for series in ("published", "delivered"):
        expected[f"streamgate_channel_events_{series}_total > 0"] = seen["published"]
    chats = sum(seen[f"chat {caller}"] for caller in ("web", "app", "other"))
    for metric in ("gen_ai_server_time_to_first_token", "gen_ai_server_request_duration", "streamgate_longest_gap"):
        for series in ("count", 'bucket{le="+Inf"}'):
            query = f"{metric}_seconds_{series}".replace("}", ',model="chat"}') if "{" in series else f'{metric}_seconds_{series}{{model="chat"}}'
            expected[query] = chats
    expected['gen_ai_server_time_per_output_token_seconds_count{model="chat"} <= bool ' + str(chats * (traffic.TOKENS - 1))] = 1
    expected['streamgate_requests_total{outcome="rejected",caller=""}'] = seen["unknown key"]
    expected['streamgate_refused_credentials_total{reason="unknown_key"}'] = seen["unknown key"]
    expected['streamgate_limit_refusals_total{limit="requests_per_minute"}'] = seen["limited"]
    # A target that has just failed may be passed over.
    expected[f'streamgate_upstream_errors_total{{kind="overloaded"}} <= bool {seen["fallback"]}'] = 1
    for kind in ("authentication", "billing", "permission"):
        expected[f'sum(streamgate_upstream_errors_total{{kind="{kind}"}})'] = 4
    reasons = {"not_found": "not found", "method_not_allowed": "wrong method", "malformed_head": "malformed head", "origin_not_allowed": "foreign origin",
               "tls_on_plain_port": "TLS", "plain_on_tls_port": "plain"}
    for reason, name in reasons.items():
        expected[f'sum(streamgate_refused_requests_total{{reason="{reason}"}})'] = seen[name]
        check(seen[name] > 0, f"the traffic has requests that are refused: {reason}")
    for query, value in expected.items():
        found = prometheus.ask(query)
        check(list(found.values()) == [value], f"counted: {query} = {value}", found)


def implied(seen: collections.Counter, window: float, gateways: list[traffic.Gateway]) -> dict[str, dict]:
    """For each panel, alert and page: lower and upper bounds of its values, by labels. `ANY` is every other series."""
    def rate(count: float) -> tuple[float, float]:
        return 0.8 * count / window, 1.25 * count / window

    def increase(count: float) -> tuple[float, float]:
        return 0.8 * count, 1.25 * count

    zero, some, share = (0, 0), (1e-9, 1e6), (1e-9, 1)
    # Quantiles are interpolated within a bucket: 0.4 s and 0.6 s are both between 0.32 s and 0.64 s.
    first, pause, whole = (0.32, 0.64), (0.005, 0.04), (0.32, 1.28)
    plain, secure = gateways
    instances = [gateway.instance for gateway in gateways]
    caller = {name: seen[f"chat {name}"] for name in ("web", "app", "other")}
    tokens = {f"{name} {way}": rate(seen[f"chat {name} {way}"]) for name in caller for way in ("input", "output")}
    reasons = {"not_found": "not found", "method_not_allowed": "wrong method", "malformed_head": "malformed head", "origin_not_allowed": "foreign origin",
               "tls_on_plain_port": "TLS", "plain_on_tls_port": "plain"}
    refused = {reason: rate(seen[name]) for reason, name in reasons.items()} | {"websocket": zero}
    guessed = {"unknown_key": rate(seen["unknown key"]), "keys_unavailable": rate(seen["unavailable"])}
    ages = {gateway.instance: (0, time.time() - gateway.began + 2) for gateway in gateways}
    day = 86400
    return {
        "Open requests": {"openai-chat": (3, 3)},
        "Outcomes": {"complete": rate(sum(caller.values()))},
        "Complete, of those with an answer": {"": (1, 1)},
        "Time to first token": {"": first}, "Inter-token latency": {"": pause},
        "Longest gap of a stream": {"": (0.01, 0.32)}, "Request duration": {"": whole},
        "Tokens": {f"false {way}": rate(sum(seen[f"chat {name} {way}"] for name in caller)) for way in ("input", "output")},
        "Upstream errors": {"authentication sim": rate(2), "billing sim": rate(2), "permission sim": rate(2),
                            "overloaded sim": (0, rate(seen["fallback"])[1]), ANY: some},
        "Refused over limits": {"requests_per_minute caller": rate(seen["limited"]), ANY: (0, 10)},
        "Heartbeats": {"openai-chat": some},
        "Time to first token, by target (p95)": {f"sim/{traffic.CHAT}": first},
        "Limits used": {"requests_per_minute limited caller": (0.3, 1.01), ANY: (0, 1.2)},
        "Refused credentials": guessed,
        "Ejected targets": {"sim/e503": (1, 1), ANY: (0, 1)},
        # One or more for each request that was sent on.
        "Choices of targets": {ANY: (0, 1e3)},
        # Asked about a model that never fails.
        "Retries": {ANY: zero}, "Retry budgets used up": {"chat": zero},
        "Continued answers": {f"chat {result}": zero for result in ("continued", "failed", "refused")},
        "Hedged requests": {f"chat {result}": zero for result in ("not_needed", "won", "lost", "failed", "no_budget", "refused")},
        "Wasted tokens": {f"hedge sim/{traffic.CHAT}": zero}, "Slow streams": {f"sim/{traffic.CHAT} mark": zero},
        "Requests in queues": {ANY: zero}, "Refused by queues": {ANY: zero},
        "States of targets": {ANY: (1, 1)}, "Cooldowns of targets": {ANY: (0, 3600)}, "Changes of circuit breakers": {ANY: (0, 10)},
        "Requests, by caller": {name: rate(count) for name, count in caller.items()},
        "Tokens, by caller": tokens,
        "Cost, by caller": {name: rate(seen[f"chat {name} input"] + 2 * seen[f"chat {name} output"]) for name in caller},
        "Requests without a price": {ANY: some},
        "Refused requests": refused,
        # Counted in hundredths of a second, of which a gateway with little traffic may use none in a window.
        "CPU": {plain.instance: (1e-4, os.cpu_count()), secure.instance: (0, os.cpu_count())},
        "Memory": {gateway.instance: gateway.resident() for gateway in gateways},
        "File descriptors": {gateway.instance: gateway.descriptors() for gateway in gateways},
        "Instances, by version": {version(): (2, 2)},
        "Instances, by configuration": {ANY: (1, 1)},
        "Last reload": {plain.instance: (1, 1), secure.instance: zero},
        "Configuration loaded": ages, "Running since": ages,
        "Certificate expires": {secure.instance: (10 * day - 600, 10 * day)},
        "Spans lost": {"export_failed": some},
        "Memory budget": {share: (0, 0.5) for share in ("requests", "answers", "streams", "durable")},
        "Refused for want of memory": {share: zero for share in ("requests", "answers", "streams", "durable")},
        # Its queries have other labels.
        "Durable streams": {ANY: zero},
        "Archive on disk": {instance: zero for instance in instances}, "Records of the archive": {"": zero},
        "Spool of the ledger": {instance: zero for instance in instances}, "Trouble of the ledger": {"": zero},
        # Published, passed on, and none of them forgotten or missed.
        "Channels": {"": (0, 1)}, "Events of channels": {"": (0, rate(seen["published"])[1])},
        "Lag of channels": {"": (1e-6, 1)},
        "Memory of channels": {plain.instance: (1, 1e6), secure.instance: zero},
        "Redis": {ANY: zero},
        "Connections": {instance: (0, 0.5) for instance in instances},
        "Evicted connections": {instance: zero for instance in instances},
        "Fetches of issuers’ keys": {"good ok": (0, 1), "bad failed": (0, 10)},
        # Alerts, without their thresholds.
        "StreamgateDown": {instance: (1, 1) for instance in instances},
        "StreamgateErrors": {"truncated": share, "upstream_error": share, "upstream_timeout": share, "unavailable": share, ANY: share},
        "StreamgateStalledStreams": {"sim/*": share},
        "StreamgateSlowFirstToken": {f"sim/{traffic.CHAT}": first, ANY: (0, 0.64)},
        "StreamgateUpstreamCredentialRefused": {"authentication sim": increase(2), "billing sim": increase(2), "permission sim": increase(2)},
        "StreamgateUpstreamFailing": {"sim": some},
        "StreamgateTargetEjected": {"sim/e503": (1, 1), ANY: (0, 1)},
        "StreamgateRetryBudgetEmpty": {"chat": zero, "fallback": zero},
        "StreamgateLimitNearlyReached": {"requests_per_minute limited caller": (0.3, 1.01), ANY: (0, 1.2)},
        "StreamgateFileDescriptorsNearlyExhausted": {gateway.instance: gateway.descriptors() for gateway in gateways},
        "StreamgateMemoryRefusals": {f"{instance} {share}": zero for instance in instances for share in ("requests", "answers", "streams", "durable")},
        "StreamgateConfigReloadFailed": {plain.instance: (1, 1), secure.instance: zero},
        "StreamgateConfigDiffers": {"": (2, 2)},
        "StreamgateCertificateExpiring": {secure.instance: (10 * day - 600, 10 * day)},
        "StreamgateCertificateExpiringSoon": {secure.instance: (10 * day - 600, 10 * day)},
        "StreamgateRestarts": {instance: zero for instance in instances},
        "StreamgateKeyFetchesFailing": {"bad": (0, 100)},
        "StreamgateCredentialsGuessed": guessed,
        "StreamgateRequestsRefused": refused,
        "StreamgateQueueRefusing": {f"chat {reason}": zero for reason in ("full", "caller_full", "too_long", "timed_out")},
        "StreamgateTargetsSlow": {f"sim/{traffic.CHAT}": zero},
        "StreamgateSpansLost": {"export_failed": some},
        "StreamgateLogLinesLost": {instance: zero for instance in instances},
        "StreamgateImplausibleUsage": {"sim": zero},
        # Pages: whatever they ask has a value.
        "limits.md": {ANY: (0, 1e6)}, "operations.md": {ANY: (0, 1e9)}, "durable-streams.md": {ANY: (0, 1e9)},
    }


def version() -> str:
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def plausible(prometheus: Prometheus, bounds: dict[str, dict], window: int, at: float) -> None:
    """Asks every query, and compares its values with their bounds."""
    asked = queries()
    check({name for name, _ in asked} == set(bounds) | set(EMPTY), "every panel, alert and page with queries has its bounds",
          {name for name, _ in asked} ^ (set(bounds) | set(EMPTY)))
    for name, query in asked:
        # The panels of a model are asked about one whose traffic is all alike, so that its values are known.
        query = without_comparison(query).replace("$__rate_interval", f"{window}s").replace("$model", "chat")
        query = " ".join(re.sub(r"\[\d+[mhd]\]", f"[{window}s]", query).split())
        try:
            found = prometheus.ask(query, at)
        except urllib.error.HTTPError as error:
            check(False, f"{name}: {query}", error.read())
            continue
        if name in EMPTY:
            check(not found, f"{name}: nothing ({EMPTY[name]}): {query}", found)
            continue
        expected = bounds.get(name, {})
        wrong = {key: value for key, value in found.items()
                 if not math.isfinite(value) or not within(value, expected.get(key, expected.get(ANY)))}
        missing = [key for key in expected if key != ANY and key not in found]
        check(found and not wrong and not missing, f"{name}: {query}", f"wrong: {wrong}, missing: {missing}, all: {found}, bounds: {expected}")


def within(value: float, bounds: tuple[float, float] | None) -> bool:
    return bounds is not None and bounds[0] <= value <= bounds[1]


class Watched(traffic.Gateway):
    """A gateway, with what the kernel says of it."""

    def __init__(self, *arguments: pathlib.Path):
        self.began = time.time()
        super().__init__(*arguments)
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")

    def resident(self) -> tuple[float, float]:
        kilobytes = int(re.search(r"VmRSS:\s+(\d+)", (self.proc / "status").read_text()).group(1))
        return 0.7 * 1024 * kilobytes, 1.3 * 1024 * kilobytes

    def descriptors(self) -> tuple[float, float]:
        most = int(re.search(r"Max open files\s+(\d+)", (self.proc / "limits").read_text()).group(1))
        now = len(list((self.proc / "fd").iterdir()))
        return (now - 10) / most, (now + 10) / most


def measure(program: pathlib.Path, work: pathlib.Path) -> None:
    """Starts the program twice, without and with TLS, watches both, and sends them traffic."""
    server, tool = programs()
    sim = start([program, "sim", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    address = "http://" + re.search(r"127\.0\.0\.1:\d+", sim.stdout.readline()).group()
    keys = traffic.KeySet(work)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                    str(work / "tls.key"), "-out", str(work / "tls.pem"), "-days", "10", "-subj", "/CN=localhost"],
                   check=True, capture_output=True)
    (work / "plain.yaml").write_text(traffic.configuration(address, keys.url))
    (work / "secure.yaml").write_text(traffic.configuration(address, keys.url, f"tls: {{ cert: {work}/tls.pem, key: {work}/tls.key }}"))
    plain, secure = Watched(program, work / "plain.yaml"), Watched(program, work / "secure.yaml")
    prometheus = Prometheus(server, work, plain, secure)
    try:
        # The first round makes every series, the second one is measured: an increase needs a value before.
        first = traffic.drive(plain) + collections.Counter({"plain": traffic.speak_plainly(secure)})
        lost = until(lambda: value(plain, "streamgate_spans_lost_total") > 0, "spans are lost")
        before = value(plain, "streamgate_spans_lost_total")
        began = prometheus.scraped(3) if lost else time.time()
        second = traffic.drive(plain) + collections.Counter({"plain": traffic.speak_plainly(secure)})
        until(lambda: value(plain, "streamgate_spans_lost_total") > before, "more spans are lost")
        # A broken configuration, and three streams that stay open.
        (work / "secure.yaml").write_text("nonsense: true\n")
        until(lambda: value(secure, "streamgate_config_last_reload_successful") == 0, "a broken configuration is rejected")
        streams = [plain.open("sim/n100000-i100000") for _ in range(3)]
        end = prometheus.scraped(4)
        # It begins before the second round, and after the first one was scraped.
        window = math.ceil(end - began) + 1
        lint(tool, plain.metrics())
        lint(tool, secure.metrics())
        plausible(prometheus, implied(second, window, [plain, secure]), window, end)
        counted(first + second, prometheus)
        health = {rule["name"]: rule["health"] for group in prometheus.get("rules")["groups"] for rule in group["rules"]}
        check(len(health) == len(rules()) and set(health.values()) == {"ok"}, "alerts: Prometheus evaluates all rules", health)
        check("chat" in prometheus.get("label/model/values"), "dashboard: its variable has the models")
        for stream in streams:
            stream.close()
    finally:
        for process in (prometheus.process, plain.process, secure.process, sim):
            process.terminate()
            process.wait(40)


def value(gateway: traffic.Gateway, name: str) -> float:
    """The sum of a metric's series, as the gateway says."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in gateway.metrics().splitlines() if re.match(rf"{name}[ {{]", line))


def until(holds, what: str) -> bool:
    deadline = time.monotonic() + 30
    while not (good := holds()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return check(good, what)

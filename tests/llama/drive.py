"""Asks llama.cpp's server through the gateway in every caller dialect, and through every dialect that the
server itself speaks: text and ends, usage, errors, hanging up, and an upstream that dies in mid-stream.
Whatever was started here ends here.

    drive.py STREAMGATE DIRECTORY
"""

import hashlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from dialects import CALLS, DIALECTS, LENGTH, STOP, UPSTREAMS, Answer, Ask, Dialect
from model import CALLED, CONTEXT, REASONED, make, text_after

HERE = Path(__file__).parent
KEY = "sg-llama"
SECONDS = 60  # how long anything may take that is not a failure; the machine may be busy
NOT_FOR_CALLERS = {"bedrock"}  # dialects that only upstreams speak

results: list[bool] = []
asked: list[Ask] = []  # of the gateway


def report(what: str, problem: str = "") -> None:
    results.append(not problem)
    print(f"ok      {what}" if not problem else f"FAILED  {what}: {problem}", flush=True)


@contextmanager
def check(what: str) -> Iterator[None]:
    """A check: an assertion that does not hold, or an answer of another form, is its failure."""
    try:
        yield
        report(what)
    except Exception as failure:  # one failed check must not hide the others
        report(what, f"{type(failure).__name__}: {failure}")


def expect(what: str, got: object, wanted: object) -> None:
    assert got == wanted, f"{what} is {got!r}, not {wanted!r}"


def until(look: Callable, otherwise: str) -> object:
    """What `look` finds, once it finds something."""
    for _ in range(SECONDS * 20):
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(otherwise)


# --- what is started ---

def announced(process: subprocess.Popen, log: Path) -> str:
    """The address that a program prints once it listens."""
    def look() -> re.Match | None:
        assert process.poll() is None, f"it ended with {process.returncode}"
        return re.search(r"http://127\.0\.0\.1:\d+", log.read_text())

    return until(look, "it did not start")[0]


class Started:
    """A program with its address and what it wrote."""

    def __init__(self, command: list, directory: Path, name: str) -> None:
        out, self.log = directory / f"{name}.out", directory / f"{name}.log"
        with out.open("wb") as stdout, self.log.open("wb") as stderr:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
        try:
            self.address = announced(self.process, out)
        except BaseException:
            self.stop()
            print(self.log.read_text()[-2000:], file=sys.stderr)
            raise

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def started(stack: ExitStack, command: list, directory: Path, name: str) -> Started:
    program = Started(command, directory, name)
    stack.callback(program.stop)
    return program


def configuration(spoken: list[str], llama: str, doomed: str, nowhere: str) -> str:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    providers = {"llama-openai-chat": {"preset": "llama.cpp", "base_url": f"{llama}/v1"}}
    models = {}
    for dialect in spoken:
        below = UPSTREAMS[dialect].below
        providers.setdefault(f"llama-{dialect}", {"dialect": dialect, "base_url": llama + below})
        providers[f"doomed-{dialect}"] = {"dialect": dialect, "base_url": doomed + below}
        providers[f"nowhere-{dialect}"] = {"dialect": dialect, "base_url": nowhere + below}
        for name in ("llama", "doomed", "nowhere"):
            models[f"{name}-{dialect}"] = {"targets": [{"provider": f"{name}-{dialect}", "model": "tiny"}]}
    return json.dumps({  # which is YAML, too
        "server": {"listen": "127.0.0.1:0", "drain": "1s"},
        "auth": {"keys": [{"name": "llama", "sha256": digest}]},
        "limits": {"requests_per_minute": "none", "concurrent_streams": "none"},
        "providers": providers,
        "models": models,
    }, indent=1)


# --- asking ---

class Call:
    """A request under way. Leaving it without having read the answer is hanging up."""

    def __init__(self, address: str, path: str, body: dict, headers: dict) -> None:
        host = urllib.parse.urlsplit(address)
        self.connection = http.client.HTTPConnection(host.hostname, host.port, timeout=SECONDS)
        payload = json.dumps(body).encode()
        self.connection.request("POST", path, payload, {"content-type": "application/json", **headers})
        self.response = None

    def head(self) -> http.client.HTTPResponse:
        if self.response is None:
            self.response = self.connection.getresponse()
        return self.response

    def json(self) -> dict:
        with self:
            return json.loads(self.head().read())

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, *_) -> None:
        if self.response is not None:
            self.response.close()
        self.connection.close()


def ask_gateway(gateway: str, dialect: Dialect, ask: Ask) -> Call:
    asked.append(ask)
    name, prefix = dialect.key_header
    return Call(gateway, dialect.path(ask), dialect.body(ask), {name: prefix + KEY})


def events(dialect: Dialect, text: str) -> list:
    """The data of every whole event of a stream."""
    if dialect.lines:
        return [json.loads(line) for line in text.split("\n")[:-1] if line]
    data = []
    for block in text.replace("\r\n", "\n").split("\n\n")[:-1]:
        lines = [line.removeprefix("data:").strip() for line in block.split("\n") if line.startswith("data:")]
        if lines:
            whole = "\n".join(lines)
            data.append(whole if whole == "[DONE]" else json.loads(whole))
    return data


def read(dialect: Dialect, call: Call, stream: bool) -> Answer:
    """The whole answer."""
    with call:
        body = call.head().read().decode()
        status = call.head().status
        assert status == 200, f"status {status}: {body[:300]}"
        if stream:
            return dialect.stream(events(dialect, body))
        return dialect.whole(json.loads(body))


def read_some(dialect: Dialect, call: Call) -> bytes:
    """Reads until some text is there, and no further: what has come, wherever it is cut."""
    body = b""
    assert call.head().status == 200, f"status {call.head().status}"
    while True:
        more = call.head().read1(4096)
        assert more, f"it ended: {body!r}"
        body += more
        whole = body[:body.rfind(b"\n") + 1].decode()
        if len(dialect.stream(events(dialect, whole)).text) >= 4:
            return body


def rest_of(call: Call) -> tuple[bytes, bool]:
    """What else comes, and whether the connection was dropped before its end."""
    try:
        return call.head().read(), False
    except http.client.IncompleteRead as cut:
        return cut.partial, True


# --- what llama.cpp's server says of itself ---

class Server:
    def __init__(self, program: Started) -> None:
        self.address, self.log = program.address, program.log
        self.known: dict[Ask, tuple[int, int]] = {}

    def usage(self, ask: Ask) -> tuple[int, int]:
        """The tokens in and out of a request, as the server itself counts them when asked directly."""
        plain = replace(ask, stream=False)
        if plain not in self.known:
            chat = DIALECTS["openai-chat"]
            answer = read(chat, Call(self.address, chat.path(plain), chat.body(plain), {}), stream=False)
            self.known[plain] = answer.input, answer.output
        return self.known[plain]

    def slots(self) -> list[dict]:
        address = urllib.parse.urlsplit(self.address)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=SECONDS)
        try:
            connection.request("GET", "/slots")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def tasks_under_way(self) -> list[int]:
        """The tasks in its slots, once each has one and has decoded something."""
        def tasks() -> list[int]:
            return [slot["id_task"] for slot in self.slots()
                    if slot["is_processing"] and slot["next_token"][0]["n_decoded"] > 0]

        slots = len(self.slots())
        return until(lambda: (found := tasks()) and len(found) == slots and found, "the server never worked on it")

    def expect_cancelled(self, task: int) -> None:
        """That a task has left the slot because it was cancelled, and not because it was done. While it
        is not known, nothing may be asked of the server: of whole answers it looks for a caller who has
        left only after a second without any other result, and `/slots` is one, as are others' tokens.
        """
        cancelled = re.compile(rf"cancel task, id_task = {task}\b")
        until(lambda: cancelled.search(self.log.read_text(errors="replace")), "the server never cancelled it")
        until(lambda: not any(slot["is_processing"] and slot["id_task"] == task for slot in self.slots()),
              "it was cancelled, and still has the slot")


# --- the checks ---

LETTERS = text_after("a", 100)
ANSWERS = {
    # What it is asked, and what it must say.
    "says all it has to say": (Ask("", "a", True, 100), Answer(LETTERS, stop=STOP)),
    "is cut off at max_tokens": (Ask("", "7", True, 300), Answer(text_after("7", 300), stop=LENGTH)),
    "stops at a stop sequence": (Ask("", "a", True, 100, stop="klm"), Answer(LETTERS.partition("klm")[0], stop=STOP)),
    "calls a tool": (Ask("", "T", True, 100, tool=CALLED[0]), Answer(calls=[CALLED], stop=CALLS)),
    "reasons": (Ask("", "R", True, 2000, reasoning=True), Answer(REASONED[1], REASONED[0], stop=STOP)),
}


def check_answers(gateway: str, name: str, upstream: str, server: Server) -> None:
    dialect = DIALECTS[name]
    for what, (ask, wanted) in ANSWERS.items():
        if ask.stop and not (dialect.stop_sequences and UPSTREAMS[upstream].stop_sequences):
            continue
        if wanted.stop == LENGTH and not UPSTREAMS[upstream].tells_length:
            wanted = replace(wanted, stop=STOP)
        wanted = replace(wanted, input=server.usage(ask)[0], output=server.usage(ask)[1])
        for stream in (True, False):
            asked = replace(ask, model=f"llama-{upstream}", stream=stream)
            with check(f"{name} over {upstream}, {'streamed' if stream else 'whole'}: {what}"):
                answer = read(dialect, ask_gateway(gateway, dialect, asked), stream)
                expect("answer", replace(answer, ended=False), wanted)
                assert answer.ended or not stream, "the terminal is not there"


def check_errors(gateway: str, name: str, upstream: str) -> None:
    dialect = DIALECTS[name]
    long = Ask(f"llama-{upstream}", "a" * (CONTEXT + 1), True, 10)
    lost = Ask(f"nowhere-{upstream}", "a", True, 10)
    for what, ask, status, told in (("a prompt that is too long", long, 400, "context size"),
                                    ("an upstream that is not there", lost, dialect.unreachable, "")):
        for stream in (True, False):
            with check(f"{name} over {upstream}, {'streamed' if stream else 'whole'}: {what}"):
                call = ask_gateway(gateway, dialect, replace(ask, stream=stream))
                body = call.json()
                expect("status", call.head().status, status)
                assert told in dialect.error(body), f"the message is {dialect.error(body)!r}"


def check_hanging_up(gateway: str, name: str, upstream: str, server: Server) -> None:
    """The server has one slot, and the answer would fill its context: minutes of work."""
    dialect = DIALECTS[name]
    endless = Ask(f"llama-{upstream}", "0", True, CONTEXT - 10)
    for stream in (True, False):
        with check(f"{name} over {upstream}, {'streamed' if stream else 'whole'}: hanging up frees the slot"):
            with ask_gateway(gateway, dialect, replace(endless, stream=stream)) as call:
                if stream:
                    read_some(dialect, call)
                [task] = server.tasks_under_way()
            server.expect_cancelled(task)
            after = replace(endless, prompt="v", max_tokens=10, stream=stream)
            expect("the next answer", read(dialect, ask_gateway(gateway, dialect, after), stream).text, "wxyz")


def check_dying(gateway: str, pairs: list[tuple[str, str]], doomed: Started) -> None:
    """Answers whose upstream is killed in their midst end with an error, and not as if they were whole."""
    with ExitStack() as stack:
        streams, wholes = {}, {}
        for name, upstream in pairs:
            dialect, endless = DIALECTS[name], Ask(f"doomed-{upstream}", "0", True, CONTEXT)
            with check(f"{name} over {upstream}, streamed: begins on a server that is about to die"):
                call = stack.enter_context(ask_gateway(gateway, dialect, endless))
                streams[name, upstream] = call, read_some(dialect, call)
            wholes[name, upstream] = stack.enter_context(ask_gateway(gateway, dialect, replace(endless, stream=False)))
        with check("the server that is about to die works on all of it"):
            Server(doomed).tasks_under_way()
        doomed.stop()
        for (name, upstream), (call, begun) in streams.items():
            with check(f"{name} over {upstream}, streamed: a server that dies"):
                rest, dropped = rest_of(call)
                whole = begun + rest
                answer = DIALECTS[name].stream(events(DIALECTS[name], whole.decode()))
                expect("text", answer.text, text_after("0", len(answer.text)))
                assert answer.error, "no error was told"
                # Clients of these pass over the error, and notice that the connection is dropped.
                expect("dropped", dropped, name in ("gemini", "ollama"))
                assert answer.stop not in (STOP, LENGTH) and not answer.ended, f"it ended with {answer.stop!r}"
        for (name, upstream), call in wholes.items():
            with check(f"{name} over {upstream}, whole: a server that dies"):
                told = DIALECTS[name].error(call.json())
                expect("status", (call.head().status, bool(told)), (DIALECTS[name].unreachable, True))


def check_counts(gateway: str, pairs: list[tuple[str, str]]) -> None:
    """That the gateway's own metrics tell what has happened here."""
    ended = re.compile(r'^streamgate_requests_total\{dialect="([^"]*)",caller="[^"]*",model="([^"]*)",.*outcome="([^"]*)"\} (\d+)$', re.M)
    counts = {}

    def all_counted() -> bool:
        # The last one is counted just after its caller has read its end.
        metrics = urllib.request.urlopen(f"{gateway}/metrics", timeout=SECONDS).read().decode()
        counts.update({tuple(labels): int(number) for *labels, number in ended.findall(metrics)})
        still_open = re.findall(r"^streamgate_open_requests\{.*\} (\d+)$", metrics, re.M)
        return sum(counts.values()) == len(asked) and set(still_open) == {"0"}

    with check("every request is counted once, and none as still open"):
        until(all_counted, f"{len(asked)} were asked, and these are counted: {counts}")
    for name, upstream in pairs:
        with check(f"{name} over {upstream}: who hung up, and what died, is counted so"):
            expect("gone", counts.get((name, f"llama-{upstream}", "client_gone")), 2)
            died = [counts.get((name, f"doomed-{upstream}", outcome), 0) for outcome in ("truncated", "upstream_error")]
            expect("died", sum(died), 2)


def dialects_of(gateway: Path, directory: Path) -> list[str]:
    """The dialects that this gateway knows, as it says itself when told of another one."""
    file = directory / "unknown.yaml"
    file.write_text('providers: { x: { dialect: "?", base_url: "http://127.0.0.1:1" } }\n')
    said = subprocess.run([gateway, "check", "--config", file], capture_output=True, text=True, timeout=SECONDS)
    names = re.findall(r"`([^`]*)`", said.stderr.partition("expected one of")[2])
    assert names, f"it does not say which dialects it knows: {said.stderr}"
    return names


def main(gateway: Path, directory: Path) -> None:
    known = dialects_of(gateway, directory)
    names = [name for name in known if name not in NOT_FOR_CALLERS]
    for name in names:
        if name not in DIALECTS:
            report(name, "this dialect is not in tests/llama/dialects.py")
    names = [name for name in names if name in DIALECTS]
    pairs = [(name, upstream) for upstream in UPSTREAMS if upstream in known for name in names]
    make(directory / "tiny.gguf")
    with ExitStack() as stack:
        server_of = [sys.executable, "-B", HERE / "server.py", directory / "tiny.gguf"]
        llama = started(stack, [*server_of, "1", str(CONTEXT)], directory, "llama")
        # One slot for each answer that it does not finish.
        doomed = started(stack, [*server_of, str(2 * len(pairs)), str(8 * CONTEXT)], directory, "doomed")
        # Nobody listens there, and nobody else gets the port.
        nowhere = stack.enter_context(socket.socket())
        nowhere.bind(("127.0.0.1", 0))
        config = directory / "gateway.yaml"
        config.write_text(configuration([name for name in UPSTREAMS if name in known],
                                        llama.address, doomed.address, f"http://127.0.0.1:{nowhere.getsockname()[1]}"))
        front = started(stack, [gateway, "--config", config], directory, "gateway")
        server = Server(llama)
        for name, upstream in pairs:
            check_answers(front.address, name, upstream, server)
            check_errors(front.address, name, upstream)
            check_hanging_up(front.address, name, upstream, server)
        check_dying(front.address, pairs, doomed)
        check_counts(front.address, pairs)
        with check("the gateway and the server are still there"):
            expect("the gateway's exit status", front.process.poll(), None)
            expect("the server's exit status", llama.process.poll(), None)
            assert "panicked" not in front.log.read_text(), "the gateway panicked"
    absent = sorted(set(DIALECTS) - set(names))
    print(f"callers' dialects: {', '.join(names)}; not in this build: {', '.join(absent) or 'none'}")


if __name__ == "__main__":
    # Being asked to leave is leaving in order: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(0 if all(results) and results else 1)

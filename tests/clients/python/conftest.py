"""What the Python suites share: where things run, the tool and the image, and a recording provider.

The gateway and the simulated upstream are started by `../suites.py`; nothing here starts them.
"""

import base64
import json
import os
import re
import struct
import threading
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

GATEWAY = os.environ["GATEWAY"]
SIM = os.environ["SIM"]
KEY = os.environ["KEY"]
LIMITED_KEY = os.environ["LIMITED_KEY"]  # one request per minute

# The providers of `../suites.py`, one for each upstream: `sim-*`, and `seen-*` through the recorder. And what is
# peculiar to each.
_LISTED = json.loads((Path(__file__).parents[1] / "upstreams.json").read_text())
FACTS = {f"sim-{facts['dialect']}": facts for facts in _LISTED}
UPSTREAMS = list(FACTS)
CHAT, ANTHROPIC, RESPONSES, GEMINI = "sim-openai-chat", "sim-anthropic", "sim-openai-responses", "sim-gemini"


def pytest_generate_tests(metafunc):
    """Every case that names an upstream is asked of each."""
    if "upstream" in metafunc.fixturenames:
        metafunc.parametrize("upstream", UPSTREAMS)


def needs_terminator(upstream):
    """Whether an answer of it is cut without its terminator, although it has said why it stopped."""
    return FACTS[upstream]["terminator"]


def counts_reasoning(upstream):
    """Whether its usage tells reasoning apart."""
    return FACTS[upstream]["reasoning_tokens"]


def refusal(upstream):
    """How it refuses: "said" in words of their own kind; "explained" or only "stopped", with a reason that says so; or
    as plain "text"."""
    return FACTS[upstream]["refusal"]


def seen(upstream):
    """The same upstream behind the recorder."""
    return upstream.replace("sim", "seen", 1)


def alias(upstream):
    return upstream.replace("sim", "alias", 1)


ALIASES = sorted(map(alias, UPSTREAMS))


def holds(value, sought):
    """Whether a string or a value is anywhere in a request, under whatever name its language has for it."""
    if value == sought:
        return True
    if isinstance(value, str):
        return sought in value if isinstance(sought, str) else value.startswith("{") and holds(json.loads(value), sought)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds(one, sought) for one in inner)


# The dialects with embeddings, and the texts that every suite embeds.
EMBEDS = ("openai-chat", "gemini", "ollama", "cohere")
TEXTS = ["first", "second text", "drei"]


def embeds(upstream):
    """Whether an upstream's dialect has embeddings."""
    return upstream.removeprefix("sim-") in EMBEDS


def vector(text, dimensions=8):
    """What the simulated upstream answers for a text, whatever its dialect: eighths between -4 and 4."""
    found, state = [], 0x811C9DC5
    for at in range(dimensions):
        for byte in text.encode() + at.to_bytes(8, "little"):
            state = (state ^ byte) * 0x01000193 % 2**32
        found.append((state >> 26) / 8 - 4)
    return found


def cannot(why):
    """Says why a case cannot be with this client and this upstream; `../table.py` tells it."""
    pytest.skip(f"cannot: {why}")


SCHEMA = {
    "type": "object",
    "properties": {"call": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["call", "note"],
    "additionalProperties": False,
}


def tokens(count, letter="t"):
    """What the simulated upstream says: each token once, in order."""
    return "".join(f"{letter}{i} " for i in range(count))


def _png():
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


PNG = base64.b64encode(_png()).decode()


def stats():
    with urllib.request.urlopen(f"{SIM}/_sim/stats", timeout=5) as answer:
        return json.load(answer)


def wait_for_cancel(before):
    """Each look is a request of its own, so the number of looks bounds the time."""
    for _ in range(5000):
        now = stats()
        if now["cancelled_streams"] > before["cancelled_streams"] and now["open_streams"] <= before["open_streams"]:
            return
    raise AssertionError(f"the upstream was not cancelled: {before} -> {stats()}")


class Recorder:
    """A provider that hands requests on to the simulated one and keeps what it was sent."""

    def __init__(self):
        self.bodies = []

    @property
    def last(self):
        return self.bodies[-1]


@pytest.fixture(scope="module")
def _recorder():
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            recorder.bodies.append(json.loads(body))
            onward = urllib.request.Request(SIM + self.path, body, {"content-type": "application/json"})
            with urllib.request.urlopen(onward, timeout=10) as answer:
                whole, kind = answer.read(), answer.headers["content-type"]
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)

        def log_message(self, *_):
            pass

    address = re.fullmatch(r"http://(.+):(\d+)", os.environ["RECORDER"])
    server = ThreadingHTTPServer((address[1], int(address[2])), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield recorder
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def recorder(_recorder):
    _recorder.bodies.clear()
    return _recorder

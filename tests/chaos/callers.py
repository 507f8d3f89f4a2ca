"""The callers: each draws what it asks and how it behaves from its own seed, does it, and writes down what it saw.

Ordinary callers ask upstreams that misbehave, and misbehave themselves. Control callers ask an upstream that is never
disturbed, and read everything: whatever the others do, they must get each token, and never wait long for a byte.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass

import programs
from client import Connection, Cut, post
from dialects import CALLERS, UPSTREAMS, StreamReader, error_message, request, whole_text
from http2 import Http2, Stream
from ledger import Entry, Ledger

# The simulator's programs, and whether their answers are complete.
SIMULATED = [
    ("n40-i5000", "either"), ("n20-crlf", "either"), ("n20-comment", "either"), ("n5-split", "either"), ("n60-b4", "either"),
    ("think5-n10", "either"), ("n20-nodone", "either"), ("n20-junk8", "either"), ("n20-h1500", "either"),
    ("n20-reset8", "broken"), ("n20-close8", "broken"), ("n20-stall8", "broken"), ("n20-err8", "broken"), ("hang", "broken"),
    ("e429", "broken"), ("e500", "broken"), ("e503", "broken"), ("e529", "broken"),
]
# What fails before the first token, and whose model has another target behind it.
FAILS_FIRST = ["e503", "e500", "e429", "e404", "refuse", "nohttp", "page", "redirect", "beats-a0", "reset-a0"]
CONDUCTS = {"read": 56, "leave": 18, "slow": 5, "stop": 2, "trickle": 5, "half": 3, "stranger": 2, "large": 2, "huge": 1, "nonsense": 6,
            "multiplexed": 5}
# How many bytes a large and a huge body have; `server.body_limit` lies between.
LARGE, HUGE = 1_300_000, 2_500_000
# The pauses of a quiet control stream, in seconds: longer than any silence that is allowed.
QUIET = 7


@dataclass
class World:
    """Whom callers ask, and where they write it down."""

    port: int
    ledger: Ledger
    over: asyncio.Event
    keys: dict[str, str]


class Caller:
    """An ordinary caller."""

    def __init__(self, world: World, seed: str) -> None:
        self.world, self.random = world, random.Random(seed)
        self.kept: Connection | None = None

    async def run(self) -> None:
        try:
            while not self.world.over.is_set():
                await self.once()
                await asyncio.sleep(self.random.uniform(0, 0.25))
        finally:
            if self.kept:
                self.kept.leave("close")

    async def once(self) -> None:
        conduct = self.random.choices(list(CONDUCTS), list(CONDUCTS.values()))[0]
        if conduct in ("nonsense", "multiplexed"):
            return await getattr(self, conduct)()
        dialect, stream = self.random.choice(CALLERS), self.random.random() < 0.75
        model, verdict, text = self.model()
        if conduct == "stop":
            model, verdict, text, stream = f"hostile-{self.random.choice(['anthropic', 'openai-chat', 'ollama'])}/endless", "broken", None, True
        entry = self.world.ledger.enter(dialect=dialect, model=model, stream=stream, conduct=conduct, verdict=verdict)
        entry.text = text and text(entry.marker)
        if conduct == "huge":
            entry.verdict = "broken"
        elif conduct == "slow" and verdict == "complete":
            # What its own buffers hold is unread for longer than `stream.write_stall` now and then.
            entry.verdict = "either"
        size = {"large": LARGE, "huge": HUGE}.get(conduct) or self.random.choice([0, 0, 0, 100, 5000, 60_000])
        path, body = request(dialect, model, stream, programs.prompt(entry.marker, size))
        key = self.key(entry)
        kept, self.kept = self.kept, None
        connection = None
        try:
            connection = kept or await Connection.open(self.world.port, 4096 if conduct in ("slow", "stop") else 0)
            if await getattr(self, conduct)(connection, entry, post(path, body, key, entry.id, chunked=conduct == "trickle"), body):
                self.kept, connection = connection, None
        except Cut as error:
            entry.end = "cut"
            if entry.status is None and kept and entry.verdict == "complete":
                # A connection between requests may be closed at any time, and a client sends its request again.
                entry.verdict = "either"
            if entry.status is None and not kept and not self.world.ledger.stopping and conduct in ("read", "trickle", "slow"):
                entry.problems.append(f"no answer: {error}")
            if "silent" in str(error):
                entry.problems.append(f"the answer stopped, with {len(entry.text or '')} bytes to come: {error}")
        finally:
            if connection:
                connection.leave("close")

    def key(self, entry: Entry) -> str | None:
        keys = self.world.keys
        if entry.conduct == "stranger":
            entry.verdict = "broken"
            return self.random.choice(["sg-wrong", None])
        if self.random.random() < 0.12:
            entry.verdict = "either" if entry.verdict == "complete" else entry.verdict
            return keys[self.random.choice(["tight", "cut-off"])]
        return keys["chaos"]

    def model(self):
        """A model, what its answer must come to, and its text as a function of the caller's marker."""
        draw, upstream = self.random.random(), self.random.choice(UPSTREAMS)
        tokens, interval = self.random.randint(1, 40), self.random.choice([0, 0, 5, 20, 60])
        shape = f"n{tokens}-i{interval}-a{self.random.randint(0, tokens)}"
        if draw < 0.05:
            return self.random.choice(["no-such-model", "nobody/x", "hostile-cohere/", "x" * 200]), "broken", None
        if draw < 0.2:
            simulated, verdict = self.random.choice(SIMULATED)
            return f"faulty-{upstream}/{simulated}", verdict, None
        if draw < 0.32:
            name = f"{self.random.choice(FAILS_FIRST)}-then-good-n{tokens}"
            return name, "complete", programs.Program.parse(f"n{tokens}").text
        if draw < 0.45:
            name = f"{self.random.choice(programs.GOOD)}-{shape}"
            return f"steady-{upstream}/{name}", "complete", programs.Program.parse(name).text
        behaviour, verdict = self.random.choice(programs.GOOD), "either"
        if draw > 0.7:
            behaviour, verdict = self.random.choice(programs.BAD), "broken"
        name = f"{behaviour}-{shape}"
        text = None if behaviour in ("endless", "garbage") else programs.Program.parse(name).text
        return self.random.choice([f"hostile-{upstream}/{name}", f"hostile-{upstream}/{name}", f"limited-{name}"]), verdict, text

    # --- conducts: each returns whether the connection can be used again ---

    async def read(self, connection: Connection, entry: Entry, head: bytes, body: bytes) -> bool:
        await connection.send(head + body)
        return await answer(connection, entry) and self.random.random() < 0.5

    large = huge = stranger = read

    async def trickle(self, connection: Connection, entry: Entry, head: bytes, body: bytes) -> bool:
        """Sends slowly, in chunks."""
        await connection.send(head)
        cuts = sorted(self.random.sample(range(1, len(body)), 8))
        for start, end in zip([0, *cuts], [*cuts, len(body)]):
            await connection.send(b"%x\r\n%s\r\n" % (end - start, body[start:end]))
            await asyncio.sleep(self.random.uniform(0, 0.2))
        await connection.send(b"0\r\n\r\n")
        return await answer(connection, entry)

    async def half(self, connection: Connection, entry: Entry, head: bytes, body: bytes) -> bool:
        """Sends half of the body and waits for what comes of it."""
        entry.verdict = "broken"
        await connection.send(head + body[: len(body) // 2])
        await answer(connection, entry)
        return False

    async def slow(self, connection: Connection, entry: Entry, head: bytes, body: bytes) -> bool:
        await connection.send(head + body)
        await answer(connection, entry, pause=self.random.uniform(0.01, 0.3))
        return False

    async def stop(self, connection: Connection, entry: Entry, head: bytes, body: bytes) -> bool:
        """Reads the head and nothing more."""
        await connection.send(head + body)
        entry.status, _ = await connection.head()
        entry.record = "one"
        await asyncio.sleep(6)
        return False

    async def leave(self, connection: Connection, entry: Entry, head: bytes, body: bytes) -> bool:
        how = self.random.choice(["close", "reset", "half"])
        match self.random.choice(["nothing", "head", "body", "sent", "answered", "reading", "reading"]):
            case "nothing":
                entry.record = "none"
            case "head":
                entry.record = "none"
                await connection.send(head[: self.random.randrange(len(head))])
            case "body":
                await connection.send(head + body[: self.random.randrange(len(body))])
            case "sent":
                await connection.send(head + body)
                await asyncio.sleep(self.random.choice([0, 0.001, 0.02, 0.3]))
            case phase:
                await connection.send(head + body)
                entry.status, headers = await connection.head()
                entry.record = "one"
                left = self.random.randint(1, 30)
                async for _ in connection.body(headers):
                    left -= 1
                    if phase == "answered" or left == 0:
                        break
        connection.leave(how)
        if how == "half":
            await asyncio.sleep(self.random.uniform(0, 0.5))
        return False

    async def multiplexed(self) -> None:
        """Several requests at once over HTTP/2, of which some are reset and some are left unread."""
        connection = None
        try:
            connection = await Http2.open(self.world.port)
            await asyncio.gather(*(self.over_http2(connection) for _ in range(self.random.randint(1, 5))))
        except Cut as error:
            if not self.world.ledger.stopping:
                self.world.ledger.problems.append(f"HTTP/2: {error}")
        finally:
            if connection:
                connection.leave(self.random.choice(["close", "reset"]))

    async def over_http2(self, connection: Http2) -> None:
        model, verdict, text = self.model()
        conduct = self.random.choice(["multiplexed", "multiplexed", "multiplexed", "reset", "unread"])
        entry = self.world.ledger.enter(dialect=self.random.choice(CALLERS), model=model, stream=True, conduct=conduct, verdict=verdict)
        entry.text = text and text(entry.marker)
        path, body = request(entry.dialect, model, True, programs.prompt(entry.marker, 0))
        stream = await connection.ask(path, body, self.world.keys["chaos"], entry.id, reads=conduct != "unread")
        try:
            if conduct == "multiplexed":
                await answer(stream, entry)
                return
            if self.random.random() < 0.7:
                await stream.head()
                entry.record = "one"
            await asyncio.sleep(self.random.uniform(0, 0.5))
            await stream.reset()
        except Cut as error:
            entry.end = "cut"
            if entry.record != "one" and not self.world.ledger.stopping:
                entry.problems.append(f"no answer: {error}")

    async def nonsense(self) -> None:
        """What is no request for an answer. Nobody waits for the reply longer than a moment."""
        key = self.world.keys["chaos"]
        self.world.ledger.counts["nonsense"] += 1
        deep = b"[" * 50_000
        sent = self.random.choice([
            self.random.randbytes(self.random.randint(1, 3000)), b"GET / HTTP/1.1\r\n" * 500, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.random.randbytes(50),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self.random.randbytes(200), b"GET /no/such/path HTTP/1.1\r\nhost: x\r\n\r\n",
            b"DELETE /v1/messages HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + key.encode() + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nabcdefg",
        ])
        bodies = [deep, b"{", b"\xff\xfe{}", b"{}", b'{"model":5}', b'{"model":"steady-cohere/good","model":"x"}', b"null", b""]
        try:
            connection = await Connection.open(self.world.port)
        except Cut as error:
            if not self.world.ledger.stopping:
                self.world.ledger.problems.append(str(error))
            return
        try:
            if self.random.random() < 0.5:
                entry = self.world.ledger.enter(dialect=self.random.choice(CALLERS), conduct="nonsense", verdict="broken")
                path, _ = request(entry.dialect, "steady-cohere/good", True, "x")
                body = self.random.choice(bodies)
                await connection.send(post(path, body, key, entry.id) + body)
                await answer(connection, entry)
            else:
                await connection.send(sent)
                async with asyncio.timeout(self.random.uniform(0, 2)):
                    await connection.reader.read(10_000)
        except (Cut, OSError, TimeoutError):
            pass
        finally:
            connection.leave(self.random.choice(["close", "reset"]))


async def answer(connection: Connection | Stream, entry: Entry, pause: float = 0.0) -> bool:
    """Reads an answer to its end. Returns whether the connection can be used again."""
    entry.status, headers = await connection.head()
    if isinstance(connection, Stream) or headers.get("x-request-id") == entry.id:
        entry.record = "one"
    elif entry.conduct != "nonsense":
        entry.problems.append(f"x-request-id is {headers.get('x-request-id')}")
    kind = headers.get("content-type", "")
    streamed = entry.status == 200 and entry.stream
    reader, pieces = StreamReader(entry.dialect), []
    try:
        async for piece in connection.body(headers):
            reader.feed(piece) if streamed else pieces.append(piece)
            if pause:
                await asyncio.sleep(pause)
        body, cut = b"".join(pieces), False
    except Cut as error:
        if "silent" in str(error):
            raise
        body, cut = b"", True
    finally:
        entry.silence = connection.silence
    if streamed:
        note_stream(entry, reader, cut)
    elif cut:
        entry.end = "cut"
    else:
        note_whole(entry, body, kind)
    return not cut and headers.get("connection") != "close"


def note_stream(entry: Entry, reader: StreamReader, cut: bool) -> None:
    seen = reader.answer
    entry.problems += seen.problems
    note_text(entry, seen.text, seen.complete and not cut)
    ended = "cut" if cut else "silent"
    entry.end = "failed" if seen.failed else "complete" if seen.complete and not cut else ended


def note_whole(entry: Entry, body: bytes, kind: str) -> None:
    entry.end = "failed"
    try:
        value = json.loads(body)
        if entry.status == 200:
            note_text(entry, whole_text(entry.dialect, value), complete=True)
            entry.end = "complete"
        elif not error_message(entry.dialect, value):
            entry.problems.append(f"status {entry.status} with a body that is no error of the dialect: {body[:100]!r}")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        entry.problems.append(f"status {entry.status}, {kind}: a body that cannot be read ({error!r}): {body[:100]!r}")


def note_text(entry: Entry, text: str, complete: bool) -> None:
    """A complete answer has its text exactly, any other the beginning of it: nothing of another caller's, nothing twice."""
    if entry.text is None:
        foreign = [word for word in text.split() if word.startswith("k") and "." in word and not word.startswith(f"{entry.marker}.")]
        if foreign:
            entry.problems.append(f"another caller's text: {foreign[:2]}")
    elif text != entry.text if complete else not entry.text.startswith(text):
        entry.problems.append(f"{'the' if complete else 'the beginning of the'} text is {text[:60]!r} ... {text[-60:]!r}")


class Control:
    """A control caller: its streams come from an upstream that nobody disturbs."""

    def __init__(self, world: World, seed: str, quiet: bool) -> None:
        self.world, self.random, self.quiet = world, random.Random(seed), quiet

    async def run(self) -> None:
        while not self.world.over.is_set():
            await self.once()

    async def once(self) -> Entry:
        tokens, interval = (3, QUIET * 1_000_000) if self.quiet else (self.random.randint(100, 300), self.random.choice([10_000, 20_000]))
        model = f"control-{self.random.choice(UPSTREAMS)}/n{tokens}-i{interval}"
        entry = self.world.ledger.enter(dialect=self.random.choice(CALLERS), model=model, stream=True, conduct="control", verdict="complete")
        entry.text, entry.quiet = "".join(f"t{index} " for index in range(tokens)), self.quiet
        path, body = request(entry.dialect, model, True, programs.prompt(entry.marker, 0))
        connection = None
        try:
            connection = await Connection.open(self.world.port)
            await connection.send(post(path, body, self.world.keys["control"], entry.id) + body)
            await answer(connection, entry)
        except Cut as error:
            entry.end = "cut"
            if not self.world.ledger.stopping:
                entry.problems.append(str(error))
        finally:
            if connection:
                connection.leave("close")
        self.world.ledger.silence = max(self.world.ledger.silence, entry.silence)
        return entry


async def measure_lag(world: World) -> None:
    """How long the callers' own loop is held up."""
    while not world.over.is_set():
        began = time.monotonic()
        await asyncio.sleep(0.1)
        world.ledger.lag = max(world.ledger.lag, time.monotonic() - began - 0.1)


async def probe(world: World) -> None:
    """Asks for the gateway's health all the time, on a connection of its own each time."""
    while not world.over.is_set():
        began = time.monotonic()
        try:
            connection = await Connection.open(world.port)
            await connection.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            status, _ = await connection.head()
            connection.leave("close")
            if status != 200:
                world.ledger.problems.append(f"/healthz: {status}")
        except Cut as error:
            if not world.ledger.stopping:
                world.ledger.problems.append(f"/healthz: {error}")
        world.ledger.health = max(world.ledger.health, time.monotonic() - began)
        await asyncio.sleep(0.3)

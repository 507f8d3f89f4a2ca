"""The scripted upstream: answers in seven dialects as the model name says, and misbehaves as a vendor, a proxy or a dying
machine would. A process of its own, so that it can be killed.

    upstream.py PORT

`GET /_stats` is what it sees: requests so far, and answers under way.
"""

import asyncio
import json
import pathlib
import random
import re
import socket
import struct
import sys
import urllib.parse
import zlib

import programs
from programs import Program

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "agents"))
from ask import Ask
from vendor_answers import WRITERS, Text, Writer

PATHS = [
    (r"/v1/chat/completions", "openai-chat"), (r"/v1/responses", "openai-responses"), (r"/v1/messages", "anthropic"),
    (r"/v1beta/models/([^/:]+):(streamGenerateContent|generateContent)", "gemini"), (r"/api/chat", "ollama"), (r"/v2/chat", "cohere"),
    (r"/model/([^/]+)/(converse-stream|converse)", "bedrock"),
]
# The longest that one answer may last.
LONGEST = 60
seen = {"requests": 0, "open": 0}


class Over(Exception):
    """The connection is at its end."""


class Peer:
    """A connection of the gateway's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def write(self, data: bytes) -> None:
        if self.gone():
            raise Over
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        if data:
            await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def pause(self, seconds: float) -> None:
        """Waits, but no longer than the gateway does."""
        for _ in range(max(1, int(seconds / 0.2))):
            await asyncio.sleep(min(seconds, 0.2))
            if self.gone():
                raise Over

    def gone(self) -> bool:
        return self.reader.at_eof() or self.writer.transport.is_closing()

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        raise Over

    def close(self) -> None:
        self.writer.close()
        raise Over


class Asked:
    """A request of the gateway's."""

    def __init__(self, path: str, body: bytes) -> None:
        path = urllib.parse.unquote(path.partition("?")[0])
        self.dialect, model, self.stream = "", "", False
        for pattern, dialect in PATHS:
            if found := re.fullmatch(pattern, path):
                self.dialect = dialect
                if found.groups():
                    model, self.stream = found[1], "tream" in found[2]
        if not self.dialect:
            raise Over
        if not model:
            asked = json.loads(body)
            model, self.stream = asked["model"], asked.get("stream", self.dialect == "ollama")
        self.model, self.program = model, Program.parse(model)
        marker = programs.TEXT.search(body)
        self.marker = marker[1].decode() if marker else "nobody"

    def writer(self) -> Writer:
        return WRITERS[self.dialect](Ask(model=self.model), number=seen["requests"])


def head(kind: str, *more: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-type: {kind}", *more, "", ""]).encode()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = Peer(reader, writer)
    try:
        while True:
            await request(peer)
    except (Over, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def request(peer: Peer) -> None:
    lines = (await peer.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    path = lines[0].split(" ")[1]
    if path == "/_stats":
        data = json.dumps(seen).encode()
        return await peer.write(head("application/json", f"content-length: {len(data)}") + data)
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    seen["requests"] += 1
    seen["open"] += 1
    try:
        body = await peer.reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(path, body)
        async with asyncio.timeout(LONGEST):
            await play(peer, asked)
    except TimeoutError:
        peer.close()
    finally:
        seen["open"] -= 1


async def play(peer: Peer, asked: Asked) -> None:
    """Misbehaves before an answer, or answers."""
    match asked.program.behaviour:
        case "refuse":
            peer.close()
        case "hang":
            await peer.pause(LONGEST)
        case "nohttp":
            await peer.write(random.randbytes(200))
            peer.close()
        case "headers":
            await peer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                await peer.write(b"x-more: %s\r\n" % (b"x" * 200))
                await peer.pause(0.01)
        case "redirect":
            await peer.write(head("text/plain", "location: http://127.0.0.1:9/", "content-length: 0", status="307 Temporary Redirect"))
        case "page":
            page = b"<!doctype html><title>Sign in</title>" + b"<p>x" * 500
            await peer.write(head("text/html", f"content-length: {len(page)}") + page)
        case "zip":
            await peer.write(head("application/json", "content-encoding: gzip", "content-length: 50") + zlib.compress(b"x")[:2] + b"x" * 48)
        case behaviour if behaviour[0] == "e" and behaviour[1:].isdigit():
            data = json.dumps(asked.writer().error(int(behaviour[1:]), "scripted")).encode()
            after = ["retry-after: 1"] if behaviour in ("e429", "e503") else []
            await peer.write(head("application/json", f"content-length: {len(data)}", *after, status=f"{behaviour[1:]} Scripted") + data)
        case _:
            await (stream if asked.stream else whole)(peer, asked)


async def whole(peer: Peer, asked: Asked) -> None:
    program, writer = asked.program, asked.writer()
    for index in range(program.tokens):
        writer.add(Text(program.token(asked.marker, index)))
    data, behaviour = json.dumps(writer.whole()).encode(), program.behaviour
    if behaviour == "later":
        await peer.pause(2)
    await peer.pause(program.tokens * program.interval)
    half = data[: len(data) // 2]
    length = len(data) + {"longer": 10, "shorter": -10}.get(behaviour, 0)
    sized = head("application/json", f"content-length: {length}")
    if behaviour in ("longer", "drop", "reset", "stall", "beats", "endless", "garbage", "chunks"):
        await peer.write(sized + (data if behaviour == "longer" else half))
        if behaviour in ("stall", "beats", "endless"):
            await peer.pause(LONGEST)
        peer.reset() if behaviour == "reset" else peer.close()
    elif behaviour == "shorter":
        await peer.write(sized + data)
        peer.close()
    elif behaviour == "oversize":
        await peer.write(head("application/json", "content-length: 2000002") + b'"' + b"x" * 2_000_000 + b'"')
    elif behaviour == "error":
        data = json.dumps(writer.error(500, "scripted")).encode()
        await peer.write(head("application/json", f"content-length: {len(data)}", status="500 Scripted") + data)
    elif behaviour == "close":
        await peer.write(head("application/json", "connection: close") + half)
        peer.close()
    elif behaviour in ("bytes", "pieces"):
        await peer.write(head("application/json", "transfer-encoding: chunked"))
        await slices(peer, data, 1 if behaviour == "bytes" else 200)
        await peer.write(b"0\r\n\r\n")
    else:
        await peer.write(sized + data)


async def slices(peer: Peer, data: bytes, most: int) -> None:
    while data:
        size = random.randint(1, most)
        await peer.chunk(data[:size])
        data = data[size:]
        if random.random() < 0.05:
            await asyncio.sleep(0.005)


async def stream(peer: Peer, asked: Asked) -> None:
    program, writer = asked.program, asked.writer()
    behaviour = program.behaviour
    if behaviour == "later":
        await peer.pause(2)
    length = {"longer": ["content-length: 1000000"], "shorter": ["content-length: 300"]}.get(behaviour, ["transfer-encoding: chunked"])
    await peer.write(head(writer.content_type, *length))
    plain = behaviour in ("longer", "shorter")

    async def say(data: bytes) -> None:
        if plain:
            await peer.write(data)
        elif behaviour in ("bytes", "pieces"):
            await slices(peer, data, 1 if behaviour == "bytes" else 100)
        else:
            await peer.chunk(data)

    await say(writer.begin())
    for index in range(program.tokens):
        if index == program.after:
            await strike(peer, asked, writer)
        if program.interval:
            await peer.pause(program.interval)
        if behaviour == "comments" and writer.content_type == "text/event-stream":
            await say(b": a comment\n\n")
        await say(writer.add(Text(program.token(asked.marker, index))))
    if program.after >= program.tokens:
        await strike(peer, asked, writer)
    await say(writer.end())
    if plain:
        peer.close()
    if behaviour == "linger":
        await peer.pause(0.5)
    await peer.write(b"0\r\n\r\n")


async def strike(peer: Peer, asked: Asked, writer: Writer) -> None:
    """The fault of a stream under way."""
    match asked.program.behaviour:
        case "reset":
            peer.reset()
        case "close":
            await peer.write(b"0\r\n\r\n")
            raise Over
        case "longer":
            peer.close()
        case "drop":
            await peer.write(b"400\r\n" + writer.add(Text(asked.program.token(asked.marker, asked.program.after)))[:40])
            peer.close()
        case "stall":
            await peer.pause(LONGEST)
        case "garbage":
            await peer.chunk(random.randbytes(300))
            peer.close()
        case "chunks":
            await peer.write(b"zz\r\nxx\r\n")
            await peer.pause(1)
            peer.close()
        case "oversize":
            begun = b"data: " if writer.content_type == "text/event-stream" else b""
            if asked.dialect == "bedrock":
                begun = struct.pack("!III", 2_000_000_000, 10, zlib.crc32(struct.pack("!II", 2_000_000_000, 10)))
            await peer.chunk(begun)
            for _ in range(40):
                await peer.chunk(b"x" * 60_000)
            peer.close()
        case "beats":
            beat = {"bedrock": UNKNOWN_EVENT, "ollama": b"\n"}.get(asked.dialect, b": still here\n\n")
            while True:
                await peer.chunk(beat)
                await peer.pause(0.2)
        case "endless":
            more = writer.add(Text(asked.program.token(asked.marker, 0) + " " * 4000))
            while True:
                await peer.chunk(more)
                await asyncio.sleep(0.01)
        case "error":
            await peer.chunk(writer.broken("scripted"))
            await peer.write(b"0\r\n\r\n")
            raise Over


UNKNOWN_EVENT = WRITERS["bedrock"](Ask(), number=0).event("unknown", {})


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=500)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

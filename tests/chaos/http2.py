"""A client of HTTP/2 without TLS, as small as it can be: several requests at once on one connection, streams that are reset
or left unread. It reads no header but the status, and knows that only as 200 or another.
"""

import asyncio
import struct
import time
from collections.abc import AsyncIterator

from client import PATIENCE, Connection, Cut

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
OVER = -1  # in a stream's queue: it has ended
# `:status: 200` in the static table of RFC 7541, appendix A.
STATUS_200 = 0x88


def literal(name: str, value: str) -> bytes:
    """A header field that enters no table, without Huffman coding."""
    size = len(value)
    if size < 127:
        return bytes([0x10, len(name)]) + name.encode() + bytes([size]) + value.encode()
    rest, sizes = size - 127, [127]
    while rest >= 128:
        sizes.append(rest % 128 + 128)
        rest //= 128
    return bytes([0x10, len(name)]) + name.encode() + bytes([*sizes, rest]) + value.encode()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


class Http2:
    """A connection, and the task that reads it."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.streams, self.next = connection, {}, 1
        self.reading = asyncio.create_task(self.read())

    @classmethod
    async def open(cls, port: int) -> "Http2":
        made = cls(await Connection.open(port))
        # The connection's window is as good as none; each stream has its own, of 64 KiB.
        await made.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(WINDOW, 0, 0, struct.pack("!I", 1 << 30)))
        return made

    async def send(self, data: bytes) -> None:
        await self.connection.send(data)

    async def ask(self, path: str, body: bytes, key: str, id: str, reads: bool) -> "Stream":
        """`reads`: whether what arrives makes room for more."""
        stream = self.streams[self.next] = Stream(self, self.next, reads)
        self.next += 2
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "gateway", "content-type": "application/json",
                  "authorization": f"Bearer {key}", "x-request-id": id}
        await self.send(frame(HEADERS, END_HEADERS, stream.number, b"".join(literal(*field) for field in fields.items())))
        pieces = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
        for piece in pieces:
            await self.send(frame(DATA, END_STREAM if piece is pieces[-1] else 0, stream.number, piece))
        return stream

    async def read(self) -> None:
        reader = self.connection.reader
        try:
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                await self.take(head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF, payload)
        except (OSError, EOFError, Cut):
            pass
        finally:
            for stream in self.streams.values():
                stream.put(None)

    async def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind in (SETTINGS, PING) and not flags & ACK:
            await self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
        stream = self.streams.get(number)
        if not stream:
            return
        if kind == DATA and payload and stream.reads:
            await self.send(frame(WINDOW, 0, number, struct.pack("!I", len(payload))))
        if kind in (DATA, HEADERS):
            stream.put((kind, payload))
        if kind == RESET or kind in (DATA, HEADERS) and flags & END_STREAM:
            stream.put(None if kind == RESET else (OVER, b""))

    def leave(self, how: str) -> None:
        self.reading.cancel()
        self.connection.leave(how)


class Stream:
    """One request, with what `callers.answer` asks of a connection."""

    def __init__(self, connection: Http2, number: int, reads: bool) -> None:
        self.connection, self.number, self.reads = connection, number, reads
        self.arrived: asyncio.Queue = asyncio.Queue()
        self.silence, self.heard = 0.0, time.monotonic()

    def put(self, item: tuple[int, bytes] | None) -> None:
        self.arrived.put_nowait(item)

    async def take(self) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(PATIENCE):
                item = await self.arrived.get()
        except TimeoutError as error:
            raise Cut(f"silent for {PATIENCE} s") from error
        if item is None:
            raise Cut("reset, or the connection ended")
        now = time.monotonic()
        self.silence, self.heard = max(self.silence, now - self.heard), now
        return item

    async def head(self) -> tuple[int | None, dict[str, str]]:
        kind, payload = await self.take()
        while kind != HEADERS:
            kind, payload = await self.take()
        return 200 if payload[:1] == bytes([STATUS_200]) else None, {}

    async def body(self, _headers: dict[str, str]) -> AsyncIterator[bytes]:
        while True:
            kind, payload = await self.take()
            if kind == OVER:
                return
            if kind == DATA:
                yield payload

    async def reset(self) -> None:
        await self.connection.send(frame(RESET, 0, self.number, struct.pack("!I", 8)))

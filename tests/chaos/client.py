"""An HTTP/1.1 client that does what clients should not: it reads slowly or never, sends halves, and leaves at any moment."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator

# How long a client waits for anything before it gives up. No answer may take so long without a heartbeat.
PATIENCE = 40


class Cut(Exception):
    """The connection ended, or broke, before the answer was whole."""


class Connection:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.heard = time.monotonic()
        self.silence = 0.0  # the longest time without a byte, of answers that were read

    @classmethod
    async def open(cls, port: int, receive: int = 0) -> "Connection":
        """`receive`: the size of the receive buffer, for a reader that is to be slow."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            return cls(*await asyncio.open_connection(sock=sock, limit=receive or 1 << 17))
        except OSError as error:
            sock.close()
            raise Cut(f"connect: {error}") from error

    async def send(self, data: bytes) -> None:
        """Sends; an answer that comes before all is sent may still be read."""
        if self.writer.transport.is_closing():
            return
        try:
            self.writer.write(data)
            async with asyncio.timeout(PATIENCE):
                await self.writer.drain()
        except OSError:
            pass
        except TimeoutError as error:
            raise Cut("nobody reads what is sent") from error
        self.heard = time.monotonic()

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of an answer."""
        lines = (await self.take(self.reader.readuntil(b"\r\n\r\n"))).decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status == 100:
            return await self.head()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        return status, headers

    async def body(self, headers: dict[str, str]) -> AsyncIterator[bytes]:
        """The pieces of an answer, as they come. Raises `Cut` when it ends before its end."""
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(await self.take(self.reader.readuntil(b"\r\n")), 16):
                yield (await self.take(self.reader.readexactly(size + 2)))[:-2]
            await self.take(self.reader.readuntil(b"\r\n"))
            return
        left = int(headers.get("content-length", 0))
        while left:
            piece = await self.take(self.reader.read(min(left, 65536)))
            if not piece:
                raise Cut("the body is shorter than its length")
            left -= len(piece)
            yield piece

    async def take(self, reading):
        """What comes next, within some time."""
        try:
            async with asyncio.timeout(PATIENCE):
                piece = await reading
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Cut(repr(error)) from error
        except TimeoutError as error:
            raise Cut(f"silent for {PATIENCE} s") from error
        now = time.monotonic()
        self.silence = max(self.silence, now - self.heard)
        self.heard = now
        return piece

    def leave(self, how: str) -> None:
        """Hangs up: `close`, `reset`, or `half`, which closes the sending side alone."""
        try:
            if how == "half":
                return self.writer.write_eof()
            if how == "reset":
                sock = self.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return self.writer.transport.abort()
        except OSError:
            pass
        self.writer.close()


def post(path: str, body: bytes, key: str | None, id: str, *more: str, chunked: bool = False) -> bytes:
    """The head of a request."""
    lines = [f"POST {path} HTTP/1.1", "host: gateway", "content-type: application/json", f"x-request-id: {id}", *more]
    lines.append("transfer-encoding: chunked" if chunked else f"content-length: {len(body)}")
    if key:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode()

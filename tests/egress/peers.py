"""What stands on the way of tests/egress/run: a SOCKS5 proxy (RFC 1928 and 1929), and fronts of an upstream that
speak TLS or note when requests came. Standard library only; threads end with the process."""

import pathlib
import socket
import ssl
import threading
import time


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


def mutual_tls(work: pathlib.Path) -> ssl.SSLContext:
    """Of a server that wants a client certificate of the same CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(work / "server.pem", work / "server.key")
    context.load_verify_locations(work / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def in_thread(function, *arguments) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


class Server:
    """Accepts connections and serves each in a thread."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.listener = socket.create_server(address, backlog=128)
        self.port = self.listener.getsockname()[1]
        in_thread(self.accept)

    def accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            in_thread(self.guarded, connection)

    def guarded(self, connection: socket.socket) -> None:
        try:
            self.serve(connection)
        except (OSError, EOFError):
            pass
        finally:
            connection.close()

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError


def pipe(a: socket.socket, b: socket.socket, seen=lambda data: None) -> None:
    """Passes bytes both ways until one side ends; `seen` is given those from `a`."""

    def one_way(source: socket.socket, sink: socket.socket, look) -> None:
        try:
            while data := source.recv(65536):
                look(data)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    in_thread(one_way, b, a, lambda data: None)
    one_way(a, b, seen)


class Front(Server):
    """Passes connections on to a port of 127.0.0.1, with TLS on this side if there is a context."""

    def __init__(self, address: tuple[str, int], upstream: int, tls: ssl.SSLContext | None = None) -> None:
        self.upstream, self.tls = upstream, tls
        #: When requests came, by the monotonic clock.
        self.requests: list[float] = []
        super().__init__(address)

    def serve(self, connection: socket.socket) -> None:
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True)
        onward = socket.create_connection(("127.0.0.1", self.upstream))
        pipe(connection, onward, lambda data: data.startswith(b"POST ") and self.requests.append(time.monotonic()))


class Socks5(Server):
    """A SOCKS5 proxy, for one user if there is one."""

    def __init__(self, user: tuple[str, str] | None = None) -> None:
        self.user = user
        #: Host and port of each request.
        self.asked: list[tuple[str, int]] = []
        super().__init__(("127.0.0.1", 0))

    def serve(self, connection: socket.socket) -> None:
        def read(count: int) -> bytes:
            data = b""
            while len(data) < count:
                more = connection.recv(count - len(data))
                if not more:
                    raise EOFError
                data += more
            return data

        version, count = read(2)
        methods = read(count)
        method = 2 if self.user else 0
        if version != 5 or method not in methods:
            connection.sendall(b"\x05\xff")
            return
        connection.sendall(bytes([5, method]))
        if self.user:
            read(1)
            given = tuple(read(read(1)[0]).decode() for _ in range(2))
            connection.sendall(bytes([1, given != self.user]))
            if given != self.user:
                return
        _, command, _, kind = read(4)
        if kind == 1:
            host = socket.inet_ntoa(read(4))
        elif kind == 3:
            host = read(read(1)[0]).decode()
        else:
            host = socket.inet_ntop(socket.AF_INET6, read(16))
        port = int.from_bytes(read(2), "big")
        self.asked.append((host, port))
        onward = socket.create_connection((host, port)) if command == 1 else None
        connection.sendall(bytes([5, 0 if onward else 7, 0, 1, 127, 0, 0, 1, 0, 0]))
        if onward:
            pipe(connection, onward)

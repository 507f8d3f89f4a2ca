"""An upstream as real ones are, found by DNS and spoken to over TLS, on loopback: for tests/deploy/run."""

import pathlib
import socket
import socketserver
import ssl
import struct
import subprocess
import threading

NAME = "provider.example"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Tls:
    """Passes the bytes of TLS connections on to a plain port."""

    def __init__(self, behind: int, work: pathlib.Path):
        self.certificate, key = work / "ca.pem", work / "ca.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", str(key), "-out", str(self.certificate), "-days", "2", "-subj", f"/CN={NAME}",
                        "-addext", f"subjectAltName=DNS:{NAME}", "-addext", "basicConstraints=critical,CA:FALSE"],
                       check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with context.wrap_socket(self.request, server_side=True) as caller, \
                        socket.create_connection(("127.0.0.1", behind)) as plain:
                    threading.Thread(target=pump, args=(caller, plain), daemon=True).start()
                    pump(plain, caller)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.port = self.server.server_address[1]

    def __enter__(self) -> "Tls":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass  # Either side has gone.


class Names:
    """A name server that knows one address for every name. Port 53, which is why it needs root, on a
    loopback address that nobody else uses."""

    address = "127.53.53.53"

    def __init__(self) -> None:
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.address, 53))

    def __enter__(self) -> "Names":
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def serve(self) -> None:
        while True:
            try:
                query, sender = self.socket.recvfrom(512)
            except OSError:
                return
            self.asked += 1
            # The question: labels up to a zero, then type and class.
            end = query.index(b"\0", 12) + 5
            kind = struct.unpack("!H", query[end - 4:end - 2])[0]
            answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton("127.0.0.1") if kind == 1 else b""
            head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if answer else 0, 0, 0)
            self.socket.sendto(head + query[12:end] + answer, sender)

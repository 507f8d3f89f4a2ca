"""Programs of the suite: each says that it is ready, or answers on its port; all end with it."""

import os
import pathlib
import re
import socket
import subprocess
import time


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Programs:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.started = folder, []

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "\n".join(path.read_text()[-1000:] for path in sorted(self.folder.glob("*.log")))

    def _spawn(self, command: list[str], folder: pathlib.Path | None, variables: dict[str, str]) -> tuple[subprocess.Popen, pathlib.Path]:
        log = self.folder / f"{len(self.started)}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **variables})
        self.started.append(process)
        return process, log

    def start(self, command: list[str], says: str, folder: pathlib.Path | None = None, **variables: str) -> str:
        """Starts a program, and returns what it says once it is ready."""
        process, log = self._spawn(command, folder, variables)
        for _ in range(1200):
            found = re.search(says, log.read_text())
            if found:
                return found[0]
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"{command} did not start:\n{log.read_text()}")

    def serve(self, command: list[str], address: str, **variables: str) -> None:
        """Starts a program that says nothing, and waits for its port."""
        process, log = self._spawn(command, None, variables)
        host, port = address.rsplit(":", 1)
        for _ in range(600):
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except OSError:
                if process.poll() is not None:
                    break
                time.sleep(0.05)
        raise SystemExit(f"{command} did not start:\n{log.read_text()}")

"""A Debian package on a Debian system: installed, started as its user, changed, upgraded, removed, purged.

Runs in a mount and a network namespace of its own (`unshare --mount --net`), in a copy of this system: an overlay whose changes
are in memory and vanish with the namespace.

    unshare --mount --net debian.py PACKAGE EMPTY-FOLDER

It never removes that folder's content: as long as it is mounted, that would be the system's."""

import fcntl
import os
import pathlib
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "deploy"))

from harness import check, start, started  # noqa: E402

CONFIG = "/etc/streamgate/streamgate.yaml"


def run(command: list, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **options)


def loopback() -> None:
    """A new network namespace has it, but down."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up and running


class System:
    """A copy of this system, until the namespace ends."""

    def __init__(self, folder: pathlib.Path):
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
        self.root = folder / "root"
        for name in ("root", "upper", "work"):
            (folder / name).mkdir()
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work",
                        str(self.root)], check=True)
        # Nothing of this system's own is mounted below: what a package's scripts might remove there is removed from the copy.
        subprocess.run(["mount", "-t", "proc", "-o", "ro", "proc", str(self.root / "proc")], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(self.root / "dev")], check=True)
        for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
            os.mknod(self.root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            (self.root / "dev" / name).chmod(0o666)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(self.root / "run")], check=True)
        (self.root / "run/lock").mkdir()
        # As in a container: no service manager runs, and none is asked.
        policy = self.root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)

    def command(self, *words: str, user: str = "root") -> list[str]:
        return ["/usr/sbin/chroot", f"--userspec={user}:{user}", str(self.root), *words]

    def run(self, *words: str, user: str = "root") -> subprocess.CompletedProcess:
        return run(self.command(*words, user=user), env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"})

    def there(self, path: str) -> bool:
        return os.path.lexists(self.root / path.lstrip("/"))

    def owner(self, path: str) -> str:
        return self.run("stat", "--format", "%U:%G %a", path).stdout.strip()

    def status(self) -> str:
        return self.run("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}", "streamgate").stdout.strip()


def contents(package: pathlib.Path) -> None:
    fields = dict(re.findall(r"^ ?([A-Z][\w-]+): (.+)$", run(["dpkg-deb", "--field", package]).stdout, re.M))
    machine = run(["dpkg", "--print-architecture"]).stdout.strip()
    check(fields["Package"] == "streamgate" and fields["Architecture"] == machine and fields["Depends"] == "adduser", "debian: control fields", fields)
    lines = run(["dpkg-deb", "--contents", package]).stdout
    listed = {name: mode for mode, name in re.findall(r"^(\S{10}) \S+ .* (?:\./)?(\S+)$", lines, re.M)}
    wanted = {"usr/bin/streamgate": "-rwxr-xr-x", "etc/streamgate/streamgate.yaml": "-rw-r-----", "etc/default/streamgate": "-rw-r-----",
              "usr/share/bash-completion/completions/streamgate": "-rw-r--r--", "usr/share/zsh/vendor-completions/_streamgate": "-rw-r--r--",
              "usr/share/doc/streamgate/copyright": "-rw-r--r--"}
    different = {name: listed.get(name) for name, mode in wanted.items() if listed.get(name) != mode}
    check(not different, "debian: files and their modes", different)
    check(any(re.fullmatch(r"(usr/)?lib/systemd/system/streamgate\.service", name) for name in listed), "debian: a systemd unit", list(listed))
    check(any(name.startswith("usr/share/man/man1/streamgate.1") for name in listed), "debian: a man page", list(listed))


def unit(system: System) -> None:
    done = system.run("systemd-analyze", "verify", "--man=no", "/lib/systemd/system/streamgate.service")
    check(done.returncode == 0 and "streamgate" not in done.stderr, "debian: systemd accepts the unit", done.stdout + done.stderr)
    text = (system.root / "lib/systemd/system/streamgate.service").read_text()
    exposure = system.run("systemd-analyze", "security", "--offline=true", "--threshold=25", "/lib/systemd/system/streamgate.service")
    check(exposure.returncode == 0, "debian: systemd rates the unit's exposure below 2.5 of 10", exposure.stdout[-400:] + exposure.stderr)
    page = (pathlib.Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
    needed = int(re.search(r"^\| \*\*together\*\* \| (\d+) s", page, re.M).group(1))
    check(int(re.search(r"^TimeoutStopSec=(\d+)s$", text, re.M).group(1)) >= needed, f"debian: systemd waits for a shutdown ({needed} s)")
    check(system.there("/etc/systemd/system/multi-user.target.wants/streamgate.service"), "debian: the service is enabled")


def service(system: System) -> None:
    """What the unit starts, as its user."""
    words = re.search(r"^ExecStart=(.+)$", (system.root / "lib/systemd/system/streamgate.service").read_text(), re.M).group(1).split()
    log = system.root / "tmp/log"
    process = start(system.command(*words, user="streamgate"), env={"PATH": "/usr/bin"}, stdout=log.open("w"), stderr=subprocess.STDOUT)
    until = time.monotonic() + 20
    ready = system.run("streamgate", "health")
    while ready.returncode != 0 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
        ready = system.run("streamgate", "health")
    check(ready.returncode == 0, "debian: the service is ready, with the configuration as it is installed", log.read_text()[-1500:] + ready.stderr)
    nobody = system.run("cat", CONFIG, user="nobody")
    check(nobody.returncode != 0, "debian: other users do not read the configuration", nobody.stdout)
    process.terminate()
    check(process.wait(60) == 0, "debian: SIGTERM ends it with status 0", log.read_text()[-1500:])


def main(package: pathlib.Path, folder: pathlib.Path) -> None:
    loopback()
    contents(package)
    system = System(folder)
    shutil.copy(package, system.root / "tmp/streamgate.deb")
    done = system.run("dpkg", "--install", "/tmp/streamgate.deb")
    check(done.returncode == 0 and system.status() == "ii", "debian: dpkg --install", done.stdout + done.stderr)
    known = system.run("getent", "passwd", "streamgate").stdout.split(":")
    check(len(known) == 7 and int(known[2]) < 1000 and known[6].strip().endswith("nologin"), "debian: a system user that cannot log in", known)
    check(system.owner(CONFIG) == "root:streamgate 640", "debian: the configuration is for root and the service", system.owner(CONFIG))
    accepted = system.run("streamgate", "check", "--config", CONFIG, user="streamgate")
    check(accepted.returncode == 0, "debian: its user reads it, and it is valid", accepted.stdout + accepted.stderr)
    unit(system)
    service(system)

    config = system.root / CONFIG.lstrip("/")
    config.write_text(config.read_text() + "# An operator's own line.\n")
    (system.root / "var/lib/streamgate").mkdir(exist_ok=True)
    (system.root / "var/lib/streamgate/streams.redb").write_text("kept")
    again = system.run("dpkg", "--install", "--force-confdef", "--force-confold", "/tmp/streamgate.deb")
    check(again.returncode == 0 and "operator's own" in config.read_text() and system.owner(CONFIG) == "root:streamgate 640",
          "debian: an upgrade leaves a changed configuration, and its owner", again.stdout + again.stderr)
    removed = system.run("dpkg", "--remove", "streamgate")
    gone = not system.there("/usr/bin/streamgate") and not system.there("/lib/systemd/system/streamgate.service")
    check(removed.returncode == 0 and gone and system.there(CONFIG) and system.there("/var/lib/streamgate/streams.redb"),
          "debian: a removal leaves configuration and streams", removed.stdout + removed.stderr)
    purged = system.run("dpkg", "--purge", "streamgate")
    left = [path for path in ("/etc/streamgate", "/etc/default/streamgate", "/var/lib/streamgate",
                              "/etc/systemd/system/multi-user.target.wants/streamgate.service") if system.there(path)]
    check(purged.returncode == 0 and not left, "debian: a purge leaves nothing", [left, purged.stdout + purged.stderr])


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    finally:
        for process in started:
            process.kill()

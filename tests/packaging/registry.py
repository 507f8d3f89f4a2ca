"""The npm packages: installed from a registry on loopback, started by npx, ended by signals."""

import hashlib
import http.server
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import threading
import urllib.parse

from harness import check, start

# npm's names of this machine.
PLATFORM = f"linux-{ {'x86_64': 'x64', 'aarch64': 'arm64'}[platform.machine()] }"


class Registry(http.server.ThreadingHTTPServer):
    """Serves the archives of one folder as an npm registry does, and nothing else."""

    def __init__(self, folder: pathlib.Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.packages, self.archives, self.fetched = {}, {}, []
        for archive in folder.glob("*.tgz"):
            described = json.loads(subprocess.run(["tar", "-xOzf", str(archive), "package/package.json"], capture_output=True, check=True).stdout)
            data = archive.read_bytes()
            self.archives[f"/-/{archive.name}"] = data
            described["dist"] = {"tarball": f"{self.url}/-/{archive.name}", "shasum": hashlib.sha1(data).hexdigest()}
            self.packages[described["name"]] = {"name": described["name"], "dist-tags": {"latest": described["version"]},
                                                "versions": {described["version"]: described}}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        path = urllib.parse.unquote(self.path)
        package, archive = self.server.packages.get(path[1:]), self.server.archives.get(path)
        if archive:
            self.server.fetched.append(path)
        body = archive or json.dumps(package or {"error": "not found"}).encode()
        self.send_response(200 if archive or package else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def started_by_npm(project: pathlib.Path) -> tuple[subprocess.Popen, str]:
    process = start([project / "node_modules/.bin/streamgate", "--listen", "127.0.0.1:0"], cwd=project, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    guard = threading.Timer(20, process.kill)
    guard.start()
    said = ""
    for line in process.stdout:
        said += line
        if "http://" in line:
            break
    guard.cancel()
    return process, said


def launcher(project: pathlib.Path, version: str) -> None:
    command = project / "node_modules/.bin/streamgate"
    run = lambda *words: subprocess.run([str(command), *words], cwd=project, capture_output=True, text=True, timeout=60)
    reported = run("--version")
    check(reported.stdout == f"streamgate {version}\n" and reported.returncode == 0, "npm: the launcher starts the program", reported.stdout + reported.stderr)
    (project / "wrong.yaml").write_text("servers: {}\n")
    wrong = run("check", "--config", "wrong.yaml")
    check(wrong.returncode == 2 and "wrong.yaml" in wrong.stderr, "npm: exit status and standard error are the program's", wrong)
    for name in ("SIGTERM", "SIGINT"):
        process, said = started_by_npm(project)
        child = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        process.send_signal(getattr(signal, name))
        check("http://" in said and process.wait(60) == 0 and not pathlib.Path(f"/proc/{child}").exists(),
              f"npm: {name} ends the program and then the launcher, with status 0", said)
    process, said = started_by_npm(project)
    child = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGKILL)
    check(process.wait(60) == 128 + 9, "npm: a program that was killed is reported as a shell does", process.returncode)
    shutil.rmtree(project / "node_modules/@streamgate" / PLATFORM)
    absent = run("--version")
    check(absent.returncode == 1 and "optional" in absent.stderr and "    at " not in absent.stderr,
          "npm: an install without the platform's package is explained", absent.stderr)


def examine(work: pathlib.Path, dist: pathlib.Path, build, version: str) -> None:
    targets = [folder.name for folder in sorted((dist / "targets").iterdir()) if (folder / "man").is_dir()]
    done = build("npm", *targets, dist=dist)
    archives = sorted(path.name for path in (dist / "npm").glob("*.tgz"))
    check(done.returncode == 0 and len(archives) == len(targets) + 1 == 5, "npm: a package for each target, and the launcher's", done.stderr + str(archives))
    for archive in (dist / "npm").glob("*.tgz"):
        # npm reads it as it would one of its own.
        packed = subprocess.run(["npm", "pack", "--dry-run", "--json", str(archive)], capture_output=True, text=True, timeout=60, cwd=work)
        names = [file["path"] for file in json.loads(packed.stdout or '[{"files": []}]')[0]["files"]]
        wanted = {"package.json", "LICENSE-MIT"} | ({"bin/streamgate.js"} if archive.name == f"streamgate-{version}.tgz" else {"streamgate"})
        check(packed.returncode == 0 and wanted <= set(names), f"npm: {archive.name} is a package", [packed.stderr, names])
    registry = Registry(dist / "npm")
    threading.Thread(target=registry.serve_forever, daemon=True).start()
    project = work / "project"
    project.mkdir()
    (project / "package.json").write_text('{ "name": "project", "private": true }\n')
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--registry", registry.url, "--cache", str(work / "npm-cache"), "streamgate"],
                          cwd=project, capture_output=True, text=True, timeout=120, env={**os.environ, "npm_config_replace_registry_host": "never"})
    check(done.returncode == 0, "npm: npm install streamgate", done.stdout + done.stderr)
    programs = [path for path in registry.fetched if not path.endswith(f"/streamgate-{version}.tgz")]
    check(programs == [f"/-/streamgate-{PLATFORM}-{version}.tgz"], "npm: only this platform's program is downloaded", registry.fetched)
    installed = json.loads((project / "node_modules/streamgate/package.json").read_text())
    check(not {"install", "postinstall", "preinstall"} & installed.get("scripts", {}).keys() and set(installed["optionalDependencies"].values()) == {version},
          "npm: no install script, and programs of the same version", installed)
    launcher(project, version)
    readme = (project / "node_modules/streamgate/README.md").read_text()
    check(all(re.match(r"npx streamgate\b", line) for line in re.search(r"```sh\n(.*?)```", readme, re.S).group(1).splitlines()), "npm: its README shows the launcher")
    registry.shutdown()

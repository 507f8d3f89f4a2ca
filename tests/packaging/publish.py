"""Publishing to stand-ins for docker, gh, cargo, npm and helm, which record how they are called: order, names, tags, repetition."""

import os
import pathlib
import re
import shutil
import subprocess

from harness import ROOT, check

STAND_IN = r"""#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
  "docker buildx build "*)
    while [ "$1" != --metadata-file ]; do shift; done
    echo '{"containerimage.digest": "sha256:DIGEST"}' > "$2" ;;
  "docker buildx imagetools inspect "*) echo "sha256:DIGEST" ;;
  "npm view "* | "cargo info "* | "gh release view "*)
    for word; do ! grep -qxF "$word" "$PUBLISHED" || { echo "$VERSION"; exit 0; }; done
    exit 1 ;;
esac
""".replace("DIGEST", "5" * 64)
SCRIPTS = ("packaging/publish", "packaging/build", "CHANGELOG.md", "Cargo.toml")


class Publisher:
    """A copy of the scripts, among stand-ins."""

    def __init__(self, work: pathlib.Path, dist: pathlib.Path, version: str):
        self.root = work / "publish"
        self.calls, self.version = self.root / "calls", version
        (self.root / "bin").mkdir(parents=True)
        for name in ("docker", "gh", "cargo", "npm", "helm"):
            (self.root / "bin" / name).write_text(STAND_IN)
            (self.root / "bin" / name).chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "CALLS": str(self.calls), "DIST": str(dist),
                            "PUBLISHED": str(self.root / "published"), "VERSION": version, "IMAGE": "registry.example/gate"}
        self.environment.pop("GITHUB_OUTPUT", None)

    def published(self, *lines: str) -> None:
        (self.root / "published").write_text("".join(f"{line}\n" for line in lines))

    def run(self, *arguments: str, script: pathlib.Path = ROOT / "packaging/publish", **variables: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        self.calls.write_text("")
        done = subprocess.run([str(script), *arguments], env={**self.environment, **variables}, capture_output=True, text=True, timeout=60, cwd=self.root)
        return done, self.calls.read_text().splitlines()


def images(publisher: Publisher, version: str) -> None:
    digest = publisher.root / "digest-amd64"
    done, calls = publisher.run("image", "amd64", str(digest))
    check(done.returncode == 0 and digest.read_text() == f"sha256:{'5' * 64}\n" and len(calls) == 1 and "--platform linux/amd64" in calls[0]
          and f"VERSION={version}" in calls[0] and "name=registry.example/gate" in calls[0] and "push=true" in calls[0],
          "publish: an image by digest", [calls, done.stderr])
    output = publisher.root / "output"
    done, calls = publisher.run("image-index", str(digest), str(digest), GITHUB_OUTPUT=str(output))
    tags = re.findall(r"--tag \S+:(\S+)", calls[0])
    check(done.returncode == 0 and tags == [version, version.rsplit(".", 1)[0], "latest"] and calls[0].count("@sha256:") == 2
          and output.read_text() == f"digest=sha256:{'5' * 64}\n", "publish: one name for the images of both architectures", [calls, done.stderr])
    digest.write_text("denied\n")
    done, calls = publisher.run("image-index", str(digest))
    check(done.returncode == 1 and "no digest" in done.stderr and not calls, "publish: an image without a digest is not published", [calls, done.stderr])


def packages(publisher: Publisher, version: str) -> None:
    done, calls = publisher.run("crates")
    published = [call for call in calls if call.startswith("cargo publish")]
    wanted = [f"cargo publish --locked --package {crate}" for crate in ("streamgate-wire", "streamgate-sim", "streamgate")]
    check(done.returncode == 0 and published == wanted, "publish: crates, in the order of their dependencies", [calls, done.stderr])
    done, calls = publisher.run("npm")
    published = [call.split()[2].rsplit("/", 1)[1] for call in calls if call.startswith("npm publish")]
    check(done.returncode == 0 and len(published) == 5 and published[-1] == f"streamgate-{version}.tgz"
          and all("--provenance" in call and "--tag latest" in call for call in calls if "publish" in call),
          "publish: npm packages, the launcher last", [calls, done.stderr])
    publisher.published(*(f"{name}@{version}" for name in ("@streamgate/linux-x64", "streamgate", "streamgate-wire", "streamgate-sim")))
    done, calls = publisher.run("npm")
    again = [call.split()[2].rsplit("/", 1)[1] for call in calls if call.startswith("npm publish")]
    check(done.returncode == 0 and len(again) == 3 and f"streamgate-{version}.tgz" not in again, "publish: what is published already is left", [calls, done.stderr])
    done, calls = publisher.run("crates")
    check(done.returncode == 0 and not [call for call in calls if call.startswith("cargo publish")], "publish: crates, too", [calls, done.stderr])
    publisher.published()
    done, calls = publisher.run("chart")
    check(done.returncode == 0 and calls and calls[0].endswith(f"streamgate-chart-{version}.tgz oci://registry.example/charts"), "publish: the chart", [calls, done.stderr])


def release(publisher: Publisher, version: str) -> None:
    """In a copy whose changelog has the day of the release, as it is, and as a pre-release."""
    done, calls = publisher.run("release", "v9.9.9")
    check(done.returncode != 0 and not calls, "publish: no release for a tag of another version", [calls, done.stderr])
    copy = publisher.root / "copy"
    source = (ROOT / "packaging/build").read_text()
    names = re.findall(r'^    "([\w./-]+)": \[', source[source.index("PLACES = {"):source.index("def check")], re.M)
    for name in {*names, *SCRIPTS}:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for given, flag in ((version, False), (f"{version}-rc.1", True)):
        for name in names:
            file = copy / name
            file.write_text(re.sub(rf"(?<![\d.]){re.escape(version)}(-rc\.1)?(?![\d.])", given, (ROOT / name).read_text()))
        dated = re.sub(rf"^## {re.escape(version)}\b.*$", f"## {given} - 2026-12-31", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
        (copy / "CHANGELOG.md").write_text(dated)
        done, calls = publisher.run("release", f"v{given}", script=copy / "packaging/publish")
        created = next((call for call in calls if call.startswith("gh release create")), "")
        uploaded = next((call for call in calls if call.startswith("gh release upload")), "")
        check(done.returncode == 0 and f"create v{given} --verify-tag" in created and ("--prerelease" in created) == flag and "SHA256SUMS" in uploaded,
              f"publish: a release {given}", [calls, done.stderr])
    digest = publisher.root / "digest-rc"
    digest.write_text(f"sha256:{'5' * 64}\n")
    done, calls = publisher.run("image-index", str(digest), script=copy / "packaging/publish")
    check(done.returncode == 0 and re.findall(r"--tag \S+:(\S+)", calls[0]) == [f"{version}-rc.1"], "publish: a pre-release is nobody's default", [calls, done.stderr])


def examine(work: pathlib.Path, dist: pathlib.Path, version: str) -> None:
    publisher = Publisher(work, dist, version)
    subprocess.run([str(ROOT / "packaging/build"), "checksums"], env={**os.environ, "DIST": str(dist)}, check=True, capture_output=True)
    images(publisher, version)
    packages(publisher, version)
    release(publisher, version)

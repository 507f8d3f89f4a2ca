"""Checks with their results, and programs that end with the script: shared by the scripts of this folder and of tests/packaging."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

VENV = ROOT / "tests" / "deploy" / ".venv"

results: list[bool] = []
started: list[subprocess.Popen] = []


def install() -> None:
    """Runs this again with what requirements.txt pins."""
    pins = ROOT / "tests" / "deploy" / "requirements.txt"
    kept = VENV / "installed"
    if not kept.exists() or kept.read_bytes() != pins.read_bytes():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "-r", str(pins)], check=True)
        kept.write_bytes(pins.read_bytes())
    os.execv(VENV / "bin" / "python", [str(VENV / "bin" / "python"), *sys.argv])


def check(good: bool, what: str, output: object = "") -> bool:
    results.append(bool(good))
    print(f"{'ok     ' if good else 'FAILED '} {what}", flush=True)
    if not good and output != "":
        print(str(output)[-3000:], flush=True)
    return bool(good)


def start(command: list, **options) -> subprocess.Popen:
    """Starts a program that does not outlive this one, whatever happens."""
    process = subprocess.Popen([str(part) for part in command], **options)
    started.append(process)
    return process


def run(command: list, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, **options)

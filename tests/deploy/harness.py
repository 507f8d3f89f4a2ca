"""Checks with their results, and programs that end with the script: shared by the scripts of this folder."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]

results: list[bool] = []
started: list[subprocess.Popen] = []


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

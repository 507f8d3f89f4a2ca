"""Idle connections from nginx to the gateway: they are reused after 11 s, and no request is lost.

Usage: idle.py URL GATEWAY_PORT KEY. Ends non-zero, with the reason, unless all of that holds."""

import concurrent.futures
import json
import sys
import time
import urllib.error
import urllib.request

CONNECTIONS = 20
IDLE_SECONDS = 11


def chat(url, key):
    """The status, and whether all tokens came."""
    body = {"model": "openai-sim/n3-i100000", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read().decode()
            return response.status, all(f"t{number} " in text for number in range(3)) and "[DONE]" in text
    except urllib.error.HTTPError as error:
        return error.code, False


def burst(url, key):
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        results = list(pool.map(lambda _: chat(url, key), range(CONNECTIONS)))
    if results != [(200, True)] * CONNECTIONS:
        sys.exit(f"not all answers were whole: {results}")


def established(port):
    """The local ports of open connections to `port`."""
    ports = set()
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            _, local, remote, state = line.split()[:4]
            if state == "01" and int(remote.rsplit(":")[1], 16) == port:
                ports.add(int(local.rsplit(":")[1], 16))
    return ports


def main():
    url, port, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    burst(url, key)
    before = established(port)
    time.sleep(IDLE_SECONDS)
    idle = established(port)
    burst(url, key)
    after = established(port)
    # Other cases of the same run have connections of their own, which end with their requests.
    kept = before & idle & after
    if len(kept) < CONNECTIONS:
        sys.exit(f"{len(kept)} of {CONNECTIONS} connections were kept: {len(before)} before, {len(idle)} idle, {len(after)} after")


main()

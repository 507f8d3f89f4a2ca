"""A durable stream, read in two halves: the connection is dropped after ten events, and the rest is fetched by position.

The standard library only.

    STREAMGATE_KEY=KEY python resume.py
"""

import json
import os
import urllib.request

GATEWAY = os.environ.get("STREAMGATE_URL", "http://127.0.0.1:8080")
HEADERS = {"authorization": f"Bearer {os.environ['STREAMGATE_KEY']}", "content-type": "application/json"}


def request(path: str, body: dict | None = None, **headers: str):
    """A request to the gateway; its answer is read as it comes."""
    data = json.dumps(body).encode() if body else None
    made = urllib.request.Request(GATEWAY + path, data, HEADERS | {k.replace("_", "-"): v for k, v in headers.items()})
    return urllib.request.urlopen(made, timeout=120)


def events(response):
    """The id and the data of each event."""
    position, data = None, None
    for line in response:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "data":
            data = value
        elif name == "id":
            position = value
        elif not name and data is not None:
            yield position, data
            data = None


def show(data: str) -> None:
    if data != "[DONE]":
        for choice in json.loads(data)["choices"]:
            print(choice["delta"].get("content") or "", end="", flush=True)


ask = {"model": os.environ.get("STREAMGATE_MODEL", "sim"), "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
with request("/v1/chat/completions", ask, streamgate_stream="resumable", streamgate_on_disconnect="grace(30s)") as response:
    stream = response.headers["streamgate-stream-id"]
    for count, (last, data) in enumerate(events(response), 1):
        show(data)
        if count == 10:
            break
# The connection is gone, the answer goes on in the gateway.
with request(f"/v1/streams/{stream}", accept="text/event-stream", last_event_id=last) as response:
    for _, data in events(response):
        show(data)
print()

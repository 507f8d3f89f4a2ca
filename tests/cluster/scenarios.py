"""The scenarios of several nodes. Each gets a cluster of its own."""

import asyncio
import random
import signal
import statistics

from checks import Checks, until
from cluster import KEY, LEASE, OTHER, Cluster, Node, Posted, Reader, Response, blocks, chat, elapsed
from hints import drained, hints

passed = 0


async def state(node: Node, stream: str) -> dict:
    listed = (await node.request("GET", "/v1/streams")).json()["data"]
    return next((one for one in listed if one["id"] == stream), {})


async def follow(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """A stream of one node, read from another: while it runs, and afterwards; in every format; by every way in."""
    one, two = await cluster.node(), await cluster.node()
    posted = Posted(one, "n60-i20000", {"streamgate-chat": "chat-1", "idempotency-key": "follow"})
    stream = await posted.id()
    live = Reader(stream)
    attached, chat_stream = Response(), Response()

    async def attach() -> None:
        headers = {"streamgate-stream": "resumable", "idempotency-key": "follow"}
        async for _ in two.stream("POST", "/v1/chat/completions", chat("n60-i20000"), headers, KEY, attached):
            pass

    async def by_chat() -> None:
        async for _ in two.stream("GET", "/v1/chats/chat-1/stream?format=native", None, None, KEY, chat_stream):
            pass

    running = (await two.request("GET", "/v1/streams")).json()["data"]
    checks.same([(item["id"], item["state"]) for item in running], [(stream, "streaming")], "another node lists it")
    await asyncio.gather(live.follow(two), attach(), by_chat(), posted.task)
    expected = blocks(posted.response.body)
    checks.check(posted.response.whole and len(expected) == 63, "it is whole where it was produced", len(expected))
    checks.same(live.blocks, expected, "another node shows it live")
    checks.same((attached.id, blocks(attached.body)), (stream, expected), "a repeated request attaches on another node")
    checks.same(blocks(chat_stream.body), expected, "its chat leads to it")
    for name in ["native", "events", "text", "ui", "anthropic", "openai-responses", "gemini", "ollama"]:
        readers = [Reader(stream, f"format={name}") for _ in range(2)]
        await asyncio.gather(*(reader.follow(node) for reader, node in zip(readers, [one, two])))
        checks.check(len(readers[0].blocks) > 0, f"{name} has events")
        checks.same(readers[1].blocks, readers[0].blocks, f"{name} is the same on both nodes, positions too")
    lists = [await state(node, stream) for node in (one, two, await cluster.node())]
    expiry = [entry.pop("expires_at", 0) for entry in lists]
    checks.same(lists[1:], [lists[0]] * 2, "a node that has not read it lists it with the same state, extent and times")
    checks.check(max(expiry) - min(expiry) <= 60 and min(expiry) > lists[0]["ended_at"], "it expires everywhere", expiry)
    head = await two.request("HEAD", f"/v1/streams/{stream}")
    checks.same(head.headers.get("stream-closed"), "true", "HEAD")
    last = {"streamgate-stream": "resumable", "last-event-id": expected[10][0]}
    resumed = await two.request("POST", "/v1/chat/completions", chat("n60-i20000"), last)
    checks.same(blocks(resumed.body), expected[11:], "a request with last-event-id goes on, on another node")
    hidden = await two.request("GET", f"/v1/streams/{stream}", key=OTHER)
    unknown = await two.request("GET", f"/v1/streams/{'x' * 24}", key=OTHER)
    checks.same((hidden.status, hidden.body), (404, unknown.body), "another caller gets what an unknown id gets")
    other = {"streamgate-stream": "resumable", "idempotency-key": "follow"}
    reused = await two.request("POST", "/v1/chat/completions", chat("n2"), other)
    checks.same((reused.status, reused.json()["error"]["code"]), (400, "idempotency_key_reused"), "a key of another request")
    gone = await two.request("DELETE", f"/v1/streams/{stream}")
    checks.same(gone.status, 204, "another node deletes it")
    left = [(await node.request("GET", f"/v1/streams/{stream}")).status for node in (two, one)]
    checks.same(left, [404, 404], "it is gone on both")


async def claims(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """Two requests with one key at one instant, on two nodes, are one generation."""
    nodes = [await cluster.node(), await cluster.node()]
    for number in range(20):
        both = [Posted(node, "n5-i5000", {"idempotency-key": f"key-{number}"}) for node in nodes]
        ids = [await posted.id() for posted in both]
        await asyncio.gather(*(posted.task for posted in both))
        bodies = [blocks(posted.response.body) for posted in both]
        if ids[0] != ids[1] or not ids[0] or bodies[0] != bodies[1] or len(bodies[0]) != 8:
            checks.check(False, f"one generation for key {number}", (ids, [len(body) for body in bodies]))
            return
    listed = (await nodes[0].request("GET", "/v1/streams")).json()["data"]
    checks.same(len(listed), 20, "20 keys at the same instant on two nodes are 20 generations")


async def cancel(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """A cancellation reaches the node that produces the stream, from any node."""
    one, two = await cluster.node(), await cluster.node()
    posted = Posted(one, "n2000-i20000")
    stream = await posted.id()
    reader = Reader(stream)
    reading = asyncio.create_task(reader.follow(two))
    began = asyncio.get_running_loop().time()
    cancelled = await two.request("POST", f"/v1/streams/{stream}/cancel")
    checks.same(cancelled.json()["state"], "cancelled", "another node returns the final state")
    checks.check(elapsed(began) < LEASE, "without waiting for a renewal of the lease", elapsed(began))
    await asyncio.gather(posted.task, reading)
    checks.same(reader.blocks, blocks(posted.response.body), "both nodes show the same end")
    again = await one.request("POST", f"/v1/streams/{stream}/cancel")
    checks.same(again.json()["state"], "cancelled", "once more, where it was produced")
    posted = Posted(one, "n2000-i20000", {"streamgate-on-disconnect": "grace(1s)"})
    stream = await posted.id()
    reader = Reader(stream)
    await reader.follow(two, events=3)
    watching = asyncio.create_task(reader.follow(two))
    await asyncio.sleep(0.3)
    posted.task.cancel()
    await asyncio.sleep(2.5)
    checks.same((await state(one, stream)).get("state"), "streaming", "a viewer on another node keeps it running")
    watching.cancel()
    gone = await until(lambda: is_state(one, stream, "cancelled"), 2 * LEASE + 4)
    checks.check(gone, "without a viewer on any node it is cancelled", await state(one, stream))


async def is_state(node: Node, stream: str, name: str) -> bool:
    return (await state(node, stream)).get("state") == name


async def disconnects(checks: Checks, cluster: Cluster, choice: random.Random) -> None:
    """Readers that are cut at random, and go on at any node: exactly once."""
    nodes = [await cluster.node(), await cluster.node(), await cluster.node()]
    posted = [Posted(choice.choice(nodes), f"n{choice.randrange(100, 300)}-i10000") for _ in range(6)]
    ids = [await one.id() for one in posted]

    async def read(stream: str) -> Reader:
        reader = Reader(stream, choice.choice(["", "format=native", "format=openai-chat"]))
        while True:
            response = await reader.follow(choice.choice(nodes), events=choice.choice([0, 1, 1, 2, 5, 40]))
            if response.status == 204 or response.whole and response.status == 200:
                return reader

    readers = await asyncio.gather(*(read(stream) for stream in ids for _ in range(5)))
    await asyncio.gather(*(one.task for one in posted))
    expected = {stream: blocks(one.response.body) for stream, one in zip(ids, posted)}
    wrong = [reader.stream for reader in readers if reader.blocks != expected[reader.stream]]
    checks.same(wrong, [], f"{len(readers)} readers, {sum(reader.connections for reader in readers)} connections: exactly once")
    checks.check(all(one.response.whole for one in posted), "all are whole")


async def killed(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """kill -9 of the node that produces a stream."""
    one, two, three = await cluster.node(), await cluster.node(), await cluster.node()
    posted = Posted(one, "n2000-i10000")
    stream = await posted.id()
    readers = [Reader(stream), Reader(stream, "format=events"), Reader(stream)]
    following = [asyncio.create_task(reader.follow(node)) for reader, node in zip(readers, [two, two, three])]
    await asyncio.sleep(1)
    one.signal(signal.SIGKILL)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*following)
    checks.check(elapsed(began) < 3 * LEASE + 5, "its readers learn of it soon after the lease", elapsed(began))
    await posted.task
    seen = blocks(posted.response.body)
    checks.check(len(seen) > 50, "it was under way", len(seen))
    checks.same(readers[0].blocks[: len(seen) - 5], seen[: len(seen) - 5], "all that was appended is there")
    checks.check(len(readers[0].blocks) >= len(seen) - 5, "nearly all that its caller saw", (len(readers[0].blocks), len(seen)))
    checks.same(readers[2].blocks, readers[0].blocks, "two nodes agree on its end")
    checks.check(b"error" in readers[0].blocks[-1][1], "the last event is an error", readers[0].blocks[-1])
    checks.check(b"lost" in readers[1].blocks[-1][1], "and says in our own format that it was lost", readers[1].blocks[-1])
    states = [(await state(node, stream)).get("state") for node in (two, three)]
    checks.same(states, ["lost", "lost"], "its state is lost on every node")
    late = Reader(stream)
    await late.follow(three)
    checks.same(late.blocks, readers[0].blocks, "a late reader gets the same")
    await one.start()
    back = Reader(stream)
    await back.follow(one)
    checks.same(back.blocks, readers[0].blocks, "the node that comes back shows it, too")


async def paused(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """A node that is paused for longer than its lease must not write after that."""
    one, two = await cluster.node(), await cluster.node()
    posted = Posted(one, "n800-i10000")
    stream = await posted.id()
    reader = Reader(stream)
    following = asyncio.create_task(reader.follow(two))
    await asyncio.sleep(0.7)
    one.signal(signal.SIGSTOP)
    await following
    length = await cluster.redis.command("XLEN", f"streamgate:stream:{{{stream}}}:log")
    one.signal(signal.SIGCONT)
    await posted.task
    checks.check(b"error" in reader.blocks[-1][1], "its readers learn that it is lost", reader.blocks[-1])
    await asyncio.sleep(1)
    after = await cluster.redis.command("XLEN", f"streamgate:stream:{{{stream}}}:log")
    checks.same(after, length, "it has appended nothing after that")
    late = Reader(stream)
    await late.follow(two)
    checks.same(late.blocks, reader.blocks, "what was lost stays as it was")
    checks.same((await state(one, stream)).get("state"), "lost", "the paused node knows")
    short = Posted(one, "n300-i10000")
    stream = await short.id()
    reader = Reader(stream)
    following = asyncio.create_task(reader.follow(two))
    await asyncio.sleep(0.5)
    one.signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE / 2)
    one.signal(signal.SIGCONT)
    await asyncio.gather(following, short.task)
    checks.same(reader.blocks, blocks(short.response.body), "a shorter pause costs nothing")
    checks.check(short.response.whole, "and the stream is whole")


async def redis(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """Redis is paused, restarted, restarted without its data, and full."""
    one, two = await cluster.node(), await cluster.node()

    async def through(name: str, trouble, model: str = "n500-i10000") -> None:
        posted = Posted(one, model)
        stream = await posted.id()
        reader = Reader(stream)

        async def read() -> None:
            while True:
                try:
                    response = await reader.follow(two)
                except OSError:
                    response = Response()
                if response.status == 204 or response.whole and (await is_ended(reader)):
                    return
                await asyncio.sleep(0.1)

        async def is_ended(reader: Reader) -> bool:
            return bool(reader.blocks) and b"[DONE]" in reader.blocks[-1][1]

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.7)
        began = asyncio.get_running_loop().time()
        await trouble()
        await posted.task
        expected = blocks(posted.response.body)
        checks.check(posted.response.whole and len(expected) == 503, f"{name}: the node that produces it goes on", len(expected))
        await asyncio.wait_for(reading, 60)
        checks.same(reader.blocks, expected, f"{name}: nothing is lost on the other node ({elapsed(began):.1f} s)")

    async def pause() -> None:
        cluster.redis.process.signal(signal.SIGSTOP)
        await asyncio.sleep(1.5 * LEASE)
        cluster.redis.process.signal(signal.SIGCONT)

    async def restart() -> None:
        cluster.redis.process.end()
        await asyncio.sleep(LEASE)
        await cluster.redis.start()

    async def empty() -> None:
        await cluster.redis.command("FLUSHALL")

    async def fill() -> None:
        await cluster.redis.command("CONFIG", "SET", "maxmemory", "1")
        await asyncio.sleep(1)
        await cluster.redis.command("CONFIG", "SET", "maxmemory", "0")

    await through("paused", pause)
    await through("restarted", restart)
    await through("emptied", empty)
    await through("full", fill)
    cluster.redis.process.end()
    alone = Posted(one, "n20-i5000")
    await alone.task
    checks.check(alone.response.whole and len(blocks(alone.response.body)) == 23, "without Redis a node goes on alone")
    unknown = await two.request("GET", f"/v1/streams/{await alone.id()}")
    checks.same(unknown.status, 503, "a stream that only Redis could have found is no 404, which would end its client")
    ordinary = await one.request("POST", "/v1/chat/completions", chat("n3"))
    checks.same(ordinary.status, 200, "an ordinary request never needs Redis")


async def responses(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """Stored responses and conversations, from any node."""
    one, two = await cluster.node(), await cluster.node()

    def request(**members: object) -> dict:
        return {"model": "sim/echo", "input": "Hello.", **members}

    first = (await one.request("POST", "/v1/responses", request(model="sim/n3", store=True))).json()
    read = await two.request("GET", f"/v1/responses/{first['id']}")
    checks.same((read.status, read.json().get("output")), (200, first["output"]), "another node has a stored response")
    second = await two.request("POST", "/v1/responses", request(model="sim/n3", previous_response_id=first["id"]))
    checks.same(second.status, 200, "another node continues it", second.body)
    items = await one.request("GET", f"/v1/responses/{second.json()['id']}/input_items")
    texts = [item["content"][0]["text"] for item in items.json()["data"] if item["type"] == "message"]
    checks.same(len(texts), 3, "with its whole history")
    hidden = await two.request("GET", f"/v1/responses/{first['id']}", key=OTHER)
    checks.same(hidden.status, 404, "another caller has none")
    background = (await one.request("POST", "/v1/responses", request(model="sim/n40-i20000", background=True, store=True))).json()
    reader = Response()
    async for _ in two.stream("GET", f"/v1/responses/{background['id']}?stream=true", None, None, KEY, reader):
        pass
    checks.check(b"response.completed" in reader.body, "another node follows one in the background", reader.body[-300:])
    conversation = (await one.request("POST", "/v1/conversations", {})).json()["id"]
    for node in (one, two, one):
        answer = await node.request("POST", "/v1/responses", request(model="sim/n2", conversation=conversation))
        checks.same(answer.status, 200, f"{node.name} adds to a conversation", answer.body)
    listed = (await two.request("GET", f"/v1/conversations/{conversation}/items")).json()["data"]
    checks.same(len(listed), 6, "which has all items on every node")
    await two.request("DELETE", f"/v1/responses/{first['id']}")

    async def gone() -> bool:
        return (await one.request("GET", f"/v1/responses/{first['id']}")).status == 404

    checks.check(await until(gone, 5), "what another node deletes is gone")


class Subscriber:
    """Follows channels over any number of connections, on any node."""

    def __init__(self, query: str):
        self.query, self.events, self.last, self.connections = query, [], None, 0

    async def follow(self, node: Node, most: int | None = None) -> Response:
        """One connection: to its end, or until so many more events have come."""
        self.connections += 1
        headers = {"accept": "text/event-stream", **({"last-event-id": self.last} if self.last else {})}
        response, before = Response(), list(self.events)
        async for _ in node.stream("GET", f"/v1/events?{self.query}", None, headers, KEY, response):
            if response.status != 200:
                continue
            found = [one for one in events(response.body) if one[1] != "control"]
            new = [one for one in found if one[0]][:most]
            self.events = before + new
            if new:
                self.last = new[-1][0]
            if most is not None and len(new) >= most or self.done():
                break
        return response

    def done(self) -> bool:
        return bool(self.events) and self.events[-1][2] == "end"


def events(body: bytes) -> list[tuple[str, str, str]]:
    """Id, name and data of the whole events of a body."""
    found = []
    for block in body[: body.rfind(b"\n\n") + 2].decode().split("\n\n"):
        fields = {"id": "", "event": "message"}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name == "data" and "data" in fields:
                fields["data"] += "\n" + value
            elif name in ("id", "event", "data"):
                fields[name] = value
        if "data" in fields:
            found.append((fields["id"], fields["event"], fields["data"]))
    return found


async def channels(checks: Checks, cluster: Cluster, choice: random.Random) -> None:
    """Channels over several nodes: one order of events, and exactly once for subscribers who are cut at random."""
    nodes = [await cluster.node(), await cluster.node()]
    names = ["a", "b", "c"]
    query = "&".join(f"channel={name}" for name in names)
    readers = [Subscriber(query) for _ in range(8)]

    async def read(reader: Subscriber) -> None:
        while not reader.done():
            await reader.follow(choice.choice(nodes), choice.choice([1, 2, 5, 30]))

    # A position to come back to, before the first event.
    for reader in readers:
        response = Response()
        async for _ in choice.choice(nodes).stream("GET", f"/v1/events?{query}", None, {"accept": "text/event-stream"}, KEY, response):
            if b"caught_up" in response.body:
                break
        reader.last = next(one[0] for one in events(response.body) if one[0])
    reading = [asyncio.create_task(read(reader)) for reader in readers]
    sent = []
    for number in range(300):
        node, name = choice.choice(nodes), choice.choice(names)
        answer = await node.request("POST", f"/v1/channels/{name}", {"data": f"{name} {number}"})
        if answer.status != 200:
            checks.check(False, "published", (answer.status, answer.body))
            return
        sent.append((answer.json()["id"], "message", f"{name} {number}"))
    repeated = [(await node.request("POST", "/v1/channels/a", {"data": "once", "id": "same"})).json()["id"] for node in nodes]
    checks.same(repeated[0], repeated[1], "an id that was published on another node is a repetition")
    sent.append((repeated[0], "message", "once"))
    last = await nodes[0].request("POST", "/v1/channels/a", {"data": "end"})
    sent.append((last.json()["id"], "message", "end"))
    await asyncio.wait_for(asyncio.gather(*reading), 60)
    wrong = [(len(reader.events), reader.events[:3]) for reader in readers if reader.events != sent]
    count = sum(reader.connections for reader in readers)
    checks.same(wrong, [], f"{len(readers)} subscribers, {count} connections, {len(sent)} events: exactly once, in one order")
    third = await cluster.node()
    late = Subscriber("channel=a&rewind=1000")
    await asyncio.wait_for(late.follow(third), 20)
    expected = [one for one in sent if one[2].startswith("a ") or one[2] in ("once", "end")]
    checks.same(late.events, expected, "a node that starts later has the history")
    nodes[1].signal(signal.SIGKILL)
    after = Subscriber("channel=a")
    after.last = sent[100][0]
    await asyncio.wait_for(after.follow(third), 20)
    checks.same(after.events, [one for one in expected if one[0] > sent[100][0]], "a node that dies takes nothing with it")
    cluster.redis.process.end()
    refused = await third.request("POST", "/v1/channels/a", {"data": "lost?"})
    checks.same(refused.status, 503, "without Redis nothing is published, and the publisher learns of it")
    await cluster.redis.start()

    async def published() -> bool:
        return (await third.request("POST", "/v1/channels/a", {"data": "back"})).status == 200

    checks.check(await until(published, 10), "Redis comes back")
    back = Subscriber("channel=a")
    back.last = sent[-1][0]
    await asyncio.wait_for(back.follow(nodes[0], 1), 20)
    checks.same([one[2] for one in back.events], ["back"], "and so do its subscribers, with nothing missed")


async def emptied(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """Redis loses its data under subscribers of channels: they get a reset, and then what is published."""
    one, two = await cluster.node(), await cluster.node()
    first = (await one.request("POST", "/v1/channels/a", {"data": "before"})).json()["id"]
    response = Response()

    async def read() -> None:
        async for _ in two.stream("GET", "/v1/events?channel=a&rewind=1", None, {"accept": "text/event-stream"}, KEY, response):
            if any(one[2] == "after" for one in events(response.body)):
                return

    reading = asyncio.create_task(read())
    await until(lambda: has_data(response, "before"), 10)
    await cluster.redis.command("FLUSHALL")
    second = await one.request("POST", "/v1/channels/a", {"data": "after"})
    checks.same(second.status, 200, "an event is published after that", second.body)
    await asyncio.wait_for(reading, 15)
    seen = [(name, data) for _, name, data in events(response.body) if name in ("message", "reset")]
    checks.same([name for name, _ in seen], ["message", "reset", "message"], "its subscriber gets a reset, and the event")
    checks.check(second.json()["id"] > first, "positions grow", (first, second.json()))


async def has_data(response: Response, data: str) -> bool:
    return any(one[2] == data for one in events(response.body))


async def presence(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """Users of a channel on several nodes: one list, and one event for each."""
    more = '\nchannels: {{ patterns: {{ "room:*": {{ presence: true }} }} }}'.replace("{{", "{").replace("}}", "}")
    one, two = await cluster.node(after=more), await cluster.node(after=more)
    watcher = Subscriber("channel=room:1&types=presence.join,presence.leave")
    watching = asyncio.create_task(watcher.follow(one))

    async def users(node: Node) -> set:
        found = (await node.request("GET", "/v1/channels/room:1", key=OTHER)).json()
        return {user["user"] for user in found.get("presence", [])}

    async def both(expected: set) -> bool:
        return await users(one) == expected and await users(two) == expected

    checks.check(await until(lambda: both({"one"}), 10), "a user is present on every node", await users(two))
    response = Response()

    async def join(node: Node) -> None:
        async for _ in node.stream("GET", "/v1/events?channel=room:1", None, {"accept": "text/event-stream"}, OTHER, response):
            pass

    joined = asyncio.create_task(join(two))
    checks.check(await until(lambda: both({"one", "other"}), 10), "another one, on another node", await users(one))
    two.signal(signal.SIGKILL)
    joined.cancel()

    async def left() -> bool:
        return await users(one) == {"one"}

    checks.check(await until(left, 5 * LEASE + 5), "the users of a node that dies leave", await users(one))
    await asyncio.sleep(0.5)
    watching.cancel()
    seen = [(name, data) for _, name, data in watcher.events]
    checks.same(seen, [("presence.join", '{"user":"one"}'), ("presence.join", '{"user":"other"}'), ("presence.leave", '{"user":"other"}')],
                "one event for each")


async def rights(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """Tickets and shares are good on every node, and revoked on every node."""
    one, two = await cluster.node(), await cluster.node()
    posted = Posted(one, "n400-i10000")
    stream = await posted.id()
    ticket = (await one.request("POST", "/v1/tickets", {"streams": [stream], "channels": ["news"]})).json()["ticket"]
    shared = (await two.request("POST", f"/v1/streams/{stream}/share", {"viewers": 1})).json()

    async def get(node: Node, query: str, events: int) -> tuple[int, list]:
        response = Response()
        async for _ in node.stream("GET", f"/v1/streams/{stream}?live=sse&{query}", None, None, "nobody", response):
            if response.status == 200 and len(blocks(response.body)) >= events:
                break
        return response.status, blocks(response.body)[:3]

    expected = (await get(one, f"ticket={ticket}", 3))
    checks.same((expected[0], len(expected[1])), (200, 3), "a ticket, where it was made")
    checks.same(await get(two, f"ticket={ticket}", 3), expected, "and on the other node")
    checks.same((await get(two, f"ticket={'x' * 40}", 1))[0], 401, "a guessed ticket")
    checks.same(await get(one, f"share={shared['share']}", 3), expected, "a share, on the node that did not grant it")
    open_share = Response()

    async def hold() -> None:
        # The gateway may not have noticed yet that the viewer before has gone.
        while open_share.status != 200:
            open_share.body = b""
            async for _ in one.stream("GET", f"/v1/streams/{stream}?live=sse&share={shared['share']}", None, None, "", open_share):
                pass

    holding = asyncio.create_task(hold())
    await until(lambda: has_bytes(open_share), 5)
    checks.same((await get(one, f"share={shared['share']}", 1))[0], 429, "no more viewers than it is for")
    revoked = await two.request("DELETE", f"/v1/streams/{stream}/share/{shared['id']}")
    checks.same(revoked.status, 204, "the other node revokes it")
    await asyncio.wait_for(holding, 5)
    checks.check(b"[DONE]" not in open_share.body and blocks(open_share.body), "which closes its viewer", open_share.body[-200:])
    checks.same([(await get(node, f"share={shared['share']}", 1))[0] for node in (one, two)], [404, 404], "and it opens nothing")
    await two.request("POST", f"/v1/streams/{stream}/cancel")
    await posted.task


async def has_bytes(response: Response) -> bool:
    return response.status == 200 and bool(response.body)


async def shared(checks: Checks, one: Node, two: Node, name: str) -> None:
    """A stream, a response and a channel, each made on one node and found on the other."""
    posted = Posted(one, "n40-i10000", {"idempotency-key": name, "streamgate-chat": name})
    stream = await posted.id()
    reader = Reader(stream)
    await asyncio.gather(reader.follow(two), posted.task)
    checks.same(reader.blocks, blocks(posted.response.body), f"{name}: a stream")
    checks.check(len(reader.blocks) == 43, f"{name}: the whole stream", len(reader.blocks))
    again = Posted(two, "n40-i10000", {"idempotency-key": name})
    checks.same(await again.id(), stream, f"{name}: an idempotency key")
    await again.task
    body = {"model": "sim/n3", "input": "Hello.", "store": True}
    first = (await one.request("POST", "/v1/responses", body)).json()
    found = await two.request("GET", f"/v1/responses/{first['id']}")
    checks.same(found.status, 200, f"{name}: a stored response", found.body)
    published = (await one.request("POST", "/v1/channels/news", {"data": name})).json()
    late = Subscriber("channel=news&rewind=1")
    await asyncio.wait_for(late.follow(two, 1), 20)
    checks.same(late.events, [(published.get("id"), "message", name)], f"{name}: a channel", published)
    await one.operate("POST", "/status/targets?drain=keyed/n3")
    checks.check(await until(lambda: drained(two), 10), f"{name}: a drained target")
    await two.operate("POST", "/status/targets?reset=keyed/n3")
    checks.check(await until(lambda: drained(one, False), 10), f"{name}: a target that is reset")


async def secured(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """A Redis that speaks TLS, to a user with a password and with rights to one prefix."""
    plain = await cluster.node()
    refused = Posted(plain, "n3")
    await refused.task
    settings = await cluster.redis.close_to_strangers()
    cluster.redis_url = cluster.redis.tls
    nodes = [await cluster.node(settings), await cluster.node(settings)]
    await shared(checks, *nodes, "secured")
    wrong = await cluster.node(settings.replace("password: word", "password: guess"))
    alone = Posted(wrong, "n3")
    await alone.task
    checks.check(alone.response.whole, "with a wrong password a node goes on alone")
    missing = await wrong.request("GET", f"/v1/streams/{'x' * 24}")
    checks.same(missing.status, 503, "and says that it cannot look elsewhere")


async def sharded(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """A Redis Cluster of three."""
    nodes = [await cluster.node(", cluster: true"), await cluster.node(", cluster: true")]
    await shared(checks, *nodes, "sharded")
    posted = [Posted(nodes[0], "n60-i10000") for _ in range(12)]
    readers = [Reader(await one.id()) for one in posted]
    await asyncio.gather(*(reader.follow(nodes[1]) for reader in readers), *(one.task for one in posted))
    wrong = [reader.stream for reader, one in zip(readers, posted) if reader.blocks != blocks(one.response.body)]
    checks.same(wrong, [], "twelve streams, in different places")


async def rolling(checks: Checks, cluster: Cluster, choice: random.Random) -> None:
    """Two nodes are restarted one after the other, with streams under way: no stream and no token is lost."""
    nodes = [await cluster.node(), await cluster.node()]
    ready = set(nodes)
    done: list[tuple[int, int]] = []
    failures: list[str] = []
    stop = asyncio.Event()

    async def read(number: int) -> None:
        """A client behind a load balancer: it comes back where there is a node, by key and position."""
        tokens = choice.randrange(50, 250)
        headers = {"streamgate-stream": "resumable", "idempotency-key": f"rolling-{number}"}
        found, last = [], None
        for _ in range(100):
            node = choice.choice(sorted(ready, key=lambda node: node.name))
            response, before = Response(), list(found)
            given = {**headers, **({"last-event-id": last} if last else {})}
            try:
                async for _ in node.stream("POST", "/v1/chat/completions", chat(f"n{tokens}-i10000"), given, KEY, response):
                    found = before + blocks(response.body) if response.status == 200 else before
            except OSError:
                pass
            last = found[-1][0] if found else None
            if found and b"[DONE]" in found[-1][1]:
                done.append((len(found), tokens + 3))
                return
            if response.status not in (0, 200, 503):
                failures.append(f"{response.status} {response.body[:200]!r}")
                return
            await asyncio.sleep(0.05)
        failures.append(f"no end: {len(found)} of {tokens}: {found[-1:]}")

    async def load() -> None:
        async with asyncio.TaskGroup() as group:
            number = 0
            while not stop.is_set():
                group.create_task(read(number))
                number += 1
                await asyncio.sleep(0.05)

    loading = asyncio.create_task(load())
    await asyncio.sleep(1)
    for node in nodes:
        ready.discard(node)
        node.signal(signal.SIGTERM)
        status = await node.ended(40)
        checks.same(status, 0, f"{node.name} drains and ends")
        await node.start()
        ready.add(node)
        await asyncio.sleep(0.5)
    stop.set()
    await loading
    checks.same(failures, [], "no stream failed")
    checks.same([one for one in done if one[0] != one[1]], [], f"{len(done)} streams, {sum(count for count, _ in done)} events, none lost or twice")
    checks.check(len(done) > 50, "there was load", len(done))


async def delay(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """The delay that another node adds to a token, printed."""
    one, two = await cluster.node("", ), await cluster.node()
    posted = Posted(one, "n300-i10000")
    stream = await posted.id()
    times: list[dict[str, float]] = [{}, {}]
    clock = asyncio.get_running_loop().time

    async def watch(node: Node, at: dict[str, float]) -> None:
        response = Response()
        headers = {"accept": "text/event-stream"}
        async for _ in node.stream("GET", f"/v1/streams/{stream}", None, headers, KEY, response):
            now = clock()
            for position, _ in blocks(response.body)[len(at):]:
                at.setdefault(position, now)

    await asyncio.gather(watch(one, times[0]), watch(two, times[1]), posted.task)
    added = sorted(1000 * (times[1][position] - at) for position, at in times[0].items())[5:]
    checks.same(len(times[1]), 303, "every token came")
    print(f"        delay of a token on the other node: p50 {statistics.median(added):.2f} ms, "
          f"p99 {added[int(len(added) * 0.99)]:.2f} ms", flush=True)


ALL = {"follow": follow, "claims": claims, "cancel": cancel, "disconnects": disconnects, "killed": killed, "paused": paused,
       "redis": redis, "responses": responses, "channels": channels, "emptied": emptied, "presence": presence, "secured": secured, "sharded": sharded, "rights": rights, "rolling": rolling, "hints": hints, "delay": delay}

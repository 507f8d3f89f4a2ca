"""The scenario of hints of target health: what one node learns of a key, and what an operator does, concerns all nodes; and no
request waits for Redis."""

import asyncio
import random
import re
import signal

from checks import Checks, until
from cluster import Cluster, Node, elapsed


async def target(node: Node, key: str | None, name: str = "keyed/n3") -> dict:
    page = (await node.operate("GET", "/status/targets")).json()["targets"]
    return next(one for one in page if (one["target"], one.get("key")) == (name, key))


async def names(node: Node) -> set[str]:
    return {one["target"] for one in (await node.operate("GET", "/status/targets")).json()["targets"]}


async def reload(node: Node, before: str, after: str) -> bool:
    """Has a node take another target in the place of one."""
    node.config.write_text(node.config.read_text().replace(f"model: {before} ", f"model: {after} "))
    node.signal(signal.SIGHUP)

    async def taken() -> bool:
        return f"keyed/{after}" in await names(node) and f"keyed/{before}" not in await names(node)

    return await until(taken, 10)


async def drained(node: Node, expected: bool = True) -> bool:
    return all([((await target(node, key))["state"] == "drained") == expected for key in "ab"])


async def revoked(node: Node, expected: bool = True) -> bool:
    return ((await target(node, "a"))["credential"] == "hard") == expected


async def paced(node: Node) -> bool:
    return (await target(node, None, "paced/ra30"))["credential"] == "cooling"


async def series(node: Node, pattern: str) -> float:
    """The sum of the series that match, now: the operators' page may be a second old."""
    page = (await node.request("GET", "/metrics")).body.decode()
    return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", page, re.MULTILINE))


async def refusals(node: Node) -> float:
    return await series(node, r'streamgate_upstream_errors_total\{provider="keyed",kind="authentication"\}')


async def counted(node: Node, direction: str) -> float:
    return await series(node, rf'streamgate_target_hints_total\{{direction="{direction}"\}}')


async def chat(node: Node, model: str = "keyed") -> int:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Count."}]}
    response = await node.request("POST", "/v1/chat/completions", body)
    return response.status if response.whole else 0


async def hints(checks: Checks, cluster: Cluster, _: random.Random) -> None:
    """A revoked key, drained and reset targets, a node that starts late, and a Redis that is stopped under load."""
    one, two = await cluster.node(), await cluster.node()
    checks.same(await chat(one), 200, "another key serves the request that meets the revoked one")
    began = asyncio.get_running_loop().time()
    known = await until(lambda: revoked(two), 10)
    checks.check(known, f"R30: a key that is revoked at one node is out at the other ({elapsed(began):.3f} s)", await target(two, "a"))
    checks.same([await chat(two) for _ in range(3)], [200] * 3, "where the other key serves")
    checks.same((await refusals(one), await refusals(two)), (1, 0), "and nobody asks with the revoked one")
    late = await cluster.node()
    checks.check(await until(lambda: revoked(late), 10), "a node that starts knows it, too", await target(late, "a"))
    checks.same((await target(late, "b"))["credential"], "closed", "the other key is well")
    kept = await cluster.redis.command("KEYS", "streamgate:hint:*")
    times = [await cluster.redis.command("PTTL", key) for key in re.findall(r"streamgate:hint:\S+", kept)]
    checks.check(len(times) == 1 and 0 < int(times[0][1:]) <= 3_600_000, "Redis keeps it for its own time", (kept, times))
    checks.same(await chat(one, "paced"), 200, "a rate limit of a whole key, met by one node")
    checks.check(all([await until(lambda node=node: paced(node), 10) for node in (two, late)]), "is respected by the others")
    checks.same(await chat(two, "paced"), 200, "whose requests go elsewhere")
    asked = await series(two, r'streamgate_upstream_errors_total\{provider="paced",kind="rate_limited"\}')
    checks.same(asked, 0, "without an attempt there")
    await operators(checks, cluster, [one, two, late])
    await stopped(checks, cluster, [one, two])
    dropped = [await counted(node, "dropped") for node in (one, two, late)]
    checks.same(dropped, [0, 0, 0], "no hint was lost")
    sent = sum([await counted(node, "sent") for node in (one, two, late)])
    received = sum([await counted(node, "received") for node in (one, two, late)])
    checks.check(0 < sent < 30 and 0 < received < 60, "and none was sent on by those that received it", (sent, received))


async def operators(checks: Checks, cluster: Cluster, nodes: list[Node]) -> None:
    """A drain and a reset, each made at one node."""
    one, two, late = nodes
    other = await cluster.node()
    checks.check(await reload(other, "n3", "n2"), "a node without the target")
    checks.same((await one.operate("POST", "/status/targets?drain=keyed/n3")).status, 204, "a target is drained")
    checks.check(all([await until(lambda node=node: drained(node), 10) for node in nodes]), "it is drained on every node")
    checks.same([await chat(node) for node in nodes], [503] * 3, "which sends it nothing")
    newest = await cluster.node()
    checks.check(await until(lambda: drained(newest), 10), "nor does a node that starts")
    checks.check(await reload(other, "n2", "n3") and await until(lambda: drained(other), 10), "or one that a reload gives the target")
    checks.same((await two.operate("POST", "/status/targets?reset=keyed/n3")).status, 204, "another node resets it")
    everywhere = [*nodes, newest, other]
    checks.check(all([await until(lambda node=node: drained(node, False), 10) for node in everywhere]), "it is back on every node")
    checks.check(all([await until(lambda node=node: revoked(node, False), 10) for node in everywhere]), "its key is tried again")
    kept = await cluster.redis.command("KEYS", "streamgate:hint:*")
    checks.check("hard" not in kept and "target:keyed/n3" in kept, "the hint about the key is gone", kept)


async def stopped(checks: Checks, cluster: Cluster, nodes: list[Node]) -> None:
    """R30: Redis is stopped under load. Every request and every operator is served while it is."""
    one, two = nodes
    before = await refusals(one) + await refusals(two)
    loading = [asyncio.create_task(chat(node)) for node in nodes for _ in range(20)]
    cluster.redis.process.signal(signal.SIGSTOP)
    statuses = list(await asyncio.gather(*loading))
    for _ in range(5):
        statuses += await asyncio.gather(*(chat(node) for node in nodes for _ in range(40)))
    checks.same(set(statuses), {200}, f"R30: {len(statuses)} requests are served while Redis is stopped")
    after = await refusals(one) + await refusals(two)
    checks.check(after > before, "some of them meet the revoked key, which each node then knows for itself", (before, after))
    checks.same((await one.operate("POST", "/status/targets?drain=keyed/n3")).status, 204, "an operator does not wait, either")
    checks.same(await drained(one), True, "this node has drained the target")
    checks.same(await drained(two), False, "the other one cannot know yet")
    cluster.redis.process.signal(signal.SIGCONT)
    checks.check(await until(lambda: drained(two), 20), "it does when Redis is back")
    await two.operate("POST", "/status/targets?reset=keyed/n3")
    checks.check(await until(lambda: drained(one, False), 20), "hints flow again")
    cluster.redis.process.end()
    await one.operate("POST", "/status/targets?drain=keyed/n3")
    await cluster.redis.start()
    checks.check(await until(lambda: drained(two), 20), "and after a restart of Redis")
    await one.operate("POST", "/status/targets?reset=keyed/n3")
    checks.check(await until(lambda: drained(two, False), 20), "in both directions")

"""mercure-publisher, a client that publishes with tokens of its own (the claim `mercure` of drafts before 08)."""

import asyncio
import json
import os
import time
from contextlib import contextmanager

import httpx
import jwt
import pytest
from conftest import GATEWAY
from mercure_publisher import AsyncMercurePublisher, MercureConfig, MercurePublisher, MercurePublishError

HUB = f"{GATEWAY}/.well-known/mercure"
ISSUER = json.loads(os.environ["ISSUER"])
CLAIMS = {"iss": ISSUER["issuer"], "aud": ISSUER["audience"], "sub": "shop"}


def config(topics):
    return MercureConfig(
        hub_url=HUB, publisher_jwt_key=ISSUER["secret"], publish_topics=topics, jwt_additional_claims=CLAIMS
    )


@contextmanager
def subscribed(topics, may_read):
    """The events of topics, for a subscriber that may read private updates of others."""
    claims = {**CLAIMS, "sub": "reader", "exp": int(time.time()) + 600, "mercure": {"subscribe": may_read}}
    token = jwt.encode(claims, ISSUER["secret"])
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    with httpx.stream("GET", HUB, params=[("topic", topic) for topic in topics], headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield events(response)


def events(response):
    event = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            event[name] = f"{event[name]}\n{value}" if name in event else value
        elif not line and event:
            yield event
            event = {}


def test_an_update_reaches_its_subscribers():
    topic = "https://example.com/orders/1"
    with MercurePublisher(config([topic])) as publisher, subscribed([topic], []) as found:
        sent = publisher.publish(topic, {"status": "paid"}, id="urn:uuid:1", type="order", retry=1000)
        event = next(found)
        assert (json.loads(event["data"]), event["event"], event["id"]) == ({"status": "paid"}, "order", sent)


def test_a_private_update_is_for_those_who_may_read_one_of_its_topics():
    order, owner = "https://example.com/orders/2", "https://example.com/users/7/orders/2"
    with (
        MercurePublisher(config(["https://example.com/{+any}"])) as publisher,
        subscribed(["https://example.com/orders/{id}"], [owner]) as reader,
        subscribed(["https://example.com/orders/{id}"], ["https://example.com/users/8/{+any}"]) as other,
    ):
        publisher.publish([order, owner], "secret", private=True)
        publisher.publish(order, "for all")
        assert [next(reader)["data"], next(reader)["data"]] == ["secret", "for all"]
        assert next(other)["data"] == "for all"


def test_asynchronous():
    async def publish():
        async with AsyncMercurePublisher(config(["*"])) as publisher:
            return await publisher.publish("plain", "x")

    with subscribed(["plain"], []) as found:
        sent = asyncio.run(publish())
        assert next(found)["id"] == sent


def test_a_publisher_without_the_right_is_refused():
    with MercurePublisher(config(["https://example.com/orders/{id}"])) as publisher:
        with pytest.raises(MercurePublishError) as refused:
            publisher.publish("https://example.com/orders/1/notes", "x")
    assert refused.value.status_code == 403

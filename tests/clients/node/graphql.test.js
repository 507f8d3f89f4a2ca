// graphql-sse, the client of GraphQL over server-sent events, in both of its modes: subscriptions to channels and to
// durable streams, behind a connection that is cut, and the ends of operations.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createClient } from "graphql-sse";

import { GATEWAY, KEY, tokens } from "./shared.js";

const headers = { authorization: `Bearer ${KEY}` };
const url = `${GATEWAY}/v1/graphql`;
const CHANNEL = "subscription ($name: [String!]!, $after: ID) { channel(name: $name, after: $after) { id channel type data } }";
const STREAM = "subscription ($id: ID!) { stream(id: $id) { id data } }";
const MODES = { "distinct connections": false, "a single connection": true };

/** Publishes data to a channel. */
async function publish(channel, data) {
  const response = await fetch(`${GATEWAY}/v1/channels/${encodeURIComponent(channel)}`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ data }),
  });
  assert.equal(response.status, 200);
  return (await response.json()).id;
}

/** The count of subscribers of a channel. */
async function subscribers(channel) {
  const response = await fetch(`${GATEWAY}/v1/channels/${encodeURIComponent(channel)}`, { headers });
  return (await response.json()).subscribers;
}

/** Each look is a request of its own, so the number of looks bounds the time. */
async function until(channel, count) {
  for (let look = 0; look < 5000; look++) if ((await subscribers(channel)) === count) return;
  throw new Error(`${channel} has not had ${count} subscribers`);
}

for (const [mode, singleConnection] of Object.entries(MODES)) {
  const client = (more = {}) => createClient({ url, headers: () => ({ ...headers }), singleConnection, retryAttempts: 0, ...more });

  test(`${mode}: a query is one result and the end`, async () => {
    const results = [];
    for await (const result of client().iterate({ query: "{ streams { id } __typename }" })) results.push(result);
    assert.equal(results.length, 1);
    assert.equal(results[0].data.__typename, "Query");
  });

  test(`${mode}: subscriptions get the events of their channels, and stop`, async () => {
    const [one, other] = [`one ${mode}`, `other ${mode}`];
    const used = client();
    const results = used.iterate({ query: CHANNEL, variables: { name: [one] } });
    const others = used.iterate({ query: CHANNEL, variables: { name: [other] } });
    const [next, last] = [results.next(), others.next()];
    await until(one, 1);
    await until(other, 1);
    const id = await publish(one, "1");
    await publish(other, "x");
    assert.deepEqual((await next).value.data.channel, { id, channel: one, type: "message", data: "1" });
    assert.equal((await last).value.data.channel.data, "x");
    for (const data of ["2", "3"]) {
      await publish(one, data);
      assert.equal((await results.next()).value.data.channel.data, data);
    }
    await results.return();
    await until(one, 0);
    assert.equal(await subscribers(other), 1);
    used.dispose();
    await until(other, 0);
  });

  test(`${mode}: a subscription goes on after the last event`, async () => {
    const channel = `resumed ${mode}`;
    const first = await publish(channel, "0");
    for (const data of ["1", "2", "3"]) await publish(channel, data);
    const results = client().iterate({ query: CHANNEL, variables: { name: [channel], after: first } });
    const found = [];
    for await (const result of results) {
      found.push(result.data.channel.data);
      if (found.length === 3) break;
    }
    assert.deepEqual(found, ["1", "2", "3"]);
  });

  test(`${mode}: a durable stream is followed to its end`, async () => {
    const response = await fetch(`${GATEWAY}/v1/chat/completions`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json", "streamgate-stream": "resumable" },
      body: JSON.stringify({ model: "sim-openai-chat/n20", stream: true, messages: [{ role: "user", content: "x" }] }),
    });
    const id = response.headers.get("streamgate-stream-id");
    await response.body.cancel();
    const events = [];
    for await (const result of client().iterate({ query: STREAM, variables: { id } })) events.push(result.data.stream);
    const chunks = events.filter(({ data }) => data !== "[DONE]").map(({ data }) => JSON.parse(data));
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), tokens(20));
    assert.equal(new Set(events.map((event) => event.id)).size, events.length);
  });

  test(`${mode}: wrong keys are an error`, async () => {
    const wrong = client({ headers: { authorization: "Bearer sg-wrong" } });
    await assert.rejects(async () => {
      for await (const result of wrong.iterate({ query: "{ __typename }" })) assert.fail(JSON.stringify(result));
    }, (error) => error.response?.status === 401);
  });
}

test("distinct connections: an operation that is wrong is a result with errors", async () => {
  const results = [];
  for await (const result of createClient({ url, headers }).iterate({ query: "{ nothing }" })) results.push(result);
  assert.match(results[0].errors[0].message, /Unknown field/);
  assert.equal(results.length, 1);
});

test("a single connection: an operation that is wrong is refused", async () => {
  const client = createClient({ url, headers, singleConnection: true, retryAttempts: 0 });
  await assert.rejects(async () => {
    for await (const result of client.iterate({ query: "{ nothing }" })) assert.fail(JSON.stringify(result));
  }, (error) => error.response?.status === 400);
});

// Clients of event streams that reconnect by themselves, behind a proxy that cuts their connections: what they put
// together is what the upstream sent, each event once.

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";

import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";
import { createEventSource } from "eventsource-client";

import { GATEWAY, KEY, stats, tokens } from "./shared.js";

const MODEL = "sim-openai-chat/n60";
const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };

// fetch-event-source is written for pages.
globalThis.window ??= globalThis;
globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };

/** A proxy that passes so many events of each connection on, and then cuts it. The retry time is shortened, so that no
 * test waits. */
const cuts = { each: Infinity, connections: 0 };
const proxy = http.createServer((request, response) => {
  cuts.connections++;
  const onward = http.request(`${GATEWAY}${request.url}`, { method: request.method, headers: request.headers });
  request.pipe(onward);
  onward.on("response", (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    let [seen, held, cut] = [0, "", false];
    answer.setEncoding("utf8");
    answer.on("data", (text) => {
      held += text;
      // The socket is destroyed a moment later, and nothing may follow the half block until then.
      if (cut) return;
      for (;;) {
        const end = held.indexOf("\n\n");
        if (end < 0 || response.destroyed) return;
        const block = held.slice(0, end + 2);
        held = held.slice(end + 2);
        if (seen++ >= cuts.each) {
          cut = true;
          // Inside of a block: the half of it must not count.
          response.write(block.slice(0, block.length / 2), () => response.socket?.destroy());
          // All of it may have come already, and its end with it.
          answer.removeAllListeners();
          onward.destroy();
          return;
        }
        response.write(block.replace(/^retry: \d+$/m, "retry: 1"));
      }
    });
    answer.on("end", () => cut || response.end(held));
  });
  onward.on("error", () => response.destroy());
});

let url;
before(async () => {
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${proxy.address().port}`;
});
after(() => {
  proxy.closeAllConnections();
  proxy.close();
});

const chat = (more = {}) => JSON.stringify({ model: MODEL, stream: true, messages: [{ role: "user", content: "x" }], ...more });

/** Begins a durable stream, and returns its id and a ticket for it. */
async function begun() {
  const response = await fetch(`${GATEWAY}/v1/chat/completions`, {
    method: "POST",
    headers: { ...headers, "streamgate-stream": "resumable" },
    body: chat(),
  });
  const id = response.headers.get("streamgate-stream-id");
  await response.body.cancel();
  const made = await fetch(`${GATEWAY}/v1/tickets`, { method: "POST", headers, body: JSON.stringify({ streams: [id] }) });
  assert.equal(made.status, 201);
  return { id, ticket: (await made.json()).ticket };
}

/** The text of the events' data, and each id once. */
function put(events) {
  const ids = events.map((event) => event.id);
  assert.equal(new Set(ids).size, ids.length, "an event came twice");
  assert.deepEqual(ids.toSorted(), ids);
  const chunks = events.filter((event) => event.data !== "[DONE]").map((event) => JSON.parse(event.data));
  return chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
}

for (const each of [1, 2, 7, 25]) {
  test(`eventsource: cut after ${each} events`, async () => {
    Object.assign(cuts, { each, connections: 0 });
    const { id, ticket } = await begun();
    const events = [];
    const source = new EventSource(`${url}/v1/streams/${id}?es=1&ticket=${ticket}`);
    await new Promise((resolve, reject) => {
      source.onmessage = ({ data, lastEventId }) => events.push({ data, id: lastEventId });
      // The end: 204 closes it for good.
      source.onerror = () => source.readyState === EventSource.CLOSED && resolve();
      source.addEventListener("refused", ({ data }) => reject(new Error(data)));
      source.addEventListener("reset", ({ data }) => reject(new Error(data)));
    });
    source.close();
    assert.equal(put(events), tokens(60));
    assert.equal(events.at(-1).data, "[DONE]");
    assert.ok(cuts.connections > 60 / each, `${cuts.connections} connections`);
  });

  test(`eventsource-client: cut after ${each} events`, async () => {
    Object.assign(cuts, { each, connections: 0 });
    const { id } = await begun();
    const events = [];
    const source = createEventSource({ url: `${url}/v1/streams/${id}`, headers: { authorization: headers.authorization } });
    for await (const { data, id: last } of source) {
      events.push({ data, id: last });
      if (data === "[DONE]") break;
    }
    source.close();
    assert.equal(put(events), tokens(60));
    assert.ok(cuts.connections > 60 / each - 1, `${cuts.connections} connections`);
  });

  test(`fetch-event-source: a POST that is cut after ${each} events is one generation`, async () => {
    Object.assign(cuts, { each, connections: 0 });
    const before = await stats();
    const events = [];
    const stop = new AbortController();
    await fetchEventSource(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { ...headers, "streamgate-stream": "resumable", "idempotency-key": `fes-${each}` },
      body: chat(),
      signal: stop.signal,
      openWhenHidden: true,
      onmessage: ({ data, id }) => {
        events.push({ data, id });
        if (data === "[DONE]") stop.abort();
      },
      onerror: () => 1,
    });
    assert.equal(put(events), tokens(60));
    assert.equal((await stats()).requests, before.requests + 1);
  });
}

test("eventsource: a stream that is unknown is refused, and the client comes back", async () => {
  Object.assign(cuts, { each: Infinity, connections: 0 });
  const { ticket } = await begun();
  const source = new EventSource(`${url}/v1/streams/AAAAAAAAAAAAAAAAAAAAAAAA?es=1&ticket=${ticket}`);
  const refused = await new Promise((resolve) => source.addEventListener("refused", ({ data }) => resolve(JSON.parse(data))));
  source.close();
  assert.equal(refused.status, 404);
});

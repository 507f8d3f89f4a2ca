// The Mercure protocol with the clients that pages have: `EventSource` with a cookie or a token in the address, behind a
// connection that is cut, and publishers that post a form.

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";

import { EventSource } from "eventsource";

import { GATEWAY, KEY } from "./shared.js";

/** A proxy that passes so many events of each connection on, and then cuts it within the next one. */
const cuts = { each: Infinity, connections: 0 };
const proxy = http.createServer((request, response) => {
  cuts.connections++;
  const onward = http.request(`${GATEWAY}${request.url}`, { method: request.method, headers: request.headers });
  request.pipe(onward);
  // A subscription has no end of its own.
  response.on("close", () => onward.destroy());
  onward.on("response", (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    let [seen, held] = [0, ""];
    answer.setEncoding("utf8");
    answer.on("data", (text) => {
      held += text;
      for (;;) {
        const end = held.indexOf("\n\n");
        if (end < 0 || response.destroyed) return;
        const block = held.slice(0, end + 2);
        held = held.slice(end + 2);
        if (block.startsWith(":")) {
          response.write(block);
        } else if (seen++ >= cuts.each) {
          response.write(block.slice(0, block.length / 2), () => response.socket?.destroy());
          // All of it may have come already, and its end with it.
          answer.removeAllListeners();
          onward.destroy();
          return;
        } else {
          response.write(block.replace(/^retry: \d+$/m, "retry: 1"));
        }
      }
    });
    answer.on("end", () => response.end(held));
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

/** Publishes an update, and returns its id. */
async function publish(fields) {
  const response = await fetch(`${GATEWAY}/.well-known/mercure`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}` },
    body: new URLSearchParams(fields),
  });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type"), /^text\/plain/);
  return response.text();
}

/** An address of the hub with these parameters. */
function hub(fields) {
  const address = new URL("/.well-known/mercure", url);
  for (const [name, value] of fields) address.searchParams.append(name, value);
  return address;
}

const withCookie = (name) => ({
  withCredentials: true,
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, cookie: `${name}=${KEY}` } }),
});

const opened = (source) => new Promise((resolve) => source.addEventListener("open", resolve, { once: true }));
const message = (source, type = "message") => new Promise((resolve) => source.addEventListener(type, resolve, { once: true }));

for (const [name, parameters, options] of [
  ["draft 08, by cookie", [["match", "TOPIC"]], withCookie("__Secure-mercure_access_token")],
  ["draft 08, a URL pattern", [["match_urlpattern", "https://example.com/books/:id"]], withCookie("mercure_access_token")],
  ["an earlier draft, by cookie", [["topic", "TOPIC"]], withCookie("mercureAuthorization")],
  ["an earlier draft, a template", [["topic", "https://example.com/books/{id}"], ["authorization", KEY]], {}],
]) {
  test(`EventSource: ${name}`, async () => {
    Object.assign(cuts, { each: Infinity, connections: 0 });
    const topic = `https://example.com/books/${encodeURIComponent(name)}`;
    const source = new EventSource(hub(parameters.map(([key, value]) => [key, value.replace("TOPIC", topic)])), options);
    await opened(source);
    const next = message(source);
    const id = await publish([["topic", topic], ["data", "data for\n\n  it"], ["private", "on"]]);
    const { data, lastEventId } = await next;
    assert.deepEqual([data, lastEventId], ["data for\n\n  it", id]);
    const typed = message(source, "sold");
    await publish([["topic", topic], ["data", "x"], ["type", "sold"], ["retry", "1000"]]);
    assert.equal((await typed).data, "x");
    source.close();
  });
}

for (const each of [1, 3, 10]) {
  test(`EventSource: cut after ${each} events, each comes once`, async () => {
    Object.assign(cuts, { each, connections: 0 });
    const topic = `https://example.com/cut/${each}`;
    const found = [];
    const first = await publish([["topic", topic], ["data", "-"]]);
    const source = new EventSource(hub([["topic", topic], ["lastEventID", first], ["authorization", KEY]]));
    const all = new Promise((resolve) => {
      source.onmessage = ({ data }) => found.push(data) === 30 && resolve();
    });
    for (let at = 0; at < 30; at++) await publish([["topic", topic], ["data", String(at)]]);
    await all;
    source.close();
    assert.deepEqual(found, Array.from({ length: 30 }, (_, at) => String(at)));
    assert.ok(cuts.connections > 30 / each - 1, `${cuts.connections} connections`);
  });
}

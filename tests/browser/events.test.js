// EventSource in a real browser, without the console: reconnecting, refusals, the limit of connections to one host, and a
// second tab.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ANSWER, configured, openConsole, setUp, shows, startGateway, tokens } from "./harness.js";

const shared = setUp("streams: { lifetime: 1s }\nchannels: { lifetime: 2s, connections_per_user: 8 }\n");

const headers = { authorization: `Bearer ${shared.key}`, "content-type": "application/json" };

/** Posts JSON with the key, as an application's server does. */
async function post(path, body, url = shared.url) {
  const response = await fetch(`${url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.ok(response.ok, `${path}: ${response.status}`);
  return response.json();
}

const ticket = async (rights, url) => (await post("/v1/tickets", rights, url)).ticket;

const publish = (channel, data, url) => post(`/v1/channels/${channel}`, { data }, url);

/** Begins a durable stream. */
async function begin(program, url = shared.url) {
  const body = { model: `sim/${program}`, stream: true, messages: [{ role: "user", content: "x" }] };
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { ...headers, "streamgate-stream": "resumable" },
    body: JSON.stringify(body),
  });
  assert.equal(response.status, 200);
  await response.body.cancel();
  return response.headers.get("streamgate-stream-id");
}

/** Opens an EventSource in a page, which notes under a name what it gets. */
const open = (page, name, path, kinds = ["message"]) =>
  page.evaluate(
    ({ name, path, kinds }) => {
      const source = new EventSource(path);
      const seen = { source, events: [], opened: 0 };
      (window.sources ??= {})[name] = seen;
      source.onopen = () => (seen.opened += 1);
      for (const kind of kinds) {
        source.addEventListener(kind, ({ data, lastEventId: id }) => seen.events.push({ kind, data, id }));
      }
    },
    { name, path, kinds },
  );

const close = (page, name) => page.evaluate((name) => window.sources[name].source.close(), name);

/** Waits until an EventSource has had so many events and connections, and is in a state. */
async function until(page, name, { events = 0, opened = 0, state }) {
  const holds = ({ name, events, opened, state }) => {
    const seen = window.sources[name];
    const enough = seen.events.length >= events && seen.opened >= opened;
    return enough && (state === undefined || seen.source.readyState === state);
  };
  await page.waitForFunction(holds, { name, events, opened, state }, { polling: 20 });
  return page.evaluate((name) => window.sources[name].events, name);
}

const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];

const dataOf = (events) => events.map(({ data }) => data);

test("a stream whose connections end is followed to its end, each event once, and then no more", async () => {
  const { page, url } = shared;
  await page.goto(url);
  const id = await begin("n120-i50000");
  const path = `/v1/streams/${id}?es=1&format=text&ticket=${await ticket({ streams: [id] })}`;
  await open(page, "stream", path, ["message", "end", "refused", "reset"]);
  // 204 ends it for good.
  const events = await until(page, "stream", { opened: 2, state: CLOSED });
  assert.deepEqual(events.at(-1), { kind: "end", data: "complete", id: events.at(-1).id });
  assert.equal(dataOf(events.slice(0, -1)).join(""), tokens(120));
  const ids = events.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  assert.deepEqual(ids.toSorted(), ids);
});

test("channels are resumed after each connection, with what was published in between", async () => {
  const { page, url } = shared;
  await page.goto(url);
  await open(page, "channel", `/v1/events?es=1&channel=news&ticket=${await ticket({ channels: ["news"] })}`);
  await until(page, "channel", { state: OPEN });
  const published = [];
  while ((await page.evaluate(() => window.sources.channel.opened)) < 3) {
    published.push(`event ${published.length}`);
    await publish("news", published.at(-1));
    // At full speed, the seconds until the browser comes back would see more events than a channel keeps.
    await page.waitForTimeout(20);
  }
  const events = await until(page, "channel", { events: published.length });
  assert.deepEqual(dataOf(events), published);
  await close(page, "channel");
});

test("a refusal is an event after which the browser comes back; without `es=1` it is the end", async () => {
  const { page, url } = shared;
  await page.goto(url);
  const rights = await ticket({ channels: ["full"] });
  const path = `/v1/events?channel=full&ticket=${rights}`;
  // Those of the test itself, which no limit of a browser's bounds.
  const stop = new AbortController();
  const held = Array.from({ length: 8 }, () =>
    fetch(`${url}${path}&live=sse`, { signal: stop.signal }).then(({ status }) => assert.equal(status, 200)),
  );
  await Promise.all(held);
  await open(page, "patient", `${path}&es=1`, ["message", "refused"]);
  const [refused] = await until(page, "patient", { events: 1, state: CONNECTING });
  assert.equal(refused.kind, "refused");
  assert.equal(JSON.parse(refused.data).status, 429);
  await open(page, "lost", `${path}&live=sse`);
  assert.deepEqual(await until(page, "lost", { state: CLOSED }), []);
  assert.equal(await page.evaluate(() => window.sources.patient.source.readyState), CONNECTING);
  stop.abort();
  await close(page, "patient");
});

test("six connections to one host are all that there are, and one carries all channels", async () => {
  const gateway = await startGateway(configured(shared.simulated, "channels: { lifetime: none }\n"));
  try {
    const { page } = shared;
    await page.goto(gateway.url);
    const names = Array.from({ length: 7 }, (_, number) => `c${number}`);
    const rights = await ticket({ channels: names }, gateway.url);
    for (const name of names) await open(page, name, `/v1/events?es=1&channel=${name}&ticket=${rights}`);
    const connecting = () =>
      page.evaluate((names) => names.filter((name) => window.sources[name].opened === 0), names);
    for (const name of names.slice(0, 6)) await until(page, name, { state: OPEN });
    await publish("c5", "x", gateway.url);
    await until(page, "c5", { events: 1 });
    assert.deepEqual(await connecting(), ["c6"]);
    // Even a short request has to wait, until one of them is closed.
    await page.evaluate(() => {
      window.short = fetch("/healthz").then(() => "done");
    });
    await close(page, "c0");
    await until(page, "c6", { state: OPEN });
    assert.equal(await page.evaluate(() => Promise.race([window.short, Promise.resolve("waiting")])), "waiting");
    for (const name of names.slice(1)) await close(page, name);
    assert.equal(await page.evaluate(() => window.short), "done");
    // One connection for all.
    const id = await begin("n10", gateway.url);
    const all = await ticket({ channels: names, streams: [id] }, gateway.url);
    const query = names.map((name) => `channel=${name}`).join("&");
    await open(page, "all", `/v1/events?es=1&format=events&${query}&stream=${id}&ticket=${all}`, ["channel", "stream"]);
    await until(page, "all", { state: OPEN });
    for (const name of names) await publish(name, `of ${name}`, gateway.url);
    assert.equal(await page.evaluate(() => fetch("/healthz").then(({ status }) => status)), 200);
    const isLast = ({ data }) => JSON.parse(data).data === "of c6" || JSON.parse(data).data === "[DONE]";
    let events = [];
    while (events.filter(isLast).length < 2) events = await until(page, "all", { events: events.length + 1 });
    const parsed = (kind) => events.filter((event) => event.kind === kind).map(({ data }) => JSON.parse(data));
    assert.deepEqual(parsed("channel").map(({ channel, data }) => [channel, data]), names.map((name) => [name, `of ${name}`]));
    const chunks = parsed("stream").filter(({ data }) => data !== "[DONE]").map(({ data }) => JSON.parse(data));
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), tokens(10));
  } finally {
    await gateway.stop();
  }
});

for (const encoding of ["zstd", "br", "gzip"]) {
  test(`each event of a stream that is compressed by ${encoding} arrives by itself`, async () => {
    const gateway = await startGateway(configured(shared.simulated, `streams: { compression: [${encoding}] }\n`));
    try {
      const { page } = shared;
      await page.goto(gateway.url);
      const responses = [];
      page.on("response", (response) => responses.push(response));
      const rights = await ticket({ channels: ["a"] }, gateway.url);
      await open(page, "a", `/v1/events?es=1&channel=a&ticket=${rights}`);
      await until(page, "a", { state: OPEN });
      for (let number = 0; number < 20; number += 1) {
        await publish("a", `event ${number} \u{1F600}`, gateway.url);
        // Nothing follows by which it could be pushed out.
        const events = await until(page, "a", { events: number + 1 });
        assert.equal(events.at(-1).data, `event ${number} \u{1F600}`);
      }
      const id = await begin("n40-i20000", gateway.url);
      const path = `/v1/streams/${id}?es=1&format=text&ticket=${await ticket({ streams: [id] }, gateway.url)}`;
      await open(page, "stream", path, ["message", "end"]);
      const events = await until(page, "stream", { state: CLOSED });
      assert.equal(dataOf(events.slice(0, -1)).join(""), tokens(40));
      const encodings = responses.map((response) => response.headers()["content-encoding"]);
      assert.deepEqual(encodings.slice(0, 2), [encoding, encoding]);
      await close(page, "a");
    } finally {
      await gateway.stop();
    }
  });
}

test("a second tab learns of a stream from the user's channel, and follows it", async () => {
  const { page, context, url } = shared;
  await page.goto(url);
  const second = await context.newPage();
  await second.goto(url);
  const own = await ticket({ channels: ["user:browser"] });
  const kinds = ["stream.started", "stream.ended"];
  await open(second, "own", `/v1/events?es=1&user=1&ticket=${own}`, kinds);
  await until(second, "own", { state: OPEN });
  const id = await begin("n60-i30000");
  const [started] = await until(second, "own", { events: 1 });
  assert.equal(started.kind, "stream.started");
  assert.ok(started.data.includes(id), started.data);
  const path = `/v1/streams/${id}?es=1&format=text&ticket=${await ticket({ streams: [id] })}`;
  for (const tab of [page, second]) await open(tab, "stream", path, ["message", "end"]);
  for (const tab of [page, second]) {
    const events = await until(tab, "stream", { state: CLOSED });
    assert.equal(dataOf(events.slice(0, -1)).join(""), tokens(60));
  }
  const [, ended] = await until(second, "own", { events: 2 });
  assert.equal(ended.kind, "stream.ended");
  await close(second, "own");
});

test("the console goes on where a connection has ended", async () => {
  const { page, url, key } = shared;
  await openConsole(page, `${url}/#key=${encodeURIComponent(key)}`);
  const id = await begin("n100-i40000");
  await page.goto(`${url}/#stream=${id}`);
  await shows(page, "#state", "complete");
  assert.equal(await page.textContent(ANSWER), tokens(100));
  assert.ok(Number(await page.textContent("#connections")) > 1);
});

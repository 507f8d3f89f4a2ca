// Connections on which nothing arrives: timeouts, and the long-poll fallback behind a proxy that buffers.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { type ChatOptions, type ConnectionStatus, followStream, ResponseError, streamChat } from "../src/index.js";
import { type Fault, position, ScriptedGateway, type Scripted } from "./server.js";
import { collect, fakeTime, skipWaits, turn } from "./waiting.js";

const EVENTS: Scripted[] = [
  ...Array.from({ length: 5 }, (_, index) => ({ event: "text", data: `{"text":"t${index} "}` })),
  { event: "end", data: '{"state":"complete"}' },
];
const SENT = EVENTS.map(({ event, data }, index) => ({ id: position(index + 1), event, data }));

let gateway: ScriptedGateway;

beforeEach(async () => {
  fakeTime();
  gateway = await ScriptedGateway.start();
  gateway.next = { events: [...EVENTS], closed: true, trimmed: 0 };
  gateway.streams.set("s", gateway.next);
});

afterEach(async () => {
  vi.useRealTimers();
  await gateway.stop();
});

const follow = (options: Partial<ChatOptions> = {}) =>
  followStream({ baseUrl: gateway.url, id: "s", onStatus: skipWaits(), ...options });

const searches = () => gateway.seen.map(({ url }) => url.search);

describe("a stream of which no byte gets through is polled", () => {
  test.each<[string, Fault, string | undefined]>([
    ["without a head", "hang", undefined],
    // Which has the position of the start.
    ["with a head", "silence", position(0)],
  ])("%s", async (_, fault, start) => {
    gateway.faults = [fault];
    const events = collect(follow());
    await gateway.arrived(1);
    await turn();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await events).toEqual(SENT);
    expect(searches()).toEqual([
      "?format=events",
      "?format=events&live=long-poll",
      "?format=events&live=long-poll",
      "?format=events&live=long-poll",
    ]);
    expect(gateway.seen.map(({ headers }) => headers["last-event-id"])).toEqual([
      undefined,
      start,
      position(2),
      position(4),
    ]);
  });

  test("also that of a generation, once its id is known", async () => {
    gateway.faults = ["silence"];
    const statuses: ConnectionStatus[] = [];
    const events = collect(
      streamChat({ baseUrl: gateway.url, body: {}, onStatus: (status) => void statuses.push(status) }),
    );
    await vi.waitUntil(() => statuses.some(({ state }) => state === "open"));
    await turn();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await events).toEqual(SENT);
    expect(gateway.seen.map(({ method, url }) => `${method} ${url.pathname}${url.search}`).slice(0, 2)).toEqual([
      "POST /v1/chat/completions",
      "GET /v1/streams/stream2?live=long-poll",
    ]);
    expect(gateway.posts()).toHaveLength(1);
  });

  test("unless only an event stream is wanted", async () => {
    gateway.faults = ["silence", "none"];
    const events = collect(follow({ transport: "sse" }));
    await gateway.arrived(1);
    await turn();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await events).toEqual(SENT);
    expect(searches()).toEqual(["?format=events", "?format=events"]);
  });
});

test("a connection that falls silent after its first byte is made again at its position", async () => {
  gateway.streams.set("s", { events: EVENTS.slice(0, 2), closed: false, trimmed: 0 });
  const stream = follow();
  const events = stream[Symbol.asyncIterator]();
  await events.next();
  expect((await events.next()).value).toEqual(SENT[1]);
  const next = events.next();
  await turn();
  await vi.advanceTimersByTimeAsync(44_000);
  expect(gateway.seen).toHaveLength(1);
  gateway.streams.set("s", gateway.next);
  await vi.advanceTimersByTimeAsync(1_000);
  expect((await next).value).toEqual(SENT[2]);
  expect(gateway.seen[1]?.headers["last-event-id"]).toBe(position(2));
  expect(searches()).toEqual(["?format=events", "?format=events"]);
  await events.return();
});

test("a consumer that takes its time is no silence", async () => {
  const events = follow()[Symbol.asyncIterator]();
  await events.next();
  await vi.advanceTimersByTimeAsync(600_000);
  const rest = [];
  for (let next = await events.next(); !next.done; next = await events.next()) rest.push(next.value);
  expect(rest).toEqual(SENT.slice(1));
  expect(gateway.seen).toHaveLength(1);
});

describe("long polls", () => {
  test("bring the events of a generation from the start", async () => {
    const stream = streamChat({ baseUrl: gateway.url, body: {}, transport: "long-poll", onStatus: skipWaits() });
    expect(await collect(stream)).toEqual(SENT);
    expect(gateway.seen.map(({ method }) => method)).toEqual(["POST", "GET", "GET", "GET"]);
  });

  test("wait for what comes", async () => {
    gateway.streams.set("s", { events: [], closed: false, trimmed: 0 });
    const events = collect(follow({ transport: "long-poll" }));
    for (const [index, event] of EVENTS.entries()) {
      await gateway.arrived(index + 1);
      gateway.append("s", event, index === EVENTS.length - 1);
    }
    expect(await events).toEqual(SENT);
  });

  test("end with a stream that has no event for its end", async () => {
    gateway.streams.set("s", { events: EVENTS.slice(0, 4), closed: true, trimmed: 0 });
    expect(await collect(follow({ transport: "long-poll" }))).toEqual(SENT.slice(0, 4));
    gateway.streams.set("s", { events: [], closed: true, trimmed: 0 });
    expect(await collect(follow({ transport: "long-poll" }))).toEqual([]);
  });

  test("that break are repeated, and a refusal is an error", async () => {
    gateway.faults = [{ status: 503 }, "none", { status: 502 }, { status: 401, body: { error: { message: "no" } } }];
    const seen: unknown[] = [];
    const read = async () => {
      for await (const event of follow({ transport: "long-poll" })) seen.push(event);
    };
    await expect(read()).rejects.toThrow(ResponseError);
    expect(seen).toEqual(SENT.slice(0, 2));
  });

  test("that a server answers at once with nothing are no busy loop", async () => {
    let requests = 0;
    const empty = () => {
      requests += 1;
      const headers = { "stream-next-offset": position(0) };
      return Promise.resolve(new Response(null, { status: 204, headers }));
    };
    const controller = new AbortController();
    const { signal } = controller;
    const stream = followStream({
      baseUrl: gateway.url,
      id: "s",
      position: position(0),
      transport: "long-poll",
      fetch: empty,
      signal,
    });
    const events = collect(stream);
    await vi.advanceTimersByTimeAsync(10_500);
    expect(requests).toBe(11);
    controller.abort(new Error("enough"));
    await expect(events).rejects.toThrow("enough");
  });

  test("that a server does not answer are given up, and repeated", async () => {
    gateway.faults = ["hang", "none"];
    const delays: number[] = [];
    const events = collect(follow({ transport: "long-poll", onStatus: skipWaits(delays) }));
    await gateway.arrived(1);
    await vi.advanceTimersByTimeAsync(40_000);
    expect(await events).toEqual(SENT);
    expect(delays).toHaveLength(1);
  });
});

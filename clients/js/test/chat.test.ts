// Generations over connections that break: what is put together equals what was sent, once, in order.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import {
  type ChatOptions,
  ConnectionLostError,
  type ConnectionStatus,
  followStream,
  PositionGoneError,
  ResponseError,
  type ServerSentEvent,
  streamChat,
} from "../src/index.js";
import { memoryFetch } from "./memory.js";
import { block, type Fault, position, ScriptedGateway, type Scripted } from "./server.js";
import { collect, fakeTime, skipWaits, turn } from "./waiting.js";

const TOKENS = ["Hel", "lo, ", "w\u00f6rld \u{1f600}", " a\nb\n\nc ", "{\"error\":1}", "[DONE]", " ", "id: x"];

/** A complete answer in OpenAI's format. */
const ANSWER: Scripted[] = [
  ...TOKENS.map((content) => ({ data: JSON.stringify({ choices: [{ delta: { content } }] }, null, 1) })),
  { data: JSON.stringify({ choices: [{ delta: {}, finish_reason: "stop" }] }) },
  { data: "[DONE]" },
];

/** The bytes of a whole response to a POST. */
const LENGTH = Buffer.byteLength(ANSWER.map((event, index) => block(event, position(index + 1))).join(""));

let gateway: ScriptedGateway;

beforeEach(async () => {
  fakeTime();
  gateway = await ScriptedGateway.start();
  gateway.next = { events: [...ANSWER], closed: true, trimmed: 0 };
});

afterEach(async () => {
  vi.useRealTimers();
  await gateway.stop();
});

const chat = (options: Partial<ChatOptions> = {}) =>
  streamChat({ baseUrl: gateway.url, key: "sg-test", body: { model: "m" }, onStatus: skipWaits(), ...options });

/** The events as the server has them. */
const sent = (events: Scripted[] = ANSWER): ServerSentEvent[] =>
  events.map((event, index) => ({ id: position(index + 1), event: event.event ?? "message", data: event.data }));

describe("a request", () => {
  test("asks for a resumable stream, and its events arrive", async () => {
    const stream = chat({ chat: "c1", onDisconnect: "grace(30s)", headers: { "x-team": "a" } });
    expect(stream.id).toBeUndefined();
    expect(await collect(stream)).toEqual(sent());
    expect([stream.id, stream.position]).toEqual(["stream1", position(ANSWER.length)]);
    const [{ method, url, headers, body }] = gateway.seen as [(typeof gateway.seen)[0]];
    expect([method, url.pathname, gateway.seen.length]).toEqual(["POST", "/v1/chat/completions", 1]);
    expect(headers).toMatchObject({
      authorization: "Bearer sg-test",
      "content-type": "application/json",
      accept: "text/event-stream",
      "streamgate-stream": "resumable",
      "streamgate-chat": "c1",
      "streamgate-on-disconnect": "grace(30s)",
      "x-team": "a",
    });
    expect(headers["idempotency-key"]).toMatch(/^[0-9a-f]{32}$/);
    expect(JSON.parse(body)).toEqual({ model: "m", stream: true });
  });

  test("goes to another endpoint, with a key that is fetched for it", async () => {
    await collect(chat({ endpoint: "/v1/messages", baseUrl: `${gateway.url}/`, key: async () => "later" }));
    expect(gateway.seen[0]?.url.pathname).toBe("/v1/messages");
    expect(gateway.seen[0]?.headers.authorization).toBe("Bearer later");
  });

  test("keeps a share and a ticket in the query, and sends no key that is not there", async () => {
    gateway.streams.set("s", { events: [...ANSWER], closed: true, trimmed: 0 });
    const options = { baseUrl: gateway.url, id: "s", format: "native", share: "a b", ticket: () => "t&u" } as const;
    await collect(followStream(options));
    expect(Object.fromEntries(gateway.seen[0]?.url.searchParams ?? [])).toEqual({ share: "a b", ticket: "t&u" });
    expect(gateway.seen[0]?.headers).not.toHaveProperty("authorization");
  });

  test("without an address is an error at once", () => {
    expect(() => streamChat({ body: {} })).toThrow(/baseUrl/);
  });

  test("can be iterated once", async () => {
    const stream = chat();
    await collect(stream);
    expect(() => stream.text()[Symbol.asyncIterator]()).not.toThrow();
    await expect(stream.text().next()).rejects.toThrow(/once/);
  });

  test("gives its text", async () => {
    expect((await collect(chat().text())).join("")).toBe(TOKENS.join(""));
  });
});

describe.each(["reset", "end"] as const)("a connection that breaks by %s", (by) => {
  test("at every byte, once and twice: nothing is lost, nothing comes twice, one generation is started", async () => {
    for (let cut = 0; cut <= LENGTH; cut += 1) {
      for (const cuts of [[cut], [cut, cut % 90]]) {
        const { fetch, requests } = memoryFetch(ANSWER, [...cuts], by);
        expect(await collect(chat({ fetch })), `cut at ${cuts}`).toEqual(sent());
        // The end is in the answer: nothing is requested after it.
        const gets = cut < LENGTH ? requests.length - 1 : 0;
        expect(requests, `cut at ${cuts}`).toEqual(["POST", ...Array.from({ length: gets }, () => "GET")]);
      }
    }
  });

  test("at every event, twice and three times in a row", async () => {
    const ends = ANSWER.map((_, index) =>
      Buffer.byteLength(ANSWER.slice(0, index).map((event, before) => block(event, position(before + 1))).join("")),
    );
    for (const [index, cut] of ends.entries()) {
      for (const more of [[], [7], [30, 3]]) {
        gateway.faults = [cut, ...more].map((cut): Fault => ({ cut, by }));
        gateway.seen.length = 0;
        expect(await collect(chat()), `cut before event ${index}, then at ${more}`).toEqual(sent());
        const paths = gateway.seen.map(({ method, url }) => `${method} ${url.pathname}`);
        const follows = Array.from({ length: more.length + 1 }, () => `GET /v1/streams/stream${gateway.streams.size}`);
        expect(paths).toEqual(["POST /v1/chat/completions", ...follows]);
      }
    }
  });

  test("a thousand times at random", async () => {
    let seed = 1;
    const random = (below: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    for (let breaks = 0; breaks < 1000; ) {
      const cuts = Array.from({ length: 1 + random(6) }, () => 5 + random(400));
      breaks += cuts.length;
      const { fetch } = memoryFetch(ANSWER, cuts, by);
      expect(await collect(chat({ fetch }))).toEqual(sent());
    }
  });
});

test("a stream without its terminator ends when the server says so", async () => {
  gateway.next.events = ANSWER.slice(0, 3);
  expect(await collect(chat())).toEqual(sent(ANSWER.slice(0, 3)));
  expect(gateway.seen.map(({ method }) => method)).toEqual(["POST", "GET"]);
  expect(gateway.seen[1]?.headers["last-event-id"]).toBe(position(3));
});

describe("before there is a stream id", () => {
  test("the request is repeated with its key", async () => {
    gateway.faults = [{ status: 503 }, { status: 502 }, { status: 504 }, "none"];
    expect(await collect(chat())).toEqual(sent());
    const posts = gateway.posts();
    expect(posts).toHaveLength(4);
    expect(new Set(posts.map(({ headers }) => headers["idempotency-key"])).size).toBe(1);
    expect(new Set(posts.map(({ body }) => body)).size).toBe(1);
  });

  test("a key of the caller's own is used", async () => {
    await collect(chat({ idempotencyKey: "mine" }));
    expect(gateway.seen[0]?.headers["idempotency-key"]).toBe("mine");
  });

  test("a response that does not begin is given up, and the request repeated", async () => {
    gateway.faults = ["hang", "none"];
    const stream = collect(chat({ headTimeout: 60_000 }));
    await gateway.arrived(1);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await stream).toEqual(sent());
    expect(gateway.posts()).toHaveLength(2);
  });

  test("a server that cannot be reached is an error after the retries", async () => {
    const delays: number[] = [];
    const { url } = gateway;
    await gateway.stop();
    const error: unknown = await collect(chat({ baseUrl: url, maxRetries: 3, onStatus: skipWaits(delays) })).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ConnectionLostError);
    expect((error as Error).cause).toBeInstanceOf(Error);
    expect(delays).toHaveLength(3);
    gateway = await ScriptedGateway.start();
  });
});

describe("a stream that cannot be resumed", () => {
  beforeEach(() => {
    gateway.resumable = false;
  });

  test("is delivered, if nothing breaks", async () => {
    expect(await collect(chat())).toEqual(sent().map((event) => ({ ...event, id: "" })));
    expect(gateway.seen).toHaveLength(1);
  });

  test.each(["reset", "end"] as const)("that breaks by %s is an error, and no second generation", async (by) => {
    gateway.faults = [{ cut: 200, by }];
    const seen: ServerSentEvent[] = [];
    const read = async () => {
      for await (const event of chat()) seen.push(event);
    };
    await expect(read()).rejects.toThrow(ConnectionLostError);
    expect(gateway.seen).toHaveLength(1);
    expect(sent().map(({ data }) => data).slice(0, seen.length)).toEqual(seen.map(({ data }) => data));
  });

  test("that breaks before its first event is requested again", async () => {
    gateway.faults = [{ cut: 5, by: "reset" }];
    expect(await collect(chat())).toHaveLength(ANSWER.length);
    expect(gateway.seen).toHaveLength(2);
  });

  test("has no other format", async () => {
    await expect(collect(chat({ format: "events" }))).rejects.toThrow(/streamgate-stream-id/);
  });
});

describe("a refusal", () => {
  test.each([400, 401, 403, 404, 422, 500])("with %d is an error at once, with its message", async (status) => {
    const body = { error: { message: "not this", code: "because" } };
    gateway.faults = [{ status, body, headers: { "x-request-id": "req_1" } }];
    const error: unknown = await collect(chat()).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ResponseError);
    expect(error).toMatchObject({ status, code: "because", requestId: "req_1", body });
    expect(String(error)).toContain(`${status}: not this`);
    expect(String(error)).not.toContain("sg-test");
    expect(gateway.seen).toHaveLength(1);
  });

  test.each([
    ["seconds", () => "7", 7_000],
    ["a date", () => new Date(Date.now() + 7_000).toUTCString(), 6_000],
  ])("with 429 waits as long as retry-after says in %s", async (_, value, least) => {
    const delays: number[] = [];
    gateway.faults = [{ status: 429, headers: { "retry-after": value() } }, "none"];
    expect(await collect(chat({ onStatus: skipWaits(delays) }))).toEqual(sent());
    expect(delays).toHaveLength(1);
    expect(delays[0]).toBeGreaterThanOrEqual(least);
    expect(delays[0]).toBeLessThanOrEqual(8_750);
  });

  test("that asks for too long a wait is an error at once", async () => {
    gateway.faults = [{ status: 429, headers: { "retry-after": "61" } }];
    const error: unknown = await collect(chat()).catch((e: unknown) => e);
    expect(error).toMatchObject({ status: 429, retryAfter: 61_000 });
  });

  test("that goes on is thrown in the end", async () => {
    gateway.faults = Array.from({ length: 3 }, (): Fault => ({ status: 503, body: { error: "full" } }));
    await expect(collect(chat({ maxRetries: 2 }))).rejects.toMatchObject({ status: 503, message: "503: full" });
    expect(gateway.seen).toHaveLength(3);
  });

  test("of a resumption is retried, also with 500", async () => {
    gateway.faults = [{ cut: 300, by: "reset" }, { status: 500 }, { status: 503 }, { status: 429, headers: { "retry-after": "1" } }, "none"];
    expect(await collect(chat())).toEqual(sent());
  });

  test("without an event stream is an error", async () => {
    gateway.faults = [{ status: 200, body: {} }];
    await expect(collect(chat())).rejects.toThrow(/expected an event stream, and got application\/json/);
  });
});

describe("reconnection times", () => {
  const failing = async (count: number, retry?: number) => {
    const delays: number[] = [];
    gateway.retry = retry;
    gateway.faults = [{ cut: 300, by: "reset" }, ...Array.from({ length: count }, (): Fault => ({ status: 503 })), "none"];
    await collect(chat({ maxRetries: 20, onStatus: skipWaits(delays) }));
    return delays;
  };

  test("double from half a second to half a minute, with jitter", async () => {
    const delays = await failing(9);
    const steps = delays.map((_, index) => Math.min(500 * 2 ** index, 30_000));
    expect(delays).toHaveLength(10);
    for (const [index, delay] of delays.entries()) {
      expect(delay).toBeGreaterThanOrEqual((steps[index] ?? 0) / 2);
      expect(delay).toBeLessThanOrEqual(steps[index] ?? 0);
    }
    expect(new Set(delays).size).toBeGreaterThan(5);
  });

  test("are never shorter than the server's retry", async () => {
    const delays = await failing(5, 3_300);
    expect(delays[0]).toBe(3_300);
    for (const [index, delay] of delays.entries()) {
      expect(delay).toBeGreaterThanOrEqual(3_300);
      expect(delay).toBeLessThanOrEqual(Math.min(3_300 * 2 ** index, 30_000));
    }
  });

  test("begin again after progress", async () => {
    const delays: number[] = [];
    gateway.faults = [{ cut: 200, by: "reset" }, { status: 503 }, { status: 503 }, { cut: 200, by: "reset" }, "none"];
    await collect(chat({ onStatus: skipWaits(delays) }));
    expect(delays).toHaveLength(4);
    expect(delays[3]).toBeLessThanOrEqual(500);
    expect(delays[2]).toBeGreaterThanOrEqual(1000);
  });

  test("end after as many failures without progress as are allowed", async () => {
    gateway.faults = [{ cut: 300, by: "reset" }, ...Array.from({ length: 9 }, (): Fault => ({ cut: 6, by: "reset" }))];
    const error: unknown = await collect(chat({ maxRetries: 8 })).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ConnectionLostError);
    expect(gateway.seen).toHaveLength(9);
    expect((error as ConnectionLostError).position).toMatch(/^k3v9XbQ0aZ71_/);
  });
});

describe("a position", () => {
  test("that is gone is an error with what is left", async () => {
    gateway.faults = [{ cut: 300, by: "reset" }];
    const stream = chat({
      onStatus: (status) => {
        if (status.state === "waiting") gateway.next.trimmed = 6;
        skipWaits()(status);
      },
    });
    const error: unknown = await collect(stream).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(PositionGoneError);
    expect(error).toMatchObject({ earliest: position(6), tail: position(ANSWER.length), position: stream.position });
    // What is left can be followed from there.
    const rest = followStream({ baseUrl: gateway.url, id: "stream1", format: "native", position: position(6) });
    expect(await collect(rest)).toEqual(sent().slice(6));
  });

  test("goes on in another page, from every event", async () => {
    gateway.streams.set("s", { events: [...ANSWER], closed: true, trimmed: 0 });
    for (let seq = 0; seq <= ANSWER.length; seq += 1) {
      const stream = followStream({ baseUrl: gateway.url, id: "s", format: "native", position: position(seq) });
      expect(await collect(stream)).toEqual(sent().slice(seq));
    }
  });

  test("at the end of a finished stream brings nothing more", async () => {
    gateway.streams.set("s", { events: [...ANSWER], closed: true, trimmed: 0 });
    expect(await collect(followStream({ baseUrl: gateway.url, id: "s", position: position(ANSWER.length) }))).toEqual([]);
    expect(gateway.seen).toHaveLength(1);
  });

  test("of now leaves out what there was, also when the first connection brings nothing", async () => {
    gateway.streams.set("s", { events: ANSWER.slice(0, 4), closed: false, trimmed: 0 });
    // Cut after its comment, before an event.
    gateway.faults = [{ cut: 6, by: "reset" }];
    const stream = followStream({
      baseUrl: gateway.url,
      id: "s",
      format: "native",
      position: "now",
      onStatus: (status) => {
        // What comes while nobody is connected is not lost.
        if (status.state === "waiting") for (const event of ANSWER.slice(4)) gateway.append("s", event, true);
        skipWaits()(status);
      },
    });
    expect(await collect(stream)).toEqual(sent().slice(4));
    expect(gateway.seen[0]?.url.searchParams.get("offset")).toBe("now");
    expect(gateway.seen[1]?.headers["last-event-id"]).toBe(position(4));
  });

  test("is never gone back to by a server that repeats events", async () => {
    const blocks = ANSWER.map((event, index) => block(event, position(index + 1)));
    const bodies = [blocks.slice(0, 5).join(""), blocks.slice(2, 7).join(""), blocks.join("")];
    const repeat = () => Promise.resolve(new Response(bodies.shift(), { headers: { "content-type": "text/event-stream" } }));
    const events = await collect(
      followStream({ baseUrl: gateway.url, id: "s", format: "native", fetch: repeat, onStatus: skipWaits() }),
    );
    expect(events).toEqual(sent());
  });
});

test("an unknown stream is an error", async () => {
  await expect(collect(followStream({ baseUrl: gateway.url, id: "a/b" }))).rejects.toMatchObject({ status: 404 });
  expect(gateway.seen[0]?.url.pathname).toBe("/v1/streams/a%2Fb");
});

test("another format is read from the stream, and the first connection is left after that", async () => {
  gateway.next.events = [
    { event: "text", data: '{"text":"Hello"}' },
    { event: "end", data: '{"state":"complete"}' },
  ];
  const statuses: ConnectionStatus[] = [];
  const stream = chat({ format: "events", onStatus: (status) => void statuses.push(status) });
  expect((await collect(stream.text())).join("")).toBe("Hello");
  expect(gateway.seen.map(({ method, url }) => `${method} ${url.pathname}${url.search}`)).toEqual([
    "POST /v1/chat/completions",
    "GET /v1/streams/stream1?format=events",
  ]);
  expect(statuses.map(({ state }) => state)).toEqual(["connecting", "open", "ended"]);
});

test("events arrive as they are made, and a cut in the middle of a live stream loses none", async () => {
  gateway.next = { events: [], closed: false, trimmed: 0 };
  gateway.faults = [{ cut: 400, by: "reset" }];
  const seen: ServerSentEvent[] = [];
  const read = (async () => {
    for await (const event of chat()) seen.push(event);
  })();
  await gateway.arrived(1);
  for (const [index, event] of ANSWER.entries()) {
    gateway.append("stream1", event, index === ANSWER.length - 1);
    await turn();
  }
  await read;
  expect(seen).toEqual(sent());
});

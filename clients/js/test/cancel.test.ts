// The ends that a caller brings about: cancelling the generation, leaving it, aborting.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { followStream, StreamEndError, streamChat } from "../src/index.js";
import { ScriptedGateway, type Scripted } from "./server.js";
import { collect, fakeTime, skipWaits, turn } from "./waiting.js";

const EVENTS: Scripted[] = [
  { event: "text", data: '{"text":"one "}' },
  { event: "text", data: '{"text":"two "}' },
];
const CANCELLED = { event: "end", data: '{"state":"cancelled"}' };

let gateway: ScriptedGateway;

beforeEach(async () => {
  fakeTime();
  gateway = await ScriptedGateway.start();
  gateway.next = { events: [...EVENTS], closed: false, trimmed: 0 };
  for (const id of ["stream1", "s"]) {
    gateway.routes.set(`POST /v1/streams/${id}/cancel`, () => {
      gateway.append(id, CANCELLED, true);
      return { status: 200, body: { id, state: "cancelled" } };
    });
  }
});

afterEach(async () => {
  vi.useRealTimers();
  await gateway.stop();
});

const chat = (signal?: AbortSignal) =>
  streamChat({
    baseUrl: gateway.url,
    key: "k",
    body: {},
    format: "events",
    onStatus: skipWaits(),
    ...(signal && { signal }),
  });

describe("cancel()", () => {
  test("ends the generation at the server, and the iteration with it", async () => {
    const stream = chat();
    const events = stream[Symbol.asyncIterator]();
    await events.next();
    expect(await stream.cancel()).toEqual({ id: "stream1", state: "cancelled" });
    expect((await events.next()).value?.data).toContain("two");
    expect((await events.next()).value).toMatchObject(CANCELLED);
    expect((await events.next()).done).toBe(true);
    expect(gateway.seen.find(({ url }) => url.pathname.endsWith("/cancel"))?.headers.authorization).toBe("Bearer k");
  });

  test("of its text is an error that says so, after all text before it", async () => {
    const stream = chat();
    let text = "";
    const read = async () => {
      for await (const added of stream.text()) {
        text += added;
        if (text === "one two ") void stream.cancel();
      }
    };
    const error: unknown = await read().catch((e: unknown) => e);
    expect(error).toBeInstanceOf(StreamEndError);
    expect(error).toMatchObject({ state: "cancelled" });
    expect(text).toBe("one two ");
  });

  test("of a text in a vendor's format, which ends with an error, says so, too", async () => {
    gateway.next = { events: [{ data: '{"choices":[{"delta":{"content":"one "}}]}' }], closed: false, trimmed: 0 };
    gateway.routes.set("POST /v1/streams/stream1/cancel", () => {
      gateway.append("stream1", { data: '{"error":{"message":"cancelled by a request"}}' }, true);
      return { status: 200, body: { id: "stream1", state: "cancelled" } };
    });
    const stream = streamChat({ baseUrl: gateway.url, body: {} });
    const texts = stream.text();
    expect((await texts.next()).value).toBe("one ");
    void stream.cancel();
    await expect(texts.next()).rejects.toMatchObject({ name: "StreamEndError", state: "cancelled" });
    // An error of its own stays one.
    gateway.next = { events: [{ data: '{"error":{"message":"overloaded"}}' }], closed: true, trimmed: 0 };
    const failing = streamChat({ baseUrl: gateway.url, body: {} });
    await expect(failing.text().next()).rejects.toMatchObject({ state: "error", message: "overloaded" });
  });

  test("before the response waits for the stream's id", async () => {
    gateway.faults = ["hang", "none"];
    const stream = chat();
    const events = collect(stream);
    await gateway.arrived(1);
    const cancelled = stream.cancel();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await cancelled).toMatchObject({ state: "cancelled" });
    expect((await events).at(-1)).toMatchObject(CANCELLED);
  });

  test("before the request sends none", async () => {
    const stream = chat();
    expect(await stream.cancel()).toBeUndefined();
    expect(await collect(stream)).toEqual([]);
    expect(gateway.seen).toEqual([]);
  });

  test("of a request that is refused is none", async () => {
    gateway.faults = [{ status: 400 }];
    const stream = chat();
    const events = collect(stream).catch((error: unknown) => error);
    expect(await stream.cancel()).toBeUndefined();
    expect(await events).toMatchObject({ status: 400 });
  });

  test("of a stream that is followed needs no iteration", async () => {
    gateway.streams.set("s", gateway.next);
    const stream = followStream({ baseUrl: gateway.url, id: "s" });
    expect(await stream.cancel()).toEqual({ id: "s", state: "cancelled" });
  });
});

describe("leaving", () => {
  test("the iteration closes the connection, and cancels nothing", async () => {
    const stream = chat();
    for await (const event of stream) {
      expect(event.data).toContain("one");
      break;
    }
    expect(gateway.seen.every(({ url }) => !url.pathname.endsWith("/cancel"))).toBe(true);
    expect(stream.position).toMatch(/_0000000001$/);
    // Somebody else, or a page that was reloaded, goes on from there.
    const rest = followStream({ baseUrl: gateway.url, id: stream.id ?? "", position: stream.position });
    const events = rest[Symbol.asyncIterator]();
    expect((await events.next()).value?.data).toContain("two");
    await events.return();
  });

  test("by close() ends the iteration without an error", async () => {
    const stream = chat();
    const events = collect(stream);
    await gateway.arrived(2);
    await turn();
    stream.close();
    expect((await events).length).toBeLessThanOrEqual(2);
    expect(gateway.seen.map(({ method }) => method)).toEqual(["POST", "GET"]);
  });

  test("closes the socket", async () => {
    gateway.streams.set("s", gateway.next);
    const controller = new AbortController();
    const watched: AbortSignal[] = [];
    const watching: typeof fetch = (url, init) => {
      if (init?.signal) watched.push(init.signal);
      return fetch(url, init);
    };
    const stream = followStream({ baseUrl: gateway.url, id: "s", fetch: watching, signal: controller.signal });
    for await (const event of stream) if (event.data.includes("two")) break;
    expect(watched.map(({ aborted }) => aborted)).toEqual([true]);
  });
});

describe("a signal", () => {
  test("that is aborted before sends nothing", async () => {
    const stream = chat(AbortSignal.abort(new Error("early")));
    await expect(collect(stream)).rejects.toThrow("early");
    expect(gateway.seen).toEqual([]);
  });

  test("ends a wait for an event with its reason", async () => {
    const controller = new AbortController();
    const stream = chat(controller.signal);
    const events = stream[Symbol.asyncIterator]();
    await events.next();
    await events.next();
    const next = events.next();
    controller.abort(new Error("stop"));
    await expect(next).rejects.toThrow("stop");
    expect((await events.next()).done).toBe(true);
  });

  test("ends it between two events of one chunk", async () => {
    const controller = new AbortController();
    const events = chat(controller.signal)[Symbol.asyncIterator]();
    await events.next();
    controller.abort(new Error("stop"));
    await expect(events.next()).rejects.toThrow("stop");
  });

  test("ends a wait for the next connection", async () => {
    let requests = 0;
    const unavailable = () => {
      requests += 1;
      return Promise.resolve(new Response(null, { status: 503 }));
    };
    const controller = new AbortController();
    const stream = streamChat({
      baseUrl: gateway.url,
      body: {},
      signal: controller.signal,
      fetch: unavailable,
      onStatus: ({ state }) => {
        if (state === "waiting") setImmediate(() => controller.abort(new Error("stop")));
      },
    });
    await expect(collect(stream)).rejects.toThrow("stop");
    expect(requests).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});

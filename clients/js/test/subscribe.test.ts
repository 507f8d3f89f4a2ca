// Subscriptions over fetch: several sources on one connection, one position, listeners.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { type ChannelEvent, PositionGoneError, subscribe, type SubscribeOptions } from "../src/index.js";
import { memoryFetch } from "./memory.js";
import { type Fault, position, ScriptedGateway, type Scripted } from "./server.js";
import { fakeTime, skipWaits, turn } from "./waiting.js";

const published = (channel: string, data: string, event?: string): Scripted => ({
  event: "channel",
  data: JSON.stringify({ channel, event, data }),
});
const ofStream = (stream: string, data: string, event?: string): Scripted => ({
  event: "stream",
  data: JSON.stringify({ stream, event, data }),
});

const EVENTS: Scripted[] = [
  published("orders.eu", '{"n":1}', "created"),
  ofStream("s1", '{"text":"Hello"}', "text"),
  published("prices", "1.5\n2"),
  published("orders.us", '{"n":2}', "created"),
  ofStream("s1", '{"state":"complete"}', "end"),
  published("orders.eu", "", "deleted"),
];

const channel = (seq: number, name: string, event: string, data: string): ChannelEvent => ({
  id: position(seq),
  channel: name,
  stream: undefined,
  event,
  data,
});
const stream = (seq: number, event: string, data: string): ChannelEvent => ({
  ...channel(seq, "", event, data),
  channel: undefined,
  stream: "s1",
});

const RECEIVED: ChannelEvent[] = [
  channel(1, "orders.eu", "created", '{"n":1}'),
  stream(2, "text", '{"text":"Hello"}'),
  channel(3, "prices", "message", "1.5\n2"),
  channel(4, "orders.us", "created", '{"n":2}'),
  stream(5, "end", '{"state":"complete"}'),
  channel(6, "orders.eu", "deleted", ""),
];

let gateway: ScriptedGateway;

beforeEach(async () => {
  fakeTime();
  gateway = await ScriptedGateway.start();
  gateway.streams.set("events", { events: [...EVENTS], closed: false, trimmed: 0 });
});

afterEach(async () => {
  vi.useRealTimers();
  await gateway.stop();
});

const open = (options: Partial<SubscribeOptions> = {}) =>
  subscribe({
    baseUrl: gateway.url,
    key: "sg-test",
    channels: ["orders.*", "prices"],
    streams: ["s1"],
    onStatus: skipWaits(),
    ...options,
  });

/** The first events of a subscription. */
async function take(count: number, options: Partial<SubscribeOptions> = {}): Promise<ChannelEvent[]> {
  const events: ChannelEvent[] = [];
  for await (const event of open(options)) {
    events.push(event);
    if (events.length === count) break;
  }
  return events;
}

test("one connection carries channels and streams", async () => {
  expect(await take(6, { types: ["created", "text"], rewind: 10 })).toEqual(RECEIVED);
  const [{ url, headers }] = gateway.seen as [(typeof gateway.seen)[0]];
  expect(gateway.seen).toHaveLength(1);
  expect([...url.searchParams]).toEqual([
    ["format", "events"],
    ["channel", "orders.*"],
    ["channel", "prices"],
    ["stream", "s1"],
    ["types", "created,text"],
    ["rewind", "10"],
  ]);
  expect(url.pathname).toBe("/v1/events");
  expect(headers.authorization).toBe("Bearer sg-test");
});

describe.each(["reset", "end"] as const)("a connection that breaks by %s", (by) => {
  test("at every byte loses nothing, and repeats nothing", async () => {
    for (let cut = 0; cut < 700; cut += 1) {
      const { fetch } = memoryFetch(EVENTS, [cut], by);
      expect(await take(6, { fetch }), `cut at ${cut}`).toEqual(RECEIVED);
    }
  });

  test("on the network, before an event and in the middle of one", async () => {
    for (const cut of [0, 3, 6, 70, 150, 250, 400, 600]) {
      gateway.faults = [{ cut, by }, { cut: 9, by }];
      expect(await take(6), `cut at ${cut}`).toEqual(RECEIVED);
    }
  });

  test("again and again is made again, without an end", async () => {
    gateway.faults = Array.from({ length: 30 }, (): Fault => ({ cut: 6, by }));
    const delays: number[] = [];
    expect(await take(6, { onStatus: skipWaits(delays) })).toEqual(RECEIVED);
    expect(delays).toHaveLength(30);
    expect(Math.max(...delays)).toBeLessThanOrEqual(30_000);
  });
});

test("events between the first connection and the second are not lost, although nothing had come", async () => {
  gateway.streams.set("events", { events: EVENTS.slice(0, 2), closed: false, trimmed: 0 });
  gateway.faults = [{ cut: 6, by: "reset" }];
  const onStatus: SubscribeOptions["onStatus"] = (status) => {
    if (status.state === "waiting") for (const event of EVENTS.slice(2)) gateway.append("events", event);
    skipWaits()(status);
  };
  expect(await take(4, { position: "now", onStatus })).toEqual(RECEIVED.slice(2));
  expect(gateway.seen[1]?.headers["last-event-id"]).toBe(position(2));
});

test("rewound events are requested again, if none of them has come", async () => {
  gateway.faults = [{ cut: 6, by: "reset" }];
  expect(await take(6, { rewind: 6 })).toEqual(RECEIVED);
  expect(gateway.seen.map(({ url }) => url.searchParams.get("rewind"))).toEqual(["6", "6"]);
  expect(gateway.seen[1]?.headers).not.toHaveProperty("last-event-id");
});

test("a position goes on in a later subscription", async () => {
  expect(await take(3, { position: position(3), rewind: 10 })).toEqual(RECEIVED.slice(3));
  expect(gateway.seen[0]?.headers["last-event-id"]).toBe(position(3));
  expect(gateway.seen[0]?.url.searchParams.has("rewind")).toBe(false);
});

test("a position that is gone is an error", async () => {
  gateway.streams.set("events", { events: [...EVENTS], closed: false, trimmed: 4 });
  const error: unknown = await take(1, { position: position(2) }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(PositionGoneError);
  expect(error).toMatchObject({ earliest: position(4), tail: position(6) });
});

test("events that were not read in time are an error in the middle of a connection", async () => {
  const reset = { event: "reset", data: JSON.stringify({ earliest: position(9) }) };
  gateway.streams.set("events", { events: [...EVENTS.slice(0, 2), reset], closed: false, trimmed: 0 });
  const seen: ChannelEvent[] = [];
  const read = async () => {
    for await (const event of open()) seen.push(event);
  };
  const error: unknown = await read().catch((e: unknown) => e);
  expect(error).toBeInstanceOf(PositionGoneError);
  expect(error).toMatchObject({ position: position(2), earliest: position(9) });
  expect(seen).toEqual(RECEIVED.slice(0, 2));
});

test("events of the connection itself move the position, and are none of a channel", async () => {
  const control = { event: "control", data: '{"type":"caught_up"}' };
  gateway.streams.set("events", { events: [control, ...EVENTS.slice(1)], closed: false, trimmed: 0 });
  expect(await take(5)).toEqual(RECEIVED.slice(1));
  gateway.streams.set("events", { events: [control], closed: false, trimmed: 0 });
  const subscription = open();
  const events = subscription[Symbol.asyncIterator]();
  const next = events.next();
  await vi.waitUntil(() => subscription.position === position(1));
  subscription.close();
  expect((await next).done).toBe(true);
});

test("long polls name the channel of each event", async () => {
  const entry = { id: position(1), channel: "prices", event: "changed", data: "1.5" };
  const bodies = [{ events: [entry], next_offset: position(1), up_to_date: true }];
  const poll: typeof fetch = () => Promise.resolve(new Response(JSON.stringify(bodies.shift())));
  expect(await take(1, { transport: "long-poll", fetch: poll })).toEqual([channel(1, "prices", "changed", "1.5")]);
});

test("long polls bring the same events", async () => {
  expect(await take(6, { transport: "long-poll" })).toEqual(RECEIVED);
  expect(gateway.seen.map(({ url }) => url.searchParams.get("live"))).toEqual(["long-poll", "long-poll", "long-poll"]);
});

test("a server that sends events as published is understood: with one channel, its name is known", async () => {
  gateway.streams.set("events", { events: [{ event: "created", data: "{}" }], closed: false, trimmed: 0 });
  const bare = channel(1, "orders.eu", "created", "{}");
  expect(await take(1, { channels: ["orders.eu"], streams: [] })).toEqual([bare]);
  expect(await take(1, { channels: ["orders.*"], streams: [] })).toEqual([{ ...bare, channel: undefined }]);
  expect(await take(1)).toEqual([{ ...bare, channel: undefined }]);
});

describe("listeners", () => {
  test("get the events of their channel, pattern or stream", async () => {
    const subscription = open();
    const seen: Record<string, string[]> = {};
    const note = (name: string) => (event: ChannelEvent) => void (seen[name] ??= []).push(event.id);
    for (const source of ["orders.eu", "orders.*", "prices", "s1", "*", "orders_eu"]) subscription.on(source, note(source));
    const last = new Promise<void>((resolve) => void subscription.on("orders.eu", ({ event }) => event === "deleted" && resolve()));
    await last;
    const ids = (...numbers: number[]) => numbers.map((number) => position(number));
    expect(seen).toEqual({
      "orders.eu": ids(1, 6),
      "orders.*": ids(1, 4, 6),
      prices: ids(3),
      s1: ids(2, 5),
      "*": ids(1, 2, 3, 4, 5, 6),
    });
    expect(gateway.seen).toHaveLength(1);
    subscription.close();
    expect(await subscription.ended).toBeUndefined();
  });

  test("are removed, and the same one may listen twice", async () => {
    const subscription = open();
    const seen: string[] = [];
    const listener = ({ id }: ChannelEvent) => {
      seen.push(id);
      if (id === position(3)) remove();
    };
    const remove = subscription.on("*", listener);
    subscription.on("orders.eu", listener);
    await new Promise<void>((resolve) => void subscription.on("*", ({ id }) => id === position(6) && resolve()));
    expect(seen).toEqual([1, 1, 2, 3, 6].map((number) => position(number)));
    subscription.close();
  });

  test("learn of the error that ends the subscription", async () => {
    gateway.faults = [{ status: 403, body: { error: { message: "not this channel" } } }];
    const subscription = open();
    subscription.on("*", () => {});
    expect(await subscription.ended).toMatchObject({ status: 403, message: "403: not this channel" });
  });

  test("that fail are reported, and hinder no other", async () => {
    const subscription = open();
    const reported = new Promise((resolve) => process.once("uncaughtException", resolve));
    const others = process.listeners("uncaughtException").filter((listener) => listener.name !== "");
    for (const listener of others) process.removeListener("uncaughtException", listener);
    subscription.on("orders.eu", () => {
      throw new Error("mine");
    });
    await new Promise<void>((resolve) => void subscription.on("*", ({ id }) => id === position(1) && resolve()));
    expect(await reported).toMatchObject({ message: "mine" });
    subscription.close();
    for (const listener of others) process.on("uncaughtException", listener);
  });

  test("and an iteration exclude each other", async () => {
    const listened = open();
    listened.on("*", () => {});
    expect(() => listened[Symbol.asyncIterator]()).toThrow(TypeError);
    listened.close();
    const iterated = open();
    const events = iterated[Symbol.asyncIterator]();
    expect(() => iterated.on("*", () => {})).toThrow(TypeError);
    expect(() => iterated[Symbol.asyncIterator]()).toThrow(TypeError);
    await events.return();
  });
});

test("close() ends an iteration that waits", async () => {
  const subscription = open();
  const events = subscription[Symbol.asyncIterator]();
  for (const expected of RECEIVED) expect((await events.next()).value).toEqual(expected);
  const next = events.next();
  await turn();
  subscription.close();
  expect((await next).done).toBe(true);
  expect(subscription.position).toBe(position(6));
});

test("a subscription to nothing is an error at once", () => {
  expect(() => open({ channels: [], streams: [] })).toThrow(TypeError);
});

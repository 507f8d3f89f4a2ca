// Subscriptions over EventSource, with one that follows the platform's rules: it connects again by itself after a broken
// connection, and never after a refusal.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import {
  type ChannelEvent,
  type EventSourceConstructor,
  type EventSourceLike,
  PositionGoneError,
  subscribe,
  type SubscribeOptions,
} from "../src/index.js";
import { fakeTime, skipWaits, turn } from "./waiting.js";

/** An EventSource whose events a test sends. */
class ScriptedEventSource implements EventSourceLike {
  static opened: ScriptedEventSource[] = [];
  readyState = 0;
  onopen: ((event: Event) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  readonly url: URL;
  readonly withCredentials: boolean;
  readonly #listeners = new Map<string, (event: MessageEvent<string>) => void>();

  constructor(url: string, init?: { withCredentials?: boolean }) {
    this.url = new URL(url);
    this.withCredentials = init?.withCredentials === true;
    ScriptedEventSource.opened.push(this);
  }

  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void {
    this.#listeners.set(type, listener);
  }

  close(): void {
    this.readyState = 2;
  }

  /** Dispatches an event, unless it is closed, or nobody listens to its name. */
  send(type: string, data: unknown, lastEventId = ""): void {
    if (this.readyState === 2) return;
    const text = typeof data === "string" ? data : JSON.stringify(data);
    this.#listeners.get(type)?.({ type, data: text, lastEventId } as MessageEvent<string>);
  }

  publish(id: string, data: string): void {
    this.send("channel", { channel: "a", event: "e", data }, id);
  }

  /** Gives up, as after a status other than 200. */
  fail(): void {
    this.readyState = 2;
    this.onerror?.(new Event("error"));
  }
}

const EventSource: EventSourceConstructor = ScriptedEventSource;
const opened = (index: number) => ScriptedEventSource.opened.at(index) as ScriptedEventSource;

beforeEach(() => {
  fakeTime();
  ScriptedEventSource.opened = [];
});

afterEach(() => void vi.useRealTimers());

const open = (options: Partial<SubscribeOptions> = {}) =>
  subscribe({
    baseUrl: "http://gateway.test",
    channels: ["a"],
    transport: "eventsource",
    ticket: "t",
    EventSource,
    onStatus: skipWaits(),
    ...options,
  });

/** Lets the subscription react. */
const react = async () => {
  for (let count = 0; count < 4; count += 1) await turn();
};

test("the address has everything that EventSource cannot send as a header", async () => {
  const events = open({ types: ["e"], rewind: 3, credentials: "include" })[Symbol.asyncIterator]();
  const next = events.next();
  await react();
  expect([...opened(0).url.searchParams]).toEqual([
    ["format", "events"],
    ["channel", "a"],
    ["types", "e"],
    ["es", "1"],
    ["rewind", "3"],
    ["ticket", "t"],
  ]);
  expect(opened(0).withCredentials).toBe(true);
  opened(0).publish("1", "x");
  expect((await next).value).toEqual({ id: "1", channel: "a", stream: undefined, event: "e", data: "x" });
  await events.return();
  expect(opened(0).readyState).toBe(2);
});

test("a broken connection is left to EventSource, and a given up one is made again at its position", async () => {
  const seen: string[] = [];
  const tickets = ["t1", "t2"];
  const subscription = open({ ticket: () => tickets.shift() ?? "" });
  subscription.on("a", ({ data }) => void seen.push(data));
  await react();
  opened(0).publish("1", "x");
  opened(0).readyState = 0;
  opened(0).onerror?.(new Event("error"));
  await react();
  expect(ScriptedEventSource.opened).toHaveLength(1);
  opened(0).publish("2", "y");
  opened(0).fail();
  await react();
  expect(ScriptedEventSource.opened).toHaveLength(2);
  expect(opened(1).url.searchParams.get("last-event-id")).toBe("2");
  expect(opened(1).url.searchParams.get("ticket")).toBe("t2");
  opened(1).publish("3", "z");
  await react();
  expect(seen).toEqual(["x", "y", "z"]);
  subscription.close();
  expect(await subscription.ended).toBeUndefined();
  expect(opened(1).readyState).toBe(2);
});

describe("a refusal", () => {
  test.each([400, 403, 404])("with %d is an error", async (status) => {
    const subscription = open();
    subscription.on("a", () => {});
    await react();
    opened(0).send("refused", { status, message: "not this" });
    expect(await subscription.ended).toMatchObject({ status, message: `${status}: not this` });
    expect(opened(0).readyState).toBe(2);
  });

  test.each([429, 503])("with %d passes: EventSource connects again after the server's time", async (status) => {
    const subscription = open();
    subscription.on("a", () => {});
    await react();
    opened(0).send("refused", { status, message: "full" });
    await react();
    expect([ScriptedEventSource.opened.length, opened(0).readyState]).toEqual([1, 0]);
    subscription.close();
  });

  test("of a ticket that has expired is met with another one", async () => {
    let count = 0;
    const subscription = open({ ticket: () => `t${(count += 1)}` });
    subscription.on("a", () => {});
    await react();
    opened(0).send("refused", { status: 401, message: "expired" });
    await react();
    expect(ScriptedEventSource.opened.map(({ url }) => url.searchParams.get("ticket"))).toEqual(["t1", "t2"]);
    subscription.close();
  });

  test("of the only ticket is an error", async () => {
    const subscription = open();
    subscription.on("a", () => {});
    await react();
    opened(0).send("refused", { status: 401, message: "expired" });
    expect(await subscription.ended).toMatchObject({ status: 401 });
  });
});

test("a position that is gone is an error with the earliest one", async () => {
  const subscription = open({ position: "p" });
  subscription.on("a", () => {});
  await react();
  opened(0).send("reset", { earliest: "e" }, "e");
  const error = await subscription.ended;
  expect(error).toBeInstanceOf(PositionGoneError);
  expect(error).toMatchObject({ earliest: "e" });
  expect(opened(0).readyState).toBe(2);
});

test("a consumer that takes its time bounds what waits, and loses nothing", async () => {
  const events = open()[Symbol.asyncIterator]();
  const first = events.next();
  await react();
  let sent = 0;
  const send = (source: ScriptedEventSource) => {
    while (source.readyState !== 2 && sent < 2500) source.publish(String((sent += 1)), `d${sent}`);
  };
  send(opened(0));
  expect(sent).toBe(1000);
  const seen: ChannelEvent[] = [(await first).value as ChannelEvent];
  while (seen.length < 2500) {
    const next = events.next();
    await turn();
    const source = opened(-1);
    if (source.readyState === 0 && sent < 2500) {
      expect(source.url.searchParams.get("last-event-id")).toBe(String(sent));
      send(source);
    }
    seen.push((await next).value as ChannelEvent);
  }
  expect(seen.map(({ data }) => data)).toEqual(Array.from({ length: 2500 }, (_, index) => `d${index + 1}`));
  expect(ScriptedEventSource.opened).toHaveLength(3);
  await events.return();
});

test("a ticket that cannot be had is asked for again", async () => {
  let count = 0;
  const ticket = () => {
    count += 1;
    if (count < 3) throw new Error("offline");
    return "t";
  };
  const delays: number[] = [];
  const subscription = open({ ticket, onStatus: skipWaits(delays) });
  subscription.on("a", () => {});
  await react();
  await react();
  expect([ScriptedEventSource.opened.length, delays.length]).toEqual([1, 2]);
  subscription.close();
});

test("a signal ends it with its reason", async () => {
  const controller = new AbortController();
  const subscription = open({ signal: controller.signal });
  subscription.on("a", () => {});
  await react();
  controller.abort(new Error("stop"));
  expect(await subscription.ended).toMatchObject({ message: "stop" });
  expect(opened(0).readyState).toBe(2);
});

test("without an EventSource it is an error at once", () => {
  expect(() => subscribe({ baseUrl: "http://gateway.test", channels: ["a"], transport: "eventsource" })).toThrow(/EventSource/);
});

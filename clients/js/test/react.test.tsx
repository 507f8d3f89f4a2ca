// @vitest-environment happy-dom
// The hooks, in a real React: what they show, and what they leave behind.

import { act, StrictMode, type ReactNode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import {
  useChannel,
  type UseChannelOptions,
  type UseChannelResult,
  useStream,
  type UseStreamOptions,
  type UseStreamResult,
} from "../src/react.js";
import { block, position, type Scripted } from "./server.js";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

const text = (data: string): Scripted => ({ event: "text", data: JSON.stringify({ text: data }) });
const end = (state: string): Scripted => ({ event: "end", data: JSON.stringify({ state }) });
const chunk = (content: string): Scripted => ({ data: JSON.stringify({ choices: [{ delta: { content } }] }) });
const DONE = { data: "[DONE]" };

/** The server's side of one connection. */
class ServerSide {
  static all: ServerSide[] = [];
  readonly method: string;
  readonly url: string;
  readonly body: string;
  readonly position: string | null;
  readonly signal: AbortSignal | null | undefined;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #seq: number;

  static readonly fetch: typeof fetch = (url, init) => {
    const side = new ServerSide(String(url), init);
    if (side.url.endsWith("/cancel")) return Promise.resolve(new Response('{"state":"cancelled"}'));
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (side.#controller = controller) });
    side.signal?.addEventListener("abort", () => {
      try {
        side.#controller.error(side.signal?.reason);
      } catch {
        // It has ended before.
      }
    });
    const headers = { "content-type": "text/event-stream", "streamgate-stream-id": "s1" };
    return Promise.resolve(new Response(body, { headers }));
  };

  constructor(url: string, init?: RequestInit) {
    this.url = url;
    this.method = init?.method ?? "GET";
    this.body = String(init?.body ?? "");
    this.signal = init?.signal;
    this.position = new Headers(init?.headers).get("last-event-id");
    this.#seq = Number((this.position ?? position(0)).slice(13));
    ServerSide.all.push(this);
  }

  async send(...events: Scripted[]): Promise<void> {
    await act(async () => {
      for (const event of events) {
        this.#seq += 1;
        this.#controller.enqueue(new TextEncoder().encode(block(event, position(this.#seq))));
      }
      await settle();
    });
  }

  async fail(): Promise<void> {
    await act(async () => {
      this.#controller.error(new TypeError("terminated"));
      await settle();
    });
  }
}

async function settle(): Promise<void> {
  for (let count = 0; count < 10; count += 1) await new Promise<void>((resolve) => void setImmediate(resolve));
}

const side = (index: number) => ServerSide.all.at(index) as ServerSide;
const open = () => ServerSide.all.filter(({ signal }) => signal && !signal.aborted).length;

let root: Root;
let shown: UseStreamResult;
let channel: UseChannelResult;

const connection = { baseUrl: "http://gateway.test", key: "k", fetch: ServerSide.fetch };

function Stream(options: Partial<UseStreamOptions>): ReactNode {
  shown = useStream({ ...connection, ...options });
  return <p>{shown.text}</p>;
}

function Channel(options: Partial<UseChannelOptions>): ReactNode {
  channel = useChannel({ ...connection, channels: ["a"], ...options });
  return <p>{channel.last?.data}</p>;
}

const render = (node: ReactNode) =>
  act(async () => {
    root.render(node);
    await settle();
  });
const during = (work: () => unknown) =>
  act(async () => {
    await work();
    await settle();
  });

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  ServerSide.all = [];
  root = createRoot(document.createElement("div"));
});

afterEach(async () => {
  await act(async () => root.unmount());
  vi.useRealTimers();
});

test("useStream: a generation is started, its text grows, and it is done", async () => {
  await render(<Stream />);
  expect([shown.status, shown.text, ServerSide.all.length]).toEqual(["idle", "", 0]);
  await during(() => shown.start({ body: { model: "m" } }));
  expect(shown.status).toBe("connecting");
  expect([side(0).method, JSON.parse(side(0).body)]).toEqual(["POST", { model: "m", stream: true }]);
  await side(0).send(chunk("Hello, "));
  expect([shown.status, shown.text, shown.id]).toEqual(["streaming", "Hello, ", "s1"]);
  await side(0).send(chunk("world"), DONE);
  expect([shown.status, shown.text, shown.error]).toEqual(["done", "Hello, world", undefined]);
  expect(open()).toBe(0);
});

test("useStream: a connection that breaks is made again, and nothing is lost", async () => {
  await render(<Stream />);
  await during(() => shown.start({ body: {} }));
  await side(0).send(chunk("a"));
  await side(0).fail();
  expect([shown.status, shown.text]).toEqual(["reconnecting", "a"]);
  await during(() => vi.advanceTimersByTime(501));
  expect([side(1).method, side(1).position]).toEqual(["GET", position(1)]);
  await side(1).send(chunk("b"), DONE);
  expect([shown.status, shown.text]).toEqual(["done", "ab"]);
});

test("useStream: an error is shown", async () => {
  await render(<Stream />);
  await during(() => shown.start({ body: {} }));
  await side(0).send(chunk("a"), { data: '{"error":{"message":"overloaded"}}' });
  expect([shown.status, shown.text]).toEqual(["error", "a"]);
  expect(shown.error).toMatchObject({ state: "error", message: "overloaded" });
});

test("useStream: cancel() ends it as cancelled", async () => {
  await render(<Stream id="s9" />);
  await side(0).send(text("a"));
  await during(() => shown.cancel());
  expect(side(1).url).toBe("http://gateway.test/v1/streams/s9/cancel");
  await side(0).send(end("cancelled"));
  expect([shown.status, shown.text, shown.error]).toEqual(["cancelled", "a", undefined]);
});

test("useStream: a stream is followed from its mount, and another id replaces it", async () => {
  await render(<Stream id="s1" />);
  expect(side(0).url).toBe("http://gateway.test/v1/streams/s1?format=events");
  await side(0).send(text("old"));
  await render(<Stream id="s2" />);
  expect(side(0).signal?.aborted).toBe(true);
  expect([shown.text, shown.id]).toEqual(["", "s2"]);
  await side(1).send(text("new"), end("complete"));
  expect([shown.status, shown.text]).toEqual(["done", "new"]);
});

test("useStream: a new generation replaces the one before, which changes nothing any more", async () => {
  await render(<Stream />);
  await during(() => shown.start({ body: {} }));
  await side(0).send(chunk("first"));
  await during(() => shown.start({ body: {} }));
  expect([side(0).signal?.aborted, shown.text, shown.status]).toEqual([true, "", "connecting"]);
  await side(1).send(chunk("second"), DONE);
  expect(shown.text).toBe("second");
});

test("useStream: its functions do not change, and it is one stream in strict mode", async () => {
  await render(<StrictMode><Stream id="s1" /></StrictMode>);
  const { start, follow, cancel } = shown;
  await side(-1).send(text("a"));
  expect([shown.start, shown.follow, shown.cancel]).toEqual([start, follow, cancel]);
  expect([shown.text, open()]).toEqual(["a", 1]);
  await act(async () => root.unmount());
  expect(open()).toBe(0);
});

const published = (name: string, data: string): Scripted => ({
  event: "channel",
  data: JSON.stringify({ channel: name, event: "e", data }),
});

test("useChannel: events arrive, the newest last, and no more are kept than asked for", async () => {
  const seen: string[] = [];
  await render(<Channel keep={2} onEvent={({ data }) => void seen.push(data)} />);
  expect(channel.status).toBe("streaming");
  await side(0).send(published("a", "1"), published("a", "2"), published("a", "3"));
  expect(channel.events.map(({ data }) => data)).toEqual(["2", "3"]);
  expect([channel.last?.data, seen]).toEqual(["3", ["1", "2", "3"]]);
});

test("useChannel: other names are another subscription, and equal ones are not", async () => {
  await render(<Channel channels={["a", "b"]} streams={["s"]} />);
  await side(0).send(published("a", "1"));
  await render(<Channel channels={["a", "b"]} streams={["s"]} />);
  expect([ServerSide.all.length, channel.events.length]).toEqual([1, 1]);
  await render(<Channel channels={["c"]} />);
  expect([ServerSide.all.length, side(0).signal?.aborted, channel.events.length]).toEqual([2, true, 0]);
  await act(async () => root.unmount());
  expect(open()).toBe(0);
});

test("useChannel: a break is shown, and overcome", async () => {
  await render(<Channel />);
  await side(0).send(published("a", "1"));
  await side(0).fail();
  expect(channel.status).toBe("reconnecting");
  await during(() => vi.advanceTimersByTime(501));
  expect(side(1).position).toBe(position(1));
  await side(1).send(published("a", "2"));
  expect(channel.events.map(({ data }) => data)).toEqual(["1", "2"]);
  expect(channel.status).toBe("streaming");
});

test("useChannel: an error is shown", async () => {
  const refuse: typeof fetch = () =>
    Promise.resolve(new Response('{"error":{"message":"not this channel"}}', { status: 403 }));
  await render(<Channel fetch={refuse} />);
  expect(channel.status).toBe("error");
  expect(channel.error).toMatchObject({ status: 403, message: "403: not this channel" });
});

test("on a server both render without a request", () => {
  expect(renderToString(<><Stream id="s1" /><Channel /></>)).toBe("<p></p><p></p>");
  expect(ServerSide.all).toEqual([]);
});

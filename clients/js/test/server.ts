// A scripted gateway: the streams of docs/streams.md over node:http, with faults on request. It must never share code
// with the client.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** An event as an upstream makes it. */
export interface Scripted {
  event?: string;
  data: string;
}

/** A fault of one response of a stream. They apply in their order, one to each request. */
export type Fault =
  /** Ends the connection after this many bytes of the body: by a reset, or as if it were complete. */
  | { cut: number; by: "reset" | "end" }
  /** Another response. */
  | { status: number; headers?: Record<string, string>; body?: unknown }
  /** Nothing at all. */
  | "hang"
  /** A head, and then nothing. */
  | "silence"
  /** No fault. */
  | "none";

/** A request as it arrived. */
export interface Seen {
  method: string;
  url: URL;
  headers: IncomingMessage["headers"];
  body: string;
}

const EPOCH = "k3v9XbQ0aZ71";

/** The position after the event of a number; 0: the start. */
export const position = (seq: number, epoch = EPOCH) => `${epoch}_${String(seq).padStart(10, "0")}`;

/** A block of an event stream. */
export function block(event: Scripted, id: string, retry?: number): string {
  const lines = event.data.split("\n").map((line) => `data: ${line}\n`);
  const name = event.event === undefined ? "" : `event: ${event.event}\n`;
  return `id: ${id}\n${retry === undefined ? "" : `retry: ${retry}\n`}${name}${lines.join("")}\n`;
}

/** One stream of the server. */
export interface Stream {
  events: Scripted[];
  /** Whether its end has been written. */
  closed: boolean;
  /** The number of the last event that has been trimmed. */
  trimmed: number;
}

export class ScriptedGateway {
  readonly url: string;
  readonly seen: Seen[] = [];
  readonly streams = new Map<string, Stream>();
  /** Requests with an idempotency key, and the stream that each has. */
  readonly started = new Map<string, string>();
  faults: Fault[] = [];
  /** The stream that the next POST makes. */
  next: Stream = { events: [], closed: true, trimmed: 0 };
  /** The `retry` of the first block of a response. */
  retry: number | undefined;
  /** Whether a POST makes a stream with an id. */
  resumable = true;
  /** Responses of other paths: by method and path. */
  readonly routes = new Map<string, (seen: Seen) => { status: number; body?: unknown }>();
  readonly #server: Server;
  #waiting: { count: number; resolve: () => void }[] = [];
  #changed: (() => void)[] = [];

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(): Promise<ScriptedGateway> {
    const server = createServer({ keepAliveTimeout: 0 });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const gateway = new ScriptedGateway(server);
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      let body = "";
      request.setEncoding("utf8");
      request.on("data", (chunk: string) => (body += chunk));
      request.on("end", () => {
        const url = new URL(request.url ?? "/", gateway.url);
        gateway.#answer({ method: request.method ?? "", url, headers: request.headers, body }, response);
      });
    });
    return gateway;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Resolves when this many requests have arrived. */
  arrived(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ count, resolve });
      this.#wake();
    });
  }

  /** Adds an event to a stream, and sends it to its viewers. */
  append(id: string, event: Scripted, closed = false): void {
    const stream = this.streams.get(id);
    stream?.events.push(event);
    if (stream) stream.closed = closed;
    for (const changed of this.#changed.splice(0)) changed();
  }

  /** The bodies of requests that start generations. */
  posts(): Seen[] {
    return this.seen.filter(({ method, url }) => method === "POST" && !url.pathname.startsWith("/v1/streams"));
  }

  #wake(): void {
    this.#waiting = this.#waiting.filter(({ count, resolve }) => {
      if (this.seen.length >= count) resolve();
      return this.seen.length < count;
    });
  }

  #answer(seen: Seen, response: ServerResponse): void {
    this.seen.push(seen);
    this.#wake();
    const route = this.routes.get(`${seen.method} ${seen.url.pathname}`);
    if (route !== undefined) {
      const { status, body } = route(seen);
      response.writeHead(status, { "content-type": "application/json" }).end(body === undefined ? "" : JSON.stringify(body));
      return;
    }
    const fault = this.faults.shift() ?? "none";
    if (fault === "hang") return;
    if (typeof fault === "object" && "status" in fault) {
      response.writeHead(fault.status, { "content-type": "application/json", ...fault.headers });
      response.end(fault.body === undefined ? "" : JSON.stringify(fault.body));
      return;
    }
    const id = this.#stream(seen);
    const stream = id === undefined ? undefined : this.streams.get(id);
    if (id === undefined || stream === undefined) {
      const error = { message: "no such stream", type: "not_found", code: "stream_not_found" };
      response.writeHead(404, { "content-type": "application/json" }).end(JSON.stringify({ error }));
      return;
    }
    this.#follow(id, stream, seen, response, fault);
  }

  /** The stream of a request; a POST makes one, unless its key has one. */
  #stream({ method, url, headers }: Seen): string | undefined {
    if (method === "GET") return url.pathname === "/v1/events" ? "events" : /^\/v1\/streams\/([^/]+)$/.exec(url.pathname)?.[1];
    const key = headers["idempotency-key"] as string | undefined;
    const known = key === undefined ? undefined : this.started.get(key);
    if (known !== undefined && this.resumable) return known;
    const id = `stream${this.streams.size + 1}`;
    this.streams.set(id, this.next);
    if (key !== undefined) this.started.set(key, id);
    return id;
  }

  #follow(id: string, stream: Stream, seen: Seen, response: ServerResponse, fault: Fault): void {
    const from = (seen.headers["last-event-id"] as string | undefined) ?? seen.url.searchParams.get("last-event-id") ?? undefined;
    const now = seen.url.searchParams.get("offset") === "now";
    const after = now ? stream.events.length : from === undefined ? stream.trimmed : Number(from.slice(13));
    if (from !== undefined && (!from.startsWith(`${EPOCH}_`) || after < stream.trimmed)) {
      const error = { message: "gone", type: "gone", code: "position_gone" };
      const body = { error, earliest: position(stream.trimmed), tail: position(stream.events.length) };
      response.writeHead(410, { "content-type": "application/json" }).end(JSON.stringify(body));
      return;
    }
    if (seen.url.searchParams.get("live") === "long-poll") return this.#poll(id, stream, after, response);
    const done = stream.closed && after >= stream.events.length;
    if (done && seen.method === "GET") {
      response.writeHead(204, { "stream-closed": "true", "stream-next-offset": position(after) }).end();
      return;
    }
    const head: Record<string, string> = { "content-type": "text/event-stream" };
    if (this.resumable) head["stream-next-offset"] = position(after);
    if (seen.method === "POST" && this.resumable) {
      head["streamgate-stream-id"] = id;
      head["content-location"] = `/v1/streams/${id}`;
    }
    response.writeHead(200, head);
    response.flushHeaders();
    if (fault === "silence") return;
    const text = ": ok\n\n";
    this.#write(response, seen.method === "GET" ? text : "", stream, after, fault);
  }

  /** Writes what there is, and then what comes. */
  #write(response: ServerResponse, text: string, stream: Stream, after: number, fault: Fault): void {
    const retry = after === 0 ? this.retry : undefined;
    const blocks = stream.events.slice(after).map((event, index) => {
      const id = this.resumable ? position(after + index + 1) : "";
      return this.resumable ? block(event, id, index === 0 ? retry : undefined) : block(event, id).replace("id: \n", "");
    });
    const bytes = Buffer.from(text + blocks.join(""));
    if (typeof fault === "object" && "cut" in fault && bytes.length >= fault.cut) {
      const cut = () => (fault.by === "reset" ? response.destroy() : response.end());
      response.write(bytes.subarray(0, fault.cut), cut);
      return;
    }
    if (bytes.length > 0) response.write(bytes);
    if (stream.closed) {
      response.end();
      return;
    }
    const rest = typeof fault === "object" && "cut" in fault ? { ...fault, cut: fault.cut - bytes.length } : fault;
    const seq = stream.events.length;
    this.#changed.push(() => this.#write(response, "", stream, seq, rest));
  }

  #poll(id: string, stream: Stream, after: number, response: ServerResponse): void {
    const closed = stream.closed;
    if (stream.events.length <= after) {
      if (closed) {
        response.writeHead(204, { "stream-closed": "true", "stream-next-offset": position(after) }).end();
      } else {
        this.#changed.push(() => this.#poll(id, stream, after, response));
      }
      return;
    }
    // Two at a time, so that a page is not the whole.
    const page = stream.events.slice(after, after + 2);
    const next = after + page.length;
    const events = page.map((event, index) => ({ id: position(after + index + 1), ...event }));
    const whole = next === stream.events.length;
    const body = {
      stream: id,
      state: closed ? "complete" : "streaming",
      events,
      next_offset: position(next),
      up_to_date: whole,
      closed,
    };
    const headers: Record<string, string> = { "content-type": "application/json", "stream-next-offset": position(next) };
    if (closed && whole) headers["stream-closed"] = "true";
    response.writeHead(200, headers).end(JSON.stringify(body));
  }
}

// Subscriptions over a browser's EventSource. A refusal must be read from the stream: EventSource gives up for good on
// any status but 200, and shows no status.

import { Backoff, sleep } from "./backoff.js";
import { type Connection, address } from "./connection.js";
import { ConnectionLostError, ResponseError, json, member, text } from "./errors.js";
import type { ResumeOptions } from "./resume.js";
import type { ServerSentEvent } from "./sse.js";

/** The part of EventSource that is used. */
export interface EventSourceLike {
  readonly readyState: number;
  onopen: ((event: Event) => void) | null;
  onerror: ((event: Event) => void) | null;
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void;
  close(): void;
}

/** A constructor of EventSource. */
export type EventSourceConstructor = new (url: string, init?: { withCredentials?: boolean }) => EventSourceLike;

/** The most events that wait for the consumer: then the connection is closed, and resumed when they have been taken. */
const MAX_WAITING = 1000;

/** `EventSource.CLOSED`. */
const CLOSED_STATE = 2;

/** The events that the server sends with `format=events`; `message` is for servers that send events as published. */
const NAMES = ["channel", "stream", "control", "reset", "message"];

type ReaderOptions = Connection &
  Omit<ResumeOptions, "transport"> & {
    types?: string[];
    rewind?: number;
    position?: string;
    EventSource?: EventSourceConstructor;
  };

/** The events of an address, over as many EventSources as it takes. */
export class EventSourceReader {
  /** The position of the last event that was delivered. */
  position: string;
  readonly #options: ReaderOptions;
  readonly #Source: EventSourceConstructor;
  readonly #query: [string, string][];
  readonly #backoff = new Backoff();
  readonly #controller = new AbortController();
  #closed = false;

  constructor(options: ReaderOptions, query: [string, string][]) {
    const Source = options.EventSource ?? globalThis.EventSource;
    if (Source === undefined) throw new TypeError("there is no EventSource here; leave out `transport` to use fetch");
    this.#options = options;
    this.#Source = Source;
    this.#query = query;
    this.position = options.position ?? "";
  }

  close(): void {
    this.#closed = true;
    this.#controller.abort();
  }

  async *events(): AsyncGenerator<ServerSentEvent, void, undefined> {
    const { signal, onStatus } = this.#options;
    const stop = () => this.#controller.abort();
    signal?.addEventListener("abort", stop, { once: true });
    try {
      for (;;) {
        signal?.throwIfAborted();
        const failure = yield* this.#connection();
        signal?.throwIfAborted();
        if (this.#closed) return;
        if (failure !== undefined) await this.#wait(failure);
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!this.#closed) throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
      onStatus?.({ state: "ended", position: this.position });
    }
  }

  /** The events of one EventSource. Returns its failure, unless the next one can be made at once. */
  async *#connection(): AsyncGenerator<ServerSentEvent, unknown, undefined> {
    let inbox: Inbox;
    try {
      inbox = new Inbox(await this.#open(), [...NAMES, ...(this.#options.types ?? [])]);
    } catch (error) {
      return error;
    }
    const { signal } = this.#controller;
    signal.addEventListener("abort", inbox.close);
    if (signal.aborted) inbox.close();
    try {
      for (;;) {
        const event = inbox.waiting.shift();
        if (event !== undefined) {
          this.#backoff.reset();
          this.position = event.id === "" ? this.position : event.id;
          yield event;
        } else if (inbox.over) {
          return inbox.failure;
        } else {
          await inbox.changed();
        }
        if (signal.aborted) return undefined;
      }
    } finally {
      signal.removeEventListener("abort", inbox.close);
      inbox.close();
    }
  }

  async #open(): Promise<EventSourceLike> {
    const { credentials, rewind, onStatus } = this.#options;
    const { position } = this;
    const query: [string, string][] = [...this.#query, ["es", "1"]];
    if (position !== "") query.push(["last-event-id", position]);
    else if (rewind !== undefined) query.push(["rewind", String(rewind)]);
    const url = await address(this.#options, "/v1/events", query);
    onStatus?.({ state: "connecting", transport: "sse", position });
    const source = new this.#Source(url, { withCredentials: credentials === "include" });
    source.onopen = () => onStatus?.({ state: "open", transport: "sse", position: this.position });
    return source;
  }

  async #wait(cause: unknown): Promise<void> {
    const { maxRetries = Infinity, onStatus, ticket } = this.#options;
    const { position } = this;
    const expired = cause instanceof ResponseError && cause.status === 401 && typeof ticket === "function";
    if (cause instanceof ResponseError && !expired) throw cause;
    if (this.#backoff.failures >= maxRetries) {
      throw new ConnectionLostError(`no connection after ${maxRetries} retries`, position, cause);
    }
    const delay = this.#backoff.next();
    onStatus?.({ state: "waiting", delay, failures: this.#backoff.failures, cause, position });
    await sleep(delay, this.#controller.signal);
  }
}

/** The events of one EventSource that the consumer has not taken. */
class Inbox {
  readonly waiting: ServerSentEvent[] = [];
  /** No more will come. */
  over = false;
  failure: unknown;
  readonly #source: EventSourceLike;
  #wake: (() => void) | undefined;

  constructor(source: EventSourceLike, names: string[]) {
    this.#source = source;
    for (const name of new Set(names)) {
      source.addEventListener(name, ({ lastEventId, data }) => this.#add({ id: lastEventId, event: name, data }));
    }
    source.addEventListener("refused", ({ data }) => this.#refused(json(data)));
    source.onerror = () => {
      // Otherwise it is connecting again by itself.
      if (source.readyState === CLOSED_STATE) this.#end(new Error("EventSource has given up"));
    };
  }

  /** Resolves at the next event, or at the end. */
  changed(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  /** Closes it without a failure, if it is not over. */
  readonly close = (): void => this.#end(undefined);

  #add(event: ServerSentEvent): void {
    if (this.over) return;
    this.waiting.push(event);
    if (this.waiting.length >= MAX_WAITING) this.close();
    this.#wake?.();
  }

  /** A refusal that passes is left to EventSource, which connects again after the server's `retry`. */
  #refused(body: unknown): void {
    const status = Number(member(body, "status"));
    if (status === 429 || status >= 500) return;
    const message = `${status}: ${text(member(body, "message")) ?? "refused"}`;
    this.#end(new ResponseError({ status, headers: new Headers() }, message, body));
  }

  #end(failure: unknown): void {
    if (this.over) return;
    this.over = true;
    this.failure = failure;
    this.#source.close();
    this.#wake?.();
  }
}

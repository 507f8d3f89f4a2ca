// Resumption: connection after connection, one sequence of events. An event must never be delivered twice, and none
// must be skipped: the next connection begins after the last event that was delivered.

import { Backoff, sleep } from "./backoff.js";
import { ConnectionLostError, PositionGoneError, ResponseError, json, member, responseError, text } from "./errors.js";
import { isCovered } from "./position.js";
import { EventStreamParser, type ServerSentEvent } from "./sse.js";

/** How events are fetched: an event stream, or one JSON response after another. */
export type Transport = "sse" | "long-poll";

/** A change of a connection. */
export type ConnectionStatus =
  | { state: "connecting"; transport: Transport; position: string }
  | { state: "open"; transport: Transport; position: string }
  /** It is made again after `delay` milliseconds, because of `cause`. */
  | { state: "waiting"; delay: number; failures: number; cause: unknown; position: string }
  | { state: "ended"; position: string };

/** Options of every resumable connection. Times are in milliseconds. */
export interface ResumeOptions {
  /** Ends the iteration with the signal's reason. The generation is not cancelled by it. */
  signal?: AbortSignal;
  /** `auto`, the default, begins with an event stream, and polls if no byte of it gets through. */
  transport?: "auto" | Transport;
  /** Failures in a row, without an event between them, after which `ConnectionLostError` is thrown. */
  maxRetries?: number;
  /** A server that asks for more than this by `retry-after` is given up: 60,000 by default. */
  maxDelay?: number;
  /** The time until a response begins: 60,000 by default. */
  headTimeout?: number;
  /** The time until an event stream has brought its first byte, which the server sends at once: 5,000 by default. */
  firstByteTimeout?: number;
  /** The longest silence; the server sends a comment every 15 seconds by default: 45,000 by default. */
  idleTimeout?: number;
  /** Called at each change of the connection. */
  onStatus?: (status: ConnectionStatus) => void;
}

/** One request for what follows a position. */
export interface OpenRequest {
  /** Empty: the start. */
  position: string;
  transport: Transport;
  signal: AbortSignal;
}

/** A sequence of events that can be requested from any position. */
export interface EventSequence {
  /** Requests what follows a position. */
  open(request: OpenRequest): Promise<Response>;
  /** Whether nothing follows an event. */
  isEnd(event: ServerSentEvent): boolean;
  /** Whether the server has it: then a response begins at once, and it can be polled. */
  exists(): boolean;
  /** Whether another request gets what follows. `delivered`: events of it have been delivered. */
  canResume(delivered: boolean): boolean;
  /** The event of an entry of a long poll, where it has more members than an event. */
  polled?(entry: unknown): Pick<ServerSentEvent, "event" | "data"> | undefined;
}

/** The time in which a server that holds a long poll for 25 seconds has to respond. */
const POLL_TIMEOUT = 40_000;

/** The least time between two long polls that bring nothing. */
const POLL_PAUSE = 1_000;

/** A connection that failed: another one may succeed. */
class TransportError extends Error {
  override readonly name = "TransportError";
}

/** One connection: its timeouts, and its end. */
class Connecting {
  readonly #controller = new AbortController();
  readonly #parent: AbortSignal;
  readonly #stop = () => this.#controller.abort(this.#parent.reason);
  timedOut = false;
  /** Until the first byte of its event stream. */
  silent = true;

  constructor(parent: AbortSignal) {
    this.#parent = parent;
    if (parent.aborted) this.#stop();
    else parent.addEventListener("abort", this.#stop, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Awaits a step. A failure of it is one of the transport, unless the whole sequence was stopped. */
  async within<T>(milliseconds: number, step: Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      this.timedOut = true;
      this.#controller.abort(new TransportError(`nothing arrived for ${milliseconds} ms`));
    }, milliseconds);
    try {
      return await step;
    } catch (error) {
      this.#parent.throwIfAborted();
      if (this.timedOut) throw this.signal.reason;
      if (error instanceof ResponseError || error instanceof PositionGoneError) throw error;
      throw new TransportError("the connection failed", { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#parent.removeEventListener("abort", this.#stop);
    this.#controller.abort();
  }
}

/** The start and the end of a stream, for which the server has no position yet. */
const SENTINELS = ["", "-1", "now"];

/** The reason of a sequence that its consumer has closed. */
const CLOSED = Symbol("closed");

/** The events of a sequence, over as many connections as it takes. */
export class Resumption {
  /** The position of the last event that was delivered; empty if there was none. */
  position: string;

  readonly #sequence: EventSequence;
  readonly #options: ResumeOptions;
  readonly #backoff = new Backoff();
  readonly #controller = new AbortController();
  #transport: Transport;
  #delivered = false;
  #ended = false;

  constructor(sequence: EventSequence, options: ResumeOptions, position = "") {
    this.#sequence = sequence;
    this.#options = options;
    this.position = position;
    this.#transport = options.transport === "long-poll" ? "long-poll" : "sse";
  }

  /** Closes the connection, and ends the iteration without an error. */
  close(): void {
    this.#controller.abort(CLOSED);
  }

  /** The events, once. */
  async *events(): AsyncGenerator<ServerSentEvent, void, undefined> {
    const { signal } = this.#options;
    const stop = () => this.#controller.abort(signal?.reason);
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
    try {
      while (!this.#ended) {
        const failure = yield* this.#connection();
        if (failure !== undefined && !this.#ended) await this.#wait(failure);
      }
    } catch (error) {
      if (this.#controller.signal.reason !== CLOSED) throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
      this.close();
      this.#report({ state: "ended", position: this.position });
    }
  }

  /** The events of one connection. Returns its failure, unless the next one can be made at once. */
  async *#connection(): AsyncGenerator<ServerSentEvent, unknown, undefined> {
    this.#controller.signal.throwIfAborted();
    const connecting = new Connecting(this.#controller.signal);
    try {
      const events = this.#transport === "sse" ? this.#stream(connecting) : this.#poll(connecting);
      for await (const event of events) {
        this.#backoff.reset();
        this.#delivered = true;
        this.#ended = this.#sequence.isEnd(event);
        yield event;
        if (this.#ended) break;
        // Nothing else notices that between two events of one chunk.
        this.#controller.signal.throwIfAborted();
      }
      return new TransportError("the connection ended before the stream did");
    } catch (error) {
      if (!this.#isTemporary(error)) throw error;
      if (connecting.timedOut && connecting.silent && this.#mayPoll()) {
        this.#transport = "long-poll";
        return undefined;
      }
      return error;
    } finally {
      connecting.close();
    }
  }

  /** An event stream. */
  async *#stream(connecting: Connecting): AsyncGenerator<ServerSentEvent, void, undefined> {
    const { headTimeout = 60_000, firstByteTimeout = 5_000, idleTimeout = 45_000 } = this.#options;
    const from = this.position;
    const response = await this.#open(connecting, "sse", this.#sequence.exists() ? firstByteTimeout : headTimeout);
    if (response === undefined) return;
    const media = response.headers.get("content-type") ?? "nothing";
    if (!/^text\/event-stream\s*(;|$)/i.test(media)) {
      throw new ResponseError(response, `expected an event stream, and got ${media}`, undefined);
    }
    const reader = response.body?.getReader();
    if (reader === undefined) throw new TransportError("the response has no body");
    const parser = new EventStreamParser();
    for (let limit = firstByteTimeout; ; limit = idleTimeout) {
      const { value, done } = await connecting.within(limit, reader.read());
      if (done) return;
      connecting.silent = false;
      const events = parser.push(value);
      this.#backoff.retry = parser.retry ?? this.#backoff.retry;
      for (const event of events) {
        const delivered = this.#advance(event, from);
        if (delivered !== undefined) yield delivered;
      }
      // A block without data moves the position, too.
      const id = parser.lastEventId;
      if (id !== "" && !isCovered(id, this.position)) this.position = id;
    }
  }

  /** One JSON response after another. */
  async *#poll(connecting: Connecting): AsyncGenerator<ServerSentEvent, void, undefined> {
    for (;;) {
      const from = this.position;
      const began = Date.now();
      const response = await this.#open(connecting, "long-poll", POLL_TIMEOUT);
      if (response === undefined) return;
      const closed = response.headers.get("stream-closed") === "true";
      const body = response.status === 204 ? {} : json(await connecting.within(POLL_TIMEOUT, response.text()));
      const events = member(body, "events");
      for (const entry of Array.isArray(events) ? (events as unknown[]) : []) {
        const event = {
          id: text(member(entry, "id")) ?? "",
          event: text(member(entry, "event")) ?? "message",
          data: String(member(entry, "data") ?? ""),
          ...this.#sequence.polled?.(entry),
        };
        const delivered = this.#advance(event, from);
        if (delivered !== undefined) yield delivered;
      }
      this.#backoff.reset();
      const next = text(member(body, "next_offset")) ?? response.headers.get("stream-next-offset");
      if (next) this.position = next;
      const whole = response.status === 204 || member(body, "up_to_date") === true;
      if (whole && (closed || member(body, "closed") === true)) {
        this.#ended = true;
        return;
      }
      const early = this.position === from ? began + POLL_PAUSE - Date.now() : 0;
      if (early > 0) await sleep(early, this.#controller.signal);
    }
  }

  /** The response to a request for what follows the position; none if the sequence has ended. */
  async #open(connecting: Connecting, transport: Transport, timeout: number): Promise<Response | undefined> {
    const { position } = this;
    this.#report({ state: "connecting", transport, position });
    const response = await connecting.within(
      timeout,
      this.#sequence.open({ position, transport, signal: connecting.signal }),
    );
    if (!response.ok) throw await connecting.within(timeout, responseError(response, position));
    if (response.status === 204 && transport === "sse") {
      this.#ended = true;
      return undefined;
    }
    // Where nothing arrives before the next connection, that one begins here, and not at another `now`.
    const offset = response.headers.get("stream-next-offset");
    if (transport === "sse" && offset && SENTINELS.includes(position)) this.position = offset;
    this.#report({ state: "open", transport, position: this.position });
    return response;
  }

  /** The event to deliver, after the position has moved past it; none if it has been delivered before. */
  #advance(event: ServerSentEvent, from: string): ServerSentEvent | undefined {
    if (event.id === "") return { ...event, id: this.position };
    if (from !== "" && isCovered(event.id, from)) return undefined;
    this.position = event.id;
    return event;
  }

  async #wait(cause: unknown): Promise<void> {
    const { maxRetries = 8, maxDelay = 60_000 } = this.#options;
    const { position } = this;
    if (!this.#sequence.canResume(this.#delivered)) {
      throw new ConnectionLostError("the connection was lost, and this stream cannot be resumed", position, cause);
    }
    if (this.#backoff.failures >= maxRetries) {
      if (cause instanceof ResponseError) throw cause;
      throw new ConnectionLostError(`no connection after ${maxRetries} retries`, position, cause);
    }
    const retryAfter = cause instanceof ResponseError ? cause.retryAfter : undefined;
    if (retryAfter !== undefined && retryAfter > maxDelay) throw cause;
    const delay = this.#backoff.next(retryAfter);
    this.#report({ state: "waiting", delay, failures: this.#backoff.failures, cause, position });
    await sleep(delay, this.#controller.signal);
  }

  /** Whether another connection may succeed. */
  #isTemporary(error: unknown): boolean {
    if (!(error instanceof ResponseError)) return error instanceof TransportError;
    return [408, 425, 429, 502, 503, 504].includes(error.status) || (error.status === 500 && this.#sequence.exists());
  }

  #mayPoll(): boolean {
    const { transport = "auto" } = this.#options;
    return transport === "auto" && this.#transport === "sse" && this.#sequence.exists();
  }

  #report(status: ConnectionStatus): void {
    this.#options.onStatus?.(status);
  }
}

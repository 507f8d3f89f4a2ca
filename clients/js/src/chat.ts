// Chat streams: a generation that outlives its connections. A request that is repeated must never start a second one.

import { type Connection, type RequestParts, baseOf, send } from "./connection.js";
import { ResponseError, StreamEndError } from "./errors.js";
import { type Format, endOf, texts } from "./format.js";
import { type EventSequence, type OpenRequest, type ResumeOptions, Resumption } from "./resume.js";
import type { ServerSentEvent } from "./sse.js";
import { type StreamObject, cancel } from "./streams.js";

/** Options of `streamChat`. */
export interface ChatOptions extends Connection, ResumeOptions {
  /** The request in the endpoint's dialect; `stream: true` is added. */
  body: Record<string, unknown>;
  /** `/v1/chat/completions` by default; any endpoint that generates. */
  endpoint?: string;
  /** The form of the events; `native` by default, the endpoint's own. */
  format?: Format;
  /** The chat whose active stream this one becomes. */
  chat?: string;
  /** The fate of the generation when nobody follows it: `cancel`, `continue`, or such as `grace(30s)`. */
  onDisconnect?: string;
  /** Requests with the same key get the same generation; a random one by default. */
  idempotencyKey?: string;
}

/** Options of `followStream`. */
export interface FollowOptions extends Connection, ResumeOptions {
  /** The stream. */
  id: string;
  /** The form of the events; `events` by default. */
  format?: Format;
  /** The position after which to begin; from the start by default, and `now` leaves out what there is. */
  position?: string;
}

/** A generation in progress, or a finished one. Its events can be iterated once. */
export class ChatStream implements AsyncIterable<ServerSentEvent> {
  /** The form of its events. */
  readonly format: Format;
  readonly #sequence: Sequence;
  readonly #resumption: Resumption;
  #iterated = false;
  #cancelling: Promise<StreamObject | undefined> | undefined;

  /** Made by `streamChat` and `followStream`. */
  constructor(sequence: Sequence, options: ResumeOptions, position?: string) {
    this.format = sequence.format;
    this.#sequence = sequence;
    this.#resumption = new Resumption(sequence, options, position);
  }

  /** The stream's id, once the response has begun. */
  get id(): string | undefined {
    return this.#sequence.id;
  }

  /** The position of the last event; another connection, or another page, may go on from it. */
  get position(): string {
    return this.#resumption.position;
  }

  /** The events. The iteration ends with the stream; to leave it closes the connection, and cancels nothing. */
  [Symbol.asyncIterator](): AsyncGenerator<ServerSentEvent, void, undefined> {
    if (this.#iterated) throw new TypeError("a stream can be iterated once; followStream() begins another iteration");
    this.#iterated = true;
    return this.#events();
  }

  /** The text of the events. Throws `StreamEndError` if the answer does not become complete. */
  async *text(): AsyncGenerator<string, void, undefined> {
    try {
      yield* texts(this.format, this);
    } catch (error) {
      // In a vendor's format a generation that was cancelled ends with an error.
      const failed = error instanceof StreamEndError && error.state === "error";
      const final = failed ? await this.#cancelling?.catch(() => undefined) : undefined;
      throw final?.state === "cancelled" ? new StreamEndError("cancelled") : error;
    }
  }

  /** Cancels the generation, as soon as its id is known. Returns its final state; none if there is no generation. */
  cancel(): Promise<StreamObject | undefined> {
    this.#cancelling = this.#cancel();
    return this.#cancelling;
  }

  async #cancel(): Promise<StreamObject | undefined> {
    if (!this.#iterated) this.close();
    const id = this.#iterated ? await this.#sequence.opened : this.id;
    return id === undefined ? undefined : cancel(this.#sequence.connection, id);
  }

  /** Closes the connection. The generation goes on as its `onDisconnect` has it. */
  close(): void {
    this.#resumption.close();
  }

  async *#events(): AsyncGenerator<ServerSentEvent, void, undefined> {
    try {
      yield* this.#resumption.events();
    } finally {
      this.#sequence.settle();
    }
  }
}

/** Starts a generation, and follows it to its end. The request is sent when the iteration begins. */
export function streamChat(options: ChatOptions): ChatStream {
  return new ChatStream(new Sequence(options, options.format ?? "native", options), options);
}

/** Follows a stream that exists. */
export function followStream(options: FollowOptions): ChatStream {
  return new ChatStream(new Sequence(options, options.format ?? "events", options.id), options, options.position);
}

/** The events of a generation: those of the request that starts it, and then those of its stream. */
class Sequence implements EventSequence {
  readonly connection: Connection;
  readonly format: Format;
  id: string | undefined;
  /** Resolves to the id when it is known, and to nothing when it will not be. */
  readonly opened: Promise<string | undefined>;
  #settle!: (id: string | undefined) => void;
  readonly #request: ChatOptions | undefined;
  readonly #key: string;
  #relayed = false;

  constructor(connection: Connection, format: Format, stream: string | ChatOptions) {
    baseOf(connection);
    this.connection = connection;
    this.format = format;
    this.opened = new Promise((resolve) => (this.#settle = resolve));
    if (typeof stream === "string") this.#found(stream);
    else this.#request = stream;
    this.#key = this.#request?.idempotencyKey ?? randomKey();
  }

  settle(): void {
    this.#settle(undefined);
  }

  exists(): boolean {
    return this.id !== undefined;
  }

  canResume(delivered: boolean): boolean {
    return !this.#relayed || !delivered;
  }

  isEnd(event: ServerSentEvent): boolean {
    return endOf(this.format, event) !== undefined;
  }

  async open(request: OpenRequest): Promise<Response> {
    if (this.#request === undefined || this.id !== undefined) return this.#follow(request);
    const response = await this.#start(this.#request, request.signal);
    if (!response.ok) return response;
    this.#found(response.headers.get("streamgate-stream-id") ?? undefined);
    const media = response.headers.get("content-type") ?? "";
    const own = this.format === "native" && request.transport === "sse";
    if (own && (media.startsWith("text/event-stream") || this.id === undefined)) {
      this.#relayed = this.id === undefined;
      return response;
    }
    if (this.id === undefined) {
      const message = "the response has no `streamgate-stream-id`, so that it has no other format and cannot be polled";
      throw new ResponseError(response, message, undefined);
    }
    // Opened before the other is closed, so that the generation is never without a viewer.
    const followed = await this.#follow(request);
    await response.body?.cancel();
    return followed;
  }

  #start(options: ChatOptions, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = {
      accept: "text/event-stream",
      "streamgate-stream": "resumable",
      "idempotency-key": this.#key,
    };
    if (options.chat !== undefined) headers["streamgate-chat"] = options.chat;
    if (options.onDisconnect !== undefined) headers["streamgate-on-disconnect"] = options.onDisconnect;
    const body = { ...options.body, stream: true };
    return send(this.connection, "POST", options.endpoint ?? "/v1/chat/completions", { headers, body, signal });
  }

  #follow({ position, transport, signal }: OpenRequest): Promise<Response> {
    const query: [string, string][] = this.format === "native" ? [] : [["format", this.format]];
    return send(this.connection, "GET", `/v1/streams/${encodeURIComponent(this.id ?? "")}`, {
      ...reading(position, transport, query),
      signal,
    });
  }

  #found(id: string | undefined): void {
    this.id = id;
    if (id !== undefined) this.#settle(id);
  }
}

/** The query and the headers of a request for what follows a position. */
export function reading(
  position: string,
  transport: OpenRequest["transport"],
  query: [string, string][],
): RequestParts {
  const headers: Record<string, string> = {
    accept: transport === "sse" ? "text/event-stream" : "application/json",
  };
  const pairs = [...query];
  if (transport === "long-poll") pairs.push(["live", "long-poll"]);
  if (position === "now" || position === "-1") pairs.push(["offset", position]);
  else if (position !== "") headers["last-event-id"] = position;
  return { headers, query: pairs };
}

/** 128 random bits. `crypto.randomUUID` is not there in pages that came over plain HTTP. */
function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

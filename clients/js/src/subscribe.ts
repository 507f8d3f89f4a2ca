// Subscriptions: several channels and streams over one connection, which resumes all of them from one position.

import { reading } from "./chat.js";
import { type Connection, baseOf, send } from "./connection.js";
import { gone, json, member, text } from "./errors.js";
import { EventSourceReader, type EventSourceConstructor } from "./event_source.js";
import { type EventSequence, type ResumeOptions, Resumption } from "./resume.js";
import type { ServerSentEvent } from "./sse.js";

/** Options of `subscribe`. */
export interface SubscribeOptions extends Connection, Omit<ResumeOptions, "transport"> {
  /** Names or patterns of channels. */
  channels?: string[];
  /** Ids of streams. */
  streams?: string[];
  /** The names of the events to receive; all by default. */
  types?: string[];
  /** Events of each channel's history to begin with; none by default. */
  rewind?: number;
  /** The position after which to begin: the `id` of an event of an earlier connection to the same sources. */
  position?: string;
  /** `eventsource`: a browser's EventSource, which needs a `ticket` or a cookie. Otherwise fetch: `auto` by default. */
  transport?: ResumeOptions["transport"] | "eventsource";
  /** Another implementation of EventSource. */
  EventSource?: EventSourceConstructor;
}

/** An event of a channel or of a stream. */
export interface ChannelEvent {
  /** The position of the connection, over all its sources. */
  id: string;
  /** The channel; none for an event of a stream. */
  channel: string | undefined;
  /** The id of the stream; none for an event of a channel. */
  stream: string | undefined;
  /** The name of the event. */
  event: string;
  /** The data as published: JSON, unless it is a text. */
  data: string;
}

/** A receiver of events. */
export type Listener = (event: ChannelEvent) => void;

/** The source of a subscription's events. */
interface Events {
  readonly position: string;
  events(): AsyncGenerator<ServerSentEvent, void, undefined>;
  close(): void;
}

/** A subscription. Its events are iterated, or go to listeners. */
export class Subscription implements AsyncIterable<ChannelEvent> {
  /** Resolves when it has ended: to its error, or to nothing if it was closed. Of one with listeners. */
  readonly ended: Promise<unknown>;
  readonly #source: Events;
  /** The channel of all events, if there is only one. */
  readonly #channel: string | undefined;
  readonly #listeners = new Set<{ pattern: RegExp; listener: Listener }>();
  #end!: (error: unknown) => void;
  #started: "iterated" | "listened" | undefined;

  /** Made by `subscribe`. */
  constructor(options: SubscribeOptions) {
    const { channels = [], streams = [] } = options;
    baseOf(options);
    this.#channel = channels.length === 1 && streams.length === 0 && !channels[0]?.includes("*") ? channels[0] : undefined;
    const { transport = "auto", ...others } = options;
    this.#source =
      transport === "eventsource"
        ? new EventSourceReader(others, query(options))
        : new Resumption(sequence(options), { maxRetries: Infinity, ...others, transport }, options.position);
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  /** The position of the last event: a later subscription to the same sources may go on from it. */
  get position(): string {
    return this.#source.position;
  }

  /** The events. To leave the iteration closes the connection. */
  [Symbol.asyncIterator](): AsyncGenerator<ChannelEvent, void, undefined> {
    if (this.#started !== undefined) throw new TypeError("a subscription is iterated once, or has listeners");
    this.#started = "iterated";
    return this.#events();
  }

  /** Adds a listener for a channel or a stream; `*` in its name stands for any characters. Returns its removal. */
  on(source: string, listener: Listener): () => void {
    if (this.#started === "iterated") throw new TypeError("a subscription that is iterated has no listeners");
    const pattern = source.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
    const entry = { pattern: new RegExp(`^${pattern.join(".*")}$`, "s"), listener };
    this.#listeners.add(entry);
    if (this.#started === undefined) {
      this.#started = "listened";
      this.#dispatch().then(this.#end, this.#end);
    }
    return () => void this.#listeners.delete(entry);
  }

  /** Closes the connection. */
  close(): void {
    this.#source.close();
  }

  async *#events(): AsyncGenerator<ChannelEvent, void, undefined> {
    let position = "";
    for await (const event of this.#source.events()) {
      // Events that were not read in time are gone: never a gap without an error.
      if (event.event === "reset") throw gone(position, event.data);
      position = event.id;
      // Of the connection itself: that it has caught up, or why it ends.
      if (event.event !== "control") yield channelEvent(event, this.#channel);
    }
  }

  async #dispatch(): Promise<void> {
    for await (const event of this.#events()) {
      for (const { pattern, listener } of [...this.#listeners]) {
        if (!pattern.test(event.channel ?? event.stream ?? "")) continue;
        try {
          listener(event);
        } catch (error) {
          // As for listeners of the platform: reported, and no concern of the others.
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    }
  }
}

/** Subscribes to channels and streams. The request is sent when the iteration begins, or with the first listener. */
export function subscribe(options: SubscribeOptions): Subscription {
  if (!options.channels?.length && !options.streams?.length) {
    throw new TypeError("a subscription needs `channels` or `streams`");
  }
  return new Subscription(options);
}

/** The query of a subscription. `format=events`: each event names its channel. */
function query({ channels = [], streams = [], types = [] }: SubscribeOptions): [string, string][] {
  const pairs: [string, string][] = [["format", "events"]];
  pairs.push(...channels.map((name): [string, string] => ["channel", name]));
  pairs.push(...streams.map((id): [string, string] => ["stream", id]));
  if (types.length > 0) pairs.push(["types", types.join(",")]);
  return pairs;
}

function sequence(options: SubscribeOptions): EventSequence {
  const { rewind } = options;
  return {
    async open({ position, transport, signal }) {
      const pairs = query(options);
      const rewinds = rewind !== undefined && position === "";
      if (rewinds) pairs.push(["rewind", String(rewind)]);
      const response = await send(options, "GET", "/v1/events", { ...reading(position, transport, pairs), signal });
      // Its head has the position of now: to go on from there before the rewound events have come would lose them.
      return rewinds && transport === "sse" && response.ok ? withoutPosition(response) : response;
    },
    isEnd: () => false,
    exists: () => true,
    canResume: () => true,
    polled(entry) {
      const named = member(entry, "channel") !== undefined;
      return named ? { event: "channel", data: JSON.stringify(entry) } : undefined;
    },
  };
}

function withoutPosition(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.delete("stream-next-offset");
  return new Response(response.body, { status: response.status, headers });
}

/** The event within `event: channel` or `event: stream`. Any other is as it was published, without its channel. */
function channelEvent({ id, event, data }: ServerSentEvent, channel: string | undefined): ChannelEvent {
  const envelope = event === "channel" || event === "stream" ? json(data) : undefined;
  const source = text(member(envelope, event));
  const inner = member(envelope, "data");
  if (source === undefined) return { id, channel, stream: undefined, event, data };
  return {
    id,
    channel: event === "channel" ? source : undefined,
    stream: event === "stream" ? source : undefined,
    event: text(member(envelope, "event")) ?? "message",
    data: typeof inner === "string" ? inner : JSON.stringify(inner ?? ""),
  };
}
